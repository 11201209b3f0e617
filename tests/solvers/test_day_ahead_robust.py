"""The day-ahead schedule against the model as it is written, on every solver, and its robust versions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shiftgym.solvers import backend
from shiftgym.solvers.base import ProblemError
from shiftgym.solvers.data_center.day_ahead import DayAhead, Levels
from shiftgym.solvers.data_center.day_ahead_reference import reference
from shiftgym.solvers.data_center.fleet import Fleet
from shiftgym.solvers.data_center.second_order import SecondOrder
from shiftgym.solvers.data_center.training_queue import executed
from tests.solvers.fleet_days import check, day

SMALL = Fleet(
    centers=("A", "B"),
    classes=("V100", "T4"),
    services=("code",),
    slots=6,
    windows=(1, 3),
    sites=((0, 1), (1,)),
    **{
        name: getattr(Fleet(), name)[:2]
        for name in (
            *("pue", "it_factor", "training_power", "utilisation", "training_capacity", "inference_capacity"),
            *("renewable_limit", "battery", "charge_power", "discharge_power", "charge_efficiency"),
            *("discharge_efficiency", "initial_charge"),
        )
    },
    grid_limit=(250.0, 600.0),
)
CORRELATION = 0.6 ** np.abs(np.arange(24)[:, None] - np.arange(24))


def small_day(seed=0):
    prices, levels = day(SMALL, seed)
    return prices, levels._replace(renewables=0.1 * levels.renewables)


@pytest.mark.parametrize("solver", ["highs", "gurobi", "clarabel"])
@pytest.mark.parametrize("gpus", [5000.0, 250.0])
def test_the_relaxation_is_that_of_the_model_as_written(solver, gpus):
    fleet = Fleet.from_dict(SMALL.to_dict() | {"inference_capacity": (gpus, gpus)})
    prices, levels = small_day()
    written, _ = reference(fleet, prices, levels, integer=False, solver="highs")
    found = DayAhead(fleet, solver, integer=False).plan(prices, levels)
    assert (np.tensordot(fleet.serving.gpus, found.instances, 1).max() > 0.999 * gpus) == (gpus < 5000)
    assert found.solver.startswith(solver)
    assert found.cost + 10 * found.overdraft.sum() == pytest.approx(written, rel=1e-6)
    assert found.bound == pytest.approx(written, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("fleet", [Fleet(), Fleet(terminal="free", slack=1.0, sites=((0,), (1, 2), (0, 1)))])
def test_the_relaxation_is_that_of_the_model_as_written_at_full_size(fleet):
    prices, levels = day(fleet)
    written, _ = reference(fleet, prices, levels, integer=False, solver="highs")
    assert DayAhead(fleet, integer=False).plan(prices, levels).cost == pytest.approx(written, rel=1e-6)


@pytest.mark.parametrize("solver", ["highs", "gurobi"])
def test_whole_instances_are_close_to_those_of_mixed_integer_programming(solver):
    fleet = Fleet.from_dict(SMALL.to_dict() | {"slots": 2})
    prices, levels = day(fleet)
    levels = levels._replace(renewables=0.1 * levels.renewables)
    best, bound = reference(fleet, prices, levels, solver=solver, gap=1e-4, time_limit=3)
    found = DayAhead(fleet, solver).plan(prices, levels)
    check(fleet, found, prices, levels)
    assert found.bound <= best * (1 + 1e-6)
    assert bound * (1 - 1e-6) <= found.cost <= best * 1.005


@pytest.mark.parametrize("correlation", [None, CORRELATION])
def test_an_ellipsoid_is_withstood_and_its_worst_case_is_reached(correlation):
    fleet = Fleet(carry_over=correlation is not None)
    prices, levels = day(fleet, scale=0.7)
    deviation = 0.5 * levels.arrivals
    matrix = None if correlation is None else np.array([correlation] * 3)
    ellipsoid = SecondOrder(levels.arrivals, deviation, matrix)
    backlog = np.zeros((3, 7))
    backlog[1, 2] = 400.0 if fleet.carry_over else 0.0
    found = DayAhead(fleet).plan(prices, levels, training=ellipsoid, backlog=backlog)
    assert found.feasible
    assert 0 <= found.gap < 5e-3
    check(fleet, found, prices, levels)
    assert found.carried.sum() == pytest.approx(backlog.sum())
    reach = ellipsoid.worst_case(found.shares, 24) + found.carried
    np.testing.assert_allclose(reach, found.reserved, atol=1e-9)
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(np.eye(24) if correlation is None else correlation)
    direction = rng.normal(size=(10_000, 3, 24))
    direction /= np.sqrt((direction**2).sum((1, 2), keepdims=True))
    points = levels.arrivals + deviation * np.einsum("ts,nks->nkt", root, direction)  # the boundary
    assert (work_of(found.shares, points) + found.carried - found.reserved).max() <= 1e-9
    assert found.cost < DayAhead(fleet).plan(prices, levels._replace(arrivals=1.5 * levels.arrivals)).cost


def test_an_ellipsoid_of_a_small_fleet_is_the_same_on_gurobi_and_as_written():
    fleet = Fleet.from_dict(
        SMALL.to_dict()
        | {"slots": 3, "classes": ("V100",), "windows": (1,), "sites": ((0, 1),)}
        | {"training_power": (0.25,), "utilisation": (0.8,)}
    )
    prices, levels = day(fleet)
    levels = levels._replace(renewables=0.1 * levels.renewables)
    ellipsoid = SecondOrder(levels.arrivals, 0.3 * levels.arrivals, CORRELATION[None, :3, :3])
    written, _ = reference(fleet, prices, levels, ellipsoid, integer=False, solver="clarabel")
    for solver in ("gurobi", "clarabel"):
        found = DayAhead(fleet, solver, integer=False).plan(prices, levels, training=ellipsoid)
        assert found.solver.startswith(solver)
        assert found.cost + 10 * found.overdraft.sum() == pytest.approx(written, rel=1e-5)


def work_of(shares: Any, arrivals: Any) -> Any:
    """Work (n, K, D, T) of many days' arrivals (n, K, T), which is linear in them."""
    one = np.eye(72).reshape(72, 3, 24)
    response = np.array([executed(shares, arrival, 24) for arrival in one])
    return np.tensordot(arrivals.reshape(len(arrivals), 72), response, 1)


def test_a_box_is_withstood_on_samples_and_vertices():
    fleet = Fleet()
    prices, levels = day(fleet, scale=0.7)
    found = DayAhead(fleet).plan(prices, levels)
    rng = np.random.default_rng(0)
    many = (10_000, 3, 24)
    arrivals = levels.arrivals * np.where(rng.random(many) < 0.5, 1.0, rng.random(many))
    assert (work_of(found.shares, arrivals) <= found.reserved + 1e-9).all()
    renewables = levels.renewables * rng.uniform(1.0, 2.0, many)
    supply = found.purchase + renewables + found.discharge - found.charge
    assert (supply >= found.power - 1e-6).all()


def test_a_wider_ellipsoid_costs_more():
    fleet = Fleet()
    prices, levels = day(fleet, scale=0.7)
    planner = DayAhead(fleet)
    costs = [
        planner.plan(np.abs(prices), levels, training=SecondOrder(levels.arrivals, width * levels.arrivals)).bound
        for width in (0.0, 0.2, 0.4)
    ]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(planner.plan(np.abs(prices), levels).bound, rel=1e-6)


def test_gurobi_beyond_its_licence_is_refused_with_what_it_allows(monkeypatch):
    monkeypatch.setattr(backend, "gurobi_licence", lambda: "small")
    with pytest.raises(ProblemError, match="licence allows 2,000 variables"):
        DayAhead(Fleet.of_size(10), solver="gurobi")
    assert "licence allows" in DayAhead(Fleet.of_size(10)).backend.why
    assert backend.choose("auto", "lp", 100, 100).name == "gurobi"
    assert backend.choose("auto", "socp", 300, 100).name == "clarabel"
    with pytest.raises(ProblemError, match="mixed-integer conic"):
        backend.choose("auto", "misocp", 300, 100)
    monkeypatch.setattr(backend, "gurobi_licence", lambda: "none")
    assert backend.choose("auto", "milp", 10, 10) == ("highs", "gurobi is not installed, or has no licence")
    monkeypatch.setattr(backend, "gurobi_licence", lambda: "full")
    assert backend.choose("auto", "misocp", 10**6, 10**6).name == "gurobi"


def test_wrong_solvers_and_ellipsoids_are_named():
    with pytest.raises(ValueError, match="unknown solver 'cplex'"):
        DayAhead(Fleet(), solver="cplex")
    prices, levels = day(Fleet())
    with pytest.raises(ProblemError, match="'highs' solves no conic programs"):
        DayAhead(Fleet(), solver="highs").plan(prices, levels, training=SecondOrder(levels.arrivals, levels.arrivals))
    with pytest.raises(ProblemError, match=r"training\.deviation"):
        DayAhead(Fleet()).plan(prices, levels, training=SecondOrder(levels.arrivals, -levels.arrivals))
    indefinite = np.array([np.eye(24) - 2.0] * 3)
    with pytest.raises(ProblemError, match=r"training\.correlation"):
        DayAhead(Fleet()).plan(prices, levels, training=SecondOrder(levels.arrivals, levels.arrivals, indefinite))
    with pytest.raises(ProblemError, match="carry_over"):
        reference(Fleet(carry_over=True), prices, Levels(*levels))
