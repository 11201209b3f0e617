"""The day-ahead schedule of a fleet: robust to a box, an ellipsoid or scenarios, built once and solved day by day.

| symbol | here |
|---|---|
| pi + c kappa | ``prices`` [$/kWh] |
| R^low, Lambda-bar, A-bar | :class:`Levels` |
| x, C, lambda, n, P^g, P^ch, P^dis | :class:`Schedule` |
| E^0, B | ``charge`` [kWh], ``backlog`` [GPU h] |

Source: (1a) to (16c) of "Contextual Robust Optimization for AI Data Center Scheduling with Statistical Guarantees",
with the planned arrival levels, the load limits rho-bar and the exact reduction (15c') of this project's specification. The
model as it is written there is :mod:`.day_ahead_reference`; here it is reduced, without loss: training to a queue
(:mod:`.training_queue`), inference to its power (:mod:`.center_program`).
"""

from __future__ import annotations

import numpy as np

from .center_program import OVERDRAFT_PRICE, center_program, center_vectors, settled_storage
from .fleet import Fleet
from .instances import Cover, cover, place, relaxed_cover
from .schedule import Levels, Schedule, check_array, planned_power, routed_level
from .sparse import HighsProgram, Point, Program, Vector, Vectors
from .training_queue import executed, first_in_first_out, queue

__all__ = ["DayAhead", "Levels", "Schedule"]

#: Centers from which on the first solve is by interior point.
_MANY = 30


class DayAhead:
    """Schedules for a fleet, day after day: the program is built once, later days start from the last solution.

    Instances are rounded up and fixed, and the rest is solved again: the *ceil-and-fix* rule. Rounding is over the
    whole fleet (:func:`shiftgym.solvers.instances.cover`), not per center, so that its cost does not grow with D, and the certified bound of a schedule holds for whole instances too.

    Parameters
    ----------
    fleet : Fleet
        Sites and limits.
    integer : bool
        Whether instances are whole; otherwise the linear relaxation is solved, whose cost is a lower bound.
    """

    def __init__(self, fleet: Fleet, integer: bool = True) -> None:
        self.fleet, self.integer = fleet, integer
        self.serving = fleet.serving
        self._program = _box_program(fleet)
        self._solver = HighsProgram(self._program, interior=fleet.size >= _MANY)

    def plan(
        self, prices: Vector, levels: Levels, charge: Vector | None = None, backlog: Vector | None = None
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

        Raises
        ------
        ProblemError
            For arrays of a wrong shape, or that are not finite. Levels that the fleet cannot withstand are no error:
            they give a schedule with ``feasible=False``.
        """
        fleet, T = self.fleet, self.fleet.slots
        levels = levels.checked(fleet)
        prices = extended_prices(fleet, prices)
        charge = fleet.initial() if charge is None else check_array("charge", charge, (fleet.size,))
        shape = (len(fleet.classes), fleet.reach)
        backlog = np.zeros(shape) if backlog is None else np.maximum(check_array("backlog", backlog, shape), 0.0)

        load = self.serving.class_load(levels.requests)
        chosen = cover(self.serving, load) if self.integer else relaxed_cover(self.serving, load)
        vectors = center_vectors(fleet, self._program, prices, levels.renewables, charge, chosen.bound)
        waiting = queue(fleet, levels.arrivals, backlog)
        vectors.upper[self._program.columns["waiting"]] = waiting.after
        vectors.rhs[self._program.rows["queue"]] = waiting.arriving
        relaxed = self._solver.solve(vectors)
        instances, placed_load = self._place(chosen, relaxed)
        point = self._fixed(vectors, self.serving.power(instances, placed_load)) if self.integer else relaxed

        work = np.maximum(point.x[self._program.columns["reserved"]], 0.0)
        shares, carried = first_in_first_out(fleet, work, levels.arrivals, backlog)
        reserved = executed(shares, levels.arrivals, T) + carried
        return finish(
            fleet,
            prices,
            levels,
            {
                "shares": shares,
                "carried": carried,
                "reserved": reserved,
                "instances": instances,
                "load": placed_load,
            },
            {name: point.x[block] for name, block in self._program.columns.items()},
            relaxed.value,
        )

    def _place(self, chosen: Cover, relaxed: Point) -> tuple[Vector, Vector]:
        """Instances and load (P, D, T) near the powers of the relaxed solution."""
        column, fleet = self._program.columns, self.fleet
        target = np.maximum(relaxed.x[column["inference"]], 0.0)
        unused = np.array(fleet.grid_limit)[:, None] - relaxed.x[column["purchase"]]
        headroom = np.maximum(unused, 0.0) / fleet.facility[:, None]
        gpus = np.array(fleet.inference_capacity)
        instances, load, _ = place(self.serving, chosen, target, headroom, gpus, self.integer)
        return instances, load

    def _fixed(self, vectors: Vectors, inference: Vector) -> Point:
        """Solution with the power of inference (D, T) as the placed instances draw it."""
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
    horizon = fleet.slots + fleet.tail
    waiting = program.columns.block("waiting", len(fleet.classes), horizon)
    rows = program.row("queue", "=", len(fleet.classes), horizon)
    program.add(rows, waiting)
    program.add(rows[:, 1:], waiting[:, :-1], -1.0)
    program.add(rows[:, None], program.columns["reserved"])
    return program


def extended_prices(fleet: Fleet, prices: Vector) -> Vector:
    """Prices (D, T + tail): where the next day's are not given, they are taken to be those of this day."""
    array = np.asarray(prices, float)
    if fleet.tail and array.shape == (fleet.size, fleet.slots):
        array = np.concatenate([array, np.resize(array.T, (fleet.tail, fleet.size)).T], axis=1)
    return check_array("prices", array, (fleet.size, fleet.slots + fleet.tail))


def finish(
    fleet: Fleet, prices: Vector, levels: Levels, decided: dict[str, Vector], solved: dict[str, Vector], bound: float
) -> Schedule:
    """Complete a schedule so that it holds exactly, not to a solver's tolerance.

    ``decided`` are shares, carried, reserved, instances and load; storage and purchase come from ``solved`` and are
    lifted to what the decided ones need. What exceeds the fleet is cut: power beyond the import limit is overdraft, no
    more GPUs are reserved than there are, and the planned level of requests is what the instances serve.
    """
    T = fleet.slots
    overload = float(solved["overload"].sum())
    if overload > 0:
        total = decided["reserved"].sum(0)
        most = np.array(fleet.training_capacity)[:, None]
        decided["reserved"] = decided["reserved"] * np.where(total > most, most / np.maximum(total, 1e-300), 1.0)
    level = routed_level(fleet, decided["load"])
    unserved = bool((level < levels.requests * (1 - 1e-6)).any())
    power = planned_power(fleet, decided["reserved"], decided["instances"], decided["load"])
    charge, discharge = settled_storage(fleet, solved["charge"], solved["discharge"])
    need = power + charge - discharge - levels.renewables
    limit = np.array(fleet.grid_limit)[:, None]
    purchase = np.clip(np.maximum(solved["purchase"], need), 0.0, limit)
    overdraft = np.maximum(need - purchase, 0.0)
    overdraft[overdraft < 1e-6 * (1.0 + limit)] = 0.0
    cost = float((prices[:, :T] * purchase).sum())
    later = np.tensordot(fleet.gpu_power, solved["reserved"][:, :, T:], 1) * fleet.facility[:, None]
    deferred = float((later * np.maximum(prices[:, T:], 0.0)).sum())
    total = cost + deferred + OVERDRAFT_PRICE * (float(overdraft.sum()) + overload)
    return Schedule(
        **decided,
        level=level if unserved else levels.requests,
        purchase=purchase,
        charge=charge,
        discharge=discharge,
        overdraft=overdraft,
        power=power,
        cost=cost,
        deferred=deferred,
        bound=bound,
        gap=(total - bound) / max(abs(bound), 1.0),
        feasible=bool(overload < 1e-6 and not overdraft.any() and not unserved),
        solver="highs",
    )
