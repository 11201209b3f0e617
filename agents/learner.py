"""Agents whose network answers with numbers: a forecast, or the decision itself."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..envs.task import Floats, Observations
from ..solvers import DecisionProblem
from ..solvers.layer import decide
from .base import ScenarioAgent
from .networks import make_network
from .threads import single_thread
from .trained import Samples, Trained


@dataclass(kw_only=True, eq=False)
class Learner(Trained):
    """Trains a network that maps an observation to numbers on :meth:`loss`."""

    #: Whether :meth:`loss` is the mean cost of decisions.
    decision_focused: ClassVar[bool] = False

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Width of the network's output."""

    @abstractmethod
    def loss(self, output: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
        """Loss (scalar) of the network's output (B, outputs), to be minimised.

        For outcomes (B, D) and, where the problem is stateful, the states (B, S) that the decisions start from.
        """

    def _build(self, observations: Tensor) -> nn.Module:
        return make_network(self.network, self.layout_, self.outputs, observations, self.hidden)

    def _train(self, train: Samples, held: Samples, progress: bool) -> None:
        def objective(samples: Samples) -> Tensor:
            return self.loss(self.output(samples.observations), samples.outcomes, samples.state)

        self._descend(
            objective,
            objective,
            train,
            held,
            stage="fit",
            decision_cost=self.decision_focused,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            progress=progress,
        )

    def output(self, observations: Tensor) -> Tensor:
        """The network's output (B, outputs) in the units of the problem."""
        return self.link(self.network_(observations))

    def link(self, raw: Tensor) -> Tensor:
        """Bring raw outputs to the level and scale of the training outcomes."""
        return self.level_ + self.scale_ * raw

    def predict(self, observations: Observations) -> Floats:
        """The output as a float64 array, without gradients."""
        with torch.no_grad(), single_thread():
            out: Floats = self.output(torch.as_tensor(observations)).double().numpy()
        return out


@dataclass(kw_only=True, eq=False)
class PointForecaster(Learner, ScenarioAgent):
    """A network that forecasts the outcome; the decision is the best one for the forecast."""

    @property
    def outputs(self) -> int:
        """One forecast per outcome."""
        return self.problem_.outcome_dim

    def start(self, outcomes: Floats) -> tuple[Floats, Floats]:
        """Start at the mean outcome, with the spread of the outcomes."""
        return level_and_spread(outcomes)

    def link(self, raw: Tensor) -> Tensor:
        """Forecasts in the outcome's units, above its lower bound where there is one.

        A softplus keeps the gradient alive where clipping would kill it.
        """
        low = self.problem_.outcome_low
        if low == -np.inf:
            return super().link(raw)
        start = torch.log(torch.expm1(((self.level_ - low) / self.scale_).clamp(1e-3, 50.0)))
        return low + self.scale_ * torch.nn.functional.softplus(raw + start)

    def scenarios(self, observations: Observations) -> Floats:
        """The forecast as the only scenario."""
        return self.predict(observations)[:, None]

    def decision_loss(self, forecast: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
        """Mean cost of the decisions that the forecasts (B, D) lead to: the objective of decision-focused training."""
        return scenario_loss(self.problem_, forecast[:, None], outcomes, state)


def level_and_spread(outcomes: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation (D,) of outcomes (K, D); one where they never change."""
    spread = outcomes.std(0)
    return outcomes.mean(0), np.where(spread > 0, spread, 1.0)


def scenario_loss(problem: DecisionProblem, scenarios: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
    """Mean cost of the decisions that scenarios (B, M, D) lead to, differentiable in the scenarios."""
    return mean_cost(problem, decide(problem, problem.given(scenarios, state)), outcomes, state)


def mean_cost(problem: DecisionProblem, decisions: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
    """Mean cost of decisions (B, d), with its gradient."""
    cost: Tensor = problem.cost(outcomes, decisions.double(), state).mean()
    return cost
