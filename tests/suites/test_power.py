"""The power suites on the real loads: the published protocol and figures, years, zones and clocks."""

from __future__ import annotations

import numpy as np
import pytest

from shiftgym.agents import make_agent
from shiftgym.data import load_trace
from shiftgym.envs.shifts import parse_shift
from shiftgym.evaluation.rollout import TestBench, make_training_env
from shiftgym.evaluation.scenario import Scenario, load_suite


def scenario(suite: str, name: str) -> Scenario:
    return next(scenario for scenario in load_suite(suite).scenarios if scenario.name == name)


def made(case: Scenario):
    """Training environment and test task of a scenario."""
    return make_training_env(case.env, case.train, case.env_kwargs), TestBench.make(case, seed=0).env.task


@pytest.fixture(scope="module")
def published():
    return made(scenario("power/published", "as published"))


def mean_cost(agent, task) -> float:
    observations, outcomes = task.dataset()
    decisions = agent.act(observations)
    assert not any(excess.any() for excess in task.problem.violations(outcomes, decisions).values())
    return float(task.problem.cost(outcomes, decisions).mean())


@pytest.mark.real("pjm-duq")
def test_the_published_protocol_has_2553_training_and_639_test_days(published):
    training, test = published[0].unwrapped.task, published[1]
    assert (len(training), len(test)) == (2553, 639)
    assert training.layout.size == 149  # 150 with the intercept
    bench = TestBench.make(scenario("power/published", "as published"), seed=0)
    assert (len(bench.starts), bench.steps) == (639, 1)


@pytest.mark.real("pjm-duq")
def test_the_scenario_without_temperature_decides_the_same_days(published):
    training, test = made(scenario("power/published", "load only"))
    assert np.array_equal(test.points.time, published[1].points.time)
    assert np.array_equal(test.points.outcomes, published[1].points.outcomes)
    theirs = published[0].unwrapped.task.points.time
    assert np.array_equal(training.unwrapped.task.points.time, theirs[6:])  # six days more are seen before the first


# Our trial without any decision-focused training. How far a draw of few residuals is from the next one was measured
# over 40 seeds (24 at M = 200, 8 at M = 1000): the standard deviations are 4.5, 2.7, 1.2, 0.5 and 0.2. A mean over
# eight seeds has to be within one.
@pytest.mark.real("pjm-duq")
@pytest.mark.parametrize(
    ("samples", "seeds", "trial", "tolerance"),
    [(10, 8, 11.3, 4.5), (25, 8, 7.2, 2.7), (50, 8, 5.3, 1.2), (200, 8, 4.6, 0.5), (1000, 2, 4.5, 0.2)],
)
def test_a_ridge_regression_with_its_residuals_lands_where_it_did(published, samples, seeds, trial, tolerance):
    environment, task = published
    agents = [make_agent("residual-saa", samples=samples, seed=seed).fit(environment) for seed in range(seeds)]
    assert np.mean([mean_cost(agent, task) for agent in agents]) == pytest.approx(trial, abs=tolerance)


@pytest.mark.real("pjm-duq")
def test_all_residuals_and_an_honest_forecast_cost_least(published):
    costs = {
        name: mean_cost(make_agent("residual-saa", samples=None).fit(environment), task)
        for name, (environment, task) in {
            "as published": published,
            "load only": made(scenario("power/published", "load only")),
        }.items()
    }
    assert costs["as published"] == pytest.approx(4.4, abs=0.1)
    assert costs["load only"] == pytest.approx(3.85, abs=0.02)  # nothing random: the load of a week beats the weather


# What is decided, the years before it, and the other zone's scale.
ZONES = [
    ("PJM East, 2012", "pjm-east", "2008-01-01", "2012-01-01"),
    ("Appalachian, 2019", "pjm-aep", "2016-01-01", "2019-01-01"),
    ("California, 2021", "caiso", "2019-01-01", "2021-01-01"),
]


@pytest.mark.real("pjm-duq-long", "pjm-east", "pjm-aep", "caiso")
@pytest.mark.parametrize(("name", "zone", "first", "last"), ZONES)
def test_other_zones_are_scaled_by_their_years_before(name, zone, first, last):
    case = scenario("power/shifts", name)
    before = load_trace(f"{zone}[{first}:{last}]").outcome.mean()
    expected = load_trace(case.train).outcome.mean() / before
    assert parse_shift(case.shift).to_dict()["factor"] == pytest.approx(expected, rel=1e-3)
    task = made(case)[1]
    assert task.points.time[0] == np.datetime64(last, "s").astype(float)
    assert task.points.outcomes.mean() == pytest.approx(load_trace(case.train).outcome.mean(), rel=0.1)


@pytest.mark.real("pjm-duq-long")
@pytest.mark.parametrize("year", range(2012, 2017))
def test_a_later_year_is_decided_as_a_whole(year):
    task = made(scenario("power/shifts", str(year)))[1]
    days = task.points.time[: len(task)].astype("datetime64[s]").astype("datetime64[D]")
    first, last = np.datetime64(f"{year}-01-01"), np.datetime64(f"{year + 1}-01-01")
    assert np.array_equal(days, np.arange(first, last))


@pytest.mark.real("pjm-duq")
def test_a_heat_wave_brings_hot_days_with_their_load_and_temperature():
    case = next(s for s in load_suite("power/shifts").scenarios if s.sweep == "heat wave" and s.severity == 4)
    summer, wave = load_trace(case.test), made(case)[1].trace
    hottest = [trace.context.reshape(-1, 24).max(axis=1).mean() for trace in (summer, wave)]
    assert hottest[1] > hottest[0] + 3  # degrees Fahrenheit
    assert wave.outcome.mean() > 1.05 * summer.outcome.mean()
    place = {day.tobytes(): row for row, day in enumerate(summer.outcome.reshape(-1, 24))}
    drawn = [place[day.tobytes()] for day in wave.outcome.reshape(-1, 24)]  # every day is one of the summer's
    assert np.array_equal(wave.context.reshape(-1, 24), summer.context.reshape(-1, 24)[drawn])
