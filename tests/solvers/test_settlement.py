"""Settlement: energy is conserved, a perfect forecast costs what was planned, and what was not planned for shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shiftgym.solvers.data_center.day_ahead import DayAhead, Levels, Schedule
from shiftgym.solvers.data_center.fleet import Fleet
from shiftgym.solvers.data_center.settlement import Outcome, handed_on, meet, settle

FLEET = Fleet()


def outcome(seed: int = 0, prices: float = 0.1, scale: float = 1.0) -> Outcome:
    """A made-up day: sun by day, two services with their peaks, steady training."""
    rng, hour = np.random.default_rng(seed), np.arange(24)
    sun = np.maximum(np.sin((hour - 6) / 12 * np.pi), 0)
    renewables = np.array([np.roll(sun, 8), sun, 0.4 + 0.2 * np.sin(hour / 4)])
    peak = 1 + 0.5 * np.sin((hour - 9) / 12 * np.pi)
    return Outcome(
        renewables=renewables * np.array(FLEET.renewable_limit)[:, None] * rng.uniform(0.3, 0.9, (3, 1)),
        requests=scale * np.array([[250.0], [420.0]]) * peak * rng.lognormal(0, 0.05, (2, 24)),
        arrivals=scale * np.array([[800.0], [500.0], [600.0]]) * rng.lognormal(0, 0.1, (3, 24)),
        prices=prices + 0.04 * rng.standard_normal((3, 24)),
        carbon=rng.uniform(0.1, 0.5, (3, 24)),
    )


def plan(day: Outcome, margin: float = 1.0, fleet: Fleet = FLEET, integer: bool = False) -> Schedule:
    levels = Levels(day.renewables / margin, margin * day.requests, margin * day.arrivals)
    return DayAhead(fleet, integer=integer).plan(day.rate(fleet.carbon_price), levels)


@pytest.mark.parametrize(("margin", "integer"), [(1.0, False), (0.8, True), (1.2, True)])
def test_energy_balance(margin: float, integer: bool) -> None:
    """Renewables used + import used + discharge + energy unserved = metered load + charge, in every center and hour."""
    day = outcome()
    schedule = plan(day, margin, integer=integer)
    result = settle(FLEET, schedule, day)
    supply = result.supply
    used = day.renewables - supply.curtailed
    imported = schedule.purchase + supply.imported - supply.excess
    came = used + imported + schedule.discharge + supply.unserved
    np.testing.assert_allclose(came, result.metered + schedule.charge, atol=1e-9)
    for part in (*supply, used, result.work, result.late_work, result.served, result.refused):
        assert (part >= -1e-9).all()
    assert (schedule.purchase + supply.imported <= np.array(FLEET.grid_limit)[:, None] + 1e-9).all()
    assert (result.metered <= schedule.power + 1e-6).all()  # who admits no more than planned draws no more than planned
    assert (supply.unserved.sum() > 1e-6) <= (result.short.sum() > 0)


@pytest.mark.parametrize("prices", [0.1, -0.2])
def test_a_perfect_forecast_settles_to_the_objective(prices: float) -> None:
    day = outcome(1, prices)
    schedule = plan(day)
    result = settle(FLEET, schedule, day)
    assert schedule.feasible
    assert result.settled == pytest.approx(schedule.cost, rel=1e-9)
    assert result.committed == pytest.approx(schedule.cost, rel=1e-9)
    assert not any(part.any() for part in (result.late_work, result.refused, result.short))
    assert result.supply.unserved.max() < 1e-6


def test_nothing_settles_below_perfect_information_when_all_is_served() -> None:
    """Whatever the margin that a whole-numbered schedule was made with, at positive and negative prices."""
    served = 0
    for seed, prices in enumerate((0.1, 0.05, -0.15)):
        day = outcome(seed, prices)
        best = plan(day).cost
        for margin in (1.0, 1.1, 1.4):
            result = settle(FLEET, plan(day, margin, integer=True), day)
            if not any(part.any() for part in (result.late_work, result.refused, result.supply.unserved > 1e-6)):
                served += 1
                assert result.settled >= best - 1e-6
    assert served >= 6


def test_what_exceeds_the_plan_is_unserved_and_shows_as_a_violation() -> None:
    day = outcome()
    schedule = plan(day)
    more = day._replace(requests=1.1 * day.requests, arrivals=1.1 * day.arrivals, renewables=0.5 * day.renewables)
    result = settle(FLEET, schedule, more)
    np.testing.assert_allclose(result.refused, 0.1 * day.requests, rtol=1e-6)
    np.testing.assert_allclose(result.served, day.requests)
    np.testing.assert_allclose(result.late_work.sum((1, 2)), 0.1 * day.arrivals.sum(1), rtol=1e-3)
    np.testing.assert_allclose(result.short.sum(), 0.5 * day.renewables.sum(), rtol=0.3)
    assert result.supply.imported.sum() > 0
    assert result.settled > result.committed
    quiet = settle(FLEET, schedule, day._replace(requests=0 * day.requests, arrivals=0 * day.arrivals))
    idle = np.tensordot(FLEET.serving.idle_power, schedule.instances, 1) * FLEET.facility[:, None]
    np.testing.assert_allclose(quiet.metered, idle)  # what is switched on draws its idle power


def test_imports_in_need_cost_half_more_even_at_negative_prices() -> None:
    day = outcome()._replace(prices=np.full((3, 24), -0.08), carbon=np.full((3, 24), 0.3))
    assert day.rate(0.1)[0, 0] == pytest.approx(-0.05)
    assert day.real_time_rate(0.1)[0, 0] == pytest.approx(-0.01)
    assert outcome()._replace(prices=np.full((3, 24), 0.08)).real_time_rate(0.0)[0, 0] == pytest.approx(0.12)


def test_surplus_is_curtailed_first_and_lost_second() -> None:
    one = {key: np.array([value]) for key, value in {"need": 50.0, "renewables": 30.0, "purchase": 60.0}.items()}
    supply = meet(**one, grid_limit=np.array([100.0]))
    assert [part.item() for part in supply] == [0.0, 0.0, 30.0, 10.0]
    supply = meet(np.array([200.0]), one["renewables"], one["purchase"], np.array([100.0]))
    assert [part.item() for part in supply] == [40.0, 70.0, 0.0, 0.0]


def test_what_is_put_off_is_the_next_days_backlog() -> None:
    fleet = replace(FLEET, carry_over=True)
    shares = np.zeros((3, 24, 3, 8))
    shares[..., 0, 0] = 1.0
    shares[2, 23, 0, 0], shares[2, 23, 1, 4] = 0.25, 0.75  # P100 may wait 7 hours: due by hour 6 of the next day
    arrivals = np.full((3, 24), 100.0)
    late = np.zeros((3, 3, 24))
    late[0, 0, 5] = 8.0  # V100 may wait 2 hours
    backlog = handed_on(fleet, shares, arrivals, late)
    expected = np.zeros((3, 7))
    expected[2, 6], expected[0, 1] = 75.0, 8.0
    np.testing.assert_allclose(backlog, expected)
    assert not handed_on(FLEET, shares, arrivals, late).any()


@pytest.mark.parametrize("surprise", [1.0, 1.3])
def test_no_work_is_lost_between_days(surprise: float) -> None:
    """Neither what was put off, nor what came unforeseen and found the reserved GPUs busy."""
    fleet = replace(FLEET, carry_over=True)
    day = outcome()
    levels = Levels(day.renewables, day.requests, day.arrivals)
    before = np.array([[5.0, 0, 0, 0, 0, 0, 0], [0, 9.0, 0, 0, 0, 0, 0], [0, 0, 0, 30.0, 0, 0, 0]])
    prices = day.rate(0.1)
    prices[:, -6:] += 1.0  # evening is dear, so work waits for the next day, which is taken to begin like this one
    schedule = DayAhead(fleet, integer=False).plan(prices, levels, backlog=before)
    arrivals = surprise * day.arrivals
    result = settle(fleet, schedule, day._replace(arrivals=arrivals))
    assert result.backlog.sum() > 100
    assert (result.late_work.sum() > 100) == (surprise > 1)
    np.testing.assert_allclose(result.work.sum() + result.backlog.sum(), arrivals.sum() + before.sum(), rtol=1e-6)
