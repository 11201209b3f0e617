"""The request log behind an LLM trace, and its exact aggregation into slots."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .errors import TraceError
from .trace import Provenance, Trace, _frozen, format_duration, parse_duration, to_stamp

MAX_SLOTS = 10**8


def check_times(name: str, nanoseconds: NDArray[np.int64], row: int = 0) -> None:
    """Raise a TraceError for a missing time; ``row`` is the number of the first one."""
    missing = nanoseconds == np.iinfo(np.int64).min  # NaT
    if missing.any():
        first = row + int(np.argmax(missing))
        raise TraceError(f"time of request log {name!r} is missing at row {first}: drop that row")


def check_tokens(name: str, field: str, tokens: NDArray[np.float64], row: int = 0) -> None:
    """Raise a TraceError for NaN, infinite or negative counts; ``row`` is the number of the first one."""
    bad = ~(np.isfinite(tokens) & (tokens >= 0))
    if bad.any():
        first = int(np.argmax(bad))
        raise TraceError(
            f"{field} tokens of request log {name!r} are {tokens[first]} at row {row + first} "
            f"({bad.sum()} such rows): token counts must be finite and not negative; drop or mend these rows"
        )


def slot_count(name: str, origin: int, end: int, width: int) -> int:
    """Return how many slots of ``width`` nanoseconds fit between two instants.

    Raises
    ------
    TraceError
        If they are too many to keep, which a single wrong time stamp is enough for.
    """
    count = (end - origin) // width
    if count > MAX_SLOTS:
        raise TraceError(
            f"slot: request log {name!r} spans {to_stamp(origin)} to {to_stamp(end)}, {count} slots of "
            f"{format_duration(width / 1e9)}: use longer slots, or mend the time stamp that is far off"
        )
    return count


def slot_trace(
    name: str, origin: int, end: int, width: int, tokens: NDArray[np.float64], provenance: Provenance
) -> Trace:
    """Return the trace of the whole slots between two instants.

    Parameters
    ----------
    name : str
        Name of the request log.
    origin, end, width : int
        First instant, last instant and slot length in nanoseconds.
    tokens : array of float64
        Tokens per slot, at least as many as there are whole slots.
    provenance : Provenance
        Origin of the log.

    Raises
    ------
    TraceError
        If not one slot fits.
    """
    count = slot_count(name, origin, end, width)
    if count < 1:
        raise TraceError(
            f"slot: {format_duration(width / 1e9)} is longer than request log {name!r} "
            f"({(end - origin) / 1e9:.3f} s): use a shorter one"
        )
    return Trace(
        name=name,
        time=to_stamp(origin) + np.arange(count) * np.timedelta64(width, "ns"),
        outcome=tokens[:count],
        slot=width / 1e9,
        outcome_names=("tokens",),
        outcome_units=(f"tokens/{format_duration(width / 1e9)}",),
        outcome_low=0.0,
        provenance=provenance,
    )


@dataclass(frozen=True, eq=False)
class RequestLog:
    """Arrivals with their token counts, in time order.

    Parameters
    ----------
    name : str
        Name as in the catalogue.
    time : array of datetime64[ns], shape (R,)
        Arrival times, sorted; ties are allowed.
    prompt, output : array of float64, shape (R,)
        Input and output tokens, not negative.
    provenance : Provenance
        Origin, licence and what was done.

    Raises
    ------
    TraceError
        For an empty or unsorted log, NaN or negative token counts.
    """

    name: str
    time: NDArray[np.datetime64]
    prompt: NDArray[np.float64]
    output: NDArray[np.float64]
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        for name, dtype in (("time", "datetime64[ns]"), ("prompt", np.float64), ("output", np.float64)):
            object.__setattr__(self, name, _frozen(getattr(self, name), dtype))
        if len(self.time) == 0:
            raise TraceError(f"request log {self.name!r} is empty: it needs at least one request")
        check_times(self.name, self.time.view(np.int64))
        for name in ("prompt", "output"):
            tokens = getattr(self, name)
            if tokens.shape != self.time.shape:
                raise TraceError(f"{name} of {self.name!r} has shape {tokens.shape}, expected {self.time.shape}")
            check_tokens(self.name, name, tokens)
        steps = np.diff(self.time)
        if (steps < np.timedelta64(0)).any():
            row = int(np.argmax(steps < np.timedelta64(0)))
            raise TraceError(
                f"time of request log {self.name!r} is unsorted at row {row + 1} "
                f"({self.time[row]} -> {self.time[row + 1]}): sort by time"
            )

    def __len__(self) -> int:
        return len(self.time)

    def between(self, start: np.datetime64, stop: np.datetime64) -> RequestLog | None:
        """Return the requests that arrive from ``start`` to just before ``stop``; None in a silence."""
        first, last = np.searchsorted(self.time, np.array([start, stop], "datetime64[ns]"))
        if first >= last:
            return None
        rows = slice(int(first), int(last))
        return dataclasses.replace(self, time=self.time[rows], prompt=self.prompt[rows], output=self.output[rows])

    def slots(self, slot: str | float, start: np.datetime64 | None = None, stop: np.datetime64 | None = None) -> Trace:
        """Sum the tokens of each slot, exactly (integer nanoseconds, no rounding of boundaries).

        Parameters
        ----------
        slot : str or float
            Slot length, as text ("2s", "10min") or seconds.
        start : datetime64, optional
            Start of the first slot; the first arrival by default.
        stop : datetime64, optional
            End of the data; the last arrival by default. Only slots that end by then are kept, because a
            slot cut short would look like a quiet one.

        Returns
        -------
        Trace
            One outcome, prompt plus output tokens per slot; carries this log.

        Raises
        ------
        TraceError
            If the slot is longer than the log.
        """
        width = round(parse_duration(slot) * 1e9)
        origin = to_stamp(self.time[0] if start is None else start)
        end = to_stamp(self.time[-1] if stop is None else stop)
        first, last = int(origin.astype(np.int64)), int(end.astype(np.int64))
        count = slot_count(self.name, first, last, width)
        index = (self.time - origin).astype(np.int64) // width
        inside = (index >= 0) & (index < count)
        weights = (self.prompt + self.output)[inside]
        tokens = np.bincount(index[inside], weights, max(count, 0)).astype(np.float64)  # int when none is inside
        trace = slot_trace(self.name, first, last, width, tokens, self.provenance)
        return trace.replace(requests=self)

    def merge(self, other: RequestLog, fraction: float, rng: np.random.Generator) -> RequestLog:
        """Superpose a random ``fraction`` of the other log on a random ``1 - fraction`` of this one.

        Both start at this log's first arrival and the longer one is cut to the shorter. With one half this is
        the half-and-half merge of 3D-Learning (Section V-B3), made of requests rather than of slots.
        """
        offset = self.time[0] - other.time[0]
        end = min(self.time[-1], other.time[-1] + offset)
        keep = (rng.random(len(self)) >= fraction) & (self.time <= end)
        take = (rng.random(len(other)) < fraction) & (other.time + offset <= end)
        time = np.concatenate((self.time[keep], other.time[take] + offset))
        order = np.argsort(time, kind="stable")
        return RequestLog(
            name=f"{self.name}+{other.name}",
            time=time[order],
            prompt=np.concatenate((self.prompt[keep], other.prompt[take]))[order],
            output=np.concatenate((self.output[keep], other.output[take]))[order],
            provenance=dataclasses.replace(
                self.provenance,
                synthetic=self.provenance.synthetic or other.provenance.synthetic,
                history=(*self.provenance.history, f"merge {fraction:g} of {other.name}"),
            ),
        )
