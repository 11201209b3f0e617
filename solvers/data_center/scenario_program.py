"""Schedules for scenarios of requests and arrivals: the joint chance constraints (15b), (15c') by their CVaR.

The CVaR of the largest violation over all rows l, each divided by a scale, must not be positive, in one of two forms:

    re-dro     eta + mean_i z_i / eps <= 0,               z_i >= alpha_l (a_l' xi^i + b_l + theta |S a_l|) - eta
    cvar-djcc  eta + (theta nu + mean_i z_i) / eps <= 0,  z_i >= alpha_l (a_l' xi^i + b_l) - eta,  nu >= alpha_l |S a_l|

with z >= 0. The first lets every scenario move by theta; the second is exact for a type-1 Wasserstein ball of radius
theta around the scenarios. Rows of (15c') are (xi_st - Lambda-bar_st) / w_st, whose norm is one. Rows of (15b) are work
less GPUs, (sum_t x xi_kt - C_kdtau) / w_ktau, and their norm is bounded by the linear sum_t w_kt x, which is
conservative.

Sources: residual-based distributionally robust optimization (Kannan, Bayraksan and Luedtke, 2023) in its sample-robust
form; worst-case CVaR over a Wasserstein ball (Mohajerin Esfahani and Kuhn, 2018), as in distributionally robust joint
chance constraints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...data.errors import UnknownNameError
from ..base import ProblemError
from ..programs import load
from ..sparse import Index, Program, Vector
from .fleet import Fleet
from .instances import energy_per_load
from .schedule import Day, Given, check_array
from .share_program import ShareProgram, share_program

KINDS = ("re-dro", "cvar-djcc")


@dataclass(frozen=True, eq=False, kw_only=True)
class Scenarios:
    """Equally likely days, and how far the schedule trusts them.

    Attributes
    ----------
    requests, arrivals : arrays, shapes (n, S, T) and (n, K, T)
        Scenarios [req/s], [GPU h].
    kind : {"re-dro", "cvar-djcc"}
        Robust form, see the module.
    radius : float
        theta, in units of the scales; 0 is the CVaR of the scenarios themselves.
    epsilon_requests, epsilon_arrivals : float
        eps_c and eps_b.
    """

    requests: Vector
    arrivals: Vector
    kind: str = "re-dro"
    radius: float = 0.0
    epsilon_requests: float = 0.05
    epsilon_arrivals: float = 0.05

    def checked(self, fleet: Fleet) -> Scenarios:
        """Scenarios of the fleet's shape, not negative; raises :class:`ProblemError` for others."""
        if self.kind not in KINDS:
            raise UnknownNameError("kind of scenario program", self.kind, KINDS)
        for name, low in (("radius", 0.0), ("epsilon_requests", 1e-9), ("epsilon_arrivals", 1e-9)):
            if not low <= getattr(self, name) <= (np.inf if name == "radius" else 1.0):
                raise ProblemError(
                    f"{name} is {getattr(self, name)}: give a number from {low}, at most 1 for an epsilon"
                )
        n = len(self.requests)
        if n == 0:
            raise ProblemError("there are no scenarios: give at least one")
        requests = check_array("requests", self.requests, (n, len(fleet.services), fleet.slots))
        arrivals = check_array("arrivals", self.arrivals, (n, len(fleet.classes), fleet.slots))
        given = {name: getattr(self, name) for name in ("kind", "radius", "epsilon_requests", "epsilon_arrivals")}
        return Scenarios(requests=np.maximum(requests, 0.0), arrivals=np.maximum(arrivals, 0.0), **given)


def scale_of(scenarios: Vector) -> Vector:
    """w: standard deviation (rows, T) of scenarios (n, rows, T), with a floor where they hardly differ."""
    return np.maximum(scenarios.std(0), 1e-3 * np.maximum(scenarios.mean(), 1.0))


def scenario_levels(fleet: Fleet, scenarios: Scenarios, solver: str, day: Day) -> tuple[Vector, Given]:
    """Level of requests Lambda-bar (S, T) [req/s] and training that withstand the scenarios at the least cost."""
    model = share_program(fleet, scenarios.arrivals.mean(0))
    program = model.program
    level = program.columns.block("level", len(fleet.services), fleet.slots)
    serving = fleet.serving
    least = np.full(len(serving.classes), np.inf)
    np.minimum.at(least, serving.klass, energy_per_load(serving))
    per_request = np.bincount(serving.service_of, serving.share * least)
    program.add(program.rows["inference"], level, -per_request[:, None])
    rhs = _request_rows(program, level, scenarios) | _arrival_rows(model, scenarios)
    vectors = model.vectors(day, np.zeros(fleet.slots))
    for name, values in rhs.items():
        vectors.rhs[program.rows[name]] = values
    for name in ("quantile requests", "quantile arrivals"):
        vectors.lower[program.columns[name]] = -np.inf
    solved, backend = load(program, solver, interior=True)
    point = solved.solve(vectors)
    shares, carried = model.read(point.x, day.backlog)
    reserved = np.maximum(point.x[program.columns["reserved"]], 0.0)
    return np.maximum(point.x[level], 0.0), Given(shares, carried, reserved, point.value, str(backend))


def _cvar(program: Program, name: str, count: int, epsilon: float) -> tuple[Index, Index, Index]:
    """Columns eta () and z (n,) of a joint chance constraint, and its row eta + mean z / epsilon < rhs."""
    quantile, beyond = program.columns.block(f"quantile {name}"), program.columns.block(f"beyond {name}", count)
    row = program.row(f"cvar {name}", "<")
    program.add(row, quantile)
    program.add(row, beyond, 1 / (epsilon * count))
    return quantile, beyond, row


def _request_rows(program: Program, level: Index, scenarios: Scenarios) -> dict[str, Vector]:
    """Append (15c') and return its right-hand sides."""
    n, theta, epsilon = len(scenarios.requests), scenarios.radius, scenarios.epsilon_requests
    quantile, beyond, _ = _cvar(program, "requests", n, epsilon)
    scale = scale_of(scenarios.requests)
    rows = program.row("each request", ">", *scenarios.requests.shape)
    for block, value in ((beyond[:, None, None], 1.0), (quantile, 1.0), (level, 1 / scale)):
        program.add(rows, block, value)
    each = scenarios.kind == "re-dro"
    return {
        "each request": scenarios.requests / scale + (theta if each else 0.0),
        "cvar requests": np.array(0.0 if each else -theta / epsilon),
    }


def _arrival_rows(model: ShareProgram, scenarios: Scenarios) -> dict[str, Vector]:
    """Append (15b) and return its right-hand sides, all zero."""
    fleet, program = model.fleet, model.program
    n, theta, epsilon = len(scenarios.arrivals), scenarios.radius, scenarios.epsilon_arrivals
    quantile, beyond, cvar = _cvar(program, "arrivals", n, epsilon)
    amount, horizon = program.columns["amount"], fleet.slots + fleet.tail
    width = scale_of(scenarios.arrivals)  # (K, T)
    scale = np.resize(width.T, (horizon, len(width))).T
    k, d = np.nonzero(fleet.allowed)
    place = np.full(fleet.allowed.shape, -1)
    place[k, d] = np.arange(len(k))
    rows = program.row("each arrival", ">", n, len(k), horizon)
    program.add(rows, quantile)
    program.add(rows, beyond[:, None, None])
    program.add(rows, program.columns["reserved"][k, d], 1 / scale[k])
    if fleet.tail:
        program.add(rows, program.columns["carried"][k, d], -1 / scale[k])
    cell = place[model.k, model.d], model.tau
    per_unit = model.unit / scale[model.k, model.tau]
    moved = width[model.k, model.t] * per_unit  # the norm's bound, per unit of a column
    work = scenarios.arrivals[:, model.k, model.t] * per_unit
    program.add(rows[:, *cell], amount, -(work + theta * moved if scenarios.kind == "re-dro" else work))
    if scenarios.kind == "cvar-djcc" and theta > 0:
        steepest = program.columns.block("steepest")
        program.add(cvar, steepest, theta / epsilon)
        norms = program.row("norm", ">", len(k), horizon)
        program.add(norms, steepest)
        program.add(norms[cell], amount, -moved)
    return {}
