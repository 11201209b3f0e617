"""The day-ahead schedule: residuals of the model as it is written, its bound, and what happens at the limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftgym.solvers.base import ProblemError
from shiftgym.solvers.data_center import column_generation
from shiftgym.solvers.data_center.day_ahead import DayAhead, Levels, Schedule
from shiftgym.solvers.data_center.fleet import Fleet
from tests.solvers.fleet_days import check, day

FLEETS = {
    "default": Fleet(),
    "free": Fleet(terminal="free", slack=0.5),
    "sites": Fleet(sites=((0,), (0, 2), (1, 2))),
    "five": Fleet.of_size(5),
    "few GPUs": Fleet(inference_capacity=(1100.0, 1200.0, 1000.0)),
    "half a day, one service": Fleet(slots=12, services=("code",)),
}
PLANNERS = {name: DayAhead(fleet) for name, fleet in FLEETS.items()}


@pytest.mark.parametrize("name", FLEETS)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.2, 1.0))
def test_every_equation_holds_on_random_days(name, seed, scale):
    fleet = FLEETS[name]
    prices, levels = day(fleet, seed, scale)
    schedule = PLANNERS[name].plan(prices, levels)
    check(fleet, schedule, prices, levels)
    assert schedule.feasible
    worth = (np.abs(prices) * schedule.power).sum()  # of all energy; what is bought may be next to nothing
    slack = 1e-2 if name == "few GPUs" else 2e-3
    assert -1e-7 * worth <= schedule.cost - schedule.bound <= slack * worth


def test_the_relaxation_is_a_lower_bound_and_close():
    fleet = FLEETS["default"]
    prices, levels = day(fleet)
    whole, relaxed = PLANNERS["default"].plan(prices, levels), DayAhead(fleet, integer=False).plan(prices, levels)
    assert relaxed.bound <= whole.bound * (1 + 1e-9) <= whole.cost * (1 + 2e-9)
    assert relaxed.cost == pytest.approx(relaxed.bound, rel=1e-7)
    assert whole.cost < relaxed.cost + 5e-3 * (prices * whole.power).sum()


def test_routes_are_found_by_column_generation_as_by_listing_them(monkeypatch):
    fleet = FLEETS["few GPUs"]
    prices, levels = day(fleet, 3)
    relaxed = DayAhead(fleet, integer=False)
    listed = relaxed.plan(prices, levels)
    assert listed.cost == pytest.approx(listed.bound, rel=1e-7)
    assert listed.bound > DayAhead(FLEETS["default"], integer=False).plan(prices, levels).bound * 1.001
    monkeypatch.setattr(column_generation, "_FEW", 0)
    found = relaxed.plan(prices, levels)
    assert found.bound <= listed.bound * (1 + 1e-9)
    assert found.cost == pytest.approx(listed.cost, rel=2e-4)
    assert found.gap < 2e-4


def test_a_planner_forgets_the_day_before():
    fleet = FLEETS["default"]
    used = DayAhead(fleet)
    used.plan(*day(fleet, 1))
    again, fresh = used.plan(*day(fleet, 2)), DayAhead(fleet).plan(*day(fleet, 2))
    assert again.bound == pytest.approx(fresh.bound, rel=1e-9)


def test_wider_sets_cost_more():
    fleet = FLEETS["default"]
    prices, levels = day(fleet, 4, 0.7)
    prices = np.abs(prices)
    costs = [
        PLANNERS["default"].plan(prices, Levels(levels.renewables / w, levels.requests * w, levels.arrivals * w)).cost
        for w in (1.0, 1.1, 1.25, 1.4)
    ]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_charge_and_backlog_carry_over():
    fleet = Fleet(carry_over=True, terminal="free")
    prices, levels = day(fleet, 5, 0.7)
    backlog = np.zeros((3, 7))
    backlog[0, 0], backlog[2, 6] = 300.0, 500.0
    charge = np.array([60.0, 200.0, 350.0])
    planner = DayAhead(fleet)
    schedule = planner.plan(prices, levels, charge, backlog)
    check(fleet, schedule, prices, levels, charge)
    done = schedule.carried.sum(1).cumsum(1)
    assert done[0, 0] == pytest.approx(300.0)
    assert done[2, 6] == pytest.approx(500.0)
    assert bool(schedule.shares[:, -1, :, 1:].any()) == (schedule.deferred > 0)
    tomorrow = np.concatenate([prices, np.full((3, 7), 10.0)], axis=1)
    assert planner.plan(tomorrow, levels, charge, backlog).deferred == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("what", [0, 1, 2])
def test_levels_beyond_the_fleet_give_an_infeasible_schedule(what):
    fleet = FLEETS["default"]
    prices, levels = day(fleet)
    wide = [levels.renewables, levels.requests, levels.arrivals]
    wide[what] = wide[what] * (0.0 if what == 0 else 40.0)
    schedule = PLANNERS["default"].plan(prices, Levels(*wide))
    if what:
        assert not schedule.feasible
    assert (schedule.purchase <= np.array(fleet.grid_limit)[:, None]).all()
    assert (schedule.reserved.sum(0) <= np.array(fleet.training_capacity)[:, None] * (1 + 1e-9)).all()
    assert (
        np.tensordot(fleet.serving.gpus, schedule.instances, 1) <= np.array(fleet.inference_capacity)[:, None]
    ).all()


def test_a_schedule_survives_packing():
    fleet = FLEETS["default"]
    schedule = PLANNERS["default"].plan(*day(fleet))
    again = Schedule.unpack(schedule.pack(), fleet)
    np.testing.assert_array_equal(again.pack(), schedule.pack())
    np.testing.assert_allclose(again.power, schedule.power)
    np.testing.assert_allclose(again.level, schedule.level)


@pytest.mark.parametrize("name", ["renewables", "requests", "arrivals"])
def test_wrong_levels_are_named(name):
    fleet = FLEETS["default"]
    prices, levels = day(fleet)
    broken = getattr(levels, name).copy()
    broken[0, 3] = np.nan
    with pytest.raises(ProblemError, match=rf"levels\.{name} is nan at \[0, 3\]"):
        PLANNERS["default"].plan(prices, levels._replace(**{name: broken}))
    with pytest.raises(ProblemError, match=name):
        PLANNERS["default"].plan(prices, levels._replace(**{name: broken[:, :5]}))
