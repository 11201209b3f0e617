"""The day-ahead schedule of a fleet: robust to a box, an ellipsoid or scenarios, built once and solved day by day.

| symbol | here |
|---|---|
| pi + c kappa | ``prices`` [$/kWh] |
| R^low, Lambda-bar, A-bar | :class:`Levels` |
| x, C, lambda, n, P^g, P^ch, P^dis | :class:`Schedule` |
| E^0, B | ``charge`` [kWh], ``backlog`` [GPU h] |

Source: (1a) to (16c) of "Contextual Robust Optimization for AI Data Center Scheduling with Statistical Guarantees",
with the planned arrival levels, the load limits rho-bar and the exact reduction (15c') of this project's specification.
The model as it is written there is :mod:`.day_ahead_reference`; here it is reduced, without loss: training to a queue
(:mod:`.training_queue`), inference to its power (:mod:`.center_program`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..programs import load as load_program
from ..sparse import Point, Program, Vector, Vectors
from .center_program import OVERDRAFT_PRICE, center_program, center_vectors, settled_storage
from .column_generation import route
from .fleet import Fleet
from .instances import Cover, cover, place, relaxed_cover, routed_cover
from .scenario_program import Scenarios, scenario_levels
from .schedule import Day, Decided, Given, Levels, Schedule, check_array, planned_power, routed_level
from .second_order import SecondOrder, robust_shares
from .share_program import add_queue
from .training_queue import executed, first_in_first_out, queue

__all__ = ["DayAhead", "Levels", "Schedule"]


#: Centers beyond which a new day is solved from nothing, which takes half as long as from the day before.
_LARGE = 300
#: Relative gap from which on whole instances are routed anew where GPUs are scarce, and how often at most.
_WORTH, _ATTEMPTS = 1e-3, 5


class Placed(NamedTuple):
    """Instances and load (P, D, T), instances (P, T) without a place, and slots (T,) in which GPUs are scarce."""

    instances: Vector
    load: Vector
    left: Vector
    scarce: NDArray[np.bool_]


class DayAhead:
    """Schedules for a fleet, day after day: the program is built once, later days start from the last solution.

    Instances are rounded up and fixed, and the rest is solved again: the *ceil-and-fix* rule. Rounding is over the
    whole fleet (:func:`shiftgym.solvers.data_center.instances.cover`), not per center, so that its cost does not grow
    with D, and the certified bound of a schedule holds for whole instances too.

    Parameters
    ----------
    fleet : Fleet
        Sites and limits.
    solver : {"auto", "gurobi", "highs", "clarabel"}
        What solves the programs, see :func:`shiftgym.solvers.backend.choose`; which one it was, and why, is in
        ``backend`` and in each schedule.
    integer : bool
        Whether instances are whole; otherwise the linear relaxation is solved, whose cost is a lower bound.
    """

    def __init__(self, fleet: Fleet, solver: str = "auto", integer: bool = True) -> None:
        self.fleet, self.solver, self.integer = fleet, solver, integer
        self.serving = fleet.serving
        self._program = _box_program(fleet)
        self._solver, self.backend = load_program(self._program, solver)
        self._anchored = False

    def plan(
        self,
        prices: Vector,
        levels: Levels,
        charge: Vector | None = None,
        backlog: Vector | None = None,
        training: SecondOrder | None = None,
    ) -> Schedule:
        """Cheapest schedule that withstands the levels.

        Parameters
        ----------
        prices : array, shape (D, T) or (D, T + tail)
            Price of energy including that of its carbon, pi + c kappa [$/kWh]. With ``carry_over`` the first hours of
            the next day may follow; otherwise they are taken to be those of this day.
        levels : Levels
            What it must withstand.
        charge : array, shape (D,), optional
            Energy in the batteries [kWh]; the fleet's initial charge by default.
        backlog : array, shape (K, longest window), optional
            Work of the day before [GPU h] that is due by the first, second, ... slot.
        training : SecondOrder, optional
            Ellipsoid of training arrivals that takes the place of ``levels.arrivals``.

        Raises
        ------
        ProblemError
            For arrays of a wrong shape, or that are not finite. Levels that the fleet cannot withstand are no error:
            they give a schedule with ``feasible=False``.
        """
        day = self._day(prices, levels, charge, backlog)
        load = self.serving.class_load(day.levels.requests)
        chosen = self._cover(load)
        if training is not None:
            ellipsoid = training.checked(self.fleet)
            return self._complete(day, robust_shares(self.fleet, ellipsoid, self.solver, day, chosen.bound))
        vectors = self._vectors(day, chosen)
        waiting = queue(self.fleet, day.levels.arrivals, day.backlog)
        vectors.upper[self._program.columns["waiting"]] = waiting.after
        vectors.rhs[self._program.rows["queue"]] = waiting.arriving
        placed, point, bound = self._solve(vectors, load, chosen)
        work = np.maximum(point.x[self._program.columns["reserved"]], 0.0)
        shares, carried = first_in_first_out(self.fleet, work, day.levels.arrivals, day.backlog)
        reserved = executed(shares, day.levels.arrivals, self.fleet.slots) + carried
        decided = Decided(shares, carried, reserved, placed.instances, placed.load)
        return finish(self.fleet, day, decided, self._blocks(point), bound, str(self.backend))

    def plan_scenarios(
        self,
        prices: Vector,
        renewables: Vector,
        scenarios: Scenarios,
        charge: Vector | None = None,
        backlog: Vector | None = None,
    ) -> Schedule:
        """Cheapest schedule whose CVaR of violations over scenarios is not positive, see :mod:`.scenario_program`.

        The levels of requests and the training come from the linear relaxation; whole instances are chosen for them
        afterwards, so that the gap is wider than that of :meth:`plan`.

        Parameters
        ----------
        renewables : array, shape (D, T)
            R^low [kW], which each chance constraint (15a) has by itself.
        scenarios : Scenarios
            Requests and arrivals that are thought possible.
        prices, charge, backlog
            As in :meth:`plan`.
        """
        fleet = self.fleet
        scenarios = scenarios.checked(fleet)
        mean = Levels(renewables, scenarios.requests.mean(0), scenarios.arrivals.mean(0))
        day = self._day(prices, mean, charge, backlog)
        requests, given = scenario_levels(fleet, scenarios, self.solver, day)
        day = day._replace(levels=day.levels._replace(requests=requests))
        return self._complete(day, given)

    def _cover(self, load: Vector) -> Cover:
        return cover(self.serving, load) if self.integer else relaxed_cover(self.serving, load)

    def _complete(self, day: Day, given: Given) -> Schedule:
        """Schedule around training that is already decided."""
        load = self.serving.class_load(day.levels.requests)
        chosen = self._cover(load)
        vectors = self._vectors(day, chosen)
        column, T = self._program.columns, self.fleet.slots
        vectors.lower[column["reserved"]] = vectors.upper[column["reserved"]] = given.reserved
        vectors.lower[column["waiting"]] = -np.inf
        placed, point, _ = self._solve(vectors, load, chosen)
        decided = Decided(given.shares, given.carried[..., :T], given.reserved[..., :T], placed.instances, placed.load)
        return finish(self.fleet, day, decided, self._blocks(point), given.bound, given.solver)

    def _day(self, prices: Vector, levels: Levels, charge: Vector | None, backlog: Vector | None) -> Day:
        """Checked inputs."""
        fleet = self.fleet
        shape = (len(fleet.classes), fleet.reach)
        return Day(
            extended_prices(fleet, prices),
            levels.checked(fleet),
            fleet.initial() if charge is None else check_array("charge", charge, (fleet.size,)),
            np.zeros(shape) if backlog is None else np.maximum(check_array("backlog", backlog, shape), 0.0),
        )

    def _vectors(self, day: Day, chosen: Cover) -> Vectors:
        return center_vectors(self.fleet, self._program, day, chosen.bound)

    def _blocks(self, point: Point) -> dict[str, Vector]:
        return {name: point.x[block] for name, block in self._program.columns.items()}

    def _solve(self, vectors: Vectors, load: Vector, chosen: Cover) -> tuple[Placed, Point, float]:
        """Instances for class loads (I, T), the solution with these fixed, and a lower bound on the cost."""
        if self.fleet.size > _LARGE:
            self._solver.restart()
        relaxed = self._solver.solve(vectors)
        placed, bound = self._place(chosen, relaxed.x), relaxed.value
        if not (self.integer or placed.scarce.any()):
            return placed, relaxed, bound
        point = self._fixed(vectors, placed)
        worth = point.value - bound > (_WORTH if self.integer else 1e-6) * max(abs(bound), 1.0)
        if (placed.scarce.any() and worth) or placed.left.any():
            placed, bound = self._route(vectors, load, chosen, placed)
            point = self._fixed(vectors, placed)
        return placed, point, bound

    def _route(self, vectors: Vectors, load: Vector, chosen: Cover, placed: Placed) -> tuple[Placed, float]:
        """Places by routes in the slots in which GPUs are scarce, see :mod:`.column_generation`.

        Rounding needs GPUs that the relaxation does not know of: where they lack, it is given less of them.
        """
        serving, T = self.serving, self.fleet.slots
        gpus, bound = np.repeat(np.array(self.fleet.inference_capacity)[:, None], T, 1), -np.inf
        routed = np.zeros(T, bool)
        for _ in range(_ATTEMPTS):
            tightened = np.tensordot(serving.gpus, placed.left, 1) * routed
            used = np.tensordot(serving.gpus, placed.instances, 1)
            gpus = np.maximum(gpus - 1.1 * tightened * used / np.maximum(used.sum(0), 1.0), 0.0)
            routed |= placed.scarce
            routes = route(
                _box_program(self.fleet), vectors, serving, load, gpus, np.flatnonzero(routed), placed.instances
            )
            bound = bound if tightened.any() else max(bound, routes.bound)
            seed = routes.flow / serving.capacity[:, None, None]
            wanted = np.tensordot(serving.gpus, seed, 1)
            seed *= np.minimum(1.0, gpus / np.maximum(wanted, 1e-300))  # where all GPUs of the fleet are too few
            if self.integer:
                seed, mine = np.floor(seed + 1e-6), routed_cover(serving, load, routes.flow)
            else:
                flow = routes.flow.sum(1)
                mine = Cover(flow / serving.capacity[:, None], flow, chosen.bound)
            mix = Cover(
                np.where(routed, mine.instances, chosen.instances), np.where(routed, mine.load, chosen.load), mine.bound
            )
            placed = self._place(mix, routes.point.x, seed, routed)
            if not placed.scarce.any():
                break
        return placed, bound

    def restart(self) -> None:
        """Make the next schedule a function of its arguments alone, whatever was planned before.

        A day may have several cheapest schedules, which differ once the day is settled; which of them is found depends
        on where the solver starts. Here it starts from the schedule of a made-up day, which costs hardly more time than
        to start from the day before.
        """
        if not self._anchored and self.fleet.size <= _LARGE:
            fleet, slots = self.fleet, np.ones(self.fleet.slots)
            gpus, services = sum(fleet.inference_capacity), len(fleet.services)
            work = sum(fleet.training_capacity) / len(fleet.classes)
            typical = Levels(
                np.outer(fleet.renewable_limit, 0.3 * slots),
                np.outer(np.full(services, 0.02 * gpus / services), slots),
                np.outer(np.full(len(fleet.classes), 0.15 * work), slots),
            )
            self.plan(np.full((fleet.size, fleet.slots), 0.1), typical)
            self._solver.anchor()
            self._anchored = True
        self._solver.restart()

    def _place(
        self, chosen: Cover, x: Vector, seed: Vector | None = None, routed: NDArray[np.bool_] | None = None
    ) -> Placed:
        """Deal instances out to the powers of a solution; some are seeded, in slots that are routed."""
        column, fleet, serving = self._program.columns, self.fleet, self.serving
        target = np.maximum(x[column["inference"]], 0.0)
        unused = np.maximum(np.array(fleet.grid_limit)[:, None] - x[column["purchase"]], 0.0)
        gpus = np.array(fleet.inference_capacity)
        headroom = unused / fleet.facility[:, None]
        instances, load, left = place(serving, chosen, target, headroom, gpus, self.integer, seed)
        free = gpus[:, None] - np.tensordot(serving.gpus, instances, 1)
        short = target - serving.power(instances, load)  # of an instance, where its GPUs did not suffice
        stopped = (free < serving.gpus.max()) & (short > (serving.peak_power.max() if self.integer else 1e-3))
        scarce = (left > 1e-6).any(0)
        scarce |= stopped.any(0) & (True if routed is None else ~routed)
        return Placed(instances, load, left, scarce)

    def _fixed(self, vectors: Vectors, placed: Placed) -> Point:
        """Solution with the power of inference as the placed instances draw it."""
        inference = self.serving.power(placed.instances, placed.load)
        block, upper, lower, rhs = (
            self._program.columns["inference"],
            vectors.upper.copy(),
            vectors.lower.copy(),
            vectors.rhs.copy(),
        )
        lower[block] = upper[block] = inference
        rhs[self._program.rows["inference"]] = inference.sum(0)
        return self._solver.solve(Vectors(vectors.cost, lower, upper, rhs))


def _box_program(fleet: Fleet) -> Program:
    """Center program with the training queue: the counterpart for a box of arrivals."""
    program = center_program(fleet)
    waiting = program.columns.block("waiting", len(fleet.classes), fleet.slots + fleet.tail)
    add_queue(program, program.columns["reserved"], waiting)
    return program


def extended_prices(fleet: Fleet, prices: Vector) -> Vector:
    """Prices (D, T + tail): where the next day's are not given, they are taken to be those of this day."""
    array = np.asarray(prices, float)
    if fleet.tail and array.shape == (fleet.size, fleet.slots):
        array = np.concatenate([array, np.resize(array.T, (fleet.tail, fleet.size)).T], axis=1)
    return check_array("prices", array, (fleet.size, fleet.slots + fleet.tail))


def finish(fleet: Fleet, day: Day, decided: Decided, solved: dict[str, Vector], bound: float, solver: str) -> Schedule:
    """Complete a schedule so that it holds exactly, not to a solver's tolerance.

    Storage and purchase come from ``solved`` and are lifted to what the decided parts need. What exceeds the fleet is
    cut: power beyond the import limit is overdraft, no more GPUs are reserved than there are, and the planned level of
    requests is what the instances serve.
    """
    T, levels, prices = fleet.slots, day.levels, day.prices
    overload = float(solved["overload"].sum())
    if overload > 0:
        total, most = decided.reserved.sum(0), np.array(fleet.training_capacity)[:, None]
        cut = np.where(total > most, most / np.maximum(total, 1e-300), 1.0)
        decided = decided._replace(reserved=decided.reserved * cut)
    level = routed_level(fleet, decided.load)
    unserved = bool((level < levels.requests * (1 - 1e-6)).any())
    power = planned_power(fleet, decided.reserved, decided.instances, decided.load)
    charge, discharge = settled_storage(fleet, solved["charge"], solved["discharge"])
    need = power + charge - discharge - levels.renewables
    limit = np.array(fleet.grid_limit)[:, None]
    purchase = np.clip(np.maximum(solved["purchase"], need), 0.0, limit)
    overdraft = np.maximum(need - purchase, 0.0)
    overdraft[overdraft < 1e-6 * (1.0 + limit)] = 0.0
    cost = float((prices[:, :T] * purchase).sum())
    later = np.tensordot(fleet.gpu_power, solved["reserved"][:, :, T:], 1) * fleet.facility[:, None]
    deferred = float((later * np.maximum(prices[:, T:], 0.0)).sum())
    total_cost = cost + deferred + OVERDRAFT_PRICE * (float(overdraft.sum()) + overload)
    return Schedule(
        **decided._asdict(),
        level=level if unserved else levels.requests,
        purchase=purchase,
        charge=charge,
        discharge=discharge,
        overdraft=overdraft,
        power=power,
        cost=cost,
        deferred=deferred,
        bound=bound,
        gap=np.inf if unserved else (total_cost - bound) / max(abs(bound), 1.0),
        feasible=bool(overload < 1e-6 and not overdraft.any() and not unserved),
        solver=solver,
    )
