"""The trace: what happened, slot by slot, and what was known before each slot."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import TraceError

if TYPE_CHECKING:
    import pandas as pd

    from .requests import RequestLog

_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str | float) -> float:
    """Seconds of a duration such as ``"2s"``, ``"10min"``, ``"1h"``, ``"1d"`` or a plain number of seconds.

    Raises
    ------
    TraceError
        If the text is not a positive number with one of those units.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*(ms|s|min|h|d)?\s*", str(text))
    seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else 0.0
    if seconds <= 0:
        raise TraceError(f"slot: {text!r} is not a duration; write a positive one such as '2s', '10min', '1h'")
    return seconds


def format_duration(seconds: float) -> str:
    """Text of a duration that :func:`parse_duration` reads back, in the largest unit that divides it.

    Examples
    --------
    >>> format_duration(2), format_duration(600), format_duration(0.25)
    ('2s', '10min', '250ms')
    """
    for unit in ("d", "h", "min", "s"):
        if seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:g}{unit}"
    milliseconds = seconds * 1e3
    return f"{milliseconds:g}ms" if milliseconds == round(milliseconds) else f"{seconds!r}s"


@dataclass(frozen=True)
class Provenance:
    """Where a trace comes from, and what was done to it.

    Attributes
    ----------
    source, url, licence, citation : str
        The public origin.
    synthetic : bool
        True when the numbers were generated, not measured.
    notes : str
        Known defects and their treatment.
    history : tuple of str
        What was applied since loading (windows, shifts), oldest first.
    """

    source: str = ""
    url: str = ""
    licence: str = ""
    citation: str = ""
    synthetic: bool = False
    notes: str = ""
    history: tuple[str, ...] = ()


def to_stamp(value: str | int | np.datetime64) -> np.datetime64:
    """Return a time with nanoseconds, from ISO text, nanoseconds since 1970 or another unit."""
    return cast(np.datetime64, np.asarray(value).astype("datetime64[ns]")[()])


def _frozen(values: ArrayLike, dtype: Any) -> NDArray[Any]:
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Trace:
    """A series of slots, regular or one per exchange session; immutable, and checked when it is made.

    Parameters
    ----------
    name : str
        Name as in the catalogue, with what was done to it appended.
    time : array of datetime64[ns], shape (T,)
        Start of each slot, one slot apart (whole slots apart with ``sessions``): UTC, or the clock of a zone for grids.
    outcome : array of float64, shape (T, D)
        y_t, revealed after the decision for slot t. A 1-D array becomes D = 1.
    slot : float
        Length of a slot in seconds.
    outcome_names, outcome_units : tuple of str
        One per column of ``outcome``.
    context : array of float64, shape (T, C), optional
        x_t, known before the decision (forecasts, calendar, prices fixed a day ahead).
    context_names, context_units : tuple of str
        One per column of ``context``.
    observed : array of float64, shape (T, D), optional
        The readings of the outcome that reach an agent's history; the outcome itself unless a sensor
        lies. Only the fault of a sensor makes them differ. May hold no NaN either.
    outcome_low : float
        Smallest outcome that makes sense (0 for loads, -1 for returns). Shifts clip to it.
    sessions : bool
        Whether slots may be skipped, as exchanges skip weekends and holidays. What counts slots (indices,
        fractions, look-back, lags) then counts sessions.
    shifted : array of bool, shape (T,), optional
        Slots at which a shift is active.
    provenance : Provenance
        Origin, licence and what was done.
    requests : RequestLog, optional
        The request log behind an LLM trace, where request-level operations need it.

    Raises
    ------
    TraceError
        For an empty trace, NaN or infinite values, outcomes under ``outcome_low``, shapes that do not fit,
        time stamps that are unsorted, duplicate or not one slot apart; the message names the field, the
        first offending value and what to do.

    Examples
    --------
    >>> import numpy as np
    >>> trace = Trace("demo", np.arange(4) * np.timedelta64(2, "s") + np.datetime64("2026-01-01", "ns"),
    ...               outcome=[1.0, 2.0, 0.0, 3.0], slot=2.0, outcome_low=0.0)
    >>> len(trace), trace.outcome.shape, trace.window(0.5, 1.0).outcome[:, 0].tolist()
    (4, (4, 1), [0.0, 3.0])
    """

    name: str
    time: NDArray[np.datetime64]
    outcome: NDArray[np.float64]
    slot: float
    outcome_names: tuple[str, ...] = ("outcome",)
    outcome_units: tuple[str, ...] = ("",)
    context: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    context_names: tuple[str, ...] = ()
    context_units: tuple[str, ...] = ()
    # None stands for the default; __post_init__ fills it in, so that readers never see it
    observed: NDArray[np.float64] = None  # type: ignore[assignment]
    outcome_low: float = -np.inf
    shifted: NDArray[np.bool_] = None  # type: ignore[assignment]
    provenance: Provenance = Provenance()
    requests: RequestLog | None = None
    sessions: bool = False

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        outcome = _frozen(self.outcome, np.float64)
        put("outcome", outcome[:, None] if outcome.ndim == 1 else outcome)
        put("time", _frozen(self.time, "datetime64[ns]"))
        length = len(self.outcome)
        if self.context.size == 0 and not self.context_names:
            put("context", _frozen(np.empty((length, 0)), np.float64))
        else:
            put("context", _frozen(self.context, np.float64))
        put("observed", self.outcome if self.observed is None else _frozen(self.observed, np.float64))
        shifted = np.zeros(length, bool) if self.shifted is None else self.shifted
        put("shifted", _frozen(shifted, np.bool_))
        self._check()

    def _check(self) -> None:
        length, width = self.outcome.shape if self.outcome.ndim == 2 else (0, 0)
        if length == 0 or width == 0:
            raise TraceError(f"outcome of trace {self.name!r} is empty: give at least one slot and one column")
        shapes = {
            "time": (self.time.shape, (length,)),
            "context": (self.context.shape, (length, len(self.context_names))),
            "observed": (self.observed.shape, (length, width)),
            "shifted": (self.shifted.shape, (length,)),
            "outcome_names": ((len(self.outcome_names),), (width,)),
            "outcome_units": ((len(self.outcome_units),), (width,)),
            "context_units": ((len(self.context_units),), (len(self.context_names),)),
        }
        for name, (shape, expected) in shapes.items():
            if shape != expected:
                raise TraceError(f"{name} of trace {self.name!r} has shape {shape}, expected {expected}")
        for name in ("outcome", "observed", "context"):
            bad = ~np.isfinite(getattr(self, name))
            if bad.any():
                row, column = np.argwhere(bad)[0]
                raise TraceError(
                    f"{name} of trace {self.name!r} is {getattr(self, name)[row, column]} at "
                    f"{self.time[row]} (row {row}, column {column}; {bad.sum()} in all): fill or cut these "
                    "slots before replaying"
                )
        low = self.outcome < self.outcome_low
        if low.any():
            row, column = np.argwhere(low)[0]
            raise TraceError(
                f"outcome {self.outcome_names[column]!r} of trace {self.name!r} is "
                f"{self.outcome[row, column]} at {self.time[row]}, under its smallest sensible value "
                f"{self.outcome_low}: mend the source"
            )
        self._check_time()

    def _check_time(self) -> None:
        if self.slot <= 0:
            raise TraceError(f"slot of trace {self.name!r} is {self.slot} s: give a positive length")
        steps = np.diff(self.time).astype("timedelta64[ns]").astype(np.int64)
        length = round(self.slot * 1e9)
        wrong = (steps <= 0) | (steps % length != 0) if self.sessions else steps != length
        if wrong.any():
            row = int(np.argmax(wrong))
            here, there = self.time[row], self.time[row + 1]
            if steps[row] == 0:
                what, fix = (
                    "duplicate",
                    "drop or average duplicates; local clocks repeat an hour in autumn: use UTC",
                )
            elif steps[row] < 0:
                what, fix = "unsorted", "sort by time"
            elif self.sessions:
                what, fix = "not whole slots apart", "give each session the same time of the day, such as 00:00"
            else:
                what, fix = (
                    "not one slot apart",
                    "fill the gap or split the trace; use UTC across clock changes; "
                    "sessions=True is for exchanges, which skip days",
                )
            raise TraceError(
                f"time of trace {self.name!r} is {what} at row {row + 1} ({here} -> {there}, slot {self.slot} s): {fix}"
            )

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def synthetic(self) -> bool:
        """Whether the numbers were generated rather than measured."""
        return self.provenance.synthetic

    @property
    def duration(self) -> float:
        """Length in seconds, from the start of the first slot to the end of the last."""
        return float((self.time[-1] - self.time[0]) / np.timedelta64(1, "ns")) / 1e9 + self.slot

    def replace(self, note: str = "", **changes: Any) -> Trace:
        """Return a copy with ``changes``, and ``note`` appended to its history."""
        if note:
            past = self.provenance.history
            changes["provenance"] = dataclasses.replace(self.provenance, history=(*past, note))
        return dataclasses.replace(self, **changes)

    def index(self, place: float | int | str | np.datetime64) -> int:
        """Slot index of a place given as index (int), fraction of the trace (float) or time (ISO text).

        A time between two slots stands for the later one.

        Raises
        ------
        TraceError
            If the place lies outside the trace.
        """
        if isinstance(place, bool | np.bool_):
            raise TraceError(f"place {place!r} in trace {self.name!r}: give an index, a fraction or a time")
        if isinstance(place, int | np.integer):
            index = int(place)
        elif isinstance(place, float | np.floating):
            index = round(float(place) * len(self)) if 0 <= place <= 1 else -1
        else:
            try:
                # numpy warns about a zone; all times are UTC here, so a Z says nothing new
                stamp = to_stamp(place.removesuffix("Z") if isinstance(place, str) else place)
            except ValueError as error:
                raise TraceError(f"place {place!r} in trace {self.name!r} is no ISO time: {error}") from None
            if np.isnat(stamp):
                raise TraceError(f"place {place!r} in trace {self.name!r} is no time: give one such as 2026-01-31")
            step = np.timedelta64(round(self.slot * 1e9), "ns")
            inside = self.time[0] - step < stamp <= self.time[-1] + step
            index = int(np.searchsorted(self.time, stamp)) if inside else -1
        if not 0 <= index <= len(self):
            raise TraceError(
                f"place {place!r} is outside trace {self.name!r}, which has {len(self)} slots from "
                f"{self.time[0]} to {self.time[-1]}: give an index in [0, {len(self)}], a fraction in [0, 1] "
                "or a time in that span"
            )
        return index

    def window(self, start: float | int | str | None = None, stop: float | int | str | None = None) -> Trace:
        """Return the slots from ``start`` to just before ``stop`` (see :meth:`index` for their forms)."""
        first = 0 if start is None else self.index(start)
        last = len(self) if stop is None else self.index(stop)
        if first >= last:
            raise TraceError(
                f"window [{start}:{stop}] of trace {self.name!r} is empty (slots {first} to {last} of "
                f"{len(self)}): let it start before it stops"
            )
        if (first, last) == (0, len(self)):
            return self
        rows = slice(first, last)
        requests = self.requests
        if requests is not None:
            end = self.time[last - 1] + np.timedelta64(round(self.slot * 1e9), "ns")
            requests = requests.between(self.time[first], end)
        return self.replace(
            note=f"window {first}:{last}",
            name=f"{self.name}[{first}:{last}]",
            time=self.time[rows],
            outcome=self.outcome[rows],
            context=self.context[rows],
            observed=self.observed[rows],
            shifted=self.shifted[rows],
            requests=requests,
        )

    def split(self, fraction: float) -> tuple[Trace, Trace]:
        """Return the part before and the part after ``fraction`` of the time."""
        return self.window(None, float(fraction)), self.window(float(fraction), None)

    def coarsen(self, slot: str | float) -> Trace:
        """Return the trace with longer slots: outcomes are added up, context is averaged.

        Slots at the end that do not fill a longer one are dropped.

        Raises
        ------
        TraceError
            If ``slot`` is not a multiple of the present one, or longer than the trace, or slots are sessions.
        """
        seconds = parse_duration(slot)
        step = round(seconds / self.slot)
        if step < 1 or round(step * self.slot * 1e9) != round(seconds * 1e9):
            raise TraceError(
                f"slot: {slot!r} is not a multiple of {format_duration(self.slot)}, the slot of trace {self.name!r}"
            )
        if step > 1 and self.sessions:
            raise TraceError(
                f"slot: {slot!r} does not suit trace {self.name!r}: its slots are exchange sessions with closed days "
                "between them, and returns do not add up; leave the slot out, or coarsen the prices before they "
                "become returns"
            )
        count = len(self) // step
        if count < 1:
            raise TraceError(
                f"slot: {slot!r} is longer than trace {self.name!r} ({format_duration(self.duration)}): "
                "use a shorter one"
            )
        if step == 1:
            return self

        def pieces(values: NDArray[Any]) -> NDArray[Any]:
            return values[: count * step].reshape(count, step, *values.shape[1:])

        old, new = format_duration(self.slot), format_duration(step * self.slot)
        return self.replace(
            note=f"slots of {new}",
            time=self.time[: count * step : step],
            outcome=pieces(self.outcome).sum(1),
            slot=step * self.slot,
            outcome_units=tuple(unit.replace(f"/{old}", f"/{new}") for unit in self.outcome_units),
            context=pieces(self.context).mean(1),
            observed=pieces(self.observed).sum(1),
            shifted=pieces(self.shifted).any(1),
        )

    def to_frame(self) -> pd.DataFrame:
        """Return outcomes and context as a pandas DataFrame indexed by time."""
        import pandas as pd  # heavy: only users who ask for a frame pay for it

        columns: Sequence[str] = [*self.outcome_names, *self.context_names]
        values = np.concatenate((self.outcome, self.context), axis=1)
        return pd.DataFrame(values, index=pd.DatetimeIndex(self.time, name="time"), columns=columns)
