"""Any object that predicts actions as an agent, in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.errors import ShiftgymError
from ..envs.task import Floats, Observations, Task
from .base import Agent, State


def policy_agent(make: Callable[[], Any]) -> type[Agent]:
    """Make an agent of a policy with ``predict(observations, deterministic=True)``, as SB3's models have.

    What ``predict`` returns is the actions, or a tuple that begins with them, in the unit of the decisions; the
    nearest feasible ones are taken. Nothing of the policy is saved: it is made anew where an agent is loaded.

    Parameters
    ----------
    make : callable
        Returns the policy, such as ``lambda: PPO.load("mine.zip")``; called when the agent is first needed.

    Examples
    --------
    A file ``mine.py`` of three lines, for ``shiftgym run --agents persistence mine:Mine``::

        from stable_baselines3 import PPO
        from shiftgym.agents import policy_agent
        Mine = policy_agent(lambda: PPO.load("mine.zip"))
    """

    @dataclass(kw_only=True, eq=False)
    class Policy(Agent):
        """A policy made elsewhere; nothing is trained."""

        def _fit(self, task: Task, progress: bool, device: str) -> None:
            self.load_state({})

        def load_state(self, state: State) -> None:
            self._policy = make()
            if not callable(getattr(self._policy, "predict", None)):
                raise ShiftgymError(f"{self._policy!r} has no method predict(observations, deterministic=True)")

        def _act(self, observations: Observations) -> Floats:
            predicted = self._policy.predict(observations, deterministic=True)
            actions = np.asarray(predicted[0] if isinstance(predicted, tuple) else predicted, np.float64)
            wanted = (len(observations), self.problem_.decision_dim)
            if actions.shape != wanted:
                raise ShiftgymError(f"the policy predicts actions of shape {actions.shape}, not {wanted}")
            decisions: Floats = self.problem_.project(actions)
            return decisions

    return Policy
