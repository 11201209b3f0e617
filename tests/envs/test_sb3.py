"""Stable-baselines3 on the native vector environment sees what it sees on as many monitored single ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize

from shiftgym.agents import make_agent
from shiftgym.data import ShiftgymError
from shiftgym.envs import to_sb3
from tests.worlds import SMALL, VARIANTS, make, make_vec, steps

natural_units = pytest.mark.filterwarnings("ignore:We recommend you to use a symmetric")


def dummy(name: str, count: int, keywords: dict[str, Any], kind: Any = None) -> Any:
    keywords = {"trace": f"small-{name}", **SMALL.get(name, {}), **keywords}
    return make_vec_env(f"shiftgym/{name}-v0", count, seed=7, env_kwargs=keywords, vec_env_cls=kind)


def same_info(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if key == "episode":
            assert (ours[key]["r"], ours[key]["l"]) == (pytest.approx(value["r"], abs=2e-6), value["l"])
            assert ours[key].keys() == value.keys()
        else:
            assert type(ours[key]) is type(value)
            np.testing.assert_allclose(ours[key], value, rtol=1e-12, atol=1e-14, err_msg=key)


@pytest.mark.parametrize(("name", "keywords"), VARIANTS[::2])
def test_it_steps_like_sb3s_own(name: str, keywords: dict[str, Any]) -> None:
    ours, theirs = to_sb3(make_vec(name, 3, **keywords)), dummy(name, 3, keywords)
    ours.seed(7)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    assert ours.reset_infos == theirs.reset_infos
    ours.action_space.seed(0)
    ended = 0
    for _ in range(steps(name, 50)):
        actions = np.stack([ours.action_space.sample() for _ in range(3)])
        seen, rewards, dones, infos = ours.step(actions)
        expected = theirs.step(actions)
        np.testing.assert_array_equal(seen, expected[0])
        np.testing.assert_allclose(rewards, expected[1], rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(dones, expected[2])
        assert (seen.dtype, rewards.dtype, dones.dtype) == tuple(part.dtype for part in expected[:3])
        for mine, one in zip(infos, expected[3], strict=True):
            same_info(mine, one)
        for mine, one in zip(ours.reset_infos, theirs.reset_infos, strict=True):
            same_info(mine, one)
        ended += dones.sum()
    assert ended


@natural_units
def test_a_learning_curve_is_that_of_sb3s_own() -> None:
    curves = []
    keywords = {"order": "random", "episode_slots": 8}
    for env in (to_sb3(make_vec("Provisioning", 4, **keywords)), dummy("Provisioning", 4, keywords)):
        model = PPO("MlpPolicy", env, seed=7, n_steps=16, batch_size=32, n_epochs=2, device="cpu")
        returns = []
        for _ in range(6):
            model.learn(64, reset_num_timesteps=False)
            returns.append([episode["r"] for episode in model.ep_info_buffer])
        curves.append((returns, model.policy.state_dict()))
    (ours, weights), (theirs, others) = curves
    assert len(ours[-1]) > 20
    np.testing.assert_allclose(np.concatenate(ours), np.concatenate(theirs), rtol=1e-5)
    for key, value in weights.items():
        np.testing.assert_allclose(value, others[key], rtol=1e-4, atol=1e-6, err_msg=key)


def test_options_reach_the_rows_once() -> None:
    env = to_sb3(make_vec("Provisioning", 3))
    env.set_options([{"start": row, "length": 2} for row in (0, 5, 9)])
    observations = env.reset()
    task = env.get_attr("unwrapped")[0].task
    np.testing.assert_array_equal(observations, task.observe(np.array([0, 5, 9])))
    actions = np.zeros((3, 1), np.float32)
    env.step(actions)
    assert env.step(actions)[2].all()
    env.seed(0)
    np.testing.assert_array_equal(env.reset(), task.observe(np.array([0, 0, 0])))
    env.set_options([{"length": 2}, {"length": 3}, {}])
    with pytest.raises(ShiftgymError, match="start only"):
        env.reset()


def test_rows_are_asked_and_told() -> None:
    env = to_sb3(make_vec("Portfolio", 3, render_mode="rgb_array"))
    env.reset()
    env.step(np.full((3, 5), 0.2, np.float32))
    assert env.get_attr("action_space") == [env.action_space] * 3
    assert [part.shape for part in env.get_attr("last_outcome", [0, 2])] == [(5,), (5,)]
    assert env.env_method("foresight", indices=1)[0].shape == (5,)
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.get_images()[0].shape == (400, 800, 3)
    env.set_attr("label", "mine")
    assert env.get_attr("label") == ["mine"] * 3
    assert not env.has_attr("nonsense")
    with pytest.raises(ShiftgymError, match="leave indices out"):
        env.set_attr("label", "yours", indices=1)
    env.close()


def test_only_native_vectors_are_taken() -> None:
    with pytest.raises(ShiftgymError, match="make_vec"):
        to_sb3(gymnasium.make_vec("CartPole-v1", num_envs=2))


@natural_units
def test_sb3s_own_wrappers_and_evaluation() -> None:
    env = VecNormalize(to_sb3(make_vec("Inventory", 4, order="random")))
    model = PPO("MlpPolicy", env, seed=0, n_steps=8, batch_size=32, n_epochs=1, device="cpu").learn(64)
    returns, lengths = evaluate_policy(model, to_sb3(make_vec("Inventory", 2)), 4, return_episode_rewards=True)
    assert len(returns) == 4
    assert set(lengths) == {28}


@natural_units
def test_the_ordinary_way() -> None:
    single = Monitor(make("Provisioning"))
    assert evaluate_policy(PPO("MlpPolicy", single, n_steps=16, batch_size=16, device="cpu"), single, 1)[1] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_begin_empty(method: str) -> None:
    """They import shiftgym by the name of the environment."""
    envs = [
        make_vec_env("shiftgym:shiftgym/Inventory-v0", 2, seed=0, vec_env_cls=kind, vec_env_kwargs=keywords)
        for kind, keywords in ((None, None), (SubprocVecEnv, {"start_method": method}))
    ]
    try:
        np.testing.assert_array_equal(*(env.reset() for env in envs))
        for first, second in zip(*(env.step(np.ones((2, 1), np.float32))[:3] for env in envs), strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-6)  # DummyVecEnv rounds rewards to float32
    finally:
        for env in envs:
            env.close()


@pytest.mark.slow
def test_the_zoo_trains_with_the_name_of_the_package(tmp_path: Path) -> None:
    """In a process of its own, as it is documented; what it saves is an agent here."""
    pytest.importorskip("rl_zoo3")
    settings = {"n_timesteps": 256, "policy": "MlpPolicy", "n_envs": 2, "n_steps": 32, "batch_size": 32}
    (tmp_path / "mine.yml").write_text(json.dumps({"shiftgym/Inventory-v0": settings}))
    chosen = "--algo ppo --env shiftgym/Inventory-v0 --gym-packages shiftgym --conf-file mine.yml"
    subprocess.run([sys.executable, "-m", "rl_zoo3.train", *chosen.split()], cwd=tmp_path, check=True)
    (saved,) = tmp_path.glob("logs/ppo/*/shiftgym-Inventory-v0.zip")
    env = gymnasium.make("shiftgym/Inventory-v0")
    actions = make_agent("sb3", path=str(saved)).fit(env).act(env.reset(seed=0)[0][None])
    assert env.action_space.contains(actions[0].astype(np.float32))
