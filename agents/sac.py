"""``sac``: soft actor-critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from .coach import ScaledVecEnv
from .reinforcement import Reinforcement


@dataclass(kw_only=True, eq=False)
class SoftActorCritic(Reinforcement):
    """Soft actor-critic (Haarnoja et al., 2018) by stable-baselines3; the temperature is learned.

    Parameters
    ----------
    batch_size : int
        Transitions per update.
    updates : int
        Updates after each step of all replays.
    buffer : int
        Transitions that are remembered.
    warm_up : int
        Steps with random actions before the first update.
    """

    batch_size: int = 256
    updates: int = 4
    buffer: int = 100_000
    warm_up: int = 2_000

    def _model(self, env: ScaledVecEnv, common: dict[str, Any]) -> BaseAlgorithm:
        return SAC(
            env=env,
            batch_size=self.batch_size,
            gradient_steps=self.updates,
            buffer_size=self.buffer,
            learning_starts=self.warm_up,
            ent_coef="auto_0.1",
            **common,
        )
