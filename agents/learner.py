"""The training loop that every gradient-trained agent shares."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from ..data.errors import ShiftgymError
from ..envs.task import Floats, Observations, Task
from ..solvers import DecisionProblem
from ..solvers.layer import decide
from .base import Agent, ScenarioAgent, State
from .networks import make_network
from .threads import single_thread


@dataclass(kw_only=True, eq=False)
class Learner(Agent):
    """Trains a network on every decision point of the training trace by Adam on :meth:`loss`.

    The last part of the training trace is held out; the weights of the epoch with the lowest loss there are kept.

    Parameters
    ----------
    network : {"auto", "lstm", "mlp"}
        The stacked LSTM of 3D-Learning, or fully connected layers; by itself the LSTM for the history of a single
        series, and fully connected layers where a decision has many outcomes, as day-ahead tasks do.
    hidden : tuple of int
        Widths of the hidden layers.
    epochs, batch_size, learning_rate
        Of the optimisation.
    validation : float
        Share of the training trace, at its end, that chooses the epoch; 0 keeps the last epoch.
    """

    network: str = "auto"
    hidden: tuple[int, ...] = (128, 64)
    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-3
    validation: float = 0.15

    def __post_init__(self) -> None:
        self.hidden = tuple(self.hidden)
        if not 0 <= self.validation < 1:
            raise ShiftgymError(f"validation is {self.validation}: give a share in [0, 1)")
        for field in ("epochs", "batch_size", "learning_rate"):
            if getattr(self, field) <= 0:
                raise ShiftgymError(f"{field} is {getattr(self, field)}: give a positive number")

    # what a subclass says about itself
    @property
    @abstractmethod
    def outputs(self) -> int:
        """Width of the network's output."""

    @abstractmethod
    def start(self, outcomes: Floats) -> tuple[Floats, Floats]:
        """Output level and scale (outputs,) that an untrained network should have, from the training outcomes."""

    @abstractmethod
    def loss(self, output: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
        """Loss (scalar) of the network's output (B, outputs), to be minimised.

        For outcomes (B, D) and, where the problem is stateful, the states (B, S) that the decisions start from.
        """

    # ------------------------------------------------------------------ fitting
    def _fit(self, task: Task, progress: bool, device: str) -> None:
        observations, outcomes = task.dataset()
        held_out = int(len(outcomes) * self.validation)
        train = len(outcomes) - held_out
        x = torch.as_tensor(observations, device=device)
        y = torch.as_tensor(outcomes, device=device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._build(x[:train])
        level, scale = self.start(outcomes[:train])
        self.level_ = torch.as_tensor(level, dtype=torch.float32, device=device)
        self.scale_ = torch.as_tensor(scale, dtype=torch.float32, device=device)
        self.network_.to(device)
        with single_thread():
            self._train(x[:train], y[:train], x[train:], y[train:], progress)
        self.network_.to("cpu")
        self.level_, self.scale_ = self.level_.cpu(), self.scale_.cpu()

    def _build(self, observations: Tensor) -> None:
        self.network_ = make_network(self.network, self.layout_, self.outputs, observations, self.hidden)

    def _train(self, x: Tensor, y: Tensor, x_held: Tensor, y_held: Tensor, progress: bool) -> None:
        optimiser = torch.optim.Adam(self.network_.parameters(), lr=self.learning_rate)
        order = torch.Generator().manual_seed(self.seed)
        best, best_weights = np.inf, None
        self.history_: list[float] = []
        for _ in track(range(self.epochs), description=f"fit {self.name}", disable=not progress):
            for batch in torch.randperm(len(x), generator=order).to(x.device).split(self.batch_size):  # type: ignore[no-untyped-call]
                optimiser.zero_grad()
                self._loss(x[batch], y[batch]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            if len(x_held):
                with torch.no_grad():
                    held = float(self._loss(x_held, y_held))
                self.history_.append(held)
                if held < best:
                    best = held
                    best_weights = {key: value.clone() for key, value in self.network_.state_dict().items()}
        if best_weights is not None:
            self.network_.load_state_dict(best_weights)

    def _loss(self, observations: Tensor, outcomes: Tensor) -> Tensor:
        state = self.layout_.state(observations)
        return self.loss(self.output(observations), outcomes, None if state is None else state.double())

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

    # ------------------------------------------------------------------ keeping
    def state(self) -> State:
        """The network's weights and the output's level and scale."""
        weights = {f"network.{key}": value.numpy() for key, value in self.network_.state_dict().items()}
        return {**weights, "level": self.level_.numpy(), "scale": self.scale_.numpy()}

    def load_state(self, state: State) -> None:
        """Rebuild the network around its weights."""
        self._build(torch.zeros((2, self.layout_.size)))
        weights = {key.removeprefix("network."): torch.as_tensor(value) for key, value in state.items() if "." in key}
        self.network_.load_state_dict(weights)
        self.level_, self.scale_ = torch.as_tensor(state["level"]), torch.as_tensor(state["scale"])


@dataclass(kw_only=True, eq=False)
class PointForecaster(Learner, ScenarioAgent):
    """A network that forecasts the outcome; the decision is the best one for the forecast."""

    @property
    def outputs(self) -> int:
        """One forecast per outcome."""
        return self.problem_.outcome_dim

    def start(self, outcomes: Floats) -> tuple[Floats, Floats]:
        """Start at the mean outcome, with the spread of the outcomes."""
        spread = outcomes.std(0)
        return outcomes.mean(0), np.where(spread > 0, spread, 1.0)

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
        scenarios = forecast[:, None]
        if state is not None:
            scenarios = self.problem_.given(scenarios, state)
        return mean_cost(self.problem_, decide(self.problem_, scenarios), outcomes, state)


def mean_cost(problem: DecisionProblem, decisions: Any, outcomes: Tensor, state: Tensor | None) -> Tensor:
    """Mean cost of decisions (B, d), with its gradient."""
    cost: Tensor = problem.cost(outcomes, decisions.double(), state).mean()
    return cost
