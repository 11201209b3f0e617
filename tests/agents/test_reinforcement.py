"""Agents that stable-baselines3 trains: they learn, are scaled once and for all, resume, are rebuilt without it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shiftgym.agents import load_agent, make_agent
from shiftgym.agents.coach import WORST, ScaledVecEnv, replayed_objective
from shiftgym.agents.scaling import Scaling
from shiftgym.data import ShiftgymError
from shiftgym.envs.vector import ReplayVectorEnv
from tests.worlds import demand, make, make_vec, workload

SHORT: dict[str, Any] = {"steps": 256, "replays": 8, "hidden": (8,), "evaluations": 2}
NAMES = ("ppo", "sac", "td3")


def test_ppo_learns_what_stock_costs() -> None:
    """Demand does not depend on what was seen: following it, as the policy does in the beginning, is costly."""
    env = make("Inventory", trace=demand(steps=600))
    agent = make_agent("ppo", steps=6_000, anchor="persistence", learning_rate=3e-3, hidden=(16,)).fit(env)
    task = env.unwrapped.task
    best, first = (replayed_objective(task, make_agent(name).fit(env).act) for name in ("saa", "persistence"))
    losses = [epoch.loss for epoch in agent.history_]
    assert min(losses) < losses[0]
    assert replayed_objective(task, agent.act) < best + 0.5 * (first - best)


@pytest.mark.parametrize("name", NAMES)
def test_training_leaves_the_generators_of_the_process_alone(name: str) -> None:
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    make_agent(name, **SHORT).fit(make("Provisioning"))
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_training_resumes(name: str, tmp_path: Path) -> None:
    env = make("Provisioning")
    first = make_agent(name, **SHORT, checkpoint=str(tmp_path))
    first.fit(env)
    again = make_agent(name, **SHORT, checkpoint=str(tmp_path)).fit(env)  # finished: nothing left to do
    observations = env.unwrapped.task.dataset()[0]
    np.testing.assert_array_equal(first.act(observations), again.act(observations))
    assert [epoch.epoch for epoch in again.history_] == [epoch.epoch for epoch in first.history_]
    file = tmp_path / "checkpoint.pt"
    content = torch.load(file, weights_only=True)
    content["judgements"] = [part[:2] for part in content["judgements"]]  # as if it had been stopped half-way
    torch.save(content, file)
    half = content["judgements"][0][-1]
    resumed = make_agent(name, **SHORT, checkpoint=str(tmp_path)).fit(env)
    steps = [epoch.epoch for epoch in resumed.history_]
    assert steps[:2] == content["judgements"][0]
    assert half < steps[-1]
    assert steps[-1] >= SHORT["steps"]
    with pytest.raises(ShiftgymError, match="another training"):
        make_agent(name, **{**SHORT, "hidden": (9,)}, checkpoint=str(tmp_path)).fit(env)
    file.write_bytes(b"nothing")
    with pytest.raises(ShiftgymError, match="no checkpoint"):
        make_agent(name, **SHORT, checkpoint=str(tmp_path)).fit(env)


def test_patience_ends_a_training_that_does_not_improve() -> None:
    settings = {**SHORT, "steps": 8_000, "evaluations": 40, "learning_rate": 1e-30, "patience": 3}
    agent = make_agent("ppo", **settings).fit(make("Provisioning"))
    assert len(agent.history_) == 4


def test_scaling_is_that_of_the_training_trace(tmp_path: Path) -> None:
    """The same observation leads to the same decision, whatever is replayed beside it."""
    agent = make_agent("ppo", **SHORT, seed=3).fit(make("Provisioning"))
    agent.save(tmp_path)
    loaded = load_agent(tmp_path)
    elsewhere = make_vec("Provisioning", 3, trace=workload(seed=5), shift="scale(factor=4)", reference=workload())
    observations, _ = elsewhere.reset(seed=0, options={"start": np.array([0, 5, 9])})
    together = agent.act(observations)
    np.testing.assert_array_equal(together, loaded.act(observations))
    for row in range(3):
        np.testing.assert_allclose(
            together[row : row + 1], agent.act(observations[row : row + 1]), rtol=1e-5, atol=1e-7
        )


def test_patience_waits_for_the_first_update() -> None:
    agent = make_agent("ppo", **{**SHORT, "evaluations": 256, "patience": 1}).fit(make("Provisioning"))
    assert [epoch.epoch for epoch in agent.history_][:2] == [0, 128]  # 8 replays of 16 steps


@pytest.mark.parametrize("name", NAMES)
def test_training_begins_with_the_anchor_and_pays_in_costs_that_decisions_change(name: str) -> None:
    """Action zero everywhere; where stock is kept, a reward for what it saves later, which regret would take back."""
    env = make("Inventory", carry=True)
    task = env.unwrapped.task
    scaling = Scaling.fit(task, "saa", 1.5)
    agent = make_agent(name, **SHORT, anchor="saa", reach=1.5, validation=0.5).fit(env)
    half = len(task) - int(len(task) * 0.5)
    start = make_agent("constant", value=Scaling.fit(task.part(0, half), "saa", 1.5).centre.item()).fit(env)
    assert agent.history_[0].loss == pytest.approx(replayed_objective(task.part(half, len(task)), start.act))
    replays = ReplayVectorEnv.of(task, 1)
    scaled = ScaledVecEnv(replays, scaling)
    scaled.reset()
    for action in (1.0, 1.0, -1.0):
        _, reward, _, (info,) = scaled.step(np.full((1, 1), action, np.float32))
        blank = task.problem.perfect(replays.last_outcome)
        least = task.problem.least_cost(replays.last_outcome, blank).item()
        assert reward[0] == pytest.approx(max(WORST, (least - info["cost"]) / scaling.unit), rel=1e-5)
    assert abs(least - info["oracle_cost"]) > 1  # stock is left


@pytest.mark.parametrize("anchor", ["persistence", "saa"])
def test_action_zero_is_fair_and_actions_reach_far_enough(anchor: str) -> None:
    task = make("PowerScheduling").unwrapped.task
    scaling = Scaling.fit(task, anchor, 3.0)
    observations, outcomes = task.dataset()
    problem, layout = task.problem, task.layout
    decisions = scaling.decide(problem, layout, observations, np.zeros((len(observations), problem.decision_dim)))
    perfect = problem.perfect(outcomes)
    fair = perfect.mean(0) if anchor == "persistence" else problem.solve(outcomes[None])[0]
    np.testing.assert_allclose(decisions.mean(0), fair)
    if anchor == "persistence":
        assert np.mean(np.abs(perfect - decisions) <= scaling.reach) > 0.95
    else:  # the best constant decision is far from the average of perfect ones where prices differ
        np.testing.assert_allclose(scaling.reach, 3 * perfect.std(0))
    seen = scaling.see(observations)
    assert np.abs(seen[:, : layout.lookback * layout.columns].mean()) < 0.05
    assert np.abs(scaling.see(observations * 1e6)).max() == 10.0


def test_replayed_objective_is_what_the_environment_charges() -> None:
    for name, keywords in (
        ("Provisioning", {}),
        ("Inventory", {"carry": True}),
        ("Provisioning", {"switching_cost": 0.1}),
    ):
        vector = make_vec(name, 1, mode="Disabled", **keywords)
        task = vector.unwrapped.task
        agent = make_agent("persistence").fit(vector)
        steps = task.episode_steps
        part = task.part(0, steps)
        observations, _ = vector.reset(seed=0)
        charged = []
        for _ in range(steps):
            observations, reward, *_ = vector.step(agent.act(observations))
            charged.append(-reward[0])
        assert replayed_objective(part, agent.act) == pytest.approx(np.mean(charged))


def test_a_part_of_a_task_is_a_window_of_it() -> None:
    for name, keywords in (("PowerScheduling", {}), ("Provisioning", {"horizon": 4}), ("Inventory", {"carry": True})):
        task = make(name, **keywords).unwrapped.task
        part = task.part(3, 9)
        assert len(part) == 6
        state = np.full((6, task.problem.state_dim), np.nan)
        np.testing.assert_array_equal(part.observe(np.arange(6), state), task.observe(np.arange(3, 9), state))
        np.testing.assert_array_equal(part.points.outcomes, task.points.outcomes[3:9])
    with pytest.raises(ShiftgymError, match="no window"):
        task.part(5, 5)


def test_settings_are_checked() -> None:
    for field, value in (("steps", 0), ("validation", 1.0), ("gamma", 1.5), ("replays", -1)):
        with pytest.raises(ShiftgymError, match=field):
            make_agent("ppo", **{field: value})
    with pytest.raises(ShiftgymError, match="anchor"):
        make_agent("ppo", anchor="nothing", steps=8).fit(make("Provisioning"))


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    make_agent("ppo", **SHORT, tensorboard=str(tmp_path)).fit(make("Provisioning"))
    assert list(tmp_path.rglob("events*"))
