"""What every environment promises: Gymnasium's and SB3's contracts, one replay in both forms, no look ahead."""

from __future__ import annotations

import json
import multiprocessing
import operator
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_match import check_environments_match
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_sb3

from shiftgym.data import ShiftgymError
from shiftgym.solvers.data_center.fleet import Fleet
from tests.worlds import FLEET, VARIANTS, WORLDS, fleet_days, make, make_vec, steps

each_variant = pytest.mark.parametrize(("name", "keywords"), VARIANTS)
each_world = pytest.mark.parametrize("name", WORLDS)
# advice about the scale of actions: ours are in the unit of the decision
natural_units = pytest.mark.filterwarnings(
    "ignore:We recommend you to use a symmetric", r"ignore:.*we recommend using a symmetric and normalized space"
)


def same(one: Any, two: Any, path: str = "") -> None:
    """Assert that two (nested) results of a step are equal, objects element by element."""
    if isinstance(one, dict):
        assert one.keys() == two.keys(), path
        for key in one:
            same(one[key], two[key], f"{path}/{key}")
    elif isinstance(one, list | tuple) or getattr(one, "dtype", None) == np.dtype(object):
        for first, second in zip(one, two, strict=True):
            assert (first is None) == (second is None), path
            if first is not None:
                same(first, second, path)
    else:
        first, second = np.asarray(one), np.asarray(two)
        assert first.shape == second.shape, path
        if not (first == second).all():  # as a rule they are, and this costs a tenth of the assertion
            np.testing.assert_allclose(first, second, rtol=1e-12, atol=1e-14, err_msg=path)


@natural_units
@each_variant
def test_gymnasium_checker(name: str, keywords: dict[str, Any]) -> None:
    """It makes one more of each render mode."""
    check_env(make(name, **keywords).unwrapped)


@natural_units
@each_variant
def test_sb3_checker(name: str, keywords: dict[str, Any]) -> None:
    check_sb3(make(name, **keywords))


@each_world
def test_two_environments_with_one_seed_match(name: str) -> None:
    keywords = {"shift": "gaussian(scale=0.2)", "order": "random", "shift_seed": 3}
    check_environments_match(make(name, **keywords), make(name, **keywords), num_steps=steps(name, 60), seed=5)


@each_variant
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_vector_equals_single_step_by_step(mode: str, name: str, keywords: dict[str, Any]) -> None:
    native, single = (make_vec(name, 3, native=kind, mode=mode, **keywords) for kind in (True, False))
    assert native.metadata["autoreset_mode"] == AutoresetMode(mode)
    assert native.observation_space == single.observation_space
    assert native.action_space == single.action_space
    same(native.reset(seed=11), single.reset(seed=11))
    native.action_space.seed(0)
    ended = 0
    for _ in range(steps(name, 48)):
        actions = native.action_space.sample() * 1.2  # some requests break the bounds
        result = native.step(actions)
        same(result, single.step(actions))
        ended += np.sum(result[2] | result[3])
    assert ended >= 3


@each_variant
def test_disabled_autoreset_with_masks(name: str, keywords: dict[str, Any]) -> None:
    native, single = (make_vec(name, 3, native=kind, mode="Disabled", **keywords) for kind in (True, False))
    same(native.reset(seed=2), single.reset(seed=2))
    native.action_space.seed(0)
    lengths = np.random.default_rng(0)
    for _ in range(steps(name, 48)):
        actions = native.action_space.sample()
        result = native.step(actions)
        same(result, single.step(actions))
        done = result[2] | result[3]
        if lengths.random() < 0.2:
            done |= lengths.random(3) < 0.5  # rows may be reset in the middle of an episode too
        if done.any():
            observations, info = native.reset(options={"reset_mask": done})
            expected, expected_info = single.reset(options={"reset_mask": done.copy()})
            same(observations, expected)
            same({key: value[done] for key, value in info.items()}, {k: v[done] for k, v in expected_info.items()})


@each_variant
def test_a_row_replays_what_it_would_alone(name: str, keywords: dict[str, Any]) -> None:
    """In step with the others or not, and whichever rows restart."""
    together = make_vec(name, 4, **keywords)
    last = len(together.unwrapped.task) - 1
    starts = [0, 0, last // 3, last - 2]
    alone = [make_vec(name, 1, **keywords) for _ in starts]
    same(together.reset(seed=0)[0], np.concatenate([one.reset(seed=row)[0] for row, one in enumerate(alone)]))
    together.action_space.seed(0)
    count = steps(name, 48)
    for step in range(count):
        if step == min(7, count // 3):  # row 0 stays where the others are, but ends later
            together.reset(options={"reset_mask": np.array([True, False, False, False])})
            alone[0].reset()
        if step == 45 * count // 100:
            together.reset(options={"start": starts})
            for one, start in zip(alone, starts, strict=True):
                one.reset(options={"start": start})
        actions = together.action_space.sample() * 1.2
        expected = [one.step(actions[row : row + 1]) for row, one in enumerate(alone)]
        observations, reward, terminated, truncated, info = together.step(actions)
        for row, (seen, *flags, facts) in enumerate(expected):
            part = slice(row, row + 1)
            same((observations[part], reward[part], terminated[part], truncated[part]), (seen, *flags))
            same({key: values[part] for key, values in info.items()}, facts)
            if facts["cost"].any():  # a row that restarts has no outcome
                same(together.unwrapped.last_outcome[part], alone[row].unwrapped.last_outcome)


#: What keeps ten thousand steps under a minute where each solves linear programs: half a day of one center.
_CENTER = {"centers": ("CA",), "services": ("conv",), "classes": ("V100",), "training_power": (0.25,)}
_HALF_DAY = Fleet.of_size(1, **_CENTER, utilisation=(0.8,), windows=(2,), slots=2).to_dict()
QUICK: dict[str, dict[str, Any]] = {
    "DataCenter": {"action": "schedule", "fleet": _HALF_DAY, "trace": fleet_days(period=2)},
    "DataCenterHourly": {"oracle": False},
}


@pytest.mark.slow
@each_world
@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_ten_thousand_random_steps_under_a_shift(mode: str, name: str) -> None:
    """Of eight rows together; rows end apart, because their windows begin at random."""
    keywords = {"shift": "gaussian(scale=0.1) | scale(factor=1.2, onset=0.5)", "order": "random", **QUICK.get(name, {})}
    native, single = (make_vec(name, 8, native=kind, mode=mode, **keywords) for kind in (True, False))
    same(native.reset(seed=5), single.reset(seed=5))
    native.action_space.seed(1)
    for _ in range(1250):
        actions = native.action_space.sample() * 1.2
        result = native.step(actions)
        same(result, single.step(actions))
        done = result[2] | result[3]
        if mode == "Disabled" and done.any():
            observations, info = native.reset(options={"reset_mask": done})
            expected, expected_info = single.reset(options={"reset_mask": done.copy()})
            same(observations, expected)
            same({key: value[done] for key, value in info.items()}, {k: v[done] for k, v in expected_info.items()})


@each_world
def test_a_vector_survives_pickle_in_the_middle_of_episodes(name: str) -> None:
    vector = make_vec(name, 3, order="random").unwrapped
    vector.reset(seed=4)
    vector.action_space.seed(0)
    vector.step(vector.action_space.sample())
    revived = pickle.loads(pickle.dumps(vector))
    for _ in range(steps(name, 40)):
        actions = vector.action_space.sample()
        same(revived.step(actions), vector.step(actions))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_every_environment_goes_on_in_a_process_that_begins_empty(method: str) -> None:
    with multiprocessing.get_context(method).Pool(1) as pool:
        for name in WORLDS:
            for env in (make(name).unwrapped, make_vec(name, 2).unwrapped):
                env.action_space.seed(0)
                same(pool.apply(operator.methodcaller("reset", seed=3), (env,)), env.reset(seed=3))
                action = env.action_space.sample()
                same(pool.apply(operator.methodcaller("step", action), (env,)), env.step(action))


@each_world
def test_disabled_autoreset_refuses_to_step_on(name: str) -> None:
    vector = make_vec(name, 2, mode="Disabled")
    vector.reset(seed=0, options={"length": 4})
    for _ in range(4):
        vector.step(vector.action_space.sample())
    with pytest.raises(ShiftgymError, match="reset_mask"):
        vector.step(vector.action_space.sample())


# an hour of a data center is compared with its part of the best day
@pytest.mark.parametrize(("name", "keywords"), [variant for variant in VARIANTS if variant[0] != "DataCenterHourly"])
def test_the_oracle_is_feasible_and_nothing_beats_it(name: str, keywords: dict[str, Any]) -> None:
    """Its own decisions have no regret and break no constraint on decisions, any other has regret.

    Who leaves work undone in a data center saves money, and who may put it off until tomorrow too; multiples of a
    forecast do not reach every level.
    """
    vector = make_vec(name, 4, **keywords)
    task = vector.unwrapped.task
    vector.reset(seed=0)
    stateful = task.layout.previous > 0
    reached = keywords.get("action") != "relative"
    for step in range(steps(name, 25)):
        seen = vector.unwrapped.foresight()
        assert seen.shape == (4, task.problem.outcome_dim + task.layout.previous)
        outcomes, state = np.split(seen, [task.problem.outcome_dim], axis=1)
        best = task.problem.perfect(outcomes, state if stateful else None)
        _, reward, _, _, info = vector.step(best if step % 2 else vector.action_space.sample())
        if step % 2:
            np.testing.assert_allclose(info["regret"], 0.0, atol=1e-9 if reached else 0.1)
            for family in task.problem.hard_families:
                assert not info[f"violation_{family}"].any()
        done = ~np.any([info[f"violation_{family}"] > 0 for family in task.problem.soft_families], axis=0)
        assert np.all(info["regret"] > -1e-9, where=done & reached)
        np.testing.assert_allclose(reward, -info["cost"])


@each_variant
def test_the_future_never_shows(name: str, keywords: dict[str, Any]) -> None:
    """Changing every outcome from the decided one on, and all later context, leaves its observation as it was."""
    trace = WORLDS[name]()
    keywords = {**keywords, "reference": trace}
    task = make(name, trace=trace, **keywords).unwrapped.task
    plain = task.dataset()[0]
    noise = np.random.default_rng(1)
    for point in (0, 3, len(task) // 2):
        days = {"PowerScheduling": 24, "DataCenter": FLEET["slots"], "DataCenterHourly": FLEET["slots"]}
        ahead = days.get(name, 1)  # what is known of a day is known of all its slots
        begins = int(np.searchsorted(trace.time.astype(np.int64), task.points.time[point] * 1e9))
        outcome, context = trace.outcome.copy(), trace.context.copy()
        outcome[begins:] += noise.random(outcome[begins:].shape)
        following = begins + ahead  # the context of what is decided is known
        context[following:] += noise.random(context[following:].shape)
        changed = make(name, trace=trace.replace(outcome=outcome, observed=outcome, context=context), **keywords)
        seen = changed.unwrapped.task.dataset()[0]
        if not keywords.get("shift"):  # a random or later shift is another draw of the world
            np.testing.assert_array_equal(seen[: point + 1], plain[: point + 1])
            assert np.any(seen[point + 1] != plain[point + 1])


@each_variant
def test_persistence_repeats_the_last_outcome(name: str, keywords: dict[str, Any]) -> None:
    task = make(name, **keywords).unwrapped.task
    observations, outcomes = task.dataset()
    stride = task.points.stride
    forecast = task.layout.persistence(observations)
    if task.layout.columns == outcomes.shape[1]:
        np.testing.assert_allclose(forecast[stride:], outcomes[:-stride], rtol=1e-6)
    assert task.layout.size == observations.shape[1]


@each_world
def test_a_spec_survives_json_and_an_environment_survives_pickle(name: str) -> None:
    env = make(name, shift="gaussian(scale=0.1)")
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    np.testing.assert_array_equal(again.reset(seed=0)[0], env.reset(seed=0)[0])
    json.loads(env.spec.to_json())
    revived = pickle.loads(pickle.dumps(env.unwrapped))
    np.testing.assert_array_equal(revived.reset(seed=0)[0], env.reset(seed=0)[0])


@each_world
@pytest.mark.parametrize("vector", [False, True])
def test_render(name: str, vector: bool) -> None:
    for mode in ("rgb_array", "ansi"):
        env = make_vec(name, 2, render_mode=mode) if vector else make(name, render_mode=mode)
        env.reset(seed=0)
        before = env.render()
        for _ in range(5):
            env.step(env.action_space.sample())
        after = env.render()
        before, after = (before[0], after[0]) if vector else (before, after)
        if mode == "ansi":
            assert "5 steps" in after
            assert "oracle" in after
        else:
            assert after.shape == (400, 800, 3)
            assert after.dtype == np.uint8
            assert np.any(before != after)
