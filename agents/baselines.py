"""Baselines that learn next to nothing: oracle, random, a constant, persistence, sample average."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..envs.task import Floats, Observations, Task
from .base import Agent, ScenarioAgent, State, check_samples, some_of


@dataclass(kw_only=True, eq=False)
class Oracle(Agent):
    """Perfect information: knows the outcome and decides best for it. Zero regret where steps are independent."""

    clairvoyant = True

    def _fit(self, task: Task, progress: bool, device: str) -> None:
        pass

    def _act(self, observations: Observations) -> Floats:
        outcomes = self.problem_.outcome_dim
        state = observations[:, outcomes:] if self.layout_.previous else None
        decisions: Floats = self.problem_.perfect(observations[:, :outcomes], state)
        return decisions


@dataclass(kw_only=True, eq=False)
class Random(Agent):
    """Uniform over the decision box, from a generator seeded once."""

    def _fit(self, task: Task, progress: bool, device: str) -> None:
        self._generator = np.random.default_rng(self.seed)

    def _act(self, observations: Observations) -> Floats:
        problem = self.problem_
        decisions = self._generator.uniform(problem.low, problem.high, (len(observations), problem.decision_dim))
        feasible: Floats = problem.project(decisions)
        return feasible

    def load_state(self, state: State) -> None:
        """Start the generator anew: a loaded agent acts like a freshly fitted one."""
        self._generator = np.random.default_rng(self.seed)


@dataclass(kw_only=True, eq=False)
class Constant(Agent):
    """The same decision at every step: the feasible one nearest to a number everywhere.

    In a portfolio, where weights sum to one, that is the same weight for every asset, whatever the number.

    Parameters
    ----------
    value : float
        The number, in the unit of the decisions.
    """

    value: float = 0.0

    def _fit(self, task: Task, progress: bool, device: str) -> None:
        pass

    def _act(self, observations: Observations) -> Floats:
        wanted = np.full((1, self.problem_.decision_dim), float(self.value))
        decisions: Floats = self.problem_.project(wanted)
        return decisions.repeat(len(observations), axis=0)


@dataclass(kw_only=True, eq=False)
class Persistence(ScenarioAgent):
    """Tomorrow like today: the last observed outcome is the forecast."""

    def _fit(self, task: Task, progress: bool, device: str) -> None:
        pass

    def scenarios(self, observations: Observations) -> Floats:
        """The persistence forecast as the only scenario."""
        forecast = self.layout_.persistence(observations).astype(np.float64)
        return np.maximum(forecast, self.problem_.outcome_low)[:, None]


@dataclass(kw_only=True, eq=False)
class SampleAverage(ScenarioAgent):
    """Sample average approximation: every training outcome is a scenario, whatever is observed.

    Parameters
    ----------
    samples : int or None
        Number of training outcomes, drawn without replacement; None takes all. All are kept, so that a saved agent
        can be loaded with another number.
    """

    samples: int | None = None

    def __post_init__(self) -> None:
        check_samples(self.samples)

    def _fit(self, task: Task, progress: bool, device: str) -> None:
        self.outcomes_ = task.dataset()[1]
        self._decide()

    def _decide(self) -> None:
        """Choose the outcomes to decide with, and decide."""
        self._chosen = some_of(self.outcomes_, self.samples, self.seed)
        self.decision_ = self.problem_.solve(self._chosen[None])[0]

    def scenarios(self, observations: Observations) -> Floats:
        """The chosen training outcomes, the same for every observation."""
        return np.broadcast_to(self._chosen, (len(observations), *self._chosen.shape))

    def _act(self, observations: Observations) -> Floats:
        if self.layout_.previous or self.layout_.known:  # the best decision depends on what is observed
            return super()._act(observations)
        return np.repeat(self.decision_[None], len(observations), axis=0)

    def state(self) -> State:
        """All training outcomes."""
        return {"outcomes": self.outcomes_}

    def load_state(self, state: State) -> None:
        """Take back the outcomes, and decide."""
        self.outcomes_ = state["outcomes"]
        self._decide()
