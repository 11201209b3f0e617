"""The scheduling model as it is written, (1a) to (16c), in CVXPY: what :mod:`.day_ahead` is tested against.

One variable per symbol and one constraint per equation, with the load limits (9') in place of (5) to (9b). It is a
hundred times slower than :class:`.day_ahead.DayAhead`. Windows end with the day; ``carry_over`` is not part of it.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..backend import choose
from ..base import ProblemError
from ..sparse import Vector
from .center_program import OVERDRAFT_PRICE
from .fleet import Fleet
from .schedule import Levels
from .second_order import SecondOrder


def reference(
    fleet: Fleet,
    prices: Vector,
    levels: Levels,
    training: SecondOrder | None = None,
    integer: bool = True,
    solver: str = "auto",
    gap: float = 1e-3,
    time_limit: float = 60.0,
) -> tuple[float, float]:
    """Optimal cost [$] of a day, penalties included, by mixed-integer programming, and a lower bound on it.

    Parameters
    ----------
    fleet, prices, levels, training
        As in :meth:`.day_ahead.DayAhead.plan`.
    integer : bool
        Whether n and b are integers; otherwise their relaxation is solved, and the two numbers are the same.
    solver : {"auto", "gurobi", "highs", "clarabel"}
        A conic program with integers needs Gurobi and a licence for its size.
    gap, time_limit : float
        When a mixed-integer solver stops: relative gap, and seconds.
    """
    import cvxpy as cp

    if fleet.carry_over:
        raise ProblemError("the reference model has no carry_over: windows end with the day")
    levels = levels.checked(fleet)
    program = _program(fleet, np.asarray(prices, float), levels, training, integer)
    kind = {(False, True): "lp", (True, True): "milp", (False, False): "socp", (True, False): "misocp"}[
        integer, training is None
    ]
    size = program.size_metrics
    constraints = size.num_scalar_eq_constr + size.num_scalar_leq_constr
    name = choose(solver, kind, size.num_scalar_variables, constraints).name
    options: dict[str, Any] = {}
    if integer:
        names = {"highs": ("mip_rel_gap", "time_limit"), "gurobi": ("MIPGap", "TimeLimit")}[name]
        options = dict(zip(names, (gap, float(time_limit)), strict=True))
    with warnings.catch_warnings():  # a solver stopped by its time limit is told by the bound
        warnings.filterwarnings("ignore", "Solution may be inaccurate")
        program.solve(solver={"highs": cp.HIGHS, "gurobi": cp.GUROBI, "clarabel": cp.CLARABEL}[name], **options)
    if program.value is None or not np.isfinite(program.value):
        raise ProblemError(f"{name} found no schedule ({program.status}): give more than {time_limit} s")
    return float(program.value), float(_bound(program, name) if integer else program.value)


def _bound(program: Any, name: str) -> float:
    """The lower bound that a mixed-integer solver ended with."""
    statistics = program.solver_stats.extra_stats
    return statistics.mip_dual_bound if name == "highs" else statistics.ObjBound


def _program(fleet: Fleet, prices: Vector, levels: Levels, training: SecondOrder | None, integer: bool) -> Any:
    """The day as a CVXPY problem."""
    import cvxpy as cp

    K, D, T, S = len(fleet.classes), fleet.size, fleet.slots, fleet.serving
    facility, limits = fleet.facility, []
    C = [cp.Variable((K, T), nonneg=True) for _ in range(D)]
    purchase, overdraft = cp.Variable((D, T), nonneg=True), cp.Variable((D, T), nonneg=True)
    charge, discharge = cp.Variable((D, T), nonneg=True), cp.Variable((D, T), nonneg=True)
    energy = cp.Variable((D, T + 1))
    load = [cp.Variable((S.pairs, T), nonneg=True) for _ in range(D)]  # (4b)
    n = [cp.Variable((S.pairs, T), integer=integer, nonneg=True) for _ in range(D)]
    limits += _training(fleet, levels, training, C)
    member = np.eye(len(S.classes))[:, S.klass]
    limits.append(member @ sum(load) == S.class_load(levels.requests))  # (4a)
    for d in range(D):
        limits += [cp.sum(C[d], axis=0) <= fleet.training_capacity[d]]  # (3b)
        limits += [load[d] <= cp.multiply(S.capacity[:, None], n[d])]  # (9')
        limits += [S.gpus @ n[d] <= fleet.inference_capacity[d]]  # (10)
        inference = S.idle_power @ n[d] + S.dynamic_power @ load[d]  # (13a), (13b)
        power = facility[d] * (fleet.gpu_power @ C[d] + inference)  # (11a) to (12)
        supply = purchase[d] + levels.renewables[d] + discharge[d] - charge[d] + overdraft[d]
        limits += [supply >= power, purchase[d] <= fleet.grid_limit[d]]  # (15a), (16c)
        b = cp.Variable(T, boolean=True) if integer else np.ones(T)
        limits += [charge[d] <= fleet.charge_power[d] * b]  # (14c)
        limits += [discharge[d] <= fleet.discharge_power[d] * (1 - b if integer else b)]  # (14d), (14e)
        stored = fleet.charge_efficiency[d] * charge[d] - discharge[d] / fleet.discharge_efficiency[d]
        low, high = (edge * fleet.battery[d] for edge in fleet.charge_range)
        limits += [energy[d, 1:] == energy[d, :-1] + stored, energy[d] >= low, energy[d] <= high]  # (14a), (14b)
        limits += [energy[d, 0] == fleet.initial()[d]]  # (14f)
        limits += [energy[d, T] == fleet.initial()[d]] if fleet.terminal == "cyclic" else []  # (14g)
    cost = cp.sum(cp.multiply(prices, purchase)) + OVERDRAFT_PRICE * cp.sum(overdraft)  # (16a)
    return cp.Problem(cp.Minimize(cost), limits)


def _training(fleet: Fleet, levels: Levels, training: SecondOrder | None, C: list[Any]) -> list[Any]:
    """(1a) to (3a) with the rows (15b) of a box, or of an ellipsoid."""
    import cvxpy as cp

    limits: list[Any] = []
    for k, (window, sites) in enumerate(zip(fleet.windows, fleet.sites or (), strict=True)):
        slot = np.arange(fleet.slots)
        admissible = (slot[None] >= slot[:, None]) & (slot[None] <= slot[:, None] + window)  # arrival, execution
        x = {d: cp.Variable((fleet.slots, fleet.slots), nonneg=True) for d in sites}
        limits += [sum(cp.sum(part, axis=1) for part in x.values()) == 1]  # (1a)
        limits += [part[~admissible] == 0 for part in x.values()]  # (1c)
        for d in range(fleet.size):
            if d not in x:  # (1b)
                continue
            if training is None:
                limits.append(levels.arrivals[k] @ x[d] <= C[d][k])
                continue
            spread = training.factor(k) @ cp.multiply(training.deviation[k][:, None], x[d])
            limits.append(training.mean[k] @ x[d] + cp.norm(spread, 2, axis=0) <= C[d][k])
    return limits
