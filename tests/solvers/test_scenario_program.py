"""Schedules for scenarios: the CVaR that they promise, and where they coincide with those for a box."""

from __future__ import annotations

import numpy as np
import pytest

from shiftgym.data.errors import ShiftgymError
from shiftgym.solvers.data_center.day_ahead import DayAhead, Levels
from shiftgym.solvers.data_center.fleet import Fleet
from shiftgym.solvers.data_center.scenario_program import Scenarios, scale_of
from shiftgym.solvers.data_center.training_queue import executed
from tests.solvers.fleet_days import check, day

FLEET = Fleet(slots=8, grid_limit=(1470.0, 1550.0, 1580.0))
PLANNER = DayAhead(FLEET)


def draw(n=12, seed=0, **settings):
    prices, levels = day(FLEET, seed, 0.7)
    rng = np.random.default_rng(seed)
    requests, arrivals = (
        values * np.exp(rng.normal(0, 0.15, (n, *values.shape)) + rng.normal(0, 0.1, (n, 1, 1)))
        for values in (levels.requests, levels.arrivals)
    )
    return np.abs(prices), levels.renewables, Scenarios(requests=requests, arrivals=arrivals, **settings)


def cvar(losses, epsilon):
    """CVaR of equally likely losses, as the minimum over eta at the losses."""
    return min(eta + np.maximum(losses - eta, 0).mean() / epsilon for eta in losses)


@pytest.mark.parametrize("kind", ["re-dro", "cvar-djcc"])
@pytest.mark.parametrize("radius", [0.0, 0.1])
def test_the_cvar_of_the_largest_violation_is_not_positive(kind, radius):
    epsilon = 0.25
    prices, renewables, scenarios = draw(kind=kind, radius=radius, epsilon_requests=epsilon, epsilon_arrivals=epsilon)
    found = PLANNER.plan_scenarios(prices, renewables, scenarios)
    each, ball = (radius, 0.0) if kind == "re-dro" else (0.0, radius / epsilon)
    request_scale, arrival_scale = scale_of(scenarios.requests), scale_of(scenarios.arrivals)
    losses = ((scenarios.requests - found.level) / request_scale).max((1, 2)) + each
    assert cvar(losses, epsilon) + ball == pytest.approx(0.0, abs=1e-4)
    norm = executed(found.shares, arrival_scale, 8) / arrival_scale[:, None]
    gap = np.array([executed(found.shares, a, 8) - found.reserved for a in scenarios.arrivals]) / arrival_scale[:, None]
    losses = (gap + each * norm).max((1, 2, 3))
    assert cvar(losses, epsilon) + ball * norm.max() <= 1e-4
    assert found.feasible
    assert 0 <= found.gap < 0.02
    mean = scenarios.arrivals.mean(0)
    check(FLEET, found, prices, Levels(renewables, found.level, np.minimum(mean, scenarios.arrivals.min(0))))


@pytest.mark.parametrize("radius", [0.0, 0.2])
def test_with_one_dominating_scenario_it_is_the_box_at_that_scenario(radius):
    prices, renewables, scenarios = draw(3)
    factor = np.array([0.6, 0.8, 1.0])[:, None, None]
    requests, arrivals = scenarios.requests[:1] * factor, scenarios.arrivals[:1] * factor
    relaxed = DayAhead(FLEET, integer=False)
    found = relaxed.plan_scenarios(
        prices,
        renewables,
        Scenarios(requests=requests, arrivals=arrivals, radius=radius, epsilon_requests=0.01, epsilon_arrivals=0.01),
    )
    top = Levels(renewables, requests[-1] + radius * scale_of(requests), arrivals[-1] + radius * scale_of(arrivals))
    assert found.bound == pytest.approx(relaxed.plan(prices, top).cost, rel=1e-5)
    assert found.cost == pytest.approx(found.bound, rel=1e-4)


def test_a_larger_radius_costs_more():
    for kind in ("re-dro", "cvar-djcc"):
        bounds = [PLANNER.plan_scenarios(*draw(kind=kind, radius=radius)).bound for radius in (0.0, 0.05, 0.2)]
        assert bounds == sorted(bounds)
        assert bounds[0] < bounds[-1]


def test_backlog_is_done_in_time():
    fleet = Fleet(slots=8, carry_over=True)
    prices, renewables, scenarios = draw()
    backlog = np.zeros((3, 7))
    backlog[0, 1] = 200.0
    found = DayAhead(fleet).plan_scenarios(prices, renewables, scenarios, backlog=backlog)
    assert found.carried[0, :, :2].sum() == pytest.approx(200.0)
    assert found.carried.sum() == pytest.approx(200.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "kl"),
        ("radius", -1.0),
        ("epsilon_requests", 0.0),
        ("epsilon_arrivals", 2.0),
        ("requests", np.ones((0, 2, 8))),
    ],
)
def test_wrong_settings_are_named(field, value):
    prices, renewables, scenarios = draw()
    settings = {"requests": scenarios.requests, "arrivals": scenarios.arrivals} | {field: value}
    with pytest.raises(ShiftgymError, match="scenarios" if field == "requests" else field):
        PLANNER.plan_scenarios(prices, renewables, Scenarios(**settings))
