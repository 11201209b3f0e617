"""``ppo``: proximal policy optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from .coach import ScaledVecEnv
from .reinforcement import Reinforcement


@dataclass(kw_only=True, eq=False)
class ProximalPolicy(Reinforcement):
    """Proximal policy optimisation (Schulman et al., 2017) by stable-baselines3.

    Parameters
    ----------
    rollout : int
        Steps of each replay between updates.
    passes, batches : int
        Passes over a rollout, and batches per pass.
    noise : float
        Logarithm of the standard deviation that exploration begins with, in units of actions.
    clip_range, gae_lambda : float
        Of the surrogate objective; of the advantages.
    """

    rollout: int = 16
    passes: int = 5
    batches: int = 4
    noise: float = -1.0
    clip_range: float = 0.2
    gae_lambda: float = 0.95

    @property
    def _stride(self) -> int:
        return self.rollout * self.replays

    def _model(self, env: ScaledVecEnv, common: dict[str, Any]) -> BaseAlgorithm:
        common["policy_kwargs"]["log_std_init"] = self.noise
        return PPO(
            env=env,
            n_steps=self.rollout,
            batch_size=max(2, self._stride // self.batches),
            n_epochs=self.passes,
            clip_range=self.clip_range,
            gae_lambda=self.gae_lambda,
            **common,
        )
