"""``td3``: twin delayed deep deterministic policy gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3 import TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise

from .coach import ScaledVecEnv
from .reinforcement import OffPolicy


@dataclass(kw_only=True, eq=False)
class TwinDelayed(OffPolicy):
    """Twin delayed deep deterministic policy gradient (Fujimoto et al., 2018) by stable-baselines3.

    Parameters
    ----------
    noise : float
        Standard deviation of the exploration, in units of actions.
    """

    noise: float = 0.2

    def _model(self, env: ScaledVecEnv, common: dict[str, Any]) -> BaseAlgorithm:
        assert env.action_space.shape is not None
        dimensions = env.action_space.shape[0]
        return TD3(
            env=env,
            action_noise=NormalActionNoise(np.zeros(dimensions), np.full(dimensions, self.noise)),
            **common,
        )
