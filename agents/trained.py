"""The training loop that every gradient-trained agent shares."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..data.errors import ShiftgymError
from ..envs.task import Floats, Task
from .base import Agent, Epoch, State
from .threads import single_thread


@dataclass(frozen=True, eq=False)
class Samples:
    """Decision points: observations (K, size), outcomes (K, D) and, where the problem is stateful, states (K, S)."""

    observations: Tensor
    outcomes: Tensor
    state: Tensor | None

    @classmethod
    def of(cls, task: Task, device: str | torch.device) -> Samples:
        """Every decision point of a task."""
        observations, outcomes = (torch.as_tensor(array, device=device) for array in task.dataset())
        state = task.layout.state(observations)
        return cls(observations, outcomes, None if state is None else state.double())

    def pick(self, rows: Tensor | slice) -> Samples:
        """The decision points of some rows."""
        state = None if self.state is None else self.state[rows]
        return Samples(self.observations[rows], self.outcomes[rows], state)

    def __add__(self, other: Samples) -> Samples:
        """Both, one after the other."""
        state = None if self.state is None or other.state is None else torch.cat((self.state, other.state))
        observations = torch.cat((self.observations, other.observations))
        return Samples(observations, torch.cat((self.outcomes, other.outcomes)), state)

    def __len__(self) -> int:
        return len(self.observations)


Objective = Callable[[Samples], Tensor]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(kw_only=True, eq=False)
class Trained(Agent):
    """Trains a network on every decision point of the training trace by Adam.

    The last part of the training trace is held out; the weights of the epoch with the lowest loss there are kept.
    Outcomes reach the network, and leave it, relative to a level and a scale of the training outcomes.

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
    @abstractmethod
    def _build(self, observations: Tensor) -> nn.Module:
        """The untrained network; of the training observations (K, size) it sees mean and spread only."""

    @abstractmethod
    def start(self, outcomes: Floats) -> tuple[Floats, Floats]:
        """Level and scale of the network's output, from the training outcomes."""

    def _training(self, task: Task, samples: Samples) -> Samples:
        """What to train on, given what is not held out of the task: just that, unless an agent adds to it."""
        return samples

    @abstractmethod
    def _train(self, train: Samples, held: Samples, progress: bool) -> None:
        """Train ``network_``, as a rule by :meth:`_descend`."""

    # ------------------------------------------------------------------ fitting
    def _fit(self, task: Task, progress: bool, device: str) -> None:
        self._learn(task, Samples.of(task, device), progress)

    def _learn(self, task: Task, samples: Samples, progress: bool) -> None:
        """Train on samples of a task, and let those at their end choose the epoch."""
        self._began, device = time.perf_counter(), samples.observations.device
        x, count = samples.observations, len(samples) - int(len(samples) * self.validation)
        level, scale = self.start(samples.outcomes[:count].cpu().numpy())
        self.level_ = torch.as_tensor(level, dtype=torch.float32, device=device)
        self.scale_ = torch.as_tensor(scale, dtype=torch.float32, device=device)
        # first weights and dropout come from torch's own generator
        with kept_generator(x), single_thread():
            torch.manual_seed(self.seed)
            self.network_ = self._build(x[:count]).to(device)
            self._train(self._training(task, samples.pick(slice(count))), samples.pick(slice(count, None)), progress)
        self.network_.to("cpu")
        self.level_, self.scale_ = self.level_.cpu(), self.scale_.cpu()

    def _descend(
        self,
        objective: Objective,
        judge: Objective,
        train: Samples | Callable[[], Samples],
        held: Samples,
        *,
        stage: str,
        decision_cost: bool,
        epochs: int,
        learning_rate: float,
        progress: bool,
        best: float | None = None,
        averaged: float = 0.0,
    ) -> None:
        """Minimise ``objective`` over batches of ``train``; keep the weights that ``judge`` likes best on ``held``.

        Without held-out data the last weights are kept. Those of the beginning are among them where ``best`` says how
        good they were. What is judged and kept is what :func:`descend` yields. What the judge says of every epoch,
        lower is better, goes into ``history_`` under the name of the stage; ``decision_cost`` says whether that is the
        cost of decisions.
        """

        def note(epoch: int, loss: float) -> None:
            self.history_.append(Epoch(stage, epoch, time.perf_counter() - self._began, loss, decision_cost))

        order = torch.Generator().manual_seed(self.seed)
        kept, least = None, np.inf
        if best is not None:
            note(0, best)
            kept, least = self._weights(), best
        trained = self.network_
        passes = descend(trained, objective, train, self.batch_size, epochs, learning_rate, averaged, order)
        steps = track(passes, total=epochs, description=f"fit {self.name}", disable=not progress)
        for epoch, result in enumerate(steps):
            self.network_ = result
            if len(held):
                with torch.no_grad():
                    loss = float(judge(held))
                note(epoch + 1, loss)
                if loss < least:
                    least, kept = loss, self._weights()
            elif epoch + 1 == epochs:
                kept = self._weights()
            self.network_ = trained
        if kept is not None:
            self.network_.load_state_dict(kept)

    def _weights(self) -> dict[str, Tensor]:
        """A copy of the network's weights."""
        return {key: value.clone() for key, value in self.network_.state_dict().items()}

    # ------------------------------------------------------------------ keeping
    def state(self) -> State:
        """The network's weights and the output's level and scale."""
        weights = {f"network.{key}": value.numpy() for key, value in self.network_.state_dict().items()}
        return {**weights, "level": self.level_.numpy(), "scale": self.scale_.numpy()}

    def load_state(self, state: State) -> None:
        """Rebuild the network around its weights."""
        self.network_ = self._build(torch.zeros((2, self.layout_.size)))
        weights = {key.removeprefix("network."): torch.as_tensor(value) for key, value in state.items() if "." in key}
        self.network_.load_state_dict(weights)
        self.level_, self.scale_ = torch.as_tensor(state["level"]), torch.as_tensor(state["scale"])


def descend(
    network: Network,
    objective: Objective,
    train: Samples | Callable[[], Samples],
    batch_size: int,
    epochs: int,
    learning_rate: float,
    averaged: float,
    order: torch.Generator,
) -> Iterator[Network]:
    """Minimise ``objective`` by Adam over batches of ``train`` in random ``order``; yield the result of every epoch.

    Where ``train`` is a function, it is asked for the samples of each epoch. With ``averaged`` the learning rate falls
    to nothing along a cosine, and the result is the running average of the weights with that decay; without, the
    network.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(averaged)) if averaged else None  # type: ignore[no-untyped-call]
    for epoch in range(epochs):
        samples = train() if callable(train) else train
        for batch in batches(len(samples), batch_size, order, samples.observations.device):
            optimiser.zero_grad()
            objective(samples.pick(batch)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if average is not None:
                average.update_parameters(network)
        if average is not None:
            optimiser.param_groups[0]["lr"] = learning_rate * (1 + math.cos(math.pi * (epoch + 1) / epochs)) / 2
        yield network if average is None else cast(Network, average.module)


def batches(
    count: int, size: int, generator: torch.Generator, device: str | torch.device = "cpu"
) -> tuple[Tensor, ...]:
    """Indices of ``count`` samples in random order, in batches."""
    shuffled = torch.randperm(count, generator=generator).to(device)
    split: tuple[Tensor, ...] = shuffled.split(size)  # type: ignore[no-untyped-call]
    return split


def kept_generator(like: Tensor) -> AbstractContextManager[None]:
    """Give torch's own generators back as they were: that of the processor, and that of the tensor's device."""
    kept: AbstractContextManager[None] = torch.random.fork_rng([like.device] if like.is_cuda else [])
    return kept
