"""Mixtures: part of the trace comes from another trace."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data import load_trace
from ...data.spec import parse_spec
from ...data.trace import Provenance, Trace
from .base import TraceShift
from .parameters import ShiftError, parameter
from .registry import register


@dataclass(frozen=True, kw_only=True)
class OtherTraceShift(TraceShift):
    """Base of the shifts that bring in another trace."""

    trace: str | Trace = parameter(  # noqa: RUF009
        kind="trace", doc="the other trace, with the same slot length and columns"
    )
    units: str = parameter("same", kind="choice", choices=("same", "any"), doc="'any' lets the units of the two differ")

    def other(self, trace: Trace) -> Trace:
        """Return the other trace, in slots as long as those of ``trace``.

        Raises
        ------
        ShiftError
            If slot length, number of columns or (unless any are welcome) units differ.
        """
        other = self.trace
        if isinstance(other, str):
            other = load_trace(other, slot=None if parse_spec(other).slot else trace.slot)
        compared = {
            "slots": (f"{other.slot:g} s", f"{trace.slot:g} s"),
            "columns": (other.outcome.shape[1], trace.outcome.shape[1]),
            "units": (other.outcome_units, trace.outcome_units),
        }
        for what, (theirs, ours) in compared.items():
            if theirs != ours and (what, self.units) != ("units", "any"):
                fix = ", or units=any to mix them knowingly" if what == "units" else ""
                raise ShiftError(
                    f"trace of shift {self.name!r} is {other.name!r} with {what} {theirs}, but "
                    f"{trace.name!r} has {ours}: give one with the same {what}{fix}"
                )
        return other


def _joint(trace: Trace, other: Trace) -> Provenance:
    return dataclasses.replace(trace.provenance, synthetic=trace.synthetic or other.synthetic)


def _mixed(trace: Trace, other: Trace, taken: NDArray[np.bool_], rows: NDArray[np.int64]) -> Trace:
    """Return ``trace`` with row ``rows[t]`` of ``other`` at the ``taken`` slots.

    The context goes with the outcome where both have the same one; otherwise the trace keeps its own.
    """

    def mix(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(taken[:, None], theirs[rows], ours)

    same = other.context_names == trace.context_names
    return trace.replace(
        outcome=np.maximum(mix(trace.outcome, other.outcome), trace.outcome_low),
        observed=np.maximum(mix(trace.observed, other.observed), trace.outcome_low),
        context=mix(trace.context, other.context) if same else trace.context,
        provenance=_joint(trace, other),
        requests=None,
    )


@register("merge", family="mixture", source="3D-Learning, section V-B3 (23D24D, 24D24V, 23D24V)")
@dataclass(frozen=True, kw_only=True)
class Merge(OtherTraceShift):
    """A random share of the requests, or of the blocks of slots, taken from another trace.

    At the level of requests, a random ``fraction`` of the other log is superposed on a random remainder of
    this one, both from their first arrival to the end of the shorter, and slots are counted anew; slots that
    the shorter log does not fill are dropped. At the level of instances, each block of ``block`` slots is
    replaced with probability ``fraction`` by the block at the same place of the other trace, which is
    repeated in whole blocks when it is the shorter one.
    """

    fraction: float = parameter(0.5, identity=0.0, low=0.0, high=1.0, doc="share of the other trace")
    level: str = parameter(
        "instance", kind="choice", choices=("instance", "request"), doc="what is drawn: blocks or requests"
    )
    block: int = parameter(28, kind="integer", low=1.0, doc="slots of an instance")

    def transform(self, trace: Trace, rng: np.random.Generator) -> Trace:  # noqa: D102
        other = self.other(trace)
        if self.level == "request":
            return _merged_requests(trace, other, self.fraction, rng)
        length = len(trace)
        taken = np.repeat(rng.random(-(-length // self.block)) < self.fraction, self.block)[:length]
        whole = len(other) - len(other) % self.block or len(other)
        return _mixed(trace, other, taken, np.arange(length) % whole)


def _merged_requests(trace: Trace, other: Trace, fraction: float, rng: np.random.Generator) -> Trace:
    for side in (trace, other):
        if side.requests is None:
            raise ShiftError(
                f"level of shift 'merge' is 'request', but trace {side.name!r} has no request log "
                "(other shifts drop it): merge first, or use level=instance"
            )
    assert trace.requests is not None
    assert other.requests is not None
    log = trace.requests.merge(other.requests, fraction, rng)
    offset = trace.requests.time[0] - other.requests.time[0]
    stop = min(trace.requests.time[-1], other.requests.time[-1] + offset)
    merged = log.slots(trace.slot, start=trace.time[0], stop=stop)
    return trace.replace(
        time=merged.time,
        outcome=merged.outcome,
        observed=None,
        shifted=None,
        context=trace.context[: len(merged)],
        provenance=_joint(trace, other),
        requests=log,
    )


@register("splice", family="mixture")
@dataclass(frozen=True, kw_only=True)
class Splice(OtherTraceShift):
    """Another trace takes over at a date, played from its first slot; the end of the shorter ends both."""

    place = "at"

    at: float | int | str = parameter(
        0.5, kind="place", doc="first slot of the other trace: index, fraction or ISO time in this one"
    )

    def transform(self, trace: Trace, rng: np.random.Generator) -> Trace:  # noqa: D102
        other = self.other(trace)
        begin = self.first(trace)
        trace = trace.window(None, min(len(trace), begin + len(other)))
        place = np.arange(len(trace)) - begin
        return _mixed(trace, other, place >= 0, np.maximum(place, 0))
