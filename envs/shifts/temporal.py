"""Temporal shifts: growth, changes at a date, moved seasons, and readings that are late, lost or frozen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data.clock import clock_changes
from .base import ArrayShift, Scene, Values
from .parameters import ShiftError, parameter
from .registry import register


@register("drift", family="temporal")
@dataclass(frozen=True, kw_only=True)
class Drift(ArrayShift):
    """Growth that rises linearly from none at the onset to its full size in the last slot."""

    slope: float = parameter(0.5, identity=0.0, low=-1.0, doc="relative growth reached in the last slot")

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        active = max(len(values) - 1 - scene.first, 1)
        ramp = np.maximum(np.arange(len(values)) - scene.first, 0) / active
        return np.asarray(values * (1.0 + self.slope * ramp[:, None]))


@register("step", family="temporal")
@dataclass(frozen=True, kw_only=True)
class Step(ArrayShift):
    """Values multiplied from a date on: a launch, a new customer, a closure."""

    place = "at"

    factor: float = parameter(1.5, identity=1.0, low=0.0, doc="what values are multiplied by")
    at: float | int | str = parameter(
        0.5, kind="place", doc="first changed slot: index, fraction of the trace or ISO time"
    )

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        return values * self.factor


@register("phase", family="temporal")
@dataclass(frozen=True, kw_only=True)
class Phase(ArrayShift):
    """Values moved in time against clock and context, the end wrapped to the start: seasons that shift."""

    hours: float = parameter(3.0, identity=0.0, doc="how much later everything happens; negative is earlier")
    axis: str = parameter(
        "slots",
        kind="choice",
        choices=("slots", "columns"),
        doc="'columns' where the columns are the consecutive parts of a slot, such as the 24 hours of a day",
    )

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        width = scene.trace.slot / (values.shape[1] if self.axis == "columns" else 1)
        steps = round(self.hours * 3600.0 / width)
        if steps == 0:
            raise ShiftError(
                f"hours of shift 'phase' is {self.hours:g}, less than half a step of trace "
                f"{scene.trace.name!r} ({width:g} s): give more, or a trace with shorter slots"
            )
        if self.axis == "columns":
            return np.roll(values.ravel(), steps).reshape(values.shape)
        return np.roll(values, steps, axis=0)


@dataclass(frozen=True, kw_only=True)
class SensorFault(ArrayShift):
    """Base of the faults between what happens and what is read; what happens stays as it is."""

    channel: str = parameter(
        "observed",
        kind="choice",
        choices=("observed", "context"),
        doc="'observed' (the reading) or 'context'",
    )


@register("lag", family="temporal")
@dataclass(frozen=True, kw_only=True)
class Lag(SensorFault):
    """Readings that arrive late: stale features."""

    slots: int = parameter(1, kind="integer", identity=0.0, low=0.0, doc="age of a reading, in slots")

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        return np.asarray(values[np.maximum(np.arange(len(values)) - self.slots, 0)])


@register("daylight", family="temporal")
@dataclass(frozen=True, kw_only=True)
class Daylight(SensorFault):
    """Readings under the stamps of a clock that is not changed with the seasons: an hour off for part of the year.

    The trace shows the wall clock of ``zone``. A sensor left on winter time is an hour behind it in summer: under the
    stamp of an hour stands what happens in the next one. Nothing that happens after midnight can be read before, so
    the last reading of each day is repeated instead. A sensor left on summer time is an hour ahead in winter: under
    the stamp of an hour stands what happened in the one before.
    """

    left: str = parameter("winter", kind="choice", choices=("winter", "summer"), doc="the time that the sensor keeps")
    zone: str = parameter("America/New_York", kind="text", doc="whose wall clock the trace shows")

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        slot, time = scene.trace.slot, scene.trace.time
        if 3600 % slot:
            raise ShiftError(
                f"trace {scene.trace.name!r} has slots of {slot:g} s, but shift 'daylight' moves readings by an hour: "
                "give a trace whose slots divide it"
            )
        summer, place, steps = _summer_time(time, self.zone), np.arange(len(time)), round(3600 / slot)
        if self.left == "summer":
            return np.asarray(values[np.where(summer, place, np.maximum(place - steps, 0))])
        day = time.astype("datetime64[D]")
        last = np.searchsorted(day, day, side="right") - 1
        return np.asarray(values[np.where(summer, np.minimum(place + steps, last), place)])


def _summer_time(wall: NDArray[np.datetime64], zone: str) -> NDArray[np.bool_]:
    """Whether the clock of a zone that shows ``wall`` is on summer time, shape (T,)."""
    changes = clock_changes(zone, wall[0] - np.timedelta64(366, "D"), wall[-1])
    if not changes:
        raise ShiftError(f"zone of shift 'daylight' is {zone!r}, whose clock is not changed: give one whose is")
    states = np.array([changes[0].before > changes[0].after, *(change.after > change.before for change in changes)])
    return states[np.searchsorted(np.array([change.instant + change.before for change in changes]), wall, "right")]


@register("missing", family="temporal")
@dataclass(frozen=True, kw_only=True)
class Missing(SensorFault):
    """Sensors that drop out, each column on its own, and read zero meanwhile."""

    p: float = parameter(0.05, identity=0.0, low=0.0, high=1.0, doc="expected share of lost readings")
    duration: int = parameter(4, kind="integer", low=1.0, doc="slots that an outage lasts")

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        return np.where(_outages(values.shape, self.p, self.duration, scene.rng), 0.0, values)


@register("frozen", family="temporal")
@dataclass(frozen=True, kw_only=True)
class Frozen(SensorFault):
    """Sensors that hang, each column on its own, and repeat their last reading meanwhile."""

    p: float = parameter(0.05, identity=0.0, low=0.0, high=1.0, doc="expected share of repeated readings")
    duration: int = parameter(4, kind="integer", low=1.0, doc="slots that a sensor hangs")

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        hung = _outages(values.shape, self.p, self.duration, scene.rng)
        hung[: scene.first] = False
        alive = np.where(hung, 0, np.arange(len(values))[:, None])
        return np.take_along_axis(values, np.maximum.accumulate(alive, axis=0), axis=0)


def _outages(shape: tuple[int, ...], p: float, duration: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mask of outages that start at random and last ``duration`` slots, overlaps included.

    A slot is spared when none of the last ``duration`` slots started one, so starts have the probability
    1 - (1 - p)^(1 / duration) to make ``p`` the expected share, from the first slot on.
    """
    length, columns = shape
    starts = rng.random((length + duration - 1, columns)) < 1.0 - (1.0 - p) ** (1.0 / duration)
    total = np.cumsum(np.concatenate((np.zeros((1, columns), bool), starts)), axis=0)
    return np.asarray(total[duration:] > total[:length])
