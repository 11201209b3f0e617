"""What an environment replays: the decision points of a (shifted) trace, their observations and their oracle.

The single and the vector environment step through the same :class:`Task`, so what they replay cannot differ.
"""

from __future__ import annotations

import copy
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ..data import load_trace
from ..data.errors import ShiftgymError, TraceError, UnknownNameError
from ..data.trace import Trace, format_duration, to_stamp
from ..solvers.base import DecisionProblem
from .shifts import Shift, ShiftReport, parse_shift, report_shift

Floats = NDArray[np.float64]
Observations = NDArray[np.float32]
Indices = NDArray[np.int64]


#: Numbers of a table of all observations (4 bytes each); longer replays cut theirs out of the trace step by step.
_KNOWN = 2**25


class ActionError(ShiftgymError):
    """An action that cannot be executed: wrong shape, NaN or infinite."""


def check_count(name: str, value: Any, low: int = 1) -> int:
    """Return a whole number of at least ``low``.

    Raises
    ------
    ShiftgymError
        For any other value; the message names the keyword.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < low:
        raise ShiftgymError(f"{name} is {value!r}: give a whole number of at least {low}")
    return int(value)


def check_constants(task: type, problem: type, given: Mapping[str, Any], own: tuple[str, ...] = ()) -> None:
    """Raise unless every keyword that the task hands on is one of the problem's that the task does not set itself.

    Raises
    ------
    UnknownNameError
        For another keyword; the message lists those of the environment.
    """
    constants = set(_keywords(problem)) - set(own)
    for name in given:
        if name not in constants:
            known = {*_keywords(task), *constants} - {"problem"}
            raise UnknownNameError("keyword of the environment", name, known)


@cache
def _keywords(made: type) -> tuple[str, ...]:
    return tuple(inspect.signature(made).parameters)


def _loaded(name: str, trace: Any) -> Trace:
    if isinstance(trace, str):
        return load_trace(trace)
    if not isinstance(trace, Trace):
        raise TraceError(f"{name} is {trace!r}: give a text such as 'azure-2023-conv@2s[0.5:]', or a Trace")
    return trace


@dataclass(frozen=True)
class Layout:
    """Where things are in a flat observation: history (oldest first), context, state.

    Attributes
    ----------
    lookback, columns : int
        The history is ``lookback`` readings of ``columns`` outcomes each.
    context : int
        Number of features known before the decision.
    previous : int
        Width of the state that the step before handed on; 0 unless the problem is stateful.
    naive : tuple of int
        Places in an observation whose values are the persistence forecast of the D outcomes.
    known : tuple of int
        Outcome columns that are no secret, such as prices fixed the day before: the observation tells them, at their
        places in ``naive``.
    """

    lookback: int
    columns: int
    context: int
    previous: int
    naive: tuple[int, ...]
    known: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Length of an observation."""
        return self.lookback * self.columns + self.context + self.previous

    def history(self, observations: Any) -> Any:
        """The history (..., lookback, columns) of observations (..., size), NumPy or torch."""
        flat = observations[..., : self.lookback * self.columns]
        return flat.reshape(*flat.shape[:-1], self.lookback, self.columns)

    def persistence(self, observations: Any) -> Any:
        """The forecast (..., D) that repeats what was seen last, in the problem's units."""
        return observations[..., list(self.naive)]

    def told(self, observations: Any, scenarios: Any) -> Any:
        """Scenarios (B, ..., D) with the known columns as the observations (B, size) tell them; NumPy or torch.

        Scenarios (1, ..., D) that serve all observations become B.
        """
        if not self.known:
            return scenarios
        places = [self.naive[column] for column in self.known]
        facts = observations[:, places].reshape(len(observations), *[1] * (scenarios.ndim - 2), len(places))
        told = scenarios + 0 * facts[..., :1]  # a copy, of an array or of a tensor that is differentiated
        told[..., list(self.known)] = facts + 0 * told[..., :1]  # torch wants one dtype
        return told

    def state(self, observations: Any) -> Any:
        """The state (..., previous) that the step before handed on; None where the problem has none."""
        return observations[..., self.size - self.previous :] if self.previous else None

    def rest(self, observations: Any) -> Any:
        """Everything after the history, (..., context + previous)."""
        return observations[..., self.lookback * self.columns :]


@dataclass(frozen=True)
class Points:
    """The decision points of one trace, in the problem's units.

    Attributes
    ----------
    readings : array of float32, shape (T, D)
        What the sensors read, from which histories are cut.
    context : array of float32, shape (K + stride, C)
        Features known before each decision.
    outcomes : array of float64, shape (K, D')
        What each decision is judged by; a view where points overlap.
    time : array of float64, shape (K + stride,)
        Time stamp of each decision in seconds since 1970.
    shifted : array of float64, shape (K + stride,)
        1.0 where a shift is active in what is decided.
    stride : int
        Decision points from one step to the next.
    """

    readings: Observations
    context: Observations
    outcomes: Floats
    time: Floats
    shifted: Floats
    stride: int

    def part(self, first: int, last: int, lookback: int) -> Points:
        """The decision points from ``first`` up to, not including, ``last``, with their histories."""
        after = slice(first, last + self.stride)
        return Points(
            readings=self.readings[first : last + self.stride + lookback - 1],
            context=self.context[after],
            outcomes=self.outcomes[first:last],
            time=self.time[after],
            shifted=self.shifted[after],
            stride=self.stride,
        )


class Task(ABC):
    """A trace, a shift and a decision problem, made into decision points.

    Parameters
    ----------
    trace : str or Trace
        What is replayed: a trace specification such as ``"azure-2023-conv@2s[0.5:]"`` or a trace.
    shift : str, mapping, Shift or None
        What distorts it.
    shift_seed : int
        Seed of the shift's randomness.
    reference : str, Trace or None
        The training trace: everything that is fitted (capacity, scalers) is fitted on it, and the size of a
        shift is the distance from it. The trace itself, before the shift, by default.
    lookback : int
        Length of the history in an observation.
    """

    problem: DecisionProblem
    #: Steps after which an episode terminates; None when only the data ends it.
    episode_steps: int | None = None
    #: What the picture of a replay shows: axis of the slots, axis of the values.
    axes: tuple[str, str] = ("slot", "outcome")

    def __init__(
        self,
        trace: str | Trace,
        shift: str | Mapping[str, Any] | Shift | None,
        shift_seed: int,
        reference: str | Trace | None,
        lookback: int,
    ) -> None:
        self.lookback = check_count("lookback", lookback)
        self.source = _loaded("trace", trace)
        self.reference = self.source if reference is None else _loaded("reference", reference)
        self.problem, self.layout = self._define()
        self.set_shift(shift, shift_seed)

    @property
    def oracle_follows_path(self) -> bool:
        """Whether perfect information decides from the state at hand, so that its decisions are found step by step."""
        return self.problem.stateful

    @abstractmethod
    def _define(self) -> tuple[DecisionProblem, Layout]:
        """The problem and the layout of an observation; what they need is fitted on ``self.reference``."""

    @abstractmethod
    def _points(self, trace: Trace) -> Points:
        """Cut a trace into decision points."""

    def drawn(self, outcomes: Floats, decisions: Floats, oracle: Floats) -> tuple[Floats, Floats, Floats]:
        """What the picture of a replay shows of outcomes, decisions and the oracle's, one value per slot (..., w)."""
        return outcomes, decisions, oracle

    def _check_comparable(self, units: bool = True, way_out: str = "") -> None:
        """Raise unless trace and reference have slots of one length and, where asked for, count the same thing."""
        if self.source.slot != self.reference.slot:
            lengths = [format_duration(trace.slot) for trace in (self.source, self.reference)]
            raise TraceError(
                f"trace {self.source.name!r} has slots of {lengths[0]}, but the reference (the training trace) "
                f"{self.reference.name!r} has slots of {lengths[1]}, so their outcomes do not compare: load "
                f"both with the same slot, such as NAME@{format_duration(max(self.source.slot, self.reference.slot))}"
            )
        counted = [trace.outcome_units[0] for trace in (self.source, self.reference)]
        if units and counted[0] != counted[1]:
            raise TraceError(
                f"trace {self.source.name!r} counts {counted[0]!r}, but the reference (the training trace) "
                f"{self.reference.name!r} counts {counted[1]!r}, so their outcomes do not compare: load traces of "
                f"one unit{way_out}"
            )

    def _check_amount(self, what: str) -> None:
        """Raise unless trace and reference have one outcome that is never negative."""
        for trace in (self.source, self.reference):
            if trace.outcome.shape[1] != 1 or trace.outcome_low < 0:
                raise TraceError(f"trace {trace.name!r} is no {what}: it needs one outcome that is never negative")

    def _context_of(self, trace: Trace, names: tuple[str, ...]) -> Floats:
        """Context columns (T, C) of a trace by name, which an agent fitted on the reference expects."""
        for name in names:
            if name not in trace.context_names:
                raise TraceError(
                    f"context: trace {trace.name!r} has no column {name!r} (it has {list(trace.context_names)}), "
                    f"which the reference {self.reference.name!r} or the keyword asks for: name the columns that "
                    "both have, or context=[] for none"
                )
        chosen: Floats = trace.context[:, [trace.context_names.index(name) for name in names]]
        return chosen

    def set_shift(self, shift: str | Mapping[str, Any] | Shift | None, seed: int = 0) -> None:
        """Replay the source under another shift from now on."""
        self.shift, self.shift_seed = parse_shift(shift), check_count("shift_seed", seed, low=0)
        self.trace = self.shift.apply(self.source, np.random.default_rng(seed))
        for cached in ("shift_report", "title"):
            self.__dict__.pop(cached, None)
        self._decide_at(self._points(self.trace))
        self._solve_oracle()

    def _decide_at(self, points: Points) -> None:
        """Replay these decision points from now on."""
        self.points = points
        count = len(self) + points.stride
        width = self.layout.size - self.layout.previous
        self._known = self._look(np.arange(count)) if count * width <= _KNOWN else None

    def under(self, shift: str | Mapping[str, Any] | Shift | None, seed: int = 0) -> Self:
        """The same task, of the same problem and reference, on what this one replays distorted once more."""
        twin = copy.copy(self)
        twin.source = self.trace
        twin.set_shift(shift, seed)
        return twin

    def training(self) -> Self:
        """The same task on its reference, the training trace, as it was: what statistics are fitted on."""
        twin = copy.copy(self)
        twin.source = self.reference
        twin.set_shift(None)
        return twin

    def part(self, first: int, last: int) -> Self:
        """The same task at the decision points from ``first`` up to, not including, ``last`` alone.

        Raises
        ------
        TraceError
            If that is no window of at least one decision point.
        """
        if not 0 <= first < last <= len(self):
            raise TraceError(f"decision points {first} to {last} are no window of [0, {len(self)}]")
        twin = copy.copy(self)
        twin._decide_at(self.points.part(first, last, self.lookback))
        if not self.problem.stateful:
            twin.oracle_decisions, twin.oracle_costs = self.oracle_decisions[first:last], self.oracle_costs[first:last]
        return twin

    def _solve_oracle(self) -> None:
        """Perfect-information decisions and costs; those of a stateful problem depend on the path."""
        if not self.oracle_follows_path:
            self.oracle_decisions = self.problem.perfect(self.points.outcomes)
            self.oracle_costs = self.problem.least_cost(self.points.outcomes, self.oracle_decisions)
            self.oracle_decisions.setflags(write=False)  # the single environment hands out rows of it

    @cached_property
    def title(self) -> str:
        """What is replayed, in one line."""
        distorted = "" if str(self.shift) == "none" else f" under {self.shift}"
        return f"{self.source.name}{distorted}"

    @cached_property
    def shift_report(self) -> ShiftReport:
        """What the shift did to the trace, measured against the reference."""
        return report_shift(self.shift, self.shift_seed, self.trace, self.reference)

    def __len__(self) -> int:
        """Number of decision points K."""
        return len(self.points.outcomes)

    def observe(self, point: Any, previous: Floats | None = None) -> Observations:
        """Fresh observations of decision points: (size,) of an int, (n, size) of an index array (n,)."""
        if self._known is None:
            known = self._look(np.array([point]))[0] if isinstance(point, int) else self._look(point)
        else:
            known = self._known.take(point, axis=0)  # a copy, of one row or of many
        if not self.layout.previous:
            return known
        observation = np.empty((*known.shape[:-1], self.layout.size), np.float32)
        width = known.shape[-1]
        observation[..., :width], observation[..., width:] = known, previous
        state = observation[..., width:]
        state[state != state] = 0.0  # NaN, before the first step
        return observation

    def _look(self, points: Indices) -> Observations:
        """What is known (n, size without the state) at decision points: histories and context."""
        readings, context = self.points.readings, self.points.context
        windows = np.lib.stride_tricks.sliding_window_view(readings, self.lookback, axis=0)  # (K + stride, D, lookback)
        history = np.swapaxes(windows[points], 1, 2).reshape(len(points), -1)
        return np.concatenate((history, context[points]), axis=1) if context.shape[1] else history

    def foresee(self, points: Indices, previous: Floats) -> Floats:
        """What a clairvoyant agent sees instead of observations: outcomes (n, D), then the state of a stateful task."""
        outcomes = self.points.outcomes[points]
        return np.concatenate((outcomes, previous), axis=1) if self.layout.previous else np.array(outcomes)

    def dataset(self) -> tuple[Observations, Floats]:
        """Every decision point as a sample: observations (K, size) and outcomes (K, D).

        The state, where it is part of the observation, is what the step before hands on after a decision between the
        perfect one and the best constant one for the reference: a perfect one alone would leave no stock, ever.
        """
        points = np.arange(len(self))
        return self.observe(points, self._plausible_states()), np.array(self.points.outcomes)

    def _plausible_states(self) -> Floats | None:
        """States (K, S) in which decision points may be met, the same every time; None for a problem without."""
        if not self.layout.previous:
            return None
        outcomes, stride = self.points.outcomes, self.points.stride
        perfect = self.problem.perfect(outcomes)
        constant = self.problem.solve(self._points(self.reference).outcomes[None])
        share = np.random.default_rng(0).random((len(outcomes), 1))
        after = self.problem.carry(outcomes, perfect + share * (constant - perfect))
        # points overlap: the one before would show what is decided here
        return np.concatenate((np.full_like(after[:stride], np.nan), after[:-stride]))

    def find_point(self, start: Any) -> int:
        """Index of a decision point given as index (int) or time (ISO text or datetime64).

        Raises
        ------
        TraceError
            If there is no such point, or it is neither.
        """
        if isinstance(start, int | np.integer) and not isinstance(start, bool):
            point, inside = int(start), 0 <= int(start) < len(self)
        elif isinstance(start, str | np.datetime64):
            stamp = self._seconds(start)
            point = int(np.searchsorted(self.points.time[: len(self)], stamp - 1e-9))
            inside = self.points.time[0] <= stamp + 1e-9 and point < len(self)
        else:
            raise TraceError(f"start={start!r}: give a decision point (an integer) or an ISO time")
        if not inside:
            first, last = (np.datetime64(int(t * 1e9), "ns") for t in self.points.time[[0, len(self) - 1]])
            raise TraceError(
                f"start={start!r} is outside the window of trace {self.trace.name!r}: give a decision point in "
                f"[0, {len(self) - 1}] or a time from {first} to {last}"
            )
        return point

    @staticmethod
    def _seconds(time: str | np.datetime64) -> float:
        """Seconds since 1970 of a time; all times are UTC, so a Z says nothing new."""
        try:
            stamp = to_stamp(time.removesuffix("Z") if isinstance(time, str) else time)
        except ValueError as error:
            raise TraceError(f"start={time!r} is no ISO time: {error}") from None
        return float(stamp.astype(np.int64) / 1e9)

    @cached_property
    def spaces(self) -> tuple[Any, Any]:
        """Observation and action space of one environment."""
        largest = float(np.finfo(np.float32).max)
        observation = spaces.Box(-largest, largest, (self.layout.size,), np.float32)
        low, high = self.problem.low.astype(np.float32), self.problem.high.astype(np.float32)
        return observation, spaces.Box(low, high, dtype=np.float32)

    def requested(self, action: Any, shape: tuple[int, ...]) -> Floats:
        """The action as float64, checked; never the caller's own array.

        Raises
        ------
        ActionError
            For another shape, NaN or infinite entries.
        """
        given = np.asarray(action)
        decision = given.astype(np.float64)
        if decision.shape != shape:
            raise ActionError(f"action has shape {decision.shape}, expected {shape}: {action!r}")
        numbers = given if given.dtype.kind == "f" else decision
        # one pass over as few bytes as there are; a sum of squares that overflows is looked into
        size = numbers.item() if numbers.size == 1 else np.vdot(numbers, numbers)
        if not math.isfinite(size) and not np.isfinite(decision).all():
            raise ActionError(
                f"action is not finite: {action!r}; give numbers, the environment clips them to the bounds"
            )
        return decision
