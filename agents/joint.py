"""The joint sample x = (v, c) of 3D-Learning: what was seen and what came of it, as one path that can be moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ..data.errors import ShiftgymError
from ..envs.task import Layout
from ..solvers import DecisionProblem
from .trained import Samples


@dataclass(frozen=True, eq=False)
class Joint:
    """Histories and outcomes (v, c) as rows x of coordinates in which white noise is the noise that is meant.

    A row is a path: the history, then the outcomes that follow it. Its coordinates z are those of
    x = location + scale (A z), with a lower triangular A over the slots. The columns of A A' are the correlations of an
    autoregression of the first order with coefficient ``persistence``: at 0, A = I, every slot of a disturbance is a
    surprise; near 1, a disturbance lasts, and what was seen of it tells what comes. Context and state are not part of a
    row: they are those of the samples that a row stands for.

    Attributes
    ----------
    history : int
        Coordinates of a row that belong to the history; the others are the outcome's.
    columns : int
        Series side by side; a row has steps x columns coordinates, oldest step first.
    location, scale : tensor, shape (columns * steps,)
        Mean and standard deviation of the training samples, one per column of the history and one per outcome.
    mixing, unmixing : tensor, shape (steps, steps)
        A and its inverse.
    low : float
        Smallest outcome that makes sense; histories and outcomes stay above it.
    known : int
        How many outcomes, the last ones, are known beforehand: samples keep them as they are.
    """

    history: int
    columns: int
    location: Tensor
    scale: Tensor
    mixing: Tensor
    unmixing: Tensor
    low: float
    known: int

    @classmethod
    def of(cls, samples: Samples, layout: Layout, problem: DecisionProblem, persistence: float = 0.0) -> Self:
        """The coordinates of training samples.

        Raises
        ------
        ShiftgymError
            For a persistence outside [0, 1), or one where outcomes do not continue the columns of the history.
        """
        check_persistence(persistence)
        columns, outcomes = layout.columns, samples.outcomes.float()
        if outcomes.shape[1] % columns:
            if persistence:
                raise ShiftgymError(
                    f"persistence is {persistence}, but {outcomes.shape[1]} outcomes do not continue a history of "
                    f"{columns} columns: give 0"
                )
            columns = 1
        past = layout.history(samples.observations)
        mean, spread = ([of(past).repeat(layout.lookback), of(outcomes)] for of in (_mean, _spread))
        location, scale = torch.cat(mean), torch.cat(spread)
        steps = len(location) // columns
        unmixing = torch.eye(steps, dtype=torch.float64)
        unmixing[1:] -= persistence * torch.eye(steps, dtype=torch.float64)[:-1]
        unmixing[1:] /= (1 - persistence**2) ** 0.5
        mixing = torch.linalg.inv(unmixing)
        history = layout.lookback * layout.columns
        turned = mixing.to(location), unmixing.to(location)
        return cls(history, columns, location, scale, *turned, problem.outcome_low, problem.known_dim)

    @property
    def width(self) -> int:
        """Number of coordinates of a row."""
        return len(self.location)

    def paths(self, samples: Samples) -> Tensor:
        """The paths x (B, width) of samples: histories and outcomes, in the units of the problem."""
        return torch.cat((samples.observations[:, : self.history], samples.outcomes.float()), 1)

    def rows(self, samples: Samples) -> Tensor:
        """Coordinates z (B, width) of samples."""
        return self._along(self.unmixing, (self.paths(samples) - self.location) / self.scale)

    def samples(self, rows: Tensor, like: Samples) -> Samples:
        """Samples at coordinates (B, width), with the context and the state of samples ``like`` (B)."""
        x = (self.location + self.scale * self._along(self.mixing, rows)).clamp(min=self.low)
        past, outcomes = x[:, : self.history], self._kept(x[:, self.history :].to(like.outcomes), like)
        return Samples(torch.cat((past, like.observations[:, self.history :]), 1), outcomes, like.state)

    def moved(self, samples: Samples, by: Tensor) -> Samples:
        """Samples moved by ``by`` in these coordinates: (B, width), or (B, history) where outcomes stay."""
        steps = by.shape[1] // self.columns
        delta = self._along(self.mixing[:steps, :steps], by) * self.scale[: by.shape[1]]
        x = torch.cat((samples.observations[:, : self.history], samples.outcomes), 1)[:, : by.shape[1]]
        moved = (x + delta).clamp(min=self.low)
        past = moved[:, : self.history].to(samples.observations)
        outcomes = self._kept(moved[:, self.history :], samples) if by.shape[1] > self.history else samples.outcomes
        return Samples(torch.cat((past, samples.observations[:, self.history :]), 1), outcomes, samples.state)

    def _kept(self, outcomes: Tensor, like: Samples) -> Tensor:
        """Outcomes (B, D) with those that are known beforehand as in ``like``."""
        secret = outcomes.shape[1] - self.known
        return torch.cat((outcomes[:, :secret], like.outcomes[:, secret:]), 1) if self.known else outcomes

    def _along(self, matrix: Tensor, rows: Tensor) -> Tensor:
        """A matrix (steps, steps) times the steps of rows (B, width)."""
        paths = rows.reshape(len(rows), -1, self.columns)
        return torch.einsum("ij,bjc->bic", matrix, paths).reshape(rows.shape)


def check_persistence(persistence: float) -> None:
    """Raise unless it is a coefficient of a stationary path that does not alternate."""
    if not 0 <= persistence < 1:
        raise ShiftgymError(f"persistence is {persistence}: give a number in [0, 1)")


def _mean(values: Tensor) -> Tensor:
    """Mean of each column over all other axes."""
    return values.flatten(0, -2).mean(0)


def _spread(values: Tensor) -> Tensor:
    """Standard deviation of each column over all other axes; one where a column never changes."""
    spread = values.flatten(0, -2).std(0, correction=0)
    return torch.where(spread > 1e-8, spread, torch.ones_like(spread))
