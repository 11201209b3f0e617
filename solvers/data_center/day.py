"""A fleet of AI data centers as a decision problem: a day is scheduled before it comes, then settled as it was."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.errors import UnknownNameError
from ..arrays import Array, beyond, in_double, in_numpy, kind, largest, namespace, nothing
from ..backend import CAN
from ..base import Adjoint
from ..memory import digest, keep
from .day_ahead import DayAhead
from .decision_box import decision_box
from .fleet import Fleet
from .level_loss import level_loss, level_prices
from .level_sensitivity import levels_gradient, levels_influence
from .problem import FleetProblem
from .protective_levels import protective_levels
from .scenario_program import Scenarios
from .schedule import Levels, Schedule, layout
from .schedule_projection import within_battery, within_limits
from .second_order import SecondOrder
from .settlement import MEASURES, Outcome, Settlement, settle

Values = NDArray[np.float64]

ACTIONS = ("levels", "relative", "schedule")
#: An hour for which next to nothing is forecast counts as this share of the day's peak, so that multiples count.
_LEAST_FORECAST = 0.05
#: Units of the hard families of a schedule, which are blocks of its decisions, and of all soft families.
_BLOCKS = {
    "shares": "share of an arrival",
    "carried": "GPU h",
    "reserved": "GPU",
    "load": "req/s",
    "instances": "instances",
    "purchase": "kW",
    "charge": "kW",
    "discharge": "kW",
}
_SOFT = {"power": "kWh", "training": "GPU h", "inference": "requests", "storage": "kWh"}
_HOUR = 3600.0
#: Settled days (some 30 numbers each) and schedules (some 100 kB each) that are kept.
_DAYS, _SCHEDULES = 8192, 64


class DataCenter(FleetProblem):
    """Day-ahead scheduling of D centers that run K training classes and S inference services (ULRO).

    ==========================  =====================================================  ===============
    source                      here                                                   unit
    ==========================  =====================================================  ===============
    R, Lambda, A                outcome, the first (D + S + K) T columns               kW, req/s, GPU h
    pi, kappa                   outcome, the next 2 D T: known before the day          $/kWh, kg/kWh
    R^low, Lambda-bar, A-bar    decision with ``action="levels"``, (D + S + K) T       as the outcome
    x, C, lambda, n, P^g, ...   decision with ``action="schedule"``: ``Schedule.pack``  various
    E^0, B                      state: charge (D,), then backlog (K, longest window)   kWh, GPU h
    C^set                       :meth:`cost`                                           1000 $
    ==========================  =====================================================  ===============

    With protective levels the schedule is the cheapest one that withstands all that is better than they are. With
    ``action="relative"`` they are multiples of a forecast, in [0, 1] for renewables and in [0.5, 4] for the others; the
    forecast follows the prices in the outcome as (D + S + K) T more known columns. A schedule as decision is cut to
    what the fleet can do; what depends on the state, the battery and the backlog, is cut when the day begins.

    The cost is what is paid: work, requests and energy that are not served cost nothing and are reported as violations.
    Policies are comparable where they keep their promises. :meth:`least_cost` is that of the linear relaxation with
    the values to come, which no decision undercuts on a day on which all is served.

    Soft families: ``power`` [kWh] of planned power that purchase, renewables and battery do not cover, (15a);
    ``training`` [GPU h] beyond the reserved GPUs, (15b); ``inference`` [requests] beyond the planned level, (15c); and,
    of a schedule, ``storage`` [kWh] that the battery was asked for in vain.

    Measures: ``committed_cost`` [1000 $], ``emissions`` and ``committed_emissions`` [t], ``imported`` in real time,
    ``unserved_energy``, ``curtailed`` and ``excess`` [kWh], ``unserved_training`` [GPU h], ``unserved_requests``,
    ``short_slots`` (share of centers and hours in which (15a) is broken) and ``infeasible_plan`` (1 where no schedule
    withstands the levels, so that one that cannot was cut to the fleet's limits).

    Source: Sec. III of "Contextual Robust Optimization for AI Data Center Scheduling with Statistical Guarantees".

    Parameters
    ----------
    fleet : Fleet or mapping
        The fleet, or those fields of :class:`~shiftgym.solvers.data_center.fleet.Fleet` in which it differs from the
        default.
    action : {"levels", "relative", "schedule"}
        What a decision is.
    integer : bool
        Whether instances are whole; False schedules with the linear relaxation.
    solver : {"auto", "gurobi", "highs", "clarabel"}
        What solves the programs, see :func:`shiftgym.solvers.backend.choose`. A day may have several cheapest
        schedules, of which solvers find different ones: with "auto" what is installed shows in the results.
    promise : float
        Share of the scenarios that the levels of :meth:`solve` withstand, in every family.

    Raises
    ------
    ProblemError
        For a parameter outside its range.
    """

    actions = ACTIONS
    measures = (*MEASURES, "infeasible_plan")

    def __init__(
        self,
        fleet: Fleet | Mapping[str, Any] | None = None,
        action: str = "levels",
        integer: bool = True,
        solver: str = "highs",
        promise: float = 0.95,
    ) -> None:
        if solver not in ("auto", *CAN):
            raise UnknownNameError("solver", solver, ("auto", *CAN))
        super().__init__(fleet, action, integer, promise, solver=solver)
        self.solver = solver
        rows = {"renewables": self.fleet.size, "requests": len(self.fleet.services)}
        self.rows = {**rows, "arrivals": len(self.fleet.classes)}
        self.uncertain_dim = sum(self.rows.values()) * self.fleet.slots
        self.known_dim = 2 * self.fleet.size * self.fleet.slots + (self.uncertain_dim if action == "relative" else 0)
        self.outcome_dim = self.uncertain_dim + self.known_dim
        self._bound(*decision_box(self.fleet, action))
        soft = [name for name in _SOFT if name != "storage" or action == "schedule"]
        hard = (
            dict(_BLOCKS) if action == "schedule" else {"bounds": "" if action == "relative" else "kW, req/s or GPU h"}
        )
        self.hard_families, self.soft_families = tuple(hard), tuple(soft)
        self.units = hard | {name: _SOFT[name] for name in soft}
        self._planners: dict[bool, DayAhead] = {}
        self.forget()

    def forget(self) -> None:
        """Drop the days and schedules that are kept; the solvers stay."""
        self._days: OrderedDict[bytes, Values] = OrderedDict()
        self._schedules: OrderedDict[bytes, Schedule] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the solvers, which cannot be copied, and what they solved."""
        kept = self.__dict__.copy()
        for name in ("_planners", "_days", "_schedules"):
            del kept[name]
        return kept

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__dict__.update(kept)
        self._planners = {}
        self.forget()

    # ------------------------------------------------------------------ the parts of an outcome, a decision, a state
    def outcome(self, vector: Values) -> Outcome:
        """What a vector (outcome_dim,) says of a day."""
        fleet = self.fleet
        rows = [*self.rows.values(), fleet.size, fleet.size]
        table = vector[: sum(rows) * fleet.slots].reshape(-1, fleet.slots)
        return Outcome(*np.split(table, np.cumsum(rows)[:-1]))

    def levels(self, decision: Values, outcome: Values) -> Levels:
        """Protective levels of a decision, for ``action`` levels or relative (whose forecast the outcome holds)."""
        absolute = decision * self.forecast(outcome) if self.action == "relative" else decision
        return Levels(*np.split(absolute.reshape(-1, self.fleet.slots), np.cumsum([*self.rows.values()])[:-1]))

    def forecast(self, outcomes: Values) -> Values:
        """The forecast (..., (D + S + K) T) that relative levels are multiples of, which ends an outcome."""
        table = outcomes[..., self.outcome_dim - self.uncertain_dim :]
        days = table.reshape(*table.shape[:-1], -1, self.fleet.slots)
        lifted = np.maximum(days, _LEAST_FORECAST * days.max(-1, keepdims=True))
        lifted[..., : self.fleet.size, :] = days[..., : self.fleet.size, :]  # no sun at night
        return lifted.reshape(table.shape)

    @property
    def state_dim(self) -> int:
        """D, and the backlog where work may wait for the next day."""
        return self.fleet.size + (len(self.fleet.classes) * self.fleet.reach if self.fleet.tail else 0)

    def initial_state(self) -> Values:
        """The state (S,) before the first day: batteries as the fleet says, no backlog."""
        return np.concatenate((self.fleet.initial(), np.zeros(self.state_dim - self.fleet.size)))

    def _split_state(self, state: Values) -> tuple[Values, Values | None]:
        fleet = self.fleet
        low, high = (edge * np.array(fleet.battery) for edge in fleet.charge_range)
        charge = state[: fleet.size]
        # float32 observations of a full battery would make it fuller than full
        near = (charge > low - 1e-3) & (charge < high + 1e-3)
        charge = np.where(near, np.clip(charge, low, high), charge)
        if not fleet.tail:
            return charge, None
        return charge, np.maximum(state[fleet.size :].reshape(len(fleet.classes), fleet.reach), 0.0)

    # ------------------------------------------------------------------ schedules
    def plan(self, levels: Levels, outcome: Outcome, state: Values, integer: bool | None = None) -> Schedule:
        """Cheapest schedule that withstands the levels at the known prices of an outcome; the same one every time."""
        whole = self.integer if integer is None else integer
        key = digest(whole, *levels, outcome.prices, outcome.carbon, state)
        if key not in self._schedules:
            rate = outcome.rate(self.fleet.carbon_price)
            schedule = self._planner(whole).plan(rate, levels, *self._split_state(state))
            keep(self._schedules, key, schedule, _SCHEDULES)
        return self._schedules[key]

    def withstand(self, outcome: Values, state: Values, against: SecondOrder | Scenarios) -> Values:
        """The packed schedule against more than levels can say, which ``outcome`` holds for all else.

        An ellipsoid takes the place of the levels of training work; scenarios that of requests and training work.
        """
        told, planner = self.outcome(outcome), self._planner(self.integer)
        rate, (charge, backlog) = told.rate(self.fleet.carbon_price), self._split_state(state)
        if isinstance(against, Scenarios):
            schedule = planner.plan_scenarios(rate, told.renewables, against, charge, backlog)
        else:
            levels = Levels(told.renewables, told.requests, told.arrivals)
            schedule = planner.plan(rate, levels, charge, backlog, against)
        return (schedule if schedule.feasible else self._cut(schedule)).pack()

    def _planner(self, whole: bool) -> DayAhead:
        if whole not in self._planners:
            self._planners[whole] = DayAhead(self.fleet, self.solver, whole)
        self._planners[whole].restart()  # so that an episode comes out the same whatever was replayed before
        return self._planners[whole]

    def schedule(self, outcome: Values, decision: Values, previous: Values | None = None) -> tuple[Schedule, Values]:
        """The schedule that is carried out, and the state of the batteries (D,) that it ends with.

        For one outcome (outcome_dim,), feasible decision (d,) and state (S,).
        """
        fleet, state = self.fleet, self.known_state(previous)
        if self.action == "schedule":
            asked = Schedule.unpack(decision, fleet)
        else:
            asked = self.plan(self.levels(decision, outcome), self.outcome(outcome), state)
            if not asked.feasible:
                asked = self._cut(asked)
        charge, backlog = self._split_state(state)
        into, out, stored = within_battery(fleet, asked.charge, asked.discharge, charge)
        if self.action == "schedule":
            waiting = np.zeros(len(fleet.classes)) if backlog is None else backlog.sum(1)
            total = asked.carried.sum((1, 2))
            factor = np.minimum(1.0, waiting / np.maximum(total, 1e-12))
            asked = asked.replace(carried=asked.carried * factor[:, None, None], charge=into, discharge=out)
        return asked, stored

    def _cut(self, schedule: Schedule) -> Schedule:
        """A schedule for levels that the fleet cannot withstand, cut to what it can do."""
        cut = within_limits(self.fleet, schedule, self.integer)
        served = Schedule.unpack(cut.pack(), self.fleet)
        return served.replace(feasible=False, cost=schedule.cost, solver=schedule.solver)

    def settlement(self, outcome: Values, decision: Values, previous: Values | None = None) -> Settlement:
        """The settled day of one outcome, feasible decision and state."""
        return settle(self.fleet, self.schedule(outcome, decision, previous)[0], self.outcome(outcome))

    # ------------------------------------------------------------------ what a decision costs
    def _day(self, outcome: Values, decision: Values, previous: Values) -> Values:
        """Cost, measures, soft families and next state of one day, in one vector."""
        state = self.known_state(previous)
        schedule, stored = self.schedule(outcome, decision, state)
        told = self.outcome(outcome)
        day = settle(self.fleet, schedule, told)
        supply, late = day.supply, day.late_work.sum()
        refused = day.refused.sum() * _HOUR
        summary = [
            day.settled / 1000,
            day.committed / 1000,
            day.emissions / 1000,
            day.committed_emissions / 1000,
            supply.imported.sum(),
            supply.unserved.sum(),
            supply.curtailed.sum(),
            supply.excess.sum(),
            late,
            refused,
            (day.short > 0).mean(),
            float(not schedule.feasible),
        ]
        broken = [day.short.sum(), late, refused]
        if self.action == "schedule":
            asked = Schedule.unpack(decision, self.fleet)
            amiss = np.abs(asked.charge - schedule.charge) + np.abs(asked.discharge - schedule.discharge)
            broken.append(float(beyond(amiss, self.tolerance * 1e3).sum()))
        state = stored
        if self.fleet.tail:
            state = np.concatenate((stored, day.backlog.ravel()))
        return np.concatenate((summary, broken, state))

    def _settled(self, outcomes: Array, decisions: Array, previous: Array | None) -> Values:
        """Vectors of :meth:`_day`, (..., width), for arrays whose leading axes broadcast; no day is solved twice."""
        shape = np.broadcast_shapes(outcomes.shape[:-1], decisions.shape[:-1])
        states = self.known_state(previous, shape)
        shape = np.broadcast_shapes(shape, states.shape[:-1])
        arrays = [
            np.broadcast_to(np.asarray(array, float), (*shape, array.shape[-1])).reshape(-1, array.shape[-1])
            for array in (outcomes, decisions, states)
        ]
        days = []
        for day in zip(*arrays, strict=True):
            key = digest(*day)
            if key not in self._days:
                keep(self._days, key, self._day(*day), _DAYS)
            days.append(self._days[key])
        width = 1 + len(self.measures) + len(self.soft_families) + self.state_dim
        return np.reshape(days, (*shape, width)) if days else np.zeros((*shape, width))

    # ------------------------------------------------------------------ perfect information
    def perfect(self, outcomes: Array, previous: Array | None = None) -> Array:
        """The decision for the day to come as it will be: its values as levels, or the schedule for them."""
        return in_numpy(self._perfect, outcomes, previous)

    def _perfect(self, outcomes: Values, previous: Values | None = None) -> Values:
        exact = np.asarray(outcomes[..., : self.uncertain_dim], float)
        if self.action != "schedule":
            return self._decided(exact, outcomes)
        shape = outcomes.shape[:-1]
        states = np.broadcast_to(self.known_state(previous, shape), (*shape, self.state_dim))
        rows = zip(outcomes.reshape(-1, self.outcome_dim), states.reshape(-1, self.state_dim), strict=True)
        plans = [self._for(outcome[: self.uncertain_dim], outcome, state) for outcome, state in rows]
        return np.reshape(plans, (*shape, self.decision_dim))

    def _decided(self, levels: Values, known: Values) -> Values:
        """Levels (..., (D + S + K) T) as a decision for levels: within the bounds, relative where asked for."""
        if self.action == "relative":
            forecast = self.forecast(known)
            levels = np.divide(levels, forecast, out=np.ones_like(levels), where=forecast > 0)
        return np.clip(levels, self.low, self.high)

    def _for(self, levels: Values, outcome: Values, state: Values) -> Values:
        """The packed schedule for levels, of which what the fleet cannot do is cut."""
        rows = np.split(levels.reshape(-1, self.fleet.slots), np.cumsum([*self.rows.values()])[:-1])
        schedule = self.plan(Levels(*rows), self.outcome(outcome), state)
        return (schedule if schedule.feasible else self._cut(schedule)).pack()

    def least_cost(self, outcomes: Array, perfect: Array, previous: Array | None = None) -> Array:
        """Cost [1000 $] of the linear relaxation with the values to come: a bound for days on which all is served."""
        return in_numpy(lambda outcomes, previous: self._least(outcomes, previous), outcomes, previous)

    def _least(self, outcomes: Values, previous: Values | None) -> Any:
        shape = outcomes.shape[:-1]
        states = np.broadcast_to(self.known_state(previous, shape), (*shape, self.state_dim))
        costs = []
        for vector, state in zip(
            outcomes.reshape(-1, self.outcome_dim), states.reshape(-1, self.state_dim), strict=True
        ):
            key = digest(vector, state)
            if key not in self._days:
                day = self.outcome(np.asarray(vector, float))
                levels = Levels(day.renewables, day.requests, day.arrivals)
                keep(self._days, key, np.array([self.plan(levels, day, state, integer=False).cost / 1000]), _DAYS)
            costs.append(self._days[key][0])
        return np.reshape(costs, shape)

    def horizon_cost(self, outcomes: Values) -> float:
        """Episode oracle: least cost [1000 $] of consecutive days (n, outcome_dim) scheduled as one horizon.

        Training windows may then cross midnight, and batteries need to be back where they were only at the end.
        """
        days = [self.outcome(np.asarray(vector, float)) for vector in outcomes]
        joined = Outcome(*(np.concatenate(parts, axis=1) for parts in zip(*days, strict=True)))
        fleet = replace(self.fleet, slots=len(days) * self.fleet.slots, carry_over=False)
        levels = Levels(joined.renewables, joined.requests, joined.arrivals)
        return DayAhead(fleet, self.solver, integer=False).plan(joined.rate(fleet.carbon_price), levels).cost / 1000

    # ------------------------------------------------------------------ constraints
    def project(self, decisions: Array) -> Array:
        """Levels clipped to their bounds; a schedule cut to the limits of the fleet, as far as no state matters."""
        return in_numpy(self._project, decisions)

    def _project(self, decisions: Values) -> Values:
        if self.action != "schedule":
            return super()._project(decisions)
        rows = np.asarray(decisions, float).reshape(-1, self.decision_dim)
        cut = [within_limits(self.fleet, Schedule.unpack(row, self.fleet), self.integer).pack() for row in rows]
        projected = np.reshape(cut, decisions.shape).astype(decisions.dtype)
        return decisions if np.array_equal(projected, decisions) else projected

    def excess(self, decisions: Array, feasible: Array) -> dict[str, Array]:
        """Of levels ``bounds``, the largest distance outside; of a schedule the largest correction of each block."""
        if self.action != "schedule":
            return super().excess(decisions, feasible)
        if feasible is decisions:
            return {family: nothing(decisions) for family in self.hard_families}
        distance = abs(decisions - feasible)
        ends = np.cumsum([int(np.prod(shape)) for shape in layout(self.fleet).values()])
        parts = (distance[..., begin:end] for begin, end in zip((0, *ends[:-1]), ends, strict=True))
        return {family: largest(beyond(part, self.tolerance)) for family, part in zip(_BLOCKS, parts, strict=True)}

    # ------------------------------------------------------------------ the scenario problem
    def given(self, scenarios: Array, previous: Array | None = None) -> Array:
        """Scenarios (B, M, D), with the state behind each where the decision is a schedule, which depends on it."""
        if self.action != "schedule" or previous is None:
            return scenarios
        xp = namespace(scenarios)
        state = xp.asarray(self.known_state(np.asarray(previous, float)), **kind(scenarios))
        return xp.concat((scenarios, xp.broadcast_to(state[:, None], (*scenarios.shape[:2], self.state_dim))), axis=-1)

    def solve(self, scenarios: Array, weights: Array | None = None) -> Array:
        """Decisions (B, d) that withstand the share ``promise`` of the scenarios (B, M, D) in each family.

        One scenario is the level itself. Of several, a component of the renewables is taken at its quantile, as the
        constraints (15a) are single, and requests and arrivals at the smallest box of one common margin that holds all
        their components together. Scenarios may come with the state of :meth:`given`.
        """
        uncertain = scenarios[..., : self.outcome_dim] if scenarios.shape[-1] == self._wide else scenarios
        self.check_scenarios(uncertain, weights)
        return in_numpy(in_double(self._solve), scenarios, weights)

    @property
    def _wide(self) -> int:
        return self.outcome_dim + self.state_dim

    def _solve(self, scenarios: Values, weights: Values | None) -> Values:
        mass = self._mass(scenarios, weights)
        levels = protective_levels(scenarios[..., : self.uncertain_dim], mass, self.promise, self._sizes)
        known = scenarios[:, 0, : self.outcome_dim]
        if self.action != "schedule":
            return self._decided(np.maximum(levels, 0.0), known)
        stated = scenarios.shape[-1] == self._wide
        states = scenarios[:, 0, self.outcome_dim :] if stated else self.known_state(None, known.shape[:1])
        rows = [self._for(*row) for row in zip(np.maximum(levels, 0.0), known, states, strict=True)]
        return np.reshape(rows, (len(rows), self.decision_dim))

    # ------------------------------------------------------------------ training
    @property
    def _sizes(self) -> list[int]:
        """Numbers of levels: of renewables, requests and arrivals."""
        return [count * self.fleet.slots for count in self.rows.values()]

    def objective(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """Price of the levels and of breaking them [1000 $], as the settled cost leaves out what is not served.

        Least, on average, at levels that keep the promise: see :mod:`~shiftgym.solvers.data_center.level_loss`. It has
        a gradient in decisions and outcomes; with ``action="schedule"`` it is the settled cost, which has none.

        Raises
        ------
        ProblemError
            With ``promise`` 1, which has no finite price.
        """
        if self.action == "schedule":
            return super().objective(outcomes, decisions, previous)
        levels = decisions * in_numpy(self.forecast, outcomes) if self.action == "relative" else decisions
        price = in_numpy(self._level_prices, outcomes)
        return level_loss(outcomes[..., : self.uncertain_dim], levels, price, self._tail, self._sizes)

    def _level_prices(self, outcomes: Values) -> Values:
        told = outcomes[..., self.uncertain_dim :][..., : 2 * self.fleet.size * self.fleet.slots]
        prices, carbon = np.moveaxis(told.reshape(*told.shape[:-1], 2, self.fleet.size, self.fleet.slots), -3, 0)
        worth = level_prices(self.fleet, prices + self.fleet.carbon_price * carbon)
        return worth.reshape(*told.shape[:-1], self.uncertain_dim)

    def adjoint(self, scenarios: Array, decisions: Array, cotangent: Array, weights: Array | None = None) -> Adjoint:
        """Sensitivities of the levels: see :mod:`~shiftgym.solvers.data_center.level_sensitivity`.

        The multiplier is dF/dlevel, zero where a decision is at a bound, which does not move. Known columns have
        gradient zero. A schedule has no gradient: with ``action="schedule"`` this raises :class:`ProblemError`.
        """
        return self._sensitivity(self._adjoint, scenarios, decisions, cotangent, weights)

    def pullback(self, scenarios: Array, decisions: Array, cotangent: Array, weights: Array | None = None) -> Array:
        """dF/dy_m (B, M, D) of :meth:`adjoint`."""
        return self._sensitivity(self._gradient, scenarios, decisions, cotangent, weights)

    def _sensitivity(self, method: Callable[..., Any], scenarios: Array, *others: Array) -> Any:
        if self.action == "schedule":
            raise self._no_gradient()
        self.check_scenarios(scenarios, others[-1])
        return in_numpy(in_double(method), scenarios, *others)

    def _adjoint(self, scenarios: Values, decisions: Values, cotangent: Values, weights: Values | None) -> Adjoint:
        given = self._moving(scenarios, decisions, cotangent, weights)
        return Adjoint(given[-1], self._with_known(levels_gradient(*given)), levels_influence(*given))

    def _gradient(self, scenarios: Values, decisions: Values, cotangent: Values, weights: Values | None) -> Values:
        return self._with_known(levels_gradient(*self._moving(scenarios, decisions, cotangent, weights)))

    def _moving(
        self, scenarios: Values, decisions: Values, cotangent: Values, weights: Values | None
    ) -> tuple[Values, Values, float, list[int], Values]:
        """What sensitivities are found of: values, mass, promise, sizes and dF/dlevel."""
        values, mass = scenarios[..., : self.uncertain_dim], self._mass(scenarios, weights)
        return values, mass, self.promise, self._sizes, self._pull(scenarios, decisions, cotangent)

    def _with_known(self, gradient: Values) -> Values:
        """A gradient in all columns of an outcome: zero in those that are known."""
        return np.concatenate((gradient, np.zeros((*gradient.shape[:-1], self.known_dim))), axis=-1)

    def _pull(self, scenarios: Values, decisions: Values, cotangent: Values) -> Values:
        """dF/dlevel (B, (D + S + K) T)."""
        pull = np.where((decisions > self.low) & (decisions < self.high), cotangent, 0.0)
        if self.action == "relative":
            forecast = self.forecast(scenarios[:, 0])
            pull = np.divide(pull, forecast, out=np.zeros_like(pull), where=forecast > 0)
        return pull
