"""``shiftgym/PowerScheduling-v0``: schedule tomorrow's generation before tomorrow's load is known."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.errors import ShiftgymError, TraceError
from ..data.trace import Trace, format_duration
from ..solvers.power import PowerScheduling
from .replay import ReplayEnv
from .rows import Rows, RowTask
from .shifts import Shift
from .task import Floats, Layout, check_constants
from .vector import ReplayVectorEnv

DAY = 86400.0
#: Full capacity as a multiple of the largest load of the reference, unless it is given.
MARGIN = 1.5


class PowerSchedulingTask(RowTask):
    """Day-ahead power scheduling (Donti, Amos and Kolter, 2017; Diffusion-DFL, A.10) on any load trace.

    One step decides the generation of every slot of a day, 24 of them on an hourly trace. The observation is the
    load of the last ``lookback`` days, then features of the day: weekend, US federal holiday, daylight saving time
    in New York, cosine and sine of the day of the year; then, for each context column asked for, its profile of
    the day before and of the day itself with their powers (t, t^2 and s, s^2, s^3), standardised by the reference.

    With ``lookback=1, context=["temperature"]`` these are the 149 features of the published protocol (and an
    intercept). The default uses the load of a week and no weather, because the temperature of the public trace is
    broken from 2012 on.

    Parameters
    ----------
    trace, shift, shift_seed, reference, lookback
        See :class:`~shiftgym.envs.task.Task`; ``lookback`` counts days. Days begin at midnight of the trace's clock;
        a part of a day at either end of the trace is left out.
    episode_steps : int or None
        Days of an episode; None replays to the end of the data.
    context : sequence of str
        Context columns of the trace that are forecasts of the next day, known the day before.
    capacity : float, optional
        Largest generation, in the unit of the load; one and a half times the largest load of the reference by
        default.
    **problem
        Constants of :class:`~shiftgym.solvers.power.PowerScheduling`: ``shortage``, ``excess``, ``ramp``.
    """

    axes = ("hour", "load and generation")

    def __init__(
        self,
        trace: str | Trace = "synthetic-pjm-duq",
        shift: str | Mapping[str, Any] | Shift | None = None,
        shift_seed: int = 0,
        reference: str | Trace | None = None,
        lookback: int = 7,
        episode_steps: int | None = 28,
        context: Sequence[str] = (),
        capacity: float | None = None,
        **problem: float,
    ) -> None:
        check_constants(type(self), PowerScheduling, problem, own=("hours", "low", "high"))
        if capacity is not None and not (np.isfinite(capacity) and capacity > 0):
            raise ShiftgymError(f"capacity is {capacity}: give a positive load")
        self.capacity, self._constants, self._names = capacity, problem, tuple(context)
        super().__init__(trace, shift, shift_seed, reference, lookback, episode_steps)

    def _define(self) -> tuple[PowerScheduling, Layout]:
        self._check_comparable()
        slot = self.reference.slot
        if DAY % slot or slot > DAY / 2:
            raise TraceError(
                f"trace {self.reference.name!r} has slots of {format_duration(slot)}: a day needs at least two, all of "
                "one length, such as 1h"
            )
        self._hours = round(DAY / slot)
        self._check_amount("load")
        if self.capacity is None:
            self.capacity = MARGIN * float(self.reference.outcome.max())
        if self.capacity <= 0:
            raise TraceError(f"reference {self.reference.name!r} has no load at all: set capacity")
        weather = self._context_of(self.reference, self._names)
        deviation = weather.std(0)
        self._centre, self._scale = weather.mean(0), np.where(deviation > 0, deviation, 1.0)
        problem = PowerScheduling(hours=self._hours, low=0.0, high=self.capacity, **self._constants)
        features = len(CALENDAR) + 5 * self._hours * len(self._names)
        return problem, Layout(self.lookback, self._hours, features, 0, self._last_row(self._hours))

    def _rows(self, trace: Trace) -> Rows:
        first = int(np.argmax(trace.time == trace.time.astype("datetime64[D]")))
        days = (len(trace) - first) // self._hours
        if days < 1 or trace.time[first] != trace.time[first].astype("datetime64[D]"):
            raise TraceError(f"trace {trace.name!r} holds no whole day from midnight to midnight: use a longer window")

        def daily(values: NDArray[Any]) -> NDArray[Any]:
            return values[first : first + days * self._hours].reshape(days, self._hours, *values.shape[1:])

        date = daily(trace.time)[:, 0].astype("datetime64[D]")
        weather = (daily(self._context_of(trace, self._names)) - self._centre) / self._scale
        return Rows(
            readings=daily(trace.observed)[..., 0],
            context=np.concatenate((calendar_features(date), weather_features(weather)), axis=1),
            outcomes=daily(trace.outcome)[..., 0],
            time=date,
            shifted=daily(trace.shifted).any(1),
        )


CALENDAR = ("weekend", "holiday", "daylight_saving", "year_cos", "year_sin")


def calendar_features(date: NDArray[np.datetime64]) -> Floats:
    """Features (R, 5) of days, named in :data:`CALENDAR`: what the published protocol uses."""
    weekend = (date.astype(np.int64) + 3) % 7 >= 5  # 1970-01-01 was a Thursday
    of_year = (date - date.astype("datetime64[Y]")).astype(np.int64) + 1
    angle = 2 * np.pi * of_year / 365
    flags = _flags(int(date[0].astype(np.int64)), int(date[-1].astype(np.int64)))[: len(date)]
    return np.column_stack((weekend, flags, np.cos(angle), np.sin(angle))).astype(np.float64)


@functools.lru_cache(maxsize=32)
def _flags(first: int, last: int) -> Floats:
    """US federal holiday, and daylight saving time at noon in New York, of days since 1970 (last one included)."""
    import pandas as pd  # heavy, and needed by this task only
    from pandas.tseries.holiday import USFederalHolidayCalendar

    days = pd.DatetimeIndex(np.arange(first, last + 1).astype("datetime64[D]"))
    holidays = USFederalHolidayCalendar().holidays(days[0], days[-1])
    noon = (days + pd.Timedelta(hours=12)).tz_localize("America/New_York")
    saving = np.array([stamp.dst().total_seconds() > 0 for stamp in noon])
    return np.column_stack((days.isin(holidays), saving)).astype(np.float64)


def weather_features(weather: Floats) -> Floats:
    """Powers (R, 5 hours C) of standardised profiles (R, hours, C): of the day before, then of the day itself.

    The first day has no day before; its own profile stands in, and no decision is made about it.
    """
    before = np.concatenate((weather[:1], weather[:-1]))
    parts = [before, before**2, weather, weather**2, weather**3]
    return np.concatenate([part.reshape(len(weather), -1) for part in parts], axis=1)


class PowerSchedulingEnv(ReplayEnv):
    """``gymnasium.make("shiftgym/PowerScheduling-v0", …)``; keywords as in :class:`PowerSchedulingTask`."""

    task_class = PowerSchedulingTask


class PowerSchedulingVectorEnv(ReplayVectorEnv):
    """``gymnasium.make_vec("shiftgym/PowerScheduling-v0", …)``; keywords as in :class:`PowerSchedulingTask`."""

    task_class = PowerSchedulingTask
