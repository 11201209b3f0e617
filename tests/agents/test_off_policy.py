"""Logged bandit feedback: true propensities, estimates that agree with what replay knows, a policy learned from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shiftgym.agents import make_agent
from shiftgym.agents.behaviour import BanditLog, GaussianAround, true_value
from shiftgym.agents.coach import replayed_objective
from shiftgym.agents.off_policy import METHODS, CostModel, off_policy_value
from shiftgym.data import ShiftgymError
from tests.worlds import demand, make, workload


@pytest.fixture(scope="module")
def env() -> Any:
    return make("Provisioning", trace=workload(slots=800), lookback=3)


@pytest.fixture(scope="module")
def logs(env: Any) -> list[BanditLog]:
    return [BanditLog.collect(env.unwrapped.task, around(env, "saa", 1.0), seed) for seed in range(6)]


@pytest.fixture(scope="module")
def models(logs: list[BanditLog]) -> list[CostModel]:
    return [CostModel.fit(log, epochs=15) for log in logs]


def around(env: Any, name: str, exploration: float, **settings: Any) -> GaussianAround:
    return GaussianAround.of(make_agent(name, **settings).fit(env), env.unwrapped.task, exploration)


def test_propensities_are_the_densities_of_the_requests(env: Any) -> None:
    policy = around(env, "saa", 0.7)
    observations = env.unwrapped.task.dataset()[0]
    decisions, log_propensity = policy.draw(observations, np.random.default_rng(0))
    np.testing.assert_allclose(policy.log_density(observations, decisions), log_propensity)
    centre, width = policy.agent.act(observations)[0], policy.spread[0]
    grid = np.linspace(centre - 8 * width, centre + 8 * width, 2001)
    density = np.exp(policy.log_density(np.repeat(observations[:1], len(grid), 0), grid.reshape(-1, 1)))
    assert np.trapezoid(density, grid[:, 0]) == pytest.approx(1.0)
    assert decisions.std() == pytest.approx(width, rel=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_estimates_agree_with_the_true_value(
    env: Any, logs: list[BanditLog], models: list[CostModel], method: str
) -> None:
    """What replaying a policy costs is within the error of the estimates from logs of another; the model is biased."""
    task = env.unwrapped.task
    logging, other = around(env, "saa", 1.0), around(env, "constant", 0.6, value=0.06)
    truth, usual = true_value(task, other), true_value(task, logging)
    assert truth < 1.2 * usual
    estimates = [off_policy_value(log, other, method, model) for log, model in zip(logs, models, strict=True)]
    values = np.array([estimate.value for estimate in estimates])
    assert abs(values.mean() - truth) < 0.4 * abs(truth - usual)
    if method != "dm":
        assert abs(values.mean() - truth) < 4 * values.std(ddof=1) / np.sqrt(len(values))
        assert all(abs(value - truth) < 3 * error for value, error in estimates)


def test_doubly_robust_estimates_vary_less(env: Any, logs: list[BanditLog]) -> None:
    other = around(env, "constant", 0.6, value=0.06)
    assert off_policy_value(logs[0], other, "dr").error < off_policy_value(logs[0], other, "ips").error


def test_a_log_survives_a_file(env: Any, tmp_path: Path) -> None:
    log = BanditLog.collect(env.unwrapped.task, around(env, "persistence", 0.5), 3)
    log.save(tmp_path / "log.safetensors")
    again = BanditLog.load(tmp_path / "log.safetensors")
    for name in ("observations", "decisions", "log_propensity", "costs"):
        np.testing.assert_array_equal(getattr(again, name), getattr(log, name))
    (tmp_path / "other").write_text("nothing")
    with pytest.raises(ShiftgymError, match="no log"):
        BanditLog.load(tmp_path / "other")
    agent = make_agent("bandit", feedback="ips", log=str(tmp_path / "log.safetensors"), epochs=1, hidden=(8,))
    agent.fit(env)
    with pytest.raises(ShiftgymError, match="this environment has"):
        agent.fit(make("PowerScheduling"))


def test_a_bandit_learns_from_a_log() -> None:
    """From the costs of bad requests alone it comes near to what full information teaches."""
    env = make("Inventory", trace=demand(steps=700))
    task = env.unwrapped.task
    budget = {"epochs": 20, "hidden": (16,), "learning_rate": 8e-3, "network": "mlp"}
    full = make_agent("bandit", **budget).fit(env)
    logged, best = true_value(task, around(env, "constant", 1.0, value=5.0)), replayed_objective(task, full.act)
    for settings in ({"feedback": "ips"}, {"feedback": "dr"}, {"feedback": "dr", "pessimism": 1.0}):
        agent = make_agent("bandit", **budget, **settings, behaviour="constant").fit(env)
        assert replayed_objective(task, agent.act) < best + 0.35 * (logged - best), settings


def test_settings_are_checked() -> None:
    for settings in ({"feedback": "some"}, {"narrower": 2.0}, {"pessimism": -1.0}):
        with pytest.raises(ShiftgymError, match=next(iter(settings))):
            make_agent("bandit", **settings)
    with pytest.raises(ShiftgymError, match="off-policy method"):
        off_policy_value(None, None, "magic")  # type: ignore[arg-type]
