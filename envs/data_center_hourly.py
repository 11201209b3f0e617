"""``shiftgym/DataCenterHourly-v0``: run a fleet of AI data centers hour by hour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.errors import ShiftgymError
from ..data.trace import Trace
from ..solvers.data_center import DataCenterHour
from ..solvers.data_center.day_ahead import DayAhead, Levels
from ..solvers.data_center.hour import slices
from ..solvers.data_center.instances import power_of_work
from ..solvers.data_center.settlement import Outcome
from .fleet_columns import FleetColumns, calendar
from .replay import ReplayEnv
from .rows import Rows, RowTask
from .shifts import Shift
from .task import Floats, Indices, Layout, Observations, check_constants, check_count
from .vector import ReplayVectorEnv


class DataCenterHourlyTask(RowTask):
    """The fleet of :class:`~shiftgym.envs.data_center.DataCenterTask`, decided about hour by hour.

    One step decides just before an hour, knowing all hours before it, so that a policy can react within the day. The
    observation is the last ``lookback`` hours (renewables of each center, requests of each service, training work of
    each class); the part of the day left after the hour, the hour as sine and cosine, the weekday (7), the day of the
    year as sine and cosine; weather forecasts, prices and carbon intensity of this hour and the next ones (after
    midnight those of the same hour of this day, as the next day's are not known yet); then charge of the batteries,
    training work of the last hours, and which part of each still waits.

    Regret is measured from the relaxed day-ahead schedule that knows the day: its cost of the hour. A single hour may
    cost less; a whole day on which all is served does not, if the batteries began it as the fleet does.

    Parameters
    ----------
    trace, shift, shift_seed, reference, lookback, episode_steps
        See :class:`~shiftgym.envs.rows.RowTask`; they count hours.
    ahead : int
        Hours of forecasts, prices and carbon intensity in an observation.
    oracle : bool
        Whether days are scheduled with perfect information for the regret, some 10 ms each when a day is first met;
        otherwise ``oracle_cost`` is 0.
    **problem
        Constants of :class:`~shiftgym.solvers.data_center.DataCenterHour`: ``fleet``, ``action``, ``integer``,
        ``promise``.
    """

    axes = ("hour", "facility power [kW]")
    problem: DataCenterHour
    oracle_follows_path = False

    def __init__(
        self,
        trace: str | Trace = "synthetic-datacenter",
        shift: str | Mapping[str, Any] | Shift | None = None,
        shift_seed: int = 0,
        reference: str | Trace | None = None,
        lookback: int = 24,
        episode_steps: int | None = 168,
        ahead: int = 12,
        oracle: bool = True,
        **problem: Any,
    ) -> None:
        check_constants(type(self), DataCenterHour, problem)
        if not isinstance(oracle, bool):
            raise ShiftgymError(
                f"oracle is {oracle!r}: give True to schedule each day with perfect information, or False"
            )
        self._constants, self.ahead, self.oracle = problem, check_count("ahead", ahead), oracle
        super().__init__(trace, shift, shift_seed, reference, lookback, episode_steps)

    def _define(self) -> tuple[DataCenterHour, Layout]:
        self._check_comparable()
        problem = DataCenterHour(**self._constants)
        self.columns = FleetColumns(problem.fleet, self.reference)
        self._planner: DayAhead | None = None
        uncertain, prices = problem.uncertain_dim, 2 * problem.fleet.size
        context = 12 + self.ahead * (len(self.columns.forecasts) + prices)
        last, begin = self._last_row(uncertain), self.lookback * uncertain
        now = tuple(begin + context - self.ahead * (prices - i) for i in range(prices))
        known = tuple(range(uncertain, problem.outcome_dim))
        naive = (*last, *now, *last, begin)
        return problem, Layout(self.lookback, uncertain, context, problem.state_dim, naive, known)

    def _rows(self, trace: Trace) -> Rows:
        slots = self.problem.fleet.slots
        cut = self.columns.whole_days(trace)
        readings = self.columns.uncertain(trace, trace.observed)[cut]
        known, weather, time = self.columns.known(trace)[cut], self.columns.weather(trace)[cut], trace.time[cut]
        row = np.arange(len(time))
        hour = row % slots
        left = ((slots - 1 - hour) / slots)[:, None]
        angle = 2 * np.pi * hour / slots
        # the hours to come, those after midnight as they are today
        later = (row - hour)[:, None] + (hour[:, None] + np.arange(self.ahead)) % slots
        profiles = [values[later].swapaxes(1, 2).reshape(len(row), -1) for values in (weather, known)]
        clock = np.column_stack((np.sin(angle), np.cos(angle)))
        outcomes = self.columns.uncertain(trace, trace.outcome)[cut]
        before = np.concatenate((readings[:1], readings[:-1]))
        return Rows(
            readings=readings,
            context=np.concatenate((left, clock, calendar(time), *profiles), axis=1),
            outcomes=np.concatenate((outcomes, known, before, left), axis=1),
            time=time,
            shifted=trace.shifted[cut],
        )

    # ------------------------------------------------------------------ the oracle, day by day
    def __getstate__(self) -> dict[str, Any]:
        """Everything but the solver, which cannot be copied."""
        return {**self.__dict__, "_planner": None}

    def _solve_oracle(self) -> None:
        """Myopic decisions for the hours to come; costs and, of schedules, decisions are found when a day is met."""
        outcomes, trace, columns = self.points.outcomes, self.trace, self.columns
        hours = np.concatenate((columns.uncertain(trace, trace.outcome), columns.known(trace)), axis=1)
        self._hours = hours[columns.whole_days(trace)]
        self.oracle_costs = np.zeros(len(outcomes))
        self._met = np.zeros(len(self._hours) // self.problem.fleet.slots, bool)
        if self.problem.action == "shares":
            self.oracle_decisions = self.problem.perfect(outcomes)
        else:
            self.oracle_decisions = np.zeros((len(outcomes), self.problem.decision_dim))

    def _meet(self, points: Indices | list[int]) -> None:
        """Schedule the days of decision points that were not met before."""
        days = {(int(point) + self.lookback) // self.problem.fleet.slots for point in points}
        for day in days:
            if day < len(self._met) and not self._met[day]:
                self._schedule(day)
                self._met[day] = True

    def _schedule(self, day: int) -> None:
        """The relaxed schedule of a day with perfect information, as costs and decisions of its hours."""
        fleet = self.problem.fleet
        rows = np.arange(day * fleet.slots, (day + 1) * fleet.slots)
        sizes = [fleet.size, len(fleet.services), len(fleet.classes), fleet.size]
        outcome = Outcome(*np.split(self._hours[rows].T, np.cumsum(sizes)))
        if self._planner is None:
            self._planner = DayAhead(fleet, "highs", integer=False)
        self._planner.restart()  # whichever day was met before
        rate = outcome.rate(fleet.carbon_price)
        schedule = self._planner.plan(rate, Levels(outcome.renewables, outcome.requests, outcome.arrivals))
        inside = rows >= self.lookback
        points = rows[inside] - self.lookback
        self.oracle_costs[points] = (rate * schedule.purchase).sum(0)[inside] / 1000
        if self.problem.action == "schedule":
            self.oracle_decisions[points] = slices(schedule)[inside]

    def observe(self, point: Any, previous: Floats | None = None) -> Observations:
        """Fresh observations; before the first hour of an episode, the state is that of the fleet at the start."""
        if self.oracle:
            self._meet([point] if isinstance(point, int) else point)
        return super().observe(point, self.problem.known_state(previous))

    def dataset(self) -> tuple[Observations, Floats]:
        """Every decision point as a sample, without the work of the oracle."""
        oracle, self.oracle = self.oracle, False
        try:
            return super().dataset()
        finally:
            self.oracle = oracle

    def _plausible_states(self) -> Floats:
        """States (K, S): any charge, the arrivals of the hours before, and any part of those that may still wait."""
        fleet, points = self.problem.fleet, len(self)
        rng = np.random.default_rng(0)
        low, high = np.outer(fleet.charge_range, fleet.battery)
        charge = rng.uniform(low, high, (points, fleet.size))
        age = np.arange(1, fleet.reach + 1)
        row = np.arange(points) + self.lookback
        arrived = self._hours[np.maximum(row[:, None] - age, 0), -(2 * fleet.size + len(fleet.classes)) :]
        recent = arrived[..., : len(fleet.classes)].swapaxes(1, 2)
        today = fleet.carry_over | (age <= (row % fleet.slots)[:, None])
        waits = (age <= np.array(fleet.windows)[:, None]) & today[:, None]
        left = rng.random(recent.shape) * waits
        return np.concatenate((charge, recent.reshape(points, -1), left.reshape(points, -1)), axis=1)

    def drawn(self, outcomes: Floats, decisions: Floats, oracle: Floats) -> tuple[Floats, Floats, Floats]:
        """Facility power [kW] of the fleet (..., 1): for the work that came, for what was planned, for the oracle's."""
        problem, fleet = self.problem, self.problem.fleet
        came = outcomes[..., fleet.size : problem.uncertain_dim] @ power_of_work(fleet) * fleet.facility.mean()
        planned = (problem.planned_power(chosen, outcomes) for chosen in (decisions, oracle))
        return tuple(power[..., None] for power in (came, *planned))


class DataCenterHourlyEnv(ReplayEnv):
    """``gymnasium.make("shiftgym/DataCenterHourly-v0", …)``; keywords as in :class:`DataCenterHourlyTask`."""

    task_class = DataCenterHourlyTask


class DataCenterHourlyVectorEnv(ReplayVectorEnv):
    """``gymnasium.make_vec("shiftgym/DataCenterHourly-v0", …)``; keywords as in :class:`DataCenterHourlyTask`."""

    task_class = DataCenterHourlyTask
