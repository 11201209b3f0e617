"""Transforms around single environments and native vectors: the same in both, frozen, and what they promise."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_sb3

from shiftgym.agents import make_agent
from shiftgym.data import ShiftgymError
from shiftgym.envs import to_sb3
from shiftgym.envs.wrappers import (
    Forecast,
    Lagrangian,
    Normalise,
    PreviousAction,
    Project,
    RandomShift,
    SafetyCost,
    wrap,
)
from tests.envs.test_contracts import natural_units, same
from tests.worlds import make, make_vec, workload


def stack(name: str) -> list[Any]:
    forecaster = make_agent("persistence").fit(make(name))
    return [
        Forecast(forecaster, quantiles=(0.1, 0.9)),
        PreviousAction(),
        Project(penalty=0.3),
        Lagrangian(limit=0.1, learning_rate=0.5),
    ]


@natural_units
@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
@pytest.mark.parametrize("name", ["Provisioning", "Portfolio", "Inventory"])
def test_contracts_hold_around_single_environments(name: str) -> None:
    env = wrap(make(name), *stack(name))
    check_env(env, skip_render_check=True, skip_close_check=True)
    check_sb3(wrap(make(name), Normalise(), PreviousAction(), RandomShift([None, "scale(factor=2)"], visible=True)))


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_vector_equals_single(mode: str) -> None:
    """Row by row and step by step; of the multiplier, which follows all rows, with one row."""
    for name in ("Provisioning", "Portfolio"):
        native = wrap(make_vec(name, 1, mode=mode), *stack(name))
        single = wrap(make(name), *stack(name))
        seen, info = single.reset(seed=3)
        observations, infos = native.reset(seed=3)
        native.action_space.seed(0)
        assert native.single_observation_space == single.observation_space
        for _ in range(70):
            same(observations[0], seen)
            same({key: values[0] for key, values in infos.items() if not key.startswith("_")}, info)
            actions = native.action_space.sample() * 1.5
            observations, rewards, terminated, truncated, infos = native.step(actions)
            seen, reward, over, cut, info = single.step(actions[0])
            same((rewards[0], terminated[0], truncated[0]), (reward, over, cut))
            if over or cut:
                same(observations[0], seen)
                seen, info = single.reset()
                if mode == "NextStep":
                    observations, rewards, *_, infos = native.step(actions)
                    assert rewards[0] == 0.0
                else:
                    observations, infos = native.reset(options={"reset_mask": np.array([True])})


def test_normalisation_is_that_of_the_training_trace() -> None:
    train = workload()
    here = wrap(make("Provisioning", trace=train), Normalise())
    assert abs(np.mean([here.reset(options={"start": k})[0].mean() for k in range(60)])) < 0.1
    there = wrap(make("Provisioning", trace=train, reference=train, shift="scale(factor=8)"), Normalise())
    plain, seen = (env.reset(options={"start": 0})[0] for env in (make("Provisioning", trace=train), here))
    nothing = seen[plain == 0][0]  # minus the mean over the deviation
    expected = 8 * (seen - nothing) + nothing
    shifted = there.reset(options={"start": 0})[0]
    np.testing.assert_allclose(shifted, np.minimum(expected, 10), rtol=1e-4, atol=1e-4)
    assert np.any(expected > 10)


def test_the_previous_action_is_what_was_executed() -> None:
    env = wrap(make("Inventory"), PreviousAction())
    assert env.reset(seed=0)[0][-1] == 0
    observation, *_ = env.step(np.array([1e6], np.float32))
    assert observation[-1] == np.float32(env.unwrapped.task.problem.high[0])
    assert env.reset()[0][-1] == 0


def test_a_forecast_is_shown() -> None:
    plain, env = make("Provisioning"), wrap(make("Provisioning"), Forecast(lambda seen: 2.0 * seen[:, None, -1:]))
    observation = env.reset(seed=0)[0]
    np.testing.assert_array_equal(observation[:-1], plain.reset(seed=0)[0])
    assert observation[-1] == pytest.approx(2 * observation[-2])
    with pytest.raises(ShiftgymError, match="before the transforms"):
        wrap(make("Provisioning"), PreviousAction(), Forecast(lambda seen: seen[:, None, -1:])).reset()


def test_projected_requests_break_no_hard_constraint() -> None:
    env, bare = wrap(make("Portfolio"), Project(penalty=2.0)), make("Portfolio")
    env.reset(seed=0)
    bare.reset(seed=0)
    action = np.full(5, 0.9, np.float32)
    _, reward, _, _, info = env.step(action)
    _, unpaid, _, _, plain = bare.step(action)
    assert info["violation"] == 0 < plain["violation"]
    assert info["correction"] == pytest.approx(0.7 * np.sqrt(5))
    assert reward == pytest.approx(unpaid - 2 * info["correction"])


def test_the_multiplier_rises_while_too_much_is_broken() -> None:
    env = wrap(make("Provisioning"), Lagrangian(limit=0.0, learning_rate=1.0, families=["service"]))
    env.reset(seed=0)
    seen = []
    for _ in range(20):
        _, reward, _, _, info = env.step(np.zeros(1, np.float32))  # no capacity at all
        assert reward == pytest.approx(-info["cost"] - info["multiplier"] * info["safety_cost"])
        assert info["safety_cost"] == float(info["violation_service"] > 0)
        seen.append(info["multiplier"])
    assert seen[0] == 0.0
    assert seen[-1] > 5
    assert np.all(np.diff(seen) >= 0)
    env.reset()
    assert env.step(np.zeros(1, np.float32))[4]["multiplier"] > 5  # it goes on over episodes
    env.reset(seed=0)
    assert env.step(np.zeros(1, np.float32))[4]["multiplier"] == 0.0  # and the same seed gives the same
    with pytest.raises(ShiftgymError, match="constraint family"):
        wrap(make("Provisioning"), SafetyCost(["nonsense"]))


def test_every_episode_has_a_shift_of_its_own() -> None:
    shifts = ["scale(factor=2)", "scale(factor=3)", None]
    env = wrap(make("Provisioning"), RandomShift(shifts, visible=True))
    plain = make("Provisioning").reset(options={"start": 5})[0]
    met = set()
    for episode in range(12):
        observation, _ = env.reset(seed=0 if episode == 0 else None, options={"start": 5})
        which = int(observation[-3:].argmax())
        assert observation[-3:].sum() == 1
        ratio = observation[:-3].sum() / plain.sum()
        assert ratio == pytest.approx((2, 3, 1)[which], rel=1e-5) or which < 2  # capacity is that of the reference
        met.add(which)
    assert met == {0, 1, 2}
    hidden = wrap(make_vec("Provisioning", 3), RandomShift(shifts))
    assert hidden.reset(seed=0)[0].shape == (3, len(plain))
    first = hidden.unwrapped.task.shift
    hidden.reset(options={"reset_mask": np.array([True, False, False])})
    assert hidden.unwrapped.task.shift is first


def test_rows_that_start_anew_together_meet_another_shift() -> None:
    """With autoreset too; what they replay is what was announced, and a step in between is paid nothing."""
    shifts = ["scale(factor=2)", "scale(factor=3)", None]
    env = wrap(make_vec("Provisioning", 3, episode_slots=4), RandomShift(shifts, visible=True), PreviousAction())
    observations, _ = env.reset(seed=0)
    met, episodes = set(), 0
    for _ in range(60):
        announced = int(observations[0, -4:-1].argmax())
        assert str(env.unwrapped.task.shift) == ("scale(factor=2.0)", "scale(factor=3.0)", "none")[announced]
        met.add(str(env.unwrapped.task.shift))
        observations, rewards, terminated, truncated, info = env.step(env.action_space.sample())
        if (terminated | truncated).all():
            observations, rewards, terminated, truncated, info = env.step(env.action_space.sample())
            assert not rewards.any()
            assert not (terminated | truncated).any()
            assert not info["cost"].any()
            assert not observations[:, -1].any()
            episodes += 1
    assert episodes > 5
    assert len(met) == 3


def test_sb3_trains_on_wrapped_vectors() -> None:
    env = to_sb3(wrap(make_vec("Inventory", 3), Normalise(), PreviousAction()))
    assert env.reset().shape == (3, env.observation_space.shape[0])
    for _ in range(30):
        observations, _, done, infos = env.step(np.ones((3, 1), np.float32))
        assert env.observation_space.contains(observations[0])
        if done.any():
            assert infos[0]["terminal_observation"][-1] == 1.0
            assert observations[0, -1] == 0.0


def test_what_cannot_be_wrapped() -> None:
    with pytest.raises(ShiftgymError, match="no environment of shiftgym"):
        wrap(gymnasium.make("CartPole-v1"), PreviousAction())
    with pytest.raises(ShiftgymError, match="SameStep"):
        wrap(make_vec("Inventory", 2, mode="SameStep"), PreviousAction())
