"""Agents whose network answers with numbers: a forecast, or the decision itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..data.errors import UnknownNameError
from ..envs.task import Floats, Observations
from ..solvers import DecisionProblem
from ..solvers.layer import decide
from .base import ScenarioAgent
from .networks import make_network
from .threads import single_thread
from .trained import Samples, Trained

#: What a robust forecaster can be trained for.
OBJECTIVES = ("decision", "regret", "mse")


@dataclass(kw_only=True, eq=False)
class Learner(Trained):
    """Trains a network that maps an observation to numbers on :meth:`losses`."""

    @property
    def decision_focused(self) -> bool:
        """Whether :meth:`risk` is the mean cost of decisions."""
        return False

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Width of the network's output."""

    @abstractmethod
    def losses(self, output: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
        """Loss (B,) of each row of the network's output (B, outputs).

        For outcomes (B, D) and, where the problem is stateful, the states (B, S) that the decisions start from.
        """

    def risk(self, samples: Samples) -> Tensor:
        """What is minimised over a batch, and on held-out data chooses the epoch: the mean loss."""
        return self.sample_losses(samples).mean()

    def sample_losses(self, samples: Samples) -> Tensor:
        """Loss (B,) of the network at each sample."""
        return self.losses(self.output(samples.observations), samples.outcomes, samples.state)

    def _build(self, observations: Tensor) -> nn.Module:
        return make_network(self.network, self.layout_, self.outputs, observations, self.hidden)

    def _each_epoch(self, train: Samples) -> Samples | Callable[[], Samples]:
        """What an epoch trains on, given the training samples: just those, unless an agent makes its own."""
        return train

    def _train(self, train: Samples, held: Samples, progress: bool) -> None:
        self._descend(
            self.risk,
            self.risk,
            self._each_epoch(train),
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

    def output(self, observations: Tensor) -> Tensor:
        """The forecasts (B, D), those of known outcomes as they are told."""
        told: Tensor = self.layout_.told(observations, super().output(observations))
        return told

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

    def decision_losses(self, forecast: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
        """Cost (B,) of the decision that each forecast (B, D) leads to: what decision-focused training minimises."""
        return scenario_losses(self.problem_, forecast[:, None], outcomes, state)

    def squared_errors(self, forecast: Tensor, outcomes: Tensor) -> Tensor:
        """Mean squared error (B,) of each forecast (B, D), in units of the training spread."""
        return (((forecast - outcomes) / self.scale_) ** 2).mean(-1)


@dataclass(kw_only=True, eq=False)
class RobustForecaster(PointForecaster):
    """A forecaster trained against a change of the distribution.

    Parameters
    ----------
    objective : {"decision", "regret", "mse"}
        Which loss is made robust: the cost of the decision that a forecast leads to, its regret, which is the cost
        beyond that of perfect information, or the mean squared error of the forecast. Where some outcomes are costly
        whatever is decided, an adversary of the cost picks those, an adversary of the regret picks what is misjudged.
    """

    objective: str = "decision"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in OBJECTIVES:
            raise UnknownNameError("objective", self.objective, OBJECTIVES)

    @property
    def decision_focused(self) -> bool:
        """Where the cost of the decision is the objective."""
        return self.objective == "decision"

    def losses(self, output: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
        """Cost or regret of the decision, or squared error."""
        if self.objective == "mse":
            return self.squared_errors(output, outcomes)
        loss = self.decision_losses(output, outcomes, state)
        return loss - perfect_costs(self.problem_, outcomes, state) if self.objective == "regret" else loss


def level_and_spread(outcomes: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation (D,) of outcomes (K, D); one where they never change."""
    spread = outcomes.std(0)
    return outcomes.mean(0), np.where(spread > 0, spread, 1.0)


def scenario_loss(problem: DecisionProblem, scenarios: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
    """Mean cost of the decisions that scenarios (B, M, D) lead to, differentiable in the scenarios."""
    return scenario_losses(problem, scenarios, outcomes, state).mean()


def scenario_losses(problem: DecisionProblem, scenarios: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
    """Cost (B,) of each decision that scenarios (B, M, D) lead to, differentiable in scenarios and outcomes."""
    return costs(problem, decide(problem, problem.given(scenarios, state)), outcomes, state)


def perfect_costs(problem: DecisionProblem, outcomes: Tensor, state: Tensor | None) -> Tensor:
    """Cost (B,) of perfect information, differentiable in the outcomes: the best decision stays best (envelope)."""
    with torch.no_grad():
        decisions = problem.perfect(outcomes, state)
    return costs(problem, decisions, outcomes, state)


def costs(problem: DecisionProblem, decisions: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
    """Cost (B,) of decisions (B, d) as training sees it, the problem's objective, with its gradient."""
    cost: Tensor = problem.objective(outcomes, decisions.double(), state)
    return cost
