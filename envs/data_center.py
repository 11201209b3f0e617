"""``shiftgym/DataCenter-v0``: schedule a fleet of AI data centers for the day to come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.errors import ShiftgymError, TraceError
from ..data.trace import Trace
from ..solvers.data_center import DataCenter
from ..solvers.fleet import Fleet
from ..solvers.instances import energy_per_load
from ..solvers.schedule import Schedule
from .replay import ReplayEnv
from .rows import Rows, RowTask
from .shifts import Shift
from .task import Floats, Layout, Observations, check_constants
from .vector import ReplayVectorEnv

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
    """

    def __init__(self, fleet: Fleet, reference: Trace) -> None:
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


class DataCenterTask(RowTask):
    """Day-ahead scheduling of a fleet (ULRO) on a trace of its plants, services, training work, prices and weather.

    One step decides at midnight UTC about the day that begins. The observation is, in this order, the ``lookback`` days
    before (renewables of each center, requests of each service, training work of each class, hour by hour); day of the
    week (7), day of the year as sine and cosine; the weather forecasts of the day; prices and carbon intensity of each
    center; charge of the batteries; backlog, if the fleet carries work over.

    Parameters
    ----------
    trace, shift, shift_seed, reference, lookback, episode_steps
        See :class:`~shiftgym.envs.rows.RowTask`; they count days.
    **problem
        Constants of :class:`~shiftgym.solvers.data_center.DataCenter`: ``fleet`` (those fields of
        :class:`~shiftgym.solvers.fleet.Fleet` in which it differs from the default), ``action``, ``integer``,
        ``solver``, ``promise``.
    """

    axes = ("hour", "facility power [kW]")
    problem: DataCenter

    def __init__(
        self,
        trace: str | Trace = "synthetic-datacenter",
        shift: str | Mapping[str, Any] | Shift | None = None,
        shift_seed: int = 0,
        reference: str | Trace | None = None,
        lookback: int = 1,
        episode_steps: int | None = 30,
        **problem: Any,
    ) -> None:
        check_constants(type(self), DataCenter, problem)
        self._constants = problem
        super().__init__(trace, shift, shift_seed, reference, lookback, episode_steps)

    def _define(self) -> tuple[DataCenter, Layout]:
        self._check_comparable()
        if self.reference.slot != HOUR:
            raise TraceError(
                f"trace {self.reference.name!r} has slots of {self.reference.slot} s: data centers need 1h"
            )
        problem = DataCenter(**self._constants)
        fleet = problem.fleet
        if 24 % fleet.slots:
            raise ShiftgymError(f"slots of the fleet is {fleet.slots}: give a divisor of the 24 hours of a day")
        self.columns = FleetColumns(fleet, self.reference)
        uncertain, prices = problem.uncertain_dim, 2 * fleet.size * fleet.slots
        context = 9 + len(self.columns.forecasts) * fleet.slots + prices
        last = self._last_row(uncertain)
        told = tuple(range(self.lookback * uncertain + context - prices, self.lookback * uncertain + context))
        again = last if problem.action == "relative" else ()  # the forecast that decisions are multiples of
        known = tuple(range(uncertain, problem.outcome_dim))
        layout = Layout(self.lookback, uncertain, context, problem.state_dim, last + told + again, known)
        return problem, layout

    def _rows(self, trace: Trace) -> Rows:
        slots, columns = self.problem.fleet.slots, self.columns
        hour = trace.time.astype("datetime64[h]").astype(np.int64)
        first = int(-hour[0] % slots)
        days = (len(trace) - first) // slots
        if days < 1:
            raise TraceError(f"trace {trace.name!r} holds no whole day from midnight to midnight: use a longer window")
        if (np.diff(hour) != 1).any():
            raise TraceError(f"trace {trace.name!r} has gaps: a day needs all its hours; use a window without any")

        def daily(values: NDArray[Any]) -> NDArray[Any]:
            """Days (R, columns x slots), series by series."""
            cut = values[first : first + days * slots].reshape(days, slots, -1)
            return np.swapaxes(cut, 1, 2).reshape(days, -1)

        readings = daily(columns.uncertain(trace, trace.observed))
        known = daily(columns.known(trace))
        begins = trace.time[first : first + days * slots : slots]
        forecast = np.concatenate((readings[:1], readings[:-1])) if self.problem.action == "relative" else known[:, :0]
        return Rows(
            readings=readings,
            context=np.concatenate((_calendar(begins), daily(columns.weather(trace)), known), axis=1),
            outcomes=np.concatenate((daily(columns.uncertain(trace, trace.outcome)), known, forecast), axis=1),
            time=begins,
            shifted=daily(trace.shifted).any(1),
        )

    def observe(self, point: Any, previous: Floats | None = None) -> Observations:
        """Fresh observations; before the first day of an episode, the state is that of the fleet at the start."""
        return super().observe(point, self.problem.known_state(previous))

    def foresee(self, points: NDArray[np.int64], previous: Floats) -> Floats:
        """What a clairvoyant agent sees; see :meth:`observe`."""
        return super().foresee(points, self.problem.known_state(previous))

    def _plausible_states(self) -> Floats:
        """States (K, S): any charge of the batteries where they need not return, and up to two hours' work waiting.

        Where neither varies, the state is the same on all days.
        """
        fleet, points = self.problem.fleet, len(self)
        states = np.array(self.problem.known_state(None, (points,)))
        rng = np.random.default_rng(0)
        if fleet.terminal == "free":
            low, high = np.outer(fleet.charge_range, fleet.battery)
            states[:, : fleet.size] = rng.uniform(low, high, (points, fleet.size))
        if fleet.tail:
            hourly = self.columns.uncertain(self.reference, self.reference.outcome).mean(0)[-len(fleet.classes) :]
            due = np.arange(fleet.reach) < np.array(fleet.windows)[:, None]
            share = rng.uniform(0, 2, (points, *due.shape)) * due / np.maximum(due.sum(1, keepdims=True), 1)
            states[:, fleet.size :] = (share * hourly[:, None]).reshape(points, -1)
        return states

    def drawn(self, outcomes: Floats, decisions: Floats, oracle: Floats) -> tuple[Floats, Floats, Floats]:
        """Facility power [kW] of the fleet by the hour: for the work that came, for what was planned, for the oracle's.

        Of levels, that of the cheapest instances at the mean PUE: where work runs is not part of them.
        """
        uncertain = self.problem.uncertain_dim
        planned = [self._planned_power(chosen, outcomes) for chosen in (decisions, oracle)]
        return self._power_of(outcomes[..., :uncertain]), planned[0], planned[1]

    def _planned_power(self, decisions: Floats, outcomes: Floats) -> Floats:
        problem = self.problem
        if problem.action == "schedule":
            rows = decisions.reshape(-1, problem.decision_dim)
            power = [Schedule.unpack(row, problem.fleet).power.sum(0) for row in rows]
            return np.reshape(power, (*decisions.shape[:-1], problem.fleet.slots))
        return self._power_of(decisions * problem.forecast(outcomes) if problem.action == "relative" else decisions)

    def _power_of(self, levels: Floats) -> Floats:
        """Power (..., T) that requests and arrivals of levels (..., (D + S + K) T) need."""
        fleet, serving = self.problem.fleet, self.problem.fleet.serving
        cheapest = np.full(len(serving.classes), np.inf)
        np.minimum.at(cheapest, serving.klass, energy_per_load(serving))
        per_request = np.bincount(serving.service_of, serving.share * cheapest)
        weights = np.concatenate((np.zeros(fleet.size), per_request, fleet.gpu_power)) * fleet.facility.mean()
        return weights @ levels.reshape(*levels.shape[:-1], -1, fleet.slots)


def _calendar(time: NDArray[np.datetime64]) -> Floats:
    """Day of the week (R, 7), 1 in its column from Monday on, then sine and cosine of the day of the year."""
    date = time.astype("datetime64[D]")
    weekday = (date.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    of_year = (date - date.astype("datetime64[Y]")).astype(np.int64)
    angle = 2 * np.pi * of_year / 365.2425
    return np.column_stack((np.eye(7)[weekday], np.sin(angle), np.cos(angle)))


class DataCenterEnv(ReplayEnv):
    """``gymnasium.make("shiftgym/DataCenter-v0", …)``; keywords as in :class:`DataCenterTask`."""

    task_class = DataCenterTask


class DataCenterVectorEnv(ReplayVectorEnv):
    """``gymnasium.make_vec("shiftgym/DataCenter-v0", num_envs=…)``; keywords as in :class:`DataCenterTask`."""

    task_class = DataCenterTask
