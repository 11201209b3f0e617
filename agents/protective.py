"""Protective levels for the next day of a data center: what plants surely yield, what demand surely stays below.

=====================  =====================================================  ==========================
paper                  here                                                   meaning
=====================  =====================================================  ==========================
D_tr, D_cal            :func:`~shiftgym.agents.conformal.drawn_at_random`     3/4 and 1/4 of the days
R_low, Lambda, A bars  :meth:`Protective.levels`                              levels by group
q_m, r_m               :class:`Calibrated`, its thresholds                    how far a set reaches
epsilon_a, _b, _c      ``epsilon`` of power, training and inference           promised rates of violation
Xi                     :meth:`Protective._possible`                           what is possible at all
=====================  =====================================================  ==========================

Source: Contextual Robust Optimization for AI Data Center Scheduling, Algorithms 1 to 3.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import torch

from ..data.errors import ShiftgymError, UnknownNameError
from ..envs.task import Floats, Observations, Task
from ..solvers.backend import choose
from .base import Agent, State
from .calibration import Recalibrated, Thresholds, check_epsilon
from .conformal import check_share, drawn_at_random
from .uncertainty import GROUPS, NETWORKS, Learning, Series, predict

if TYPE_CHECKING:
    from ..solvers.data_center import DataCenter
    from ..solvers.data_center.scenario_program import Scenarios
    from ..solvers.data_center.second_order import SecondOrder

#: What is promised for each group of series: the family, and the share of steps, or the measure, that shows it.
FAMILIES = {"renewables": "power", "requests": "inference", "arrivals": "training"}
SHOWN_BY = {"power": "short_slots", "inference": "inference", "training": "training"}
#: Demand is taken to stay below so many times the largest of training where nothing better is certified.
STATED_BOUND = 3.0
#: Least spread of a series at an hour, in training means: plants yield nothing at night, every night.
LEAST_SPREAD = 1e-3

#: What is known of a group of series on some days: arrays (B, series, T), which ones depends on the agent.
Region = list[Floats]


@dataclass(kw_only=True, eq=False)
class Protective(Agent):
    """Forecasts the next day, and schedules for levels that leave a margin.

    The environment, or its solver, makes the cheapest schedule that withstands the levels. Days are split at random:
    the networks learn from some, the margins are taken from the others.

    Parameters
    ----------
    epsilon : float or dict of str to float
        Promise: the largest rate of violations, or one each for "power" (per center and hour), "training" and
        "inference" (per day).
    share : float
        Of the training days, drawn at random, to calibrate with.
    hidden, epochs, batch_size, learning_rate
        Of the networks, one per group of series.
    """

    problems = ("DataCenter",)
    learner: ClassVar[str] = "mse"
    #: Whether a schedule takes second-order cones, which not every solver can.
    conic: ClassVar[bool] = False
    epsilon: float | dict[str, float] = 0.05
    share: float = 0.25
    hidden: tuple[int, ...] = (64, 64)
    epochs: int = 40
    batch_size: int = 1024
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        self.hidden = tuple(self.hidden)
        check_share(self.share)
        if isinstance(self.epsilon, Mapping) and set(self.epsilon) != set(SHOWN_BY):
            raise ShiftgymError(f"epsilon is {self.epsilon}: give one number, or one for each of {list(SHOWN_BY)}")
        self._rate = {group: check_epsilon(self._promised(FAMILIES[group])) for group in GROUPS}
        for name in ("epochs", "batch_size", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ShiftgymError(f"{name} is {getattr(self, name)}: give a positive number")

    def _promised(self, family: str) -> float:
        return self.epsilon[family] if isinstance(self.epsilon, Mapping) else self.epsilon

    @property
    def promise_(self) -> dict[str, float]:
        """Rates by what shows them: a measure for power, whose constraints are single, families for the others."""
        return {SHOWN_BY[family]: self._promised(family) for family in SHOWN_BY}

    # ------------------------------------------------------------------ learning
    def _fit(self, task: Task, progress: bool, device: str) -> None:
        observations, outcomes = task.dataset()
        self._know_series()
        if self.conic and self._problem.action == "schedule":
            choose(self._problem.solver, "socp", 0, 0)  # says so now, not after the fit
        days = self._series.split(outcomes)
        drawn = drawn_at_random(len(outcomes), self.share, self.seed)
        if drawn.all() or not drawn.any():
            raise ShiftgymError(f"the training trace holds {len(drawn)} days: too few to learn from some of them")
        self.facts_: State = {}
        for group in GROUPS:
            mean = days[group][~drawn].mean((0, 2))
            self.facts_[f"{group}.mean"] = np.where(mean > 0, mean, 1.0)
            self.facts_[f"{group}.most"] = days[group][~drawn].max((0, 2))
        learning = Learning(self.hidden, self.epochs, self.batch_size, self.learning_rate, self.seed)
        features = self._features(observations)
        self.networks_ = {
            group: learning.fit(self.learner, features[group][~drawn], days[group][~drawn] / self._mean(group))
            for group in GROUPS
        }
        predicted = self._predict(observations)
        for group in GROUPS:
            train, rest = ([part[rows] for part in predicted[group]] for rows in (~drawn, drawn))
            self.facts_ |= {
                f"{group}.{name}": fact
                for name, fact in self._calibrate(group, train, days[group][~drawn], rest, days[group][drawn]).items()
            }
        self.reset()

    @abstractmethod
    def _calibrate(
        self, group: str, train: Region, trained: Floats, rest: Region, calibrated: Floats
    ) -> dict[str, Floats]:
        """What else is to be remembered of a group: from predictions and outcomes of both sets of days."""

    def _know_series(self) -> None:
        self._problem = cast("DataCenter", self.problem_)
        self._series = Series.of(self._problem, self.layout_)

    def _mean(self, group: str) -> Floats:
        return self.facts_[f"{group}.mean"][:, None]

    def _features(self, observations: Observations) -> dict[str, Floats]:
        means = {group: self.facts_[f"{group}.mean"] for group in GROUPS}
        return self._series.features(self.layout_, observations, means)

    def _predict(self, observations: Observations) -> dict[str, Region]:
        """What the networks say of each group, in its units."""
        features = self._features(observations)
        return {
            group: [part * self._mean(group) for part in predict(self.networks_[group], features[group])]
            for group in GROUPS
        }

    def least_spread(self, group: str) -> Floats:
        """A thousandth of the training mean (series, 1): a spread below it says nothing."""
        return LEAST_SPREAD * self._mean(group)

    def spread(self, group: str, errors: Floats) -> Floats:
        """Standard deviation (series, T) of errors (days, series, T), not below a thousandth of the mean."""
        return np.maximum(errors.std(0), self.least_spread(group))

    # ------------------------------------------------------------------ deciding
    @abstractmethod
    def levels(self, observations: Observations) -> dict[str, Floats]:
        """Levels (B, series, T) by group, not yet limited to what is possible."""

    def _act(self, observations: Observations) -> Floats:
        levels = self._possible(self.levels(observations))
        flat = np.concatenate([levels[group].reshape(len(observations), -1) for group in GROUPS], axis=-1)
        known = np.zeros((len(flat), self._problem.known_dim))
        outcome = self.layout_.told(observations, np.concatenate((flat, known), axis=-1)[:, None])
        state = self.layout_.state(observations).astype(np.float64)
        against = self._against(observations) if self._problem.action == "schedule" else None
        if against is None:
            decisions: Floats = self._problem.solve(self._problem.given(outcome, state))
            return decisions
        rows = zip(outcome[:, 0], state, against, strict=True)
        return np.stack([self._problem.withstand(*row) for row in rows])

    def _against(self, observations: Observations) -> list[SecondOrder | Scenarios] | None:
        """What a schedule is to withstand that levels cannot say, for each observation; None where levels say all.

        Asked for after :meth:`levels`, for environments whose decisions are schedules.
        """
        return None

    def _possible(self, levels: dict[str, Floats]) -> dict[str, Floats]:
        """Levels within what is possible: plants yield their nameplate power at most, demand has a stated bound."""
        limit = np.array(self._problem.fleet.renewable_limit)[:, None]
        possible = {"renewables": np.clip(levels["renewables"], 0.0, limit)}
        for group in GROUPS[1:]:
            bound = STATED_BOUND * self.facts_[f"{group}.most"][:, None]
            level = np.where(np.isposinf(levels[group]), bound, levels[group])
            possible[group] = np.maximum(level, 0.0)
        return possible

    # ------------------------------------------------------------------ keeping
    def state(self) -> State:
        """Weights of the networks, and what was measured."""
        weights = {
            f"network.{group}.{key}": value.numpy()
            for group, network in self.networks_.items()
            for key, value in network.state_dict().items()
        }
        return {**weights, **self.facts_}

    def load_state(self, state: State) -> None:
        """Rebuild the networks around their weights."""
        self._know_series()
        self.facts_ = {name: value for name, value in state.items() if not name.startswith("network.")}
        features = self._features(np.zeros((1, self.layout_.size), np.float32))
        self.networks_ = {}
        for group in GROUPS:
            prefix, width = f"network.{group}.", features[group].shape[-1]
            weights = {
                name.removeprefix(prefix): torch.as_tensor(value)
                for name, value in state.items()
                if name.startswith(prefix)
            }
            network = NETWORKS[self.learner](torch.zeros(width), torch.ones(width), self.hidden)
            network.load_state_dict(weights)
            self.networks_[group] = network
        self.reset()


@dataclass(kw_only=True, eq=False)
class Deterministic(Protective):
    """Schedules for the point forecast as if it were certain; promises nothing."""

    @property
    def promise_(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def _calibrate(
        self, group: str, train: Region, trained: Floats, rest: Region, calibrated: Floats
    ) -> dict[str, Floats]:
        return {}

    def levels(self, observations: Observations) -> dict[str, Floats]:
        """The forecast itself."""
        return {group: region[0] for group, region in self._predict(observations).items()}


@dataclass(kw_only=True, eq=False)
class Calibrated(Recalibrated, Protective):
    """Levels at the edge of a set that is calibrated to hold the day at the promised rate (Algorithms 1 to 3).

    One threshold per center and hour for renewables, whose constraints are single; one for all requests together, and
    one for all training work, whose constraints are joint.

    Parameters
    ----------
    sided : {"two", "one"}
        Whether outcomes that cannot hurt count: those of the paper have two sides; one is enough for the same promise.
    calibration, window, decay, rate
        How thresholds follow what happens, see :class:`~shiftgym.agents.calibration.Calibration`.
    """

    sided: str = "two"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sided not in ("two", "one"):
            raise UnknownNameError("sided", self.sided, ("two", "one"))
        self._rule = self.rule
        self.reset()

    def _side(self, group: str) -> str:
        """The side that is scored."""
        return "two" if self.sided == "two" else "lower" if group == "renewables" else "upper"

    @abstractmethod
    def _measured(self, group: str, train: Region, trained: Floats) -> dict[str, Floats]:
        """What the shape of a group's set takes from the training days."""

    @abstractmethod
    def _region(self, group: str, predicted: Region) -> Region:
        """The set of a group before it is calibrated."""

    @abstractmethod
    def _scores(self, group: str, outcomes: Floats, region: Region) -> Floats:
        """Scores (B, L) of outcomes (B, series, T): of each component for renewables, joint for the others."""

    @abstractmethod
    def _edge(self, group: str, region: Region, threshold: Floats) -> Floats:
        """Levels (B, series, T) at the edge of the set, for thresholds that broadcast."""

    def _calibrate(
        self, group: str, train: Region, trained: Floats, rest: Region, calibrated: Floats
    ) -> dict[str, Floats]:
        measured = self._measured(group, train, trained)
        self.facts_ |= {f"{group}.{name}": fact for name, fact in measured.items()}
        return {**measured, "scores": self._scores(group, calibrated, self._region(group, rest))}

    def reset(self) -> None:
        """Forget the paths that were followed."""
        self._thresholds: dict[str, Thresholds] = {}
        self._pending: dict[str, Region] = {}

    def regions(self, observations: Observations) -> dict[str, Region]:
        """The sets of the day to come before they are calibrated, by group."""
        return {group: self._region(group, part) for group, part in self._predict(observations).items()}

    def levels(self, observations: Observations) -> dict[str, Floats]:
        """The edges of the calibrated sets."""
        regions = self.regions(observations)
        self._follow(observations)
        self._pending = regions
        return {group: self._edge(group, regions[group], self.threshold(group)) for group in GROUPS}

    def threshold(self, group: str) -> Floats:
        """Thresholds of a group, broadcastable to (B, series, T)."""
        value = self._thresholds[group].value
        series = getattr(self._series, group) if value.shape[1] > 1 else 1
        return value.reshape(len(value), series, -1)

    def _follow(self, observations: Observations) -> None:
        """Bring the thresholds of these paths up to what the observations show of the day before."""
        paths = len(observations)
        if not self._thresholds or len(self._thresholds[GROUPS[0]].value) != paths:
            self._thresholds = self._start(paths)
        elif self.calibration != "static":
            seen = self._series.split(self._series.yesterday(self.layout_, observations))
            for group, thresholds in self._thresholds.items():
                thresholds.update(self._scores(group, seen[group], self._pending[group]))

    def _start(self, paths: int) -> dict[str, Thresholds]:
        thresholds = {}
        for group in GROUPS:
            scores = self.facts_[f"{group}.scores"]
            thresholds[group] = self._rule.start(scores, self._target(group, len(scores)), paths)
        return thresholds

    def _target(self, group: str, count: int) -> float:
        """Rate of misses that the threshold of a group is taken for, from so many scores."""
        return self._rate[group]

    @property
    def certified_(self) -> dict[str, bool]:
        """Whether there were enough calibration days for each promise; those without are kept by stated bounds."""
        return {
            SHOWN_BY[FAMILIES[group]]: bool(np.isfinite(thresholds.value).all())
            for group, thresholds in self._start(1).items()
        }
