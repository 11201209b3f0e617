"""Where the trace of a fleet of data centers says what: columns by the names of centers, services and classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data.errors import ShiftgymError, TraceError
from ..data.trace import Trace
from ..solvers.data_center.fleet import Fleet
from .task import Floats

HOUR = 3600.0
#: Columns of a trace that the fleet's names complete; the first three are outcomes, the others known the day before.
OUTCOMES, KNOWN, FORECAST = ("renewable", "requests", "training"), ("price", "carbon"), "forecast:"


class FleetColumns:
    """Where a trace tells what a fleet meets; the columns are found by name.

    A center called ``CA-7``, as :meth:`Fleet.of_size` names its copies, takes the columns of ``CA`` where it has none,
    with its plant scaled to its own size.

    Parameters
    ----------
    fleet : Fleet
        Whose centers, services and training classes the columns are for.
    reference : Trace
        The training trace, which says what weather forecasts there are.

    Raises
    ------
    TraceError
        For a reference whose slots are not hours.
    ShiftgymError
        For a fleet whose slots do not divide a day.
    """

    def __init__(self, fleet: Fleet, reference: Trace) -> None:
        if reference.slot != HOUR:
            raise TraceError(f"trace {reference.name!r} has slots of {reference.slot} s: data centers need slots of 1h")
        if 24 % fleet.slots:
            raise ShiftgymError(f"slots of the fleet is {fleet.slots}: give a divisor of the 24 hours of a day")
        self.fleet = fleet
        self.forecasts = tuple(name for name in reference.context_names if name.startswith(FORECAST))
        self._members = (fleet.centers, fleet.services, fleet.classes)

    def uncertain(self, trace: Trace, values: Floats) -> Floats:
        """Renewables [kW], requests [req/s] and training work [GPU h], columns (N, D + S + K) of values (N, ...)."""
        columns = [
            self._place(trace, trace.outcome_names, kind, name)
            for kind, names in zip(OUTCOMES, self._members, strict=True)
            for name in names
        ]
        table = values[:, columns].astype(np.float64)
        limit = np.array(self.fleet.renewable_limit)
        plants = slice(len(limit))
        table[:, plants] = np.minimum(table[:, plants] * self._sizes(trace), limit)  # nameplate power is the most
        return table

    def known(self, trace: Trace) -> Floats:
        """Prices [$/kWh] and carbon intensity [kg/kWh], columns (N, 2 D)."""
        columns = [self._place(trace, trace.context_names, kind, name) for kind in KNOWN for name in self.fleet.centers]
        return trace.context[:, columns]

    def weather(self, trace: Trace) -> Floats:
        """Weather forecasts, columns (N, F)."""
        missing = [name for name in self.forecasts if name not in trace.context_names]
        if missing:
            raise TraceError(
                f"trace {trace.name!r} has no column {missing[0]!r}, which the reference (the training trace) has: "
                "replay traces of one kind"
            )
        return trace.context[:, [trace.context_names.index(name) for name in self.forecasts]]

    def _sizes(self, trace: Trace) -> Floats:
        """Size of each plant (D,) relative to the one that its column was recorded for."""
        sizes, default = np.ones(self.fleet.size), Fleet()
        for d, name in enumerate(self.fleet.centers):
            base = name.rpartition("-")[0]
            if f"{OUTCOMES[0]}:{name}" not in trace.outcome_names and base in default.centers:
                sizes[d] = self.fleet.renewable_limit[d] / default.renewable_limit[default.centers.index(base)]
        return sizes

    @staticmethod
    def _place(trace: Trace, names: tuple[str, ...], kind: str, member: str) -> int:
        for candidate in (member, member.rpartition("-")[0]):
            if (name := f"{kind}:{candidate}") in names:
                return names.index(name)
        raise TraceError(
            f"trace {trace.name!r} has no column '{kind}:{member}' (it has {', '.join(names) or 'none'}): name "
            "centers, services and classes of the fleet as the trace does"
        )

    def whole_days(self, trace: Trace) -> slice:
        """The hours of a trace that make up whole days of the fleet, which begin at midnight.

        Raises
        ------
        TraceError
            For a trace without one, or with gaps.
        """
        slots = self.fleet.slots
        hour = trace.time.astype("datetime64[h]").astype(np.int64)
        first = int(-hour[0] % slots)
        days = (len(trace) - first) // slots
        if days < 1:
            raise TraceError(f"trace {trace.name!r} holds no whole day from midnight to midnight: use a longer window")
        if (np.diff(hour) != 1).any():
            raise TraceError(f"trace {trace.name!r} has gaps: a day needs all its hours; use a window without any")
        return slice(first, first + days * slots)


def calendar(time: NDArray[np.datetime64]) -> Floats:
    """Day of the week (R, 7), 1 in its column from Monday on, then sine and cosine of the day of the year."""
    date = time.astype("datetime64[D]")
    weekday = (date.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    of_year = (date - date.astype("datetime64[Y]")).astype(np.int64)
    angle = 2 * np.pi * of_year / 365.2425
    return np.column_stack((np.eye(7)[weekday], np.sin(angle), np.cos(angle)))
