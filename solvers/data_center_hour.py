"""A fleet of AI data centers by the hour: the physics and the accounts of a day, one slot at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.errors import UnknownNameError
from .arrays import Array, in_double, largest, masses, nothing, on_numpy
from .arrays import beyond as above
from .base import Adjoint, DecisionProblem, ProblemError
from .decision_box import served_by_all
from .fleet import Fleet
from .hour import Hour, State, normalised, prepended, slices_of
from .instances import energy_per_load, power_of_work
from .protective_levels import quantile
from .settlement import MEASURES, REAL_TIME_MARKUP, beyond, meet

Values = NDArray[np.float64]
#: A sum, without the overhead of the method, which an hour's few numbers would pay twenty times.
_sum = np.add.reduce

ACTIONS = ("shares", "schedule")
#: Multiples of the last hour's requests and arrivals that capacity is prepared for.
MARGINS = (0.5, 3.0)
_HOUR, _LEVEL = 3600.0, 1e-6


class DataCenterHour(DecisionProblem):
    """One hour of a fleet: the physics of :class:`~shiftgym.solvers.data_center.DataCenter`, decided hour by hour.

    The outcome is R (D), Lambda (S), A (K), then what is known before: pi and kappa (D each), the same three as they
    were an hour ago (D + S + K), and the part of the day that is left after the hour, 0 in the last one.

    With ``action="shares"`` a decision is, in this order,

    ==========================================  ========  ==========
    routing of requests, by service and center  S D       [0, 1]
    margin of each service and training class   S + K     [0.5, 3]
    routing of training work, by center         D         [0, 1]
    part of the waiting work to run, by class   K         [0, 1]
    part of last hour's renewables to count on  D         [0, 1]
    battery: charge or discharge                D         [-1, 1]
    ==========================================  ========  ==========

    Routings are made to sum to one. Instances are those of the cheapest pair of each request class, whole ones at each
    center; capacity is prepared for the margins times what came an hour ago; work in its last hour always runs; the
    power that this plan needs beyond batteries and counted renewables is bought. With ``action="schedule"`` it is the
    hour's slice of a day-ahead schedule (:func:`~shiftgym.solvers.hour.slices`), whose hours settle to what it settles
    to as a day.

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

    outcome_low = 0.0
    stateful = True
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
        if action not in ACTIONS:
            raise UnknownNameError("action", action, ACTIONS)
        if not isinstance(integer, bool):
            raise ProblemError(f"integer is {integer!r}: give True for whole instances, or False")
        if not 0 < promise <= 1:
            raise ProblemError(f"promise is {promise}: give a share in (0, 1]")
        given = fleet.to_dict() if isinstance(fleet, Fleet) else dict(fleet or {})
        self.fleet = fleet if isinstance(fleet, Fleet) else Fleet.from_dict(given)
        self._parameters = {"fleet": given, "action": action, "integer": integer, "promise": promise}
        self.action, self.integer, self.promise = action, integer, float(promise)
        self.units = {"bounds": "1", "power": "kWh", "training": "GPU h", "inference": "requests"}
        self._measure_fleet()
        rows = self._centers + self._services + self._classes
        self.uncertain_dim, self.known_dim = rows, 2 * self._centers + rows + 1
        self.outcome_dim = self.uncertain_dim + self.known_dim
        sizes = [int(np.prod(shape)) for shape in self._shapes.values()]
        self._parts, D = slices_of(sizes), self._centers
        self._columns_of = slices_of([D, self._services, self._classes, D, D, D, self._services, self._classes, 1])
        self.low, self.high = self._box(sizes)
        self._inside = self.low - self.tolerance, self.high + self.tolerance
        self.decision_dim = len(self.low)
        self._memo: tuple[Any, ...] = (None, None, None, None)

    def _measure_fleet(self) -> None:
        """Constants of the fleet as arrays, which an hour's work is too short to ask for."""
        fleet, serving = self.fleet, self.fleet.serving
        self._centers, self._services, self._classes = fleet.size, len(fleet.services), len(fleet.classes)
        self._facility, self._gpu_power = fleet.facility, fleet.gpu_power
        self._limits = tuple(
            np.array(getattr(fleet, name))
            for name in ("grid_limit", "training_capacity", "inference_capacity", "charge_power", "discharge_power")
        )
        self._gain, self._loss = np.array(fleet.charge_efficiency), 1 / np.array(fleet.discharge_efficiency)
        self._least, self._most = (edge * np.array(fleet.battery) for edge in fleet.charge_range)
        self._full, self._all = fleet.initial(), np.ones(self._classes)
        order = np.lexsort((energy_per_load(serving), serving.klass))
        best = order[np.searchsorted(serving.klass[order], np.arange(len(serving.classes)))]
        # instances of the cheapest pairs per req/s of a service, and idle power and GPUs of an instance of each
        serves = serving.service_of[:, None] == np.arange(self._services)
        self._instances = serves * (serving.share / serving.capacity[best])[:, None]
        self._per_instance = np.stack((serving.idle_power[best], serving.gpus[best]))
        #: kW of the cheapest pairs beyond their idle power, per request and second of a service
        self._adds = np.bincount(serving.service_of, serving.share * serving.dynamic_power[best])
        self._power_of_work = power_of_work(fleet)
        self._share, self._of = serving.share, serving.service_of
        self._first = np.searchsorted(self._of, np.arange(self._services))
        age = np.arange(fleet.reach + 1)
        self._due = age >= np.array(fleet.windows)[:, None]
        self._in_window = age <= np.array(fleet.windows)[:, None]
        K, D, W, P = self._classes, self._centers, fleet.reach + 1, serving.pairs
        S = self._services
        if self.action == "shares":
            self._shapes = {"route": (S, D), "margin": (S + K,), "work": (D,), "release": (K,), "count": (D,)}
            self._shapes["battery"] = (D,)
        else:
            self._shapes = {"shares": (K, W, D), "reserved": (K, D), "load": (P, D), "instances": (P, D)}
            self._shapes |= dict.fromkeys(("purchase", "charge", "discharge"), (D,))

    def _box(self, sizes: list[int]) -> tuple[Values, Values]:
        if self.action == "shares":
            lows, highs = [0.0, MARGINS[0], 0.0, 0.0, 0.0, -1.0], [1.0, MARGINS[1], 1.0, 1.0, 1.0, 1.0]
            return np.repeat(lows, sizes), np.repeat(highs, sizes)
        grid, training, inference, into, out = self._limits
        limits = (1.0, training, served_by_all(self.fleet).max(), inference / 2, grid, into, out)
        rows = zip(limits, self._shapes.values(), strict=True)
        high = np.concatenate([np.broadcast_to(limit, shape).ravel() for limit, shape in rows])
        return np.zeros_like(high), high

    def parameters(self) -> dict[str, Any]:
        """The constructor's keywords."""
        return dict(self._parameters)

    # ------------------------------------------------------------------ the parts of arrays
    def _told(self, outcomes: Values) -> list[Values]:
        """R, Lambda, A; pi, kappa; R, Lambda, A an hour ago; part of the day that is left."""
        return [outcomes[..., part] for part in self._columns_of]

    @property
    def state_dim(self) -> int:
        """D, and twice the training work of the last hours."""
        return self._centers + 2 * self._classes * self.fleet.reach

    def known_state(self, previous: Array | None, shape: tuple[int, ...] = ()) -> Values:
        """States (..., S) with that before the first hour in place of those that are NaN or not given."""
        if previous is not None and not np.isnan(previous[..., 0]).any():
            return previous
        start = np.concatenate((self._full, np.zeros(self.state_dim - self._centers)))
        if previous is None:
            return np.broadcast_to(start, (*shape, len(start)))
        return np.where(np.isnan(previous), start, previous)

    def _state(self, states: Values, left: Values) -> State:
        """State, and what the part of the day that is left (..., 1) makes of it."""
        D, K = self._centers, self._classes
        last = left <= 0
        any_last = last if last.any() else None
        ending = self._due if any_last is None or self.fleet.carry_over else self._due | last[..., None]
        queues = states[..., D:].reshape(*states.shape[:-1], 2, K, -1)
        return State(
            states[..., :D], queues[..., 0, :, :], prepended(self._all, queues[..., 1, :, :]), ending, any_last
        )

    # ------------------------------------------------------------------ decisions
    def _hour(self, decisions: Values, told: list[Values], state: State) -> Hour:
        lead, shapes = decisions.shape[:-1], self._shapes.values()
        parts = [decisions[..., part].reshape(*lead, *shape) for part, shape in zip(self._parts, shapes, strict=True)]
        if self.action == "shares":
            return self._of_shares(parts, told, state)
        return self._of_slice(parts, state)

    def _of_shares(self, parts: list[Values], told: list[Values], state: State) -> Hour:
        route, margin, work, release, count, battery = parts
        sun, requests, arrivals = told[5:8]
        level = margin[..., : self._services] * requests
        load = normalised(route) * level[..., None]
        instances = self._instances @ load
        if self.integer:
            instances = np.ceil(instances - 1e-9)
        drawn = self._per_instance @ instances
        idle, used = drawn[..., 0, :], drawn[..., 1, :]
        if (used > self._limits[2]).any():
            fits = np.minimum(1.0, self._limits[2] / np.maximum(used, 1e-9))
            load, idle = load * fits[..., None, :], idle * fits
        dynamic = self._adds[:, None] * load
        amounts = prepended(margin[..., self._services :] * arrivals, state.recent)
        run = np.where(state.ending, 1.0, release[..., None]) * state.waiting
        split = normalised(work)[..., None, :]
        reserved = self._fitting(_sum(run * amounts, -1)[..., None] * split)
        into = np.maximum(battery, 0.0) * self._limits[3]
        out = np.maximum(-battery, 0.0) * self._limits[4]
        into, out = self._stored(into, out, state)
        power = self._facility * (self._gpu_power @ reserved + idle + _sum(dynamic, -2))
        purchase = np.minimum(np.maximum(power + into - out - count * sun, 0.0), self._limits[0])
        shares = run[..., None] * split[..., None, :]
        return Hour(shares, run, reserved, idle, dynamic, _sum(load, -1), power, purchase, into, out)

    def _of_slice(self, parts: list[Values], state: State) -> Hour:
        shares, reserved, load, instances, purchase, into, out = parts
        serving = self.fleet.serving
        gpus = serving.gpus.astype(float) @ instances
        instances = instances * np.minimum(1.0, self._limits[2] / np.maximum(gpus, 1e-9))[..., None, :]
        load = np.minimum(load, instances * serving.capacity[:, None])
        per_class = np.add.reduceat(
            _sum(load, -1), np.searchsorted(serving.klass, np.arange(len(self._share))), axis=-1
        )
        level = np.minimum.reduceat(per_class / self._share, self._first, axis=-1)
        power = serving.dynamic_power[:, None] * load
        dynamic = np.add.reduceat(power, np.searchsorted(serving.service, np.arange(self._services)), axis=-2)
        asked = _sum(shares * self._in_window[..., None], -1)
        run = np.minimum(asked, state.waiting)
        shares = shares * (run / np.maximum(asked, 1e-12))[..., None]
        reserved = self._fitting(reserved)
        both = np.minimum(into, out)
        into, out = self._stored(into - both, out - both, state)
        idle = serving.idle_power @ instances
        power = self._facility * (self._gpu_power @ reserved + idle + _sum(dynamic, -2))
        return Hour(shares, run, reserved, idle, dynamic, level, power, purchase, into, out)

    def _fitting(self, reserved: Values) -> Values:
        """Training GPUs (..., K, D) scaled down to what centers have, (3b)."""
        used, limit = _sum(reserved, -2), self._limits[1]
        if not (used > limit).any():
            return reserved
        return reserved * np.minimum(1.0, limit / np.maximum(used, 1e-9))[..., None, :]

    def _stored(self, into: Values, out: Values, state: State) -> tuple[Values, Values]:
        """Charge and discharge that the battery can do; the last hour of a cyclic day brings it back."""
        charge = state.charge
        into = np.minimum(into, np.maximum((self._most - charge) / self._gain, 0.0))
        out = np.minimum(out, np.maximum((charge - self._least) / self._loss, 0.0))
        if state.last is not None and self.fleet.terminal == "cyclic":
            change = self._full - charge
            off = state.last & (np.abs(change - self._gain * into + self._loss * out) > 1e-6 * (1 + self._full))
            into = np.where(off, np.clip(change / self._gain, 0.0, self._limits[3]), into)
            out = np.where(off, np.clip(-change / self._loss, 0.0, self._limits[4]), out)
        return into, out

    # ------------------------------------------------------------------ the hour
    def _settled(self, outcomes: Values, decisions: Values, previous: Values | None) -> Values:
        """Cost, measures, soft families and next state (..., width) of hours whose leading axes broadcast."""
        if self._memo[0] is outcomes and self._memo[1] is decisions and self._memo[2] is previous:
            found: Values = self._memo[3]
            return found
        lead = decisions.shape[:-1]
        if outcomes.shape[:-1] != lead:
            lead = np.broadcast_shapes(lead, outcomes.shape[:-1])
        told = self._told(outcomes)
        state = self._state(self.known_state(previous, lead), told[-1])
        hour = self._hour(decisions, told, state)
        result = np.empty((*lead, 1 + len(self.measures) + len(self.soft_families) + self.state_dim))
        amounts = prepended(told[2], state.recent)
        self._account(hour, told, state, amounts, result)
        self._after(hour, state, amounts, result[..., -self.state_dim :])
        self._memo = (outcomes, decisions, previous, result)
        return result

    def _account(self, hour: Hour, told: list[Values], state: State, amounts: Values, result: Values) -> None:
        """Write cost, measures and soft families."""
        sun, requests, _, prices, carbon = told[:5]
        asked = (amounts[..., None, :] @ hour.shares)[..., 0, :]
        work, late = np.minimum(asked, hour.reserved), _sum(beyond(asked, hour.reserved), (-2, -1))
        if self.action == "schedule":  # of which nobody asked for what is due
            unasked = np.where(state.ending, state.waiting - hour.run, 0.0)
            late = late + _sum(above(unasked * amounts, 1e-3), (-2, -1))
        served = np.minimum(1.0, requests / np.maximum(hour.level, 1e-12))
        metered = self._facility * (self._gpu_power @ work + hour.idle + _sum(served[..., None] * hour.dynamic, -2))
        battery = hour.discharge - hour.charge
        supply = meet(metered - battery, sun, hour.purchase, self._limits[0])
        short = beyond(hour.power, hour.purchase + sun + battery)
        rate = prices + self.fleet.carbon_price * carbon
        committed = rate * hour.purchase
        emitted = carbon * hour.purchase
        table = np.empty((*short.shape[:-1], 10, self._centers))
        table[..., 0, :] = committed + (rate + REAL_TIME_MARKUP * np.abs(prices)) * supply.imported
        table[..., 1, :] = committed
        table[..., 2, :] = emitted + carbon * supply.imported
        table[..., 3, :] = emitted
        for place, part in enumerate(supply, 4):
            table[..., place, :] = part
        table[..., 8, :], table[..., 9, :] = short > 0, short
        totals = _sum(table, -1)
        result[..., :4], result[..., 4:8] = totals[..., :4] / 1e3, totals[..., 4:8]
        result[..., 8] = result[..., 12] = late
        result[..., 9] = result[..., 13] = _sum(beyond(requests, hour.level, _LEVEL, 0.0), -1) * _HOUR
        result[..., 10], result[..., 11] = totals[..., 8] / self._centers, totals[..., 9]

    def _after(self, hour: Hour, state: State, amounts: Values, after: Values) -> None:
        """Write charge, and the training work of the last hours, as they are after the hour."""
        D, K, reach = self._centers, self._classes, self.fleet.reach
        after[..., :D] = state.charge + self._gain * hour.charge - self._loss * hour.discharge
        waits = np.maximum(state.waiting - hour.run, 0.0)
        left = np.where(state.ending, 0.0, waits)[..., :reach]
        queues = after[..., D:].reshape(*after.shape[:-1], 2, K, reach)
        queues[..., 0, :, :], queues[..., 1, :, :] = amounts[..., :reach], left
        after[..., D:] = queues.reshape(*after.shape[:-1], -1)

    def _columns(self, outcomes: Array, decisions: Array, previous: Array | None, columns: Any) -> Any:
        if isinstance(outcomes, np.ndarray):
            return self._settled(outcomes, decisions, previous)[..., columns]
        if outcomes.requires_grad or decisions.requires_grad:
            raise ProblemError(_NO_GRADIENT)
        return on_numpy(lambda *arrays: self._settled(*arrays)[..., columns], outcomes, decisions, previous)

    def cost(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """Settled cost of the hour [1000 $], shape (...)."""
        return self._columns(outcomes, decisions, previous, 0)

    def measure(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> dict[str, Array]:
        """What the hour brought; see :class:`~shiftgym.solvers.data_center.DataCenter`."""
        found = self._columns(outcomes, decisions, previous, slice(1, 1 + len(self.measures)))
        return {name: found[..., i] for i, name in enumerate(self.measures)}

    def shortfall(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> dict[str, Array]:
        """What the hour showed the plan to lack."""
        first = 1 + len(self.measures)
        found = self._columns(outcomes, decisions, previous, slice(first, first + len(self.soft_families)))
        return {name: found[..., i] for i, name in enumerate(self.soft_families)}

    def carry(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """The state after the hour."""
        return self._columns(outcomes, decisions, previous, slice(-self.state_dim, None))

    # ------------------------------------------------------------------ constraints
    def project(self, decisions: Array) -> Array:
        """Clip to the bounds what leaves them by more than the tolerance."""
        return on_numpy(self._clip, decisions)

    def _clip(self, decisions: Values) -> Values:
        inside = (decisions >= self._inside[0]) & (decisions <= self._inside[1])
        return decisions if inside.all() else np.where(inside, decisions, np.clip(decisions, self.low, self.high))

    def excess(self, decisions: Array, feasible: Array) -> dict[str, Array]:
        """``bounds``: the largest distance of an entry outside the box."""
        if feasible is decisions:
            return {"bounds": nothing(decisions)}
        return {"bounds": largest(above(abs(decisions - feasible), self.tolerance))}

    # ------------------------------------------------------------------ deciding
    def perfect(self, outcomes: Array, previous: Array | None = None) -> Array:
        """The myopic decision for what will come."""
        return on_numpy(lambda y: self._myopic(np.asarray(y, float)[..., : self.uncertain_dim], y), outcomes)

    def solve(self, scenarios: Array, weights: Array | None = None) -> Array:
        """Myopic decisions (B, d) for levels that withstand the share ``promise`` of the scenarios, one by one."""
        self.check_scenarios(scenarios, weights)
        return on_numpy(in_double(self._solve), scenarios, weights)

    def _solve(self, scenarios: Values, weights: Values | None) -> Values:
        mass = np.broadcast_to(masses(scenarios, weights), scenarios.shape[:2])
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
        before = np.concatenate((told[6], told[7]), axis=-1)
        margin = np.divide(wanted, before, out=np.ones_like(wanted), where=before > 0)
        price = (told[3] + self.fleet.carbon_price * told[4]) * self._facility
        room = (self._limits[0] + sun) / self._facility
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
        parts = (np.repeat(route[..., None, :], S, -2), margin, route, np.ones((*lead, K)), count, rest)
        flat = [
            np.broadcast_to(part, (*lead, *shape)).reshape(*lead, int(np.prod(shape)))
            for part, shape in zip(parts, self._shapes.values(), strict=True)
        ]
        return np.clip(np.concatenate(flat, axis=-1), self.low, self.high)

    def planned_power(self, decisions: Values, outcomes: Values) -> Values:
        """Facility power (...) [kW] that decisions plan for, at the mean PUE."""
        parts = [decisions[..., part] for part in self._parts]
        if self.action == "shares":
            before = self._told(outcomes)
            gpus = (parts[1] * np.concatenate((before[6], before[7]), axis=-1)) @ self._power_of_work
        else:
            serving, lead = self.fleet.serving, decisions.shape[:-1]
            reserved, load, instances = (_sum(part.reshape(*lead, -1, self._centers), -1) for part in parts[1:4])
            gpus = reserved @ self._gpu_power + load @ serving.dynamic_power + instances @ serving.idle_power
        power: Values = gpus * self._facility.mean()
        return power

    def adjoint(self, scenarios: Array, decisions: Array, cotangent: Array, weights: Array | None = None) -> Adjoint:
        """Not available: raises :class:`ProblemError`."""
        raise ProblemError(_NO_GRADIENT)


_NO_GRADIENT = (
    "DataCenterHour gives no gradient of its cost: instances are whole and limits cut; fit an agent that needs none, "
    "such as persistence, residual-saa or two-stage"
)
