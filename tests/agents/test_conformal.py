"""Provisioning with a promise: the realised rate of shortages against the promised one, and under a drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shiftgym.agents import load_agent, make_agent
from shiftgym.data.errors import ShiftgymError, UnknownNameError
from tests.worlds import make, make_vec, workload

BUDGET: dict[str, Any] = {"network": "mlp", "epochs": 2, "hidden": (16,)}


def shortages(agent: Any, slots: int = 1800, **keywords: Any) -> np.ndarray:
    """Whether each step of a replay of a new trace was short of service."""
    vector = make_vec("Provisioning", 1, trace=workload(slots, seed=1), episode_slots=None, **keywords)
    agent.reset()
    observations, _ = vector.reset(seed=0, options={"start": np.zeros(1, int)})
    broken = []
    for _ in range((slots - 28) // agent.problem_.horizon):
        observations, *_, info = vector.step(agent.act(observations))
        broken.append(info["violation_service"][0] > 0)
    return np.array(broken)


@pytest.mark.parametrize("horizon", [1, 4])
def test_the_realised_rate_is_the_promised_one(horizon: int) -> None:
    env = make("Provisioning", trace=workload(2400), horizon=horizon, episode_slots=28)
    agent: Any = make_agent("conformal", epsilon=0.1, **BUDGET).fit(env)
    assert agent.promise_ == {"service": 0.1}
    assert agent.certified_ == {"service": True}
    rate = shortages(agent, horizon=horizon, reference=env.unwrapped.task.reference).mean()
    assert 0.04 < rate < 0.14  # capacity that pays for itself holds more than what is promised at times


def test_a_drift_breaks_a_static_promise_and_not_one_that_follows() -> None:
    env = make("Provisioning", trace=workload(2400))
    shift = {"shift": "scale(factor=1.8)", "reference": env.unwrapped.task.reference}
    rates = {}
    for calibration in ("static", "rolling", "adaptive", "tracking"):
        agent = make_agent("conformal", epsilon=0.1, calibration=calibration, window=100, **BUDGET).fit(env)
        rates[calibration] = shortages(agent, 1000, **shift).mean()
    assert rates.pop("static") > 0.17
    assert max(rates.values()) < 0.13


def test_a_loaded_agent_begins_anew(tmp_path: Path) -> None:
    env = make("Provisioning", trace=workload(600))
    agent = make_agent("conformal", calibration="tracking", **BUDGET).fit(env)
    agent.save(tmp_path)
    np.testing.assert_array_equal(shortages(agent, 200), shortages(load_agent(tmp_path), 200))
    assert load_agent(tmp_path).promise_ == {"service": 0.05}


def test_few_outcomes_certify_nothing() -> None:
    env = make("Provisioning", trace=workload(60))
    agent: Any = make_agent("conformal", epsilon=0.01, **BUDGET).fit(env)
    assert agent.certified_ == {"service": False}
    observation, _ = env.reset(seed=0)
    assert agent.act(observation[None]) == agent.problem_.high


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ShiftgymError, match="epsilon is 2"):
        make_agent("conformal", epsilon=2)
    with pytest.raises(ShiftgymError, match="share is 1"):
        make_agent("conformal", share=1)
    with pytest.raises(UnknownNameError, match="calibration"):
        make_agent("conformal", calibration="live")
    with pytest.raises(ShiftgymError, match="made for Provisioning, this environment poses Inventory"):
        make_agent("conformal").fit(make("Inventory"))
    short = make("Provisioning", lookback=2, horizon=4, episode_slots=28)
    with pytest.raises(ShiftgymError, match="follows the last 4 slots"):
        make_agent("conformal", calibration="rolling", **BUDGET).fit(short)
