"""Data centers day by day and hour by hour: the same accounts, the same every time, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

from shiftgym.data.errors import ShiftgymError, TraceError, UnknownNameError
from shiftgym.solvers.data_center import DataCenter
from shiftgym.solvers.data_center.day_ahead import Schedule
from shiftgym.solvers.data_center.fleet import Fleet
from shiftgym.solvers.data_center.hour import slices
from tests.worlds import FLEET, fleet_days, make, make_vec

DAY = 4
SUMMED = ("cost", "committed_cost", "emissions", "imported", "curtailed", "excess", "unserved_energy")
SUMMED += ("unserved_training", "unserved_requests", "violation_power", "violation_training", "violation_inference")


def prudent(task: Any, observation: Any, margin: float) -> Any:
    """Levels of an action: yesterday's values with a margin on the safe side."""
    forecast = task.layout.persistence(observation).astype(float)[: task.problem.uncertain_dim]
    sun = 2 * DAY
    return np.concatenate((forecast[:sun] / margin, forecast[sun:] * margin))


def run(env: Any, margin: float = 1.3, days: int = 6) -> list[dict[str, Any]]:
    observation, _ = env.reset(seed=0)
    infos = []
    for _ in range(days):
        observation, *_, info = env.step(prudent(env.unwrapped.task, observation, margin))
        infos.append(info)
    return infos


@pytest.mark.parametrize(("margin", "integer"), [(1.5, True), (0.9, True), (1.2, False)])
def test_the_hours_of_a_day_ahead_plan_settle_to_what_the_day_settles_to(margin: float, integer: bool) -> None:
    """Including what is not served, with whole instances and without."""
    daily = make("DataCenter", integer=integer)
    hourly = make("DataCenterHourly", action="schedule", integer=integer, oracle=False, episode_steps=24)
    observation, _ = daily.reset(seed=0)
    hourly.reset(seed=0)
    problem, unserved = daily.unwrapped.task.problem, 0.0
    for day in range(5):
        assert hourly.unwrapped.task.points.time[DAY * day] == daily.unwrapped.task.points.time[day]
        action = prudent(daily.unwrapped.task, observation, margin)
        previous = daily.unwrapped._previous
        observation, *_, info = daily.step(action)
        outcome = daily.unwrapped.last_outcome
        schedule, _ = problem.schedule(outcome, problem.project(action), previous)
        hours = [hourly.step(hour)[4] for hour in slices(schedule)]
        for key in SUMMED:
            total = sum(hour[key] for hour in hours)
            assert total == pytest.approx(info[key], rel=1e-7, abs=1e-6), (day, key)
        assert np.mean([hour["short_slots"] for hour in hours]) == pytest.approx(info["short_slots"])
        unserved += info["unserved_requests"]
    assert (unserved > 0) == (margin < 1)


def test_a_schedule_as_action_settles_as_the_levels_it_was_planned_for() -> None:
    by_levels, by_schedule = make("DataCenter", integer=True), make("DataCenter", action="schedule", integer=True)
    observation, _ = by_levels.reset(seed=0)
    by_schedule.reset(seed=0)
    task = by_levels.unwrapped.task
    for _ in range(4):
        action = prudent(task, observation, 1.2)
        previous = by_levels.unwrapped._previous
        observation, *_, info = by_levels.step(action)
        schedule, _ = task.problem.schedule(by_levels.unwrapped.last_outcome, task.problem.project(action), previous)
        *_, other = by_schedule.step(schedule.pack())
        for key in SUMMED:
            assert other[key] == pytest.approx(info[key], rel=1e-9, abs=1e-6), key
        assert not any(other[f"violation_{family}"] for family in by_schedule.unwrapped.task.problem.hard_families)
        assert other["violation_storage"] == 0


def test_one_seed_is_one_episode_whatever_was_replayed_before() -> None:
    """Degenerate days have several best schedules: which one is taken must not depend on the days before."""
    env = make("DataCenter", integer=True)
    first = run(env)
    run(env, margin=1.6)
    assert run(env) == first
    fresh = make("DataCenter", integer=True)
    fresh.reset(options={"start": 5})
    fresh.step(fresh.action_space.sample())
    assert run(fresh) == first


def test_all_is_served_at_a_price_and_regret_is_of_the_relaxation() -> None:
    careful, careless = run(make("DataCenter", integer=True), 3.0), run(make("DataCenter", integer=True), 0.8)
    assert all(info["unserved_requests"] == 0 and info["unserved_training"] == 0 for info in careful)
    assert all(info["regret"] > 0 for info in careful)
    assert all(info["violation"] for info in careless)
    assert sum(info["cost"] for info in careful) > sum(info["cost"] for info in careless)
    for info in careful:
        assert info["cost"] >= info["committed_cost"] - 1e-9 or info["imported"] > 0
        assert info["emissions"] >= info["committed_emissions"]


def test_levels_beyond_the_fleet_are_cut_to_what_it_can_do() -> None:
    env = make("DataCenter", integer=True)
    env.reset(seed=0)
    problem = env.unwrapped.task.problem
    *_, info = env.step(problem.high)
    assert info["infeasible_plan"] == 1
    schedule, _ = problem.schedule(env.unwrapped.last_outcome, problem.high)
    fleet = problem.fleet
    gpus = np.tensordot(fleet.serving.gpus.astype(float), schedule.instances, 1)
    assert (gpus <= np.array(fleet.inference_capacity)[:, None] + 1e-6).all()
    assert (schedule.reserved.sum(0) <= np.array(fleet.training_capacity)[:, None] + 1e-6).all()
    assert (schedule.purchase <= np.array(fleet.grid_limit)[:, None] + 1e-6).all()


def test_a_careless_schedule_is_corrected_block_by_block() -> None:
    problem = DataCenter(FLEET, action="schedule")
    rng = np.random.default_rng(0)
    asked = rng.uniform(-0.2, 1.2, problem.decision_dim) * problem.high
    feasible = problem.project(asked)
    assert problem.project(feasible) is feasible
    found = problem.excess(asked, feasible)
    assert all(found[family] > 0 for family in problem.hard_families)
    schedule, fleet = Schedule.unpack(feasible, problem.fleet), problem.fleet
    np.testing.assert_allclose(schedule.shares.sum((2, 3)), 1.0)
    assert (schedule.shares[:, -1, :, 1:] == 0).all()  # windows end with the day
    np.testing.assert_array_equal(schedule.instances, schedule.instances.round())
    gpus = np.tensordot(fleet.serving.gpus.astype(float), schedule.instances, 1)
    assert (gpus <= np.array(fleet.inference_capacity)[:, None]).all()
    assert (schedule.load <= schedule.instances * fleet.serving.capacity[:, None, None] + 1e-6).all()
    assert (schedule.reserved.sum(0) <= np.array(fleet.training_capacity)[:, None] + 1e-6).all()
    assert not (np.minimum(schedule.charge, schedule.discharge) > 0).any()
    outcome = np.abs(rng.normal(100, 10, problem.outcome_dim))
    assert problem.shortfall(outcome, feasible)["storage"] > 0  # a full battery takes no more
    _, stored = problem.schedule(outcome, feasible)
    low, high = np.outer(fleet.charge_range, fleet.battery)
    assert ((stored >= low - 1e-6) & (stored <= high + 1e-6)).all()


@pytest.mark.parametrize("terminal", ["cyclic", "free"])
def test_batteries_come_back_unless_they_are_free(terminal: str) -> None:
    env = make("DataCenter", fleet={**FLEET, "terminal": terminal})
    run(env, days=3)
    charge, start = env.unwrapped._previous, Fleet.from_dict(FLEET).initial()
    if terminal == "cyclic":
        np.testing.assert_allclose(charge, start, rtol=1e-6)
    else:
        assert np.abs(charge - start).max() > 1.0
    observation = env.unwrapped.task.observe(0, env.unwrapped._previous)
    np.testing.assert_allclose(observation[-2:], charge, rtol=1e-6)


def test_work_carried_over_midnight_is_not_lost() -> None:
    fleet = {**FLEET, "carry_over": True}
    env = make("DataCenter", fleet=fleet)
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation[-2:], 0.0)
    task, worked, arrived = env.unwrapped.task, 0.0, 0.0
    for day in range(5):
        state = task.problem.known_state(env.unwrapped._previous)
        action = prudent(task, observation, 2.0)
        observation, *_, info = env.step(action)
        outcome = env.unwrapped.last_outcome
        settled = task.problem.settlement(outcome, task.problem.project(action), state)
        worked += settled.work.sum()
        arrived += task.problem.outcome(outcome).arrivals.sum()
        np.testing.assert_allclose(env.unwrapped._previous[2:], settled.backlog.ravel())
        assert worked + settled.backlog.sum() == pytest.approx(arrived, rel=1e-6), day
        assert info["unserved_training"] == 0


def test_negative_prices_pay_for_power_and_still_settle() -> None:
    trace = fleet_days()
    prices = trace.context.copy()
    prices[:, :2] = -0.2
    env = make("DataCenter", trace=trace.replace(context=prices), integer=True)
    for info in run(env, 1.5, days=3):
        assert info["cost"] < 0
        assert info["excess"] + info["curtailed"] > 0
        assert info["regret"] >= -1e-9


def test_the_episode_oracle_is_no_dearer_than_its_days() -> None:
    env = make("DataCenter")
    days = run(env, days=6)
    outcomes = env.unwrapped.task.points.outcomes[:6]
    whole = env.unwrapped.task.problem.horizon_cost(outcomes)
    assert whole <= sum(info["oracle_cost"] for info in days) + 1e-9
    one = env.unwrapped.task.problem.horizon_cost(outcomes[:1])
    assert one == pytest.approx(days[0]["oracle_cost"], rel=1e-6)


def test_relative_levels_are_multiples_of_yesterday() -> None:
    relative, absolute = make("DataCenter", action="relative"), make("DataCenter")
    observation, _ = relative.reset(seed=0)
    absolute.reset(seed=0)
    factor = np.repeat([0.7, 1.4, 1.3], [2 * DAY, DAY, DAY])
    forecast = relative.unwrapped.task.layout.persistence(observation).astype(float)[: 4 * DAY]
    *_, one = relative.step(factor)
    *_, other = absolute.step(factor * forecast)
    assert one["cost"] == pytest.approx(other["cost"], rel=1e-5)
    assert relative.action_space.high.max() == 4


def test_an_hourly_policy_that_reacts_serves_more() -> None:
    """The same margin over what came an hour ago covers more than over what came a day ago, after a step up."""
    trace = fleet_days()
    outcome = trace.outcome.copy()
    outcome[40:, 2] *= 2.0
    daily, hourly = (
        make(name, trace=trace.replace(outcome=outcome, observed=outcome), episode_steps=steps)
        for name, steps in (("DataCenter", 12), ("DataCenterHourly", 48))
    )
    lost_daily = sum(info["unserved_requests"] for info in run(daily, 1.6, days=12))
    hourly.reset(seed=0)
    problem, lost = hourly.unwrapped.task.problem, 0.0
    action = problem.perfect(hourly.unwrapped.task.points.outcomes[0])
    action[problem._parts[1]] = 1.6
    for _ in range(48):
        lost += hourly.step(action)[4]["unserved_requests"]
    assert 0 < lost < lost_daily


def test_an_hour_is_trained_for_what_it_costs_and_for_what_it_leaves_undone() -> None:
    """At twenty times its price; so that who prepares for nothing is cheap, and never the best to learn from."""
    task = make("DataCenterHourly").unwrapped.task
    problem, outcomes = task.problem, task.points.outcomes[:48]
    enough, nothing = problem.perfect(outcomes), np.broadcast_to(problem.low, (48, problem.decision_dim))
    served, idle = problem.judge(outcomes, enough), problem.judge(outcomes, nothing)
    price = problem._prices_of_undone(outcomes)
    assert (price > 0).all()
    np.testing.assert_allclose(
        problem.objective(outcomes, nothing),
        idle.cost + 20 * sum(price[:, i] * idle.shortfall[name] for i, name in enumerate(problem.soft_families)),
    )
    calm = sum(served.shortfall.values()) == 0
    assert calm.any()
    np.testing.assert_array_equal(problem.objective(outcomes, enough)[calm], served.cost[calm])
    assert idle.cost.mean() < served.cost.mean()
    assert problem.objective(outcomes, nothing).mean() > problem.objective(outcomes, enough).mean()
    with pytest.raises(ShiftgymError, match="promise is 1"):
        make("DataCenterHourly", promise=1.0).unwrapped.task.problem.objective(outcomes, nothing)


def test_the_hourly_oracle_is_the_day_ahead_one_hour_by_hour() -> None:
    daily, hourly = make("DataCenter"), make("DataCenterHourly")
    days = run(daily, days=3)
    hourly.reset(seed=0)
    costs = [hourly.step(hourly.action_space.sample())[4]["oracle_cost"] for _ in range(12)]
    np.testing.assert_allclose(np.reshape(costs, (3, 4)).sum(1), [day["oracle_cost"] for day in days], rtol=1e-7)
    without = make("DataCenterHourly", oracle=False)
    without.reset(seed=0)
    assert without.step(without.action_space.sample())[4]["oracle_cost"] == 0


def test_more_centers_than_the_trace_has_columns_for() -> None:
    fleet = Fleet.of_size(5, seed=1)
    fields = {**FLEET, **{name: getattr(fleet, name) for name in ("pue", "it_factor", "battery", "charge_power")}}
    names = ("training_capacity", "inference_capacity", "grid_limit", "renewable_limit", "discharge_power")
    fields |= {name: getattr(fleet, name) for name in (*names, "charge_efficiency", "discharge_efficiency")}
    fields |= {"initial_charge": fleet.initial_charge, "sites": None, "centers": ["CA-0", "NL-1", "CA-2", "NL-3", "CA"]}
    vector = make_vec("DataCenter", 2, fleet=fields)
    vector.reset(seed=0)
    outcome = vector.unwrapped.task.problem.outcome(vector.unwrapped.task.points.outcomes[0])
    sizes = np.array(fleet.renewable_limit)[[0, 2]] / 1470.0
    np.testing.assert_allclose(outcome.renewables[0] / sizes[0], outcome.renewables[2] / sizes[1])
    np.testing.assert_array_equal(outcome.prices[0], outcome.prices[2])
    *_, info = vector.step(vector.action_space.sample())
    assert info["cost"].shape == (2,)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"fleet": {**FLEET, "centers": ["CA", "US"]}}, "no column 'renewable:US'"),
        ({"fleet": {**FLEET, "services": ["code"]}}, "no column 'requests:code'"),
        ({"fleet": {**FLEET, "slots": 5}}, "slots of the fleet is 5"),
        ({"trace": fleet_days(1)}, "fewer than lookback"),
        ({"fleets": {}}, "unknown keyword of the environment 'fleets'; did you mean 'fleet'"),
    ],
)
@pytest.mark.parametrize("name", ["DataCenter", "DataCenterHourly"])
def test_what_does_not_fit_is_refused(name: str, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises((TraceError, UnknownNameError, ShiftgymError), match=message):
        make(name, **keywords)


def test_gaps_and_other_slots_are_refused() -> None:
    trace = fleet_days()
    with pytest.raises(TraceError, match="slots of 7200"):
        make("DataCenter", trace=trace.replace(slot=7200.0, time=trace.time[0] + 2 * (trace.time - trace.time[0])))


def test_the_default_environments_can_be_made() -> None:
    for name, size in (("DataCenter", 192), ("DataCenterHourly", 23)):
        env = gymnasium.make(f"shiftgym/{name}-v0", trace="synthetic-datacenter[2021-01-01:2021-01-08]")
        env.reset(seed=0)
        assert env.action_space.shape == (size,)
        assert np.isfinite(env.step(env.action_space.sample())[0]).all()
    assert replace(Fleet(), slots=24) == Fleet()


@pytest.mark.real
@pytest.mark.parametrize("name", ["DataCenter", "DataCenterHourly"])
def test_real_days_are_replayed(name: str) -> None:
    env = gymnasium.make(f"shiftgym/{name}-v0", trace="datacenter-2021[2021-07-01:2021-07-08]")
    env.reset(seed=0)
    problem, served, costs = env.unwrapped.task.problem, 0, []
    for _ in range(3 if name == "DataCenter" else 72):
        *_, info = env.step(problem.perfect(env.unwrapped.foresight()[0, : problem.outcome_dim]))
        served += info["unserved_requests"] == info["unserved_training"] == 0
        costs.append((info["cost"], info["oracle_cost"]))
    mine, least = np.sum(costs, axis=0)
    assert mine > least > 0
    assert served == len(costs)
