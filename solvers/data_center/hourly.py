"""A fleet of AI data centers by the hour: the physics and the accounts of a day, one slot at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, in_double, in_numpy
from ..arrays import beyond as above
from ..base import ProblemError
from .decision_box import served_by_all
from .fleet import Fleet
from .hour import Hour, State, normalised, slices_of
from .instances import energy_per_load, power_of_work
from .level_loss import level_prices
from .problem import FleetProblem
from .protective_levels import quantile
from .settlement import LEVEL_TOLERANCE, MEASURES, REAL_TIME_MARKUP, TOLERANCE, beyond, meet

Values = NDArray[np.float64]
#: A sum, without the overhead of the method, which an hour's few numbers would pay twenty times.
_sum = np.add.reduce

ACTIONS = ("shares", "schedule")
#: Multiples of the last hour's requests and arrivals that capacity is prepared for.
MARGINS = (0.5, 3.0)
_HOUR = 3600.0
#: What is above a whole number of instances by less than this is rounding.
_ROUNDING = 1 - 1e-12


class DataCenterHour(FleetProblem):
    """One hour of a fleet: the physics of :class:`~shiftgym.solvers.data_center.DataCenter`, decided hour by hour.

    The outcome is R (D), Lambda (S), A (K), then what is known before: pi and kappa (D each), the same three as they
    were an hour ago (D + S + K), and the part of the day that is left after the hour, 0 in the last one.

    With ``action="shares"`` a decision is, in this order,

    ==========================================  ========  ==========
    routing of requests, by service and center  S D       [0, 1]
    routing of training work, by center         D         [0, 1]
    margin of each service and training class   S + K     [0.5, 3]
    part of the waiting work to run, by class   K         [0, 1]
    part of last hour's renewables to count on  D         [0, 1]
    battery: charge or discharge                D         [-1, 1]
    ==========================================  ========  ==========

    Routings are made to sum to one. Instances are those of the cheapest pair of each request class, whole ones at each
    center; capacity is prepared for the margins times what came an hour ago; work in its last hour always runs; the
    power that this plan needs beyond batteries and counted renewables is bought. With ``action="schedule"`` it is the
    hour's slice of a day-ahead schedule (:func:`~shiftgym.solvers.data_center.hour.slices`), whose hours settle to what
    it settles to as a day.

    Costs [1000 $], soft families and measures are those of the day, for the hour. :meth:`solve` and :meth:`perfect`
    are myopic: the cheapest centers first, up to what their grid and plants give, no battery, no waiting.

    Parameters
    ----------
    fleet : Fleet or mapping
        As in :class:`~shiftgym.solvers.data_center.DataCenter`.
    action : {"shares", "schedule"}
        What a decision is.
    integer : bool
        Whether instances are whole.
    promise : float
        Share of the scenarios that :meth:`solve` prepares each service, class and plant for.

    Raises
    ------
    ProblemError
        For a parameter outside its range.
    """

    actions = ACTIONS
    hard_families = ("bounds",)
    soft_families = ("power", "training", "inference")
    measures = MEASURES

    def __init__(
        self,
        fleet: Fleet | Mapping[str, Any] | None = None,
        action: str = "shares",
        integer: bool = True,
        promise: float = 0.95,
    ) -> None:
        super().__init__(fleet, action, integer, promise)
        self.units = {"bounds": "1", "power": "kWh", "training": "GPU h", "inference": "requests"}
        self._measure_fleet()
        rows = self._centers + self._services + self._classes
        self.uncertain_dim, self.known_dim = rows, 2 * self._centers + rows + 1
        self.outcome_dim = self.uncertain_dim + self.known_dim
        D, S, K = self._centers, self._services, self._classes
        self._columns_of = slices_of([D, S, K, D, D, D, S + K, 1])
        sizes = [int(np.prod(shape)) for shape in self._shapes]
        self._parts = slices_of(sizes)
        self._bound(*self._box(sizes))

    def _measure_fleet(self) -> None:
        """Constants of the fleet as arrays, which an hour's work is too short to ask for."""
        fleet, serving = self.fleet, self.fleet.serving
        self._centers, self._services, self._classes = fleet.size, len(fleet.services), len(fleet.classes)
        self._facility, self._gpu_power, self._reach = fleet.facility, fleet.gpu_power, fleet.reach
        limits = (fleet.grid_limit, fleet.training_capacity, fleet.inference_capacity)
        self._grid, self._training, self._inference = map(np.array, limits)
        # of charging and of discharging (2, D): most power, what a kW does to the charge, and how far that may go
        self._flow = np.array((fleet.charge_power, fleet.discharge_power))
        self._gain = np.array((fleet.charge_efficiency, -1 / np.array(fleet.discharge_efficiency)))
        self._signed = self._flow * [[1.0], [-1.0]]
        self._edge = np.outer(fleet.charge_range[::-1], fleet.battery)
        self._full = fleet.initial()
        order = np.lexsort((energy_per_load(serving), serving.klass))
        best = order[np.searchsorted(serving.klass[order], np.arange(len(serving.classes)))]
        # instances of the cheapest pairs per req/s of a service, and idle power and GPUs of an instance of each
        serves = serving.service_of[:, None] == np.arange(self._services)
        self._instances = serves * (serving.share / serving.capacity[best])[:, None]
        self._per_instance = np.stack((serving.idle_power[best], serving.gpus[best]))
        # the first pair of each class, the first class of each service, and its first pair
        services, classes = np.arange(self._services), np.arange(len(serving.classes))
        self._firsts = (
            np.searchsorted(serving.klass, classes),
            np.searchsorted(serving.service_of, services),
            np.searchsorted(serving.service, services),
        )
        #: kW of the cheapest pairs beyond their idle power, per request and second of a service
        self._adds = np.bincount(serving.service_of, serving.share * serving.dynamic_power[best])
        self._power_of_work = power_of_work(fleet)
        age = np.arange(fleet.reach + 1)
        self._due = age >= np.array(fleet.windows)[:, None]
        self._in_window = age <= np.array(fleet.windows)[:, None]
        D, S, K, P = self._centers, self._services, self._classes, serving.pairs
        if self.action == "shares":
            self._shapes: list[tuple[int, ...]] = [(S + 1, D), (S + K,), (K,), (D,), (D,)]
        else:
            self._shapes = [(K, fleet.reach + 1, D), (K, D), (P, D), (P, D), (D,), (2, D)]
        # what is late, short and refused is found in one go: tolerances, and where each begins
        self._begins = np.array((0, K * D, K * D + D))
        tolerances = np.repeat((TOLERANCE, TOLERANCE, LEVEL_TOLERANCE), (K * D, D, S), axis=0)
        self._relative, self._absolute = np.ascontiguousarray(tolerances.T)

    def _box(self, sizes: list[int]) -> tuple[Values, Values]:
        if self.action == "shares":
            lows, highs = [0.0, MARGINS[0], 0.0, 0.0, -1.0], [1.0, MARGINS[1], 1.0, 1.0, 1.0]
            return np.repeat(lows, sizes), np.repeat(highs, sizes)
        most = (1.0, self._training, served_by_all(self.fleet).max(), self._inference / 2, self._grid, self._flow)
        rows = zip(most, self._shapes, strict=True)
        high = np.concatenate([np.broadcast_to(limit, shape).ravel() for limit, shape in rows])
        return np.zeros_like(high), high

    # ------------------------------------------------------------------ the parts of arrays
    def _told(self, outcomes: Values) -> list[Values]:
        """R, Lambda, A; pi, kappa; R, and Lambda with A, an hour ago; part of the day that is left."""
        return [outcomes[..., part] for part in self._columns_of]

    @property
    def state_dim(self) -> int:
        """D, and twice the training work of the last hours."""
        return self._centers + 2 * self._classes * self._reach

    def initial_state(self) -> Values:
        """The state (S,) before the first hour: batteries as the fleet says, no work."""
        return np.concatenate((self._full, np.zeros(self.state_dim - self._centers)))

    def _queues(self, states: Values) -> Values:
        """Training work (..., 2, K, W - 1) of the last hours in states: what came, and the part of it that waits."""
        return states[..., self._centers :].reshape(*states.shape[:-1], 2, self._classes, self._reach)

    def _state(self, states: Values, left: Values) -> State:
        """State, and what the part of the day that is left (..., 1) makes of it."""
        last, ending, any_last = left <= 0, self._due, None
        if np.count_nonzero(last):
            any_last = last
            if not self.fleet.carry_over:
                ending = self._due | last[..., None]
        queues = self._queues(states)
        waiting = np.empty((*states.shape[:-1], self._classes, self._reach + 1))
        waiting[..., 0], waiting[..., 1:] = 1.0, queues[..., 1, :, :]
        return State(states[..., : self._centers], queues[..., 0, :, :], waiting, ending, any_last)

    # ------------------------------------------------------------------ decisions
    def _hour(self, decisions: Values, told: list[Values], state: State) -> Hour:
        lead = decisions.shape[:-1]
        parts = [
            decisions[..., part].reshape(*lead, *shape) for part, shape in zip(self._parts, self._shapes, strict=True)
        ]
        if self.action == "shares":
            return self._of_shares(parts, told, state)
        return self._of_slice(parts, state)

    def _of_shares(self, parts: list[Values], told: list[Values], state: State) -> Hour:
        routing, margin, release, count, battery = parts
        S, routing, planned = self._services, normalised(routing), margin * told[6]
        level = planned[..., :S]
        load = routing[..., :S, :] * level[..., None]
        instances = self._instances @ load
        if self.integer:
            instances = np.ceil(instances * _ROUNDING)
        drawn = self._per_instance @ instances
        idle, used = drawn[..., 0, :], drawn[..., 1, :]
        if np.count_nonzero(used > self._inference):
            fits = np.minimum(1.0, self._inference / np.maximum(used, 1e-9))
            load, idle = load * fits[..., None, :], idle * fits
            level = _sum(load, -1)
        run = np.where(state.ending, state.waiting, release[..., None] * state.waiting)
        split = routing[..., S:, :]
        before = np.vecdot(run[..., 1:], state.recent)
        reserved = self._fitting((before + run[..., 0] * planned[..., S:])[..., None] * split)
        net, charge = self._stored(np.maximum(self._signed * battery[..., None, :], 0.0), state)
        dynamic = self._adds[:, None] * load
        power = self._facility * (self._gpu_power @ reserved + idle + _sum(dynamic, -2))
        purchase = np.minimum(np.maximum(power + net - count * told[5], 0.0), self._grid)
        before, now = before[..., None] * split, run[..., :1] * split
        return Hour(before, now, run, reserved, idle, dynamic, level, power, purchase, net, charge)

    def _of_slice(self, parts: list[Values], state: State) -> Hour:
        shares, reserved, load, instances, purchase, flow = parts
        serving = self.fleet.serving
        gpus = serving.gpus.astype(float) @ instances
        instances = instances * np.minimum(1.0, self._inference / np.maximum(gpus, 1e-9))[..., None, :]
        load = np.minimum(load, instances * serving.capacity[:, None])
        of_class, of_service, pairs_of_service = self._firsts
        per_class = np.add.reduceat(_sum(load, -1), of_class, axis=-1)
        level = np.minimum.reduceat(per_class / serving.share, of_service, axis=-1)
        dynamic = np.add.reduceat(serving.dynamic_power[:, None] * load, pairs_of_service, axis=-2)
        asked = _sum(shares * self._in_window[..., None], -1)
        run = np.minimum(asked, state.waiting)
        shares = shares * (run / np.maximum(asked, 1e-12))[..., None]
        before = (state.recent[..., None, :] @ shares[..., 1:, :])[..., 0, :]
        reserved = self._fitting(reserved)
        net, charge = self._stored(flow - flow.min(-2, keepdims=True), state)
        idle = serving.idle_power @ instances
        power = self._facility * (self._gpu_power @ reserved + idle + _sum(dynamic, -2))
        now = shares[..., 0, :]
        return Hour(before, now, run, reserved, idle, dynamic, level, power, purchase, net, charge)

    def _fitting(self, reserved: Values) -> Values:
        """Training GPUs (..., K, D) scaled down to what centers have, (3b)."""
        used = _sum(reserved, -2)
        if not np.count_nonzero(used > self._training):
            return reserved
        return reserved * np.minimum(1.0, self._training / np.maximum(used, 1e-9))[..., None, :]

    def _stored(self, flow: Values, state: State) -> tuple[Values, Values]:
        """Net power and charge (..., D) after as much of charge and discharge (..., 2, D) as batteries can do.

        The last hour of a cyclic day brings them back.
        """
        charge = state.charge[..., None, :]
        flow = np.minimum(flow, np.maximum((self._edge - charge) / self._gain, 0.0))
        if state.last is not None and self.fleet.terminal == "cyclic":
            change = self._full - state.charge
            amiss = np.abs(change - _sum(self._gain * flow, -2)) > 1e-6 * (1 + self._full)
            back = np.clip(change[..., None, :] / self._gain, 0.0, self._flow)
            flow = np.where((state.last & amiss)[..., None, :], back, flow)
        return flow[..., 0, :] - flow[..., 1, :], state.charge + _sum(self._gain * flow, -2)

    # ------------------------------------------------------------------ the hour
    def _settled(self, outcomes: Values, decisions: Values, previous: Values | None) -> Values:
        """Cost, measures, soft families and next state (..., width) of hours whose leading axes broadcast."""
        lead = decisions.shape[:-1]
        if outcomes.shape[:-1] != lead:
            lead = np.broadcast_shapes(lead, outcomes.shape[:-1])
        told = self._told(outcomes)
        state = self._state(self.known_state(previous, lead), told[-1])
        hour = self._hour(decisions, told, state)
        result = np.empty((*lead, 1 + len(self.measures) + len(self.soft_families) + self.state_dim))
        self._account(hour, told, state, result)
        self._after(hour, told[2], state, result[..., -self.state_dim :])
        return result

    def _account(self, hour: Hour, told: list[Values], state: State, result: Values) -> None:
        """Write cost, measures and soft families."""
        sun, requests, arrivals, prices, carbon = told[:5]
        asked = hour.before + hour.now * arrivals[..., None]
        work = np.minimum(asked, hour.reserved)
        served = np.minimum(1.0, requests / np.maximum(hour.level, 1e-12))
        dynamic = (served[..., None, :] @ hour.dynamic)[..., 0, :]
        metered = self._facility * (self._gpu_power @ work + hour.idle + dynamic)
        supply = meet(metered + hour.net, sun, hour.purchase, self._grid)
        lead = result.shape[:-1]
        found = np.concatenate((asked.reshape(*lead, -1), hour.power, requests), axis=-1)
        limit = (hour.reserved.reshape(*lead, -1), hour.purchase + sun - hour.net, hour.level)
        over = beyond(found, np.concatenate(limit, axis=-1), self._relative, self._absolute)
        broken = np.add.reduceat(over, self._begins, axis=-1)  # late, short, refused
        if self.action == "schedule":  # nobody asked for what is due
            unasked = np.where(state.ending, state.waiting - hour.run, 0.0)
            unasked[..., 0] *= arrivals
            unasked[..., 1:] *= state.recent
            broken[..., 0] += _sum(above(unasked, 1e-3), (-2, -1))
        late, short, refused = broken[..., 0], broken[..., 1], _HOUR * broken[..., 2]
        rate = prices + self.fleet.carbon_price * carbon
        committed, emitted = np.vecdot(rate, hour.purchase), np.vecdot(carbon, hour.purchase)
        result[..., 0] = committed + np.vecdot(rate + REAL_TIME_MARKUP * np.abs(prices), supply.imported)
        result[..., 1] = committed
        result[..., 2] = emitted + np.vecdot(carbon, supply.imported)
        result[..., 3] = emitted
        result[..., :4] /= 1e3
        table = np.empty((*lead, 4, self._centers))
        for place, part in enumerate(supply):
            table[..., place, :] = part
        _sum(table, -1, out=result[..., 4:8])
        result[..., 8] = result[..., 12] = late
        result[..., 9] = result[..., 13] = refused
        dry = over[..., self._begins[1] : self._begins[2]] > 0
        result[..., 10], result[..., 11] = _sum(dry, -1) / self._centers, short

    def _after(self, hour: Hour, arrivals: Values, state: State, after: Values) -> None:
        """Write charge, and the training work of the last hours, as they are after the hour."""
        after[..., : self._centers] = hour.charge
        waits = np.where(state.ending, 0.0, np.maximum(state.waiting - hour.run, 0.0))
        queues = self._queues(after)  # a view
        queues[..., 0, :, 0], queues[..., 0, :, 1:] = arrivals, state.recent[..., :-1]
        queues[..., 1, :, :] = waits[..., : self._reach]

    # ------------------------------------------------------------------ training
    def objective(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """Settled cost and the price of what was left undone [1000 $], of which the settled cost knows nothing.

        A unit that is missing is charged with its price over 1 - promise, as a level of a day is that is broken (see
        :mod:`~shiftgym.solvers.data_center.level_loss`): what it pays to keep ready is then a quantile at the promise.
        """
        judged, price = self.judge(outcomes, decisions, previous), in_numpy(self._prices_of_undone, outcomes)
        undone = sum(price[..., i] * judged.shortfall[family] for i, family in enumerate(self.soft_families))
        return judged.cost + undone / self._tail

    def _prices_of_undone(self, outcomes: Values) -> Values:
        """Price (..., 3) [1000 $] of a kWh, a GPU h and a request, those of the dearest center, class and service."""
        told, D, S = self._told(outcomes), self._centers, self._services
        rate = told[3] + self.fleet.carbon_price * told[4]
        price = level_prices(self.fleet, rate[..., None])[..., 0]
        power, requests, work = (part.max(-1) for part in np.split(price, [D, D + S], axis=-1))
        return np.stack((power, work, requests / _HOUR), axis=-1)

    # ------------------------------------------------------------------ deciding
    def perfect(self, outcomes: Array, previous: Array | None = None) -> Array:
        """The myopic decision for what will come."""
        return in_numpy(lambda y: self._myopic(np.asarray(y, float)[..., : self.uncertain_dim], y), outcomes)

    def solve(self, scenarios: Array, weights: Array | None = None) -> Array:
        """Myopic decisions (B, d) for levels that withstand the share ``promise`` of the scenarios, one by one."""
        self.check_scenarios(scenarios, weights)
        return in_numpy(in_double(self._solve), scenarios, weights)

    def _solve(self, scenarios: Values, weights: Values | None) -> Values:
        mass = self._mass(scenarios, weights)
        sign = np.where(np.arange(self.uncertain_dim) < self._centers, -1.0, 1.0)  # of a plant the lower quantile
        levels = sign * quantile(sign * scenarios[..., : self.uncertain_dim], mass, self.promise)
        return self._myopic(levels, scenarios[:, 0])

    def _myopic(self, levels: Values, known: Values) -> Values:
        """Decisions (..., d): centers in the order of their price of work, each up to the power that it has."""
        if self.action != "shares":
            raise ProblemError("an hour's slice comes from a day-ahead schedule: use action='shares', or slices()")
        D, S, K = self._centers, self._services, self._classes
        told = self._told(known)
        sun, wanted = levels[..., :D], levels[..., D:]
        before = told[6]
        margin = np.divide(wanted, before, out=np.ones_like(wanted), where=before > 0)
        price = (told[3] + self.fleet.carbon_price * told[4]) * self._facility
        room = (self._grid + sun) / self._facility
        need = wanted @ self._power_of_work
        order = np.argsort(price, axis=-1)
        room = np.take_along_axis(room, order, -1)
        taken = np.clip(need[..., None] - (np.cumsum(room, axis=-1) - room), 0.0, room)
        power = np.empty_like(taken)
        np.put_along_axis(power, order, taken, -1)
        route = normalised(power)
        count = np.divide(sun, told[5], out=np.zeros_like(sun), where=told[5] > 0)
        rest = np.zeros(D)
        lead = route.shape[:-1]
        parts = (np.repeat(route[..., None, :], S + 1, -2), margin, np.ones((*lead, K)), count, rest)
        flat = [
            np.broadcast_to(part, (*lead, *shape)).reshape(*lead, int(np.prod(shape)))
            for part, shape in zip(parts, self._shapes, strict=True)
        ]
        return np.clip(np.concatenate(flat, axis=-1), self.low, self.high)

    def planned_power(self, decisions: Values, outcomes: Values) -> Values:
        """Facility power (...) [kW] that decisions plan for, at the mean PUE."""
        parts = [decisions[..., part] for part in self._parts]
        if self.action == "shares":
            gpus = (parts[1] * self._told(outcomes)[6]) @ self._power_of_work
        else:
            serving, lead = self.fleet.serving, decisions.shape[:-1]
            reserved, load, instances = (_sum(part.reshape(*lead, -1, self._centers), -1) for part in parts[1:4])
            gpus = reserved @ self._gpu_power + load @ serving.dynamic_power + instances @ serving.idle_power
        power: Values = gpus * self._facility.mean()
        return power
