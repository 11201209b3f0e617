"""``td3``: twin delayed deep deterministic policy gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3 import TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise

from .coach import ScaledVecEnv
from .reinforcement import Reinforcement


@dataclass(kw_only=True, eq=False)
class TwinDelayed(Reinforcement):
    """Twin delayed deep deterministic policy gradient (Fujimoto et al., 2018) by stable-baselines3.

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
    noise : float
        Standard deviation of the exploration, in units of actions.
    """

    batch_size: int = 256
    updates: int = 4
    buffer: int = 100_000
    warm_up: int = 2_000
    noise: float = 0.2

    def _model(self, env: ScaledVecEnv, common: dict[str, Any]) -> BaseAlgorithm:
        assert env.action_space.shape is not None
        dimensions = env.action_space.shape[0]
        return TD3(
            env=env,
            batch_size=self.batch_size,
            gradient_steps=self.updates,
            buffer_size=self.buffer,
            learning_starts=self.warm_up,
            action_noise=NormalActionNoise(np.zeros(dimensions), np.full(dimensions, self.noise)),
            **common,
        )
