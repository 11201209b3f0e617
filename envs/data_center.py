"""``shiftgym/DataCenter-v0``: schedule a fleet of AI data centers for the day to come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.trace import Trace
from ..solvers.data_center import DataCenter
from ..solvers.data_center.instances import power_of_work
from ..solvers.data_center.schedule import Schedule
from .fleet_columns import FleetColumns, calendar
from .replay import ReplayEnv
from .rows import Rows, RowTask
from .shifts import Shift
from .task import Floats, Layout, Observations, check_constants
from .vector import ReplayVectorEnv


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
        Constants of :class:`~shiftgym.solvers.data_center.DataCenter`: ``fleet`` (those fields
        of :class:`~shiftgym.solvers.data_center.fleet.Fleet` in which it differs from the default), ``action``,
        ``integer``, ``solver``, ``promise``.
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
        problem = DataCenter(**self._constants)
        fleet = problem.fleet
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
        cut = columns.whole_days(trace)

        def daily(values: NDArray[Any]) -> NDArray[Any]:
            """Days (R, columns x slots), series by series."""
            days = values[cut].reshape(-1, slots, *values.shape[1:])
            return np.swapaxes(days.reshape(*days.shape[:2], -1), 1, 2).reshape(len(days), -1)

        readings = daily(columns.uncertain(trace, trace.observed))
        known = daily(columns.known(trace))
        begins = trace.time[cut][::slots]
        forecast = np.concatenate((readings[:1], readings[:-1])) if self.problem.action == "relative" else known[:, :0]
        return Rows(
            readings=readings,
            context=np.concatenate((calendar(begins), daily(columns.weather(trace)), known), axis=1),
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
        fleet = self.problem.fleet
        weights = np.concatenate((np.zeros(fleet.size), power_of_work(fleet))) * fleet.facility.mean()
        return weights @ levels.reshape(*levels.shape[:-1], -1, fleet.slots)


class DataCenterEnv(ReplayEnv):
    """``gymnasium.make("shiftgym/DataCenter-v0", …)``; keywords as in :class:`DataCenterTask`."""

    task_class = DataCenterTask


class DataCenterVectorEnv(ReplayVectorEnv):
    """``gymnasium.make_vec("shiftgym/DataCenter-v0", num_envs=…)``; keywords as in :class:`DataCenterTask`."""

    task_class = DataCenterTask
