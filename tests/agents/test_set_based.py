"""Agents that withstand sets, in a small fleet: what they promise is kept, sets hold what they should, paths count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from shiftgym.agents import load_agent, make_agent
from shiftgym.agents.calibration import rank
from shiftgym.agents.drcc import kappa
from shiftgym.agents.protective import SHOWN_BY
from shiftgym.agents.scenario_robust import RADII, conditional_value_at_risk
from shiftgym.data.errors import ShiftgymError, UnknownNameError
from shiftgym.solvers import ProblemError
from tests.worlds import fleet_days, make

BUDGET: dict[str, Any] = {"epochs": 4, "hidden": (8,), "batch_size": 256}
SETS = ("ulro-box", "ulro-ellipsoid", "ulro-ellipsoid corr", "aro-box", "aro-ellipsoid")


def fitted(name: str, days: int = 240, **settings: Any) -> Any:
    kind, _, option = name.partition(" ")
    settings = {**BUDGET, **settings, **({option: True} if option else {})}
    return make_agent(kind, **settings).fit(make("DataCenter", trace=fleet_days(days)))


def new_days(days: int = 400, **keywords: Any) -> tuple[np.ndarray, np.ndarray]:
    """Observations and outcomes of days that no agent has seen."""
    reference = fleet_days(240)
    return make("DataCenter", trace=fleet_days(days, seed=1), reference=reference, **keywords).unwrapped.task.dataset()


def broken(agent: Any, observations: np.ndarray, outcomes: np.ndarray, path: bool = False) -> dict[str, float]:
    """Rates at which new days pass the levels, by what shows them; ``path`` for days one after the other."""
    agent.reset()
    if path:
        each = [agent._possible(agent.levels(row[None])) for row in observations]
        levels = {group: np.concatenate([one[group] for one in each]) for group in each[0]}
    else:
        levels = agent._possible(agent.levels(observations))
    days = agent._series.split(outcomes)
    return {
        "short_slots": (days["renewables"] < levels["renewables"] - 1e-9).mean(),
        "inference": (days["requests"] > levels["requests"]).any((1, 2)).mean(),
        "training": (days["arrivals"] > levels["arrivals"]).any((1, 2)).mean(),
    }


def test_the_multiples_of_the_moments_are_those_of_the_paper() -> None:
    assert kappa(0.05) == pytest.approx(4.3589, abs=1e-4)
    assert kappa(0.05, 48) == pytest.approx(30.97, abs=5e-3)
    assert kappa(0.05, 216) == pytest.approx(65.72, abs=5e-3)
    default = gymnasium.make("shiftgym/DataCenter-v0", trace="synthetic-datacenter[:200]")
    agent: Any = make_agent("drcc", epochs=1, hidden=(2,)).fit(default)
    assert [agent.rows(group) for group in ("renewables", "requests", "arrivals")] == [1, 48, 216]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("sided", ["two", "one"])
def test_sets_keep_their_promise_on_days_like_those_of_training(name: str, sided: str) -> None:
    agent = fitted(name, epsilon={"power": 0.1, "training": 0.2, "inference": 0.1}, sided=sided)
    assert agent.promise_ == {"short_slots": 0.1, "inference": 0.1, "training": 0.2}
    assert agent.certified_ == dict.fromkeys(agent.promise_, True)
    for shown, rate in broken(agent, *new_days()).items():
        promised = agent.promise_[shown]
        spread = np.sqrt(promised * (1 - promised) * (1 / 60 + 1 / 400))  # luck of 60 calibration and 400 new days
        assert rate < promised + 3 * spread
        if sided == "one" and shown != "short_slots" and name.endswith("box"):  # an ellipsoid has a hull around it
            assert rate > promised - 3 * spread


@pytest.mark.parametrize("name", SETS)
def test_calibration_is_exact_on_its_own_days(name: str) -> None:
    """Of n calibration days, k are within the threshold: the rank is that of Algorithm 1."""
    agent = fitted(name, 120, epsilon=0.1)
    for group, thresholds in agent._start(1).items():
        scores = agent.facts_[f"{group}.scores"]
        assert len(scores) == round(0.25 * 119)
        assert ((scores <= thresholds.value).sum(0) == rank(len(scores), 0.1)).all()


@pytest.mark.parametrize("name", ["aro-box", "aro-ellipsoid"])
def test_a_static_set_may_cover_its_calibration_days_only_as_in_the_paper(name: str) -> None:
    agent = fitted(name, 120, epsilon=0.1, coverage="calibration")
    for group, thresholds in agent._start(1).items():
        scores = agent.facts_[f"{group}.scores"]
        assert ((scores <= thresholds.value).sum(0) == np.ceil(0.9 * len(scores))).all()  # 27 of 30, not 28


def test_a_box_widened_by_its_own_width_keeps_its_promise_and_breathes_with_the_day() -> None:
    observations, outcomes = new_days()
    margins = {}
    for scale in ("errors", "width"):
        agent = fitted("ulro-box", epsilon=0.1, scale=scale)
        _, high, _ = agent.regions(observations)["requests"]
        margins[scale] = (agent.levels(observations)["requests"] - high).std(0).max() / high.mean()
        assert max(broken(agent, observations, outcomes).values()) < 0.1 + 3 * np.sqrt(0.09 * (1 / 60 + 1 / 400))
    assert margins["errors"] < 1e-6 < 1e-3 < margins["width"]


@pytest.mark.parametrize("name", ["ulro-box", "aro-ellipsoid"])
def test_one_side_is_cheaper_and_more_confidence_costs_more(name: str) -> None:
    observations, _ = new_days(60)
    two, one, sure = (
        fitted(name, **settings).levels(observations)
        for settings in ({"epsilon": 0.2}, {"epsilon": 0.2, "sided": "one"}, {"epsilon": 0.05})
    )
    for group, sign in (("renewables", -1), ("requests", 1), ("arrivals", 1)):
        assert (sign * (two[group] - one[group]) >= -1e-9).all()
        assert (sign * (sure[group] - two[group]) >= -1e-9).all()


def test_a_box_is_robust_to_everything_in_it_and_an_ellipsoid_too() -> None:
    """Levels are at the edge: no point of a set is beyond them, and some points of its boundary reach them."""
    rng = np.random.default_rng(0)
    observations, _ = new_days(10)
    for name in SETS:
        agent = fitted(name)
        levels, regions = agent.levels(observations), agent._pending
        for group in ("requests", "arrivals"):
            threshold = agent.threshold(group)[0].item()
            if name.endswith("box"):
                low, high, scale = regions[group]
                low, high = low - threshold * scale, high + threshold * scale
                points = low + rng.integers(0, 2, (10_000, *low.shape)) * (high - low)  # vertices
            else:
                mean, deviation = regions[group]
                correlation = agent._correlation(group)
                size = mean[0].size
                root = np.linalg.cholesky(np.eye(size) if correlation is None else correlation)
                ball = rng.normal(size=(10_000, size))
                ball /= np.linalg.norm(ball, axis=1, keepdims=True)
                turned = (ball @ root.T).reshape(-1, 1, *mean.shape[1:])
                points = mean + np.sqrt(threshold) * deviation * turned
            assert (points <= levels[group] + 1e-6).all()
            assert (points.max(0) > levels[group] - 0.2 * np.abs(levels[group])).all()


def test_few_days_certify_nothing_and_bounds_are_stated() -> None:
    agent = fitted("ulro-box", 40, epsilon=0.05)
    assert not any(agent.certified_.values())
    observations, _ = new_days(5)
    levels = agent._possible(agent.levels(observations))
    assert (levels["renewables"] == 0).all()
    most = fleet_days(40).outcome[:, 3].max()
    assert 2.0 * most < levels["arrivals"].max() <= 3 * most


def test_thresholds_follow_a_drift_that_breaks_static_ones() -> None:
    observations, outcomes = new_days(300, shift="scale(factor=1.25, columns='training:*')")
    rates = {}
    for calibration in ("static", "rolling", "tracking"):
        agent = fitted("aro-box", epsilon=0.1, sided="one", calibration=calibration, window=60)
        rates[calibration] = broken(agent, observations, outcomes, path=True)["training"]
    assert rates.pop("static") > 0.18
    assert max(rates.values()) < 0.14


def test_a_loaded_agent_begins_a_path_of_its_own(tmp_path: Path) -> None:
    agent = fitted("ulro-ellipsoid corr", calibration="adaptive")
    agent.save(tmp_path)
    again: Any = load_agent(tmp_path)
    observations, outcomes = new_days(30)
    assert broken(agent, observations, outcomes, path=True) == broken(again, observations, outcomes, path=True)
    assert again.promise_ == dict.fromkeys(SHOWN_BY.values(), 0.05)
    assert again.certified_ == agent.certified_


@pytest.mark.parametrize("name", ["drcc", "re-dro", "cvar-djcc"])
def test_baselines_are_on_the_safe_side(name: str) -> None:
    agent = fitted(name, epsilon=0.1)
    assert all(rate < 0.16 for rate in broken(agent, *new_days()).values())
    point = fitted("deterministic")
    observations, outcomes = new_days()
    assert min(broken(point, observations, outcomes).values()) > 0.3
    assert point.promise_ == {}
    if name != "drcc":
        assert all(agent.facts_[f"{group}.theta"].item() in RADII for group in ("renewables", "requests", "arrivals"))


def test_the_mean_of_the_worst_share_is_the_conditional_value_at_risk() -> None:
    values = np.random.default_rng(0).normal(size=(37, 2))
    grid = np.linspace(-4, 4, 4001)[:, None, None]
    for epsilon in (0.02, 0.1, 0.33):
        least = (grid[:, 0] + np.maximum(values - grid, 0).mean(1) / epsilon).min(0)
        np.testing.assert_allclose(conditional_value_at_risk(values, epsilon), least, atol=5e-3)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ShiftgymError, match="one for each of"):
        make_agent("ulro-box", epsilon={"power": 0.1})
    with pytest.raises(UnknownNameError, match="sided"):
        make_agent("aro-box", sided="left")
    with pytest.raises(UnknownNameError, match="coverage"):
        make_agent("aro-box", coverage="all")
    with pytest.raises(UnknownNameError, match="scale"):
        make_agent("ulro-box", scale="high")
    with pytest.raises(ShiftgymError, match="epochs is 0"):
        make_agent("drcc", epochs=0)
    with pytest.raises(ShiftgymError, match="made for DataCenter, this environment poses Portfolio"):
        make_agent("re-dro").fit(make("Portfolio"))
    for name in ("ulro-ellipsoid", "drcc"):  # cones, which the default solver of the environment cannot take
        with pytest.raises(ProblemError, match=r"solver='highs' solves no .* use one of .*'clarabel'"):
            make_agent(name, **BUDGET).fit(make("DataCenter", action="schedule"))


@pytest.mark.parametrize("name", ["ulro-ellipsoid", "ulro-ellipsoid corr", "drcc", "re-dro", "cvar-djcc"])
def test_schedules_withstand_what_levels_cannot_say_and_cost_less(name: str) -> None:
    """The counterpart of the set itself is cheaper than that of its hull, and no less safe."""
    kind, _, option = name.partition(" ")
    settings = {**BUDGET, "epsilon": 0.2, **({option: True} if option else {})}
    costs = {}
    for action in ("levels", "schedule"):
        env = make("DataCenter", trace=fleet_days(200), action=action, solver="auto")
        agent: Any = make_agent(kind, **settings).fit(env)
        problem, task = env.unwrapped.task.problem, env.unwrapped.task
        observations, outcomes = (rows[:6] for rows in task.dataset())
        decisions = agent.act(observations)
        feasible = problem.project(decisions)
        measures = problem.measure(outcomes, feasible, task.layout.state(observations))
        costs[action] = measures["committed_cost"]
        assert not measures["infeasible_plan"].any() or name == "drcc"
        if action == "schedule":
            assert sum(values.sum() for values in problem.excess(decisions, feasible).values()) < 1e-6
    assert costs["schedule"].sum() < costs["levels"].sum() + 1e-9
