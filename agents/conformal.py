"""Robust provisioning: enough for an upper bound of the workload that is calibrated to hold at a promised rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ..data.errors import ShiftgymError
from ..envs.task import Floats, Observations, Task
from ..solvers.provisioning import Provisioning
from .base import State
from .calibration import Recalibrated, Thresholds, box_scores, check_epsilon
from .learner import Learner, level_and_spread
from .trained import Samples
from .uncertainty import pinball

#: Least distance from the median to the upper quantile, in training standard deviations.
_NARROWEST = 1e-3


@dataclass(kw_only=True, eq=False)
class Conformal(Recalibrated, Learner):
    """Forecasts a median and an upper quantile; holds what is best for the median, and enough for a calibrated bound.

    The bound is the quantile, moved by a multiple of its distance from the median that held on outcomes drawn at random
    from the training trace, in which nothing was fitted (:mod:`shiftgym.agents.calibration`; Algorithm 1 of Contextual
    Robust Optimization for AI Data Center Scheduling, one-sided). The largest excess over the slots of a decision is
    the score, so that a step keeps the promise as a whole.

    It is made for problems whose service grows with the decision and shrinks with the outcome, which say what is
    ``enough``: Provisioning.

    Parameters
    ----------
    epsilon : float
        Promise: at most this share of steps breaks ``service``.
    share : float
        Of the training decision points, drawn at random, to calibrate with.
    calibration, window, decay, rate
        How the bound follows what happens, see :class:`~shiftgym.agents.calibration.Calibration`.
    """

    problems = ("Provisioning",)
    epsilon: float = 0.05
    share: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_epsilon(self.epsilon)
        check_share(self.share)
        self._rule = self.rule
        self.reset()

    # ------------------------------------------------------------------ learning
    @property
    def outputs(self) -> int:
        """Median and upper quantile of every outcome."""
        return 2 * self.problem_.outcome_dim

    def start(self, outcomes: Floats) -> tuple[Floats, Floats]:
        """Start at the mean outcome, with the spread of the outcomes."""
        return level_and_spread(outcomes)

    def link(self, raw: Tensor) -> Tensor:
        """Medians and, above them, upper quantiles (B, 2 D), in the outcome's units."""
        median, width = raw.chunk(2, dim=-1)
        median = self.level_ + self.scale_ * median
        return torch.cat((median, median + self.scale_ * (_NARROWEST + torch.nn.functional.softplus(width))), dim=-1)

    def losses(self, output: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
        """Pinball losses of both, in units of the training spread."""
        median, upper = output.chunk(2, dim=-1)
        loss = pinball(outcomes - median, 0.5) + pinball(outcomes - upper, 1 - self.epsilon)
        return (loss / self.scale_).mean(-1)

    def _fit(self, task: Task, progress: bool, device: str) -> None:
        samples = Samples.of(task, device)
        if self.layout_.lookback < self.problem_.outcome_dim and self.calibration != "static":
            raise ShiftgymError(
                f"lookback is {self.layout_.lookback}: calibration={self.calibration!r} follows the last "
                f"{self.problem_.outcome_dim} slots, so an observation must hold as many"
            )
        drawn = drawn_at_random(len(samples), self.share, self.seed)
        self._learn(task, samples.pick(torch.as_tensor(np.flatnonzero(~drawn), device=device)), progress)
        observations, outcomes = task.dataset()
        self.scores_ = self._scores(outcomes[drawn], *self._quantiles(observations[drawn]))
        self.reset()

    def _quantiles(self, observations: Observations) -> tuple[Floats, Floats]:
        median, upper = np.split(self.predict(observations), 2, axis=-1)
        return median, upper

    @staticmethod
    def _scores(outcomes: Floats, median: Floats, upper: Floats) -> Floats:
        """Largest excess (B, 1) over the upper quantile, in units of its distance from the median."""
        return box_scores(outcomes, median, upper, upper - median, "upper").max(-1, keepdims=True)

    # ------------------------------------------------------------------ deciding
    def reset(self) -> None:
        """Forget the paths that were followed."""
        self._thresholds: Thresholds | None = None
        self._pending: tuple[Floats, Floats] | None = None

    def _act(self, observations: Observations) -> Floats:
        median, upper = self._quantiles(observations)
        thresholds = self._followed(observations)
        self._pending = median, upper
        problem = cast(Provisioning, self.problem_)
        bound = np.maximum(upper + thresholds.value * (upper - median), 0.0)
        decisions: Floats = np.maximum(problem.perfect(np.maximum(median, 0.0)), problem.enough(bound))
        return decisions

    def _followed(self, observations: Observations) -> Thresholds:
        """The thresholds of these paths, after what the observations show of the last outcome."""
        paths = len(observations)
        if self._thresholds is None or len(self._thresholds.value) != paths:
            self._thresholds = self._rule.start(self.scores_, self.epsilon, paths)
        elif self._pending is not None and self.calibration != "static":
            slots = self.layout_.history(observations)[:, -self.problem_.outcome_dim :, 0]
            self._thresholds.update(self._scores(slots.astype(np.float64), *self._pending))
        return self._thresholds

    @property
    def promise_(self) -> dict[str, float]:
        """The share of steps with a shortage of service."""
        return {"service": self.epsilon}

    @property
    def certified_(self) -> dict[str, bool]:
        """Whether there were enough calibration outcomes."""
        return {"service": bool(np.isfinite(self._rule.start(self.scores_, self.epsilon).value).all())}

    # ------------------------------------------------------------------ keeping
    def state(self) -> State:
        """The network and the calibration scores."""
        return {**super().state(), "scores": self.scores_}

    def load_state(self, state: State) -> None:
        """Take back network and scores."""
        super().load_state(state)
        self.scores_ = state["scores"]


def check_share(share: float) -> None:
    """Raise unless the share of outcomes to calibrate with is strictly between 0 and 1."""
    if not 0 < share < 1:
        raise ShiftgymError(f"share is {share}: give the share of outcomes to calibrate with, between 0 and 1")


def drawn_at_random(count: int, share: float, seed: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of ``count`` outcomes are set aside for calibration: at random, because neighbours drift together."""
    chosen = np.random.default_rng(seed).permutation(count)[: round(share * count)]
    return np.isin(np.arange(count), chosen)
