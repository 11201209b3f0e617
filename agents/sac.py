"""``sac``: soft actor-critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from .coach import ScaledVecEnv
from .reinforcement import OffPolicy


@dataclass(kw_only=True, eq=False)
class SoftActorCritic(OffPolicy):
    """Soft actor-critic (Haarnoja et al., 2018) by stable-baselines3; the temperature is learned."""

    def _model(self, env: ScaledVecEnv, common: dict[str, Any]) -> BaseAlgorithm:
        return SAC(env=env, ent_coef="auto_0.1", **common)
