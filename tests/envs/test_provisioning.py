"""The provisioning environment: contracts, windows, options, and the vector one equal to the single one."""

from __future__ import annotations

import json
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_match import check_environments_match
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_sb3

from shiftgym.data import ShiftgymError, Trace, TraceError, register_trace
from shiftgym.envs.task import ActionError

ID = "shiftgym/Provisioning-v0"
START = np.datetime64("2026-01-01T00:00", "ns")
VARIANTS: list[dict[str, Any]] = [
    {},
    {"shift": "gaussian(scale=0.1) | scale(factor=1.3, onset=0.5)"},
    {"order": "random"},
    {"switching_cost": 0.05},
    {"horizon": 28},
    {"horizon": 4, "episode_slots": 8, "switching_cost": 0.05, "order": "random"},
    {"episode_slots": None},
]


def make_trace(slots: int = 120, seed: int = 0, context: bool = False) -> Trace:
    rng = np.random.default_rng(seed)
    features = {"context": rng.random((slots, 2)), "context_names": ("a", "b"), "context_units": ("", "")}
    return Trace(
        name="made-up",
        time=START + np.arange(slots) * np.timedelta64(2, "s"),
        outcome=rng.lognormal(9.0, 0.7, slots) * (rng.random(slots) > 0.2),
        slot=2.0,
        outcome_names=("tokens",),
        outcome_units=("tokens/2 s",),
        outcome_low=0.0,
        **(features if context else {}),  # type: ignore[arg-type]
    )


register_trace("made-up", lambda slot=None: make_trace())


def make(**keywords: Any) -> Any:
    return gymnasium.make(ID, **{"trace": "made-up", **keywords})


def make_vec(count: int, native: bool = True, mode: str = "NextStep", **keywords: Any) -> Any:
    keywords = {"trace": "made-up", **keywords}
    if native:
        return gymnasium.make_vec(ID, num_envs=count, autoreset_mode=mode, **keywords)
    options = {"autoreset_mode": AutoresetMode(mode)}
    return gymnasium.make_vec(ID, num_envs=count, vectorization_mode="sync", vector_kwargs=options, **keywords)


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
        assert np.shape(one) == np.shape(two), path
        np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-14, err_msg=path)


# ---------------------------------------------------------------- contracts of Gymnasium and SB3
@pytest.mark.parametrize("keywords", VARIANTS)
@pytest.mark.parametrize("render_mode", ["rgb_array", "ansi"])
def test_gymnasium_checker(keywords: dict[str, Any], render_mode: str) -> None:
    check_env(make(render_mode=render_mode, **keywords).unwrapped)


@pytest.mark.filterwarnings("ignore:We recommend you to use a symmetric")  # advice: a capacity share is in [0, 1]
@pytest.mark.parametrize("keywords", VARIANTS)
def test_sb3_checker(keywords: dict[str, Any]) -> None:
    check_sb3(make(**keywords))


def test_two_environments_with_one_seed_match() -> None:
    keywords = {"shift": "gaussian(scale=0.2)", "order": "random", "shift_seed": 3}
    check_environments_match(make(**keywords), make(**keywords), num_steps=100, seed=5)


@pytest.mark.parametrize("keywords", VARIANTS)
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_vector_equals_single_step_by_step(mode: str, keywords: dict[str, Any]) -> None:
    native, single = make_vec(5, mode=mode, **keywords), make_vec(5, native=False, mode=mode, **keywords)
    assert native.metadata["autoreset_mode"] == AutoresetMode(mode)
    assert native.observation_space == single.observation_space
    assert native.action_space == single.action_space
    same(native.reset(seed=11), single.reset(seed=11))
    native.action_space.seed(0)
    for _ in range(150):
        actions = native.action_space.sample() * 1.2  # some requests break the bounds
        same(native.step(actions), single.step(actions))


@pytest.mark.parametrize("keywords", VARIANTS)
def test_disabled_autoreset_with_masks(keywords: dict[str, Any]) -> None:
    native, single = make_vec(4, mode="Disabled", **keywords), make_vec(4, native=False, mode="Disabled", **keywords)
    same(native.reset(seed=2), single.reset(seed=2))
    native.action_space.seed(0)
    lengths = np.random.default_rng(0)
    for _ in range(120):
        actions = native.action_space.sample()
        result = native.step(actions)
        same(result, single.step(actions))
        done = result[2] | result[3]
        if lengths.random() < 0.2:
            done |= lengths.random(4) < 0.5  # rows may be reset in the middle of an episode too
        if done.any():
            observations, info = native.reset(options={"reset_mask": done})
            expected, expected_info = single.reset(options={"reset_mask": done.copy()})
            same(observations, expected)
            same({key: value[done] for key, value in info.items()}, {k: v[done] for k, v in expected_info.items()})


def test_disabled_autoreset_refuses_to_step_on() -> None:
    vector = make_vec(2, mode="Disabled", episode_slots=4)
    vector.reset(seed=0)
    for _ in range(4):
        vector.step(vector.action_space.sample())
    with pytest.raises(ShiftgymError, match="reset_mask"):
        vector.step(vector.action_space.sample())


def test_nothing_is_shared_with_the_caller() -> None:
    env = make(order="sequential")
    observation, _ = env.reset(seed=0)
    kept, action = observation.copy(), np.array([0.9], np.float32)
    following, *_ = env.step(action)
    following[:] = -1.0
    observation[:] = -1.0
    assert action[0] == np.float32(0.9)
    again, _ = env.reset(seed=0)
    np.testing.assert_array_equal(again, kept)
    vector = make_vec(3)
    first, _ = vector.reset(seed=0)
    kept = first.copy()
    vector.step(np.zeros((3, 1), np.float32))[0][:] = 7.0
    np.testing.assert_array_equal(first, kept)


# ---------------------------------------------------------------- what is replayed
def test_observation_outcome_and_info_follow_the_trace() -> None:
    trace = make_trace(context=True)
    env = make(trace=trace, lookback=5, episode_slots=None).unwrapped
    workload = trace.outcome[:, 0] / trace.outcome.max()
    observation, info = env.reset(seed=0)
    problem = env.task.problem
    for point in range(20):
        np.testing.assert_allclose(observation, [*workload[point : point + 5], *trace.context[point + 5]], rtol=1e-6)
        assert info["step_time"] == pytest.approx(trace.time[point + 5 - (point > 0)].astype(np.int64) / 1e9)
        observation, reward, terminated, truncated, info = env.step(np.array([0.1]))
        cost = problem.cost(workload[[point + 5]], np.array([0.1]))
        best = problem.cost(workload[[point + 5]], problem.perfect(workload[[point + 5]]))
        assert info["cost"] == pytest.approx(cost)
        assert info["oracle_cost"] == pytest.approx(best)
        assert info["regret"] == pytest.approx(cost - best)
        assert info["regret"] >= -1e-12
        assert reward == -info["cost"]
        assert env.last_outcome == pytest.approx(workload[point + 5])
        assert not terminated
        assert not truncated
        assert observation[4] == pytest.approx(env.last_outcome[0])  # what was revealed is now history


def test_requested_is_measured_and_its_projection_executed() -> None:
    env = make()
    env.reset(seed=0)
    *_, info = env.step(np.array([1.5], np.float32))
    assert info["violation_bounds"] == pytest.approx(0.5)
    assert info["violation"] == 1.0
    assert env.unwrapped.last_decision == 1.0
    *_, info = env.step(np.array([1.0], np.float32))
    assert info["violation_bounds"] == 0.0


def test_one_shot_variant_decides_the_whole_episode() -> None:
    slots, shot = make(), make(horizon=28)
    slots.reset(seed=0)
    shot.reset(seed=0)
    actions = np.random.default_rng(0).random(28).astype(np.float32)
    costs = [slots.step(actions[[i]])[4]["cost"] for i in range(28)]
    _, reward, terminated, truncated, info = shot.step(actions)
    assert terminated
    assert not truncated
    assert info["cost"] == pytest.approx(sum(costs))
    assert reward == pytest.approx(-sum(costs))


def test_horizon_terminates_and_data_or_window_truncate() -> None:
    env = make(episode_slots=10)
    env.reset(seed=0)
    ends = [env.step(np.array([0.1]))[2:4] for _ in range(10)]
    assert ends[:-1] == [(False, False)] * 9
    assert ends[-1] == (True, False)
    env.reset(options={"start": 5, "length": 3})
    assert [env.step(np.array([0.1]))[2:4] for _ in range(3)][-1] == (False, True)
    last = len(env.unwrapped.task) - 1
    env.reset(options={"start": last})
    assert env.step(np.array([0.1]))[2:4] == (False, True)
    with pytest.raises(ShiftgymError, match="the episode is over"):
        env.unwrapped.step(np.array([0.1]))


def test_windows_follow_each_other_and_the_seed_never_picks_one() -> None:
    env = make(episode_slots=30)
    starts = []
    for seed in (0, 1, None, None, None, 7):
        _, info = env.reset(seed=seed)
        starts.append(info["step_time"])
        for _ in range(40):
            if any(env.step(np.array([0.1]))[2:4]):
                break
    first = starts[0]
    assert starts == [first, first, first + 60, first + 120, first + 180, first]


def test_start_as_time_and_per_row() -> None:
    env = make(lookback=5)
    moment = np.datetime64("2026-01-01T00:00:30", "s")
    for start in (str(moment), f"{moment}Z", moment):
        assert env.reset(options={"start": start, "length": None})[1]["step_time"] == moment.astype(float)
    vector = make_vec(3, lookback=5)
    _, info = vector.reset(options={"start": np.array([0, 7, 30])})
    np.testing.assert_allclose(np.diff(info["step_time"]), [14.0, 46.0])
    np.testing.assert_array_equal(vector.unwrapped.foresight(), vector.unwrapped.task.dataset()[1][[0, 7, 30]])


def test_random_order_draws_windows_by_seed() -> None:
    env = make(order="random")
    assert len({env.reset(seed=seed)[1]["step_time"] for seed in range(20)}) > 10
    assert env.reset(seed=3)[1]["step_time"] == env.reset(seed=3)[1]["step_time"]


# ---------------------------------------------------------------- shifts and the reference
def test_shift_changes_the_replay_not_the_capacity() -> None:
    plain, scaled = make(), make(shift="scale(factor=2.0, onset=0.5)")
    task = scaled.unwrapped.task
    assert task.capacity == plain.unwrapped.task.capacity
    half = len(task.trace) // 2
    np.testing.assert_allclose(task.trace.outcome[half:], 2 * task.source.outcome[half:])
    _, info = scaled.reset(options={"start": 0})
    assert info["shifted"] == 0.0
    _, info = scaled.reset(options={"start": half})
    assert info["shifted"] == 1.0
    assert task.shift_report.wasserstein > 0


def test_sensor_fault_moves_the_observation_not_the_cost() -> None:
    plain, broken = make(), make(shift="frozen(p=0.5)", shift_seed=1)
    assert np.abs(plain.unwrapped.task.dataset()[0] - broken.unwrapped.task.dataset()[0]).max() > 0.1
    np.testing.assert_array_equal(plain.unwrapped.task.dataset()[1], broken.unwrapped.task.dataset()[1])


def test_shift_by_option_stays() -> None:
    env = make()
    env.reset(seed=0, options={"shift": "scale(factor=3)"})
    assert env.unwrapped.task.title.endswith("under scale(factor=3.0)")
    _, info = env.reset()
    assert info["shifted"] == 1.0
    vector = make_vec(2)
    _, info = vector.reset(options={"shift": {"kind": "scale", "factor": 3}})
    assert info["shifted"].tolist() == [1.0, 1.0]


def test_capacity_is_fitted_on_the_reference_alone() -> None:
    reference = make_trace(seed=1).replace(outcome=make_trace(seed=1).outcome / 3)
    env = make(reference=reference).unwrapped
    assert env.task.capacity == reference.outcome.max()
    assert make(capacity=123.0).unwrapped.task.capacity == 123.0


def test_the_future_never_shows() -> None:
    """Changing every slot from the decided one on leaves its observation as it was."""
    trace = make_trace(context=True)
    plain = make(trace=trace, capacity=1e5).unwrapped.task.dataset()[0]
    for point in (0, 10, 60):
        outcome = trace.outcome.copy()
        outcome[28 + point :] += 1e4
        changed = make(trace=trace.replace(outcome=outcome, observed=outcome), capacity=1e5).unwrapped.task
        np.testing.assert_array_equal(changed.dataset()[0][point], plain[point])


# ---------------------------------------------------------------- keeping, looking, complaining
def test_spec_survives_json_and_the_environment_survives_pickle() -> None:
    env = make(shift="gaussian(scale=0.1)", horizon=4, episode_slots=8)
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    np.testing.assert_array_equal(again.reset(seed=0)[0], env.reset(seed=0)[0])
    json.loads(env.spec.to_json())
    revived = pickle.loads(pickle.dumps(env.unwrapped))
    np.testing.assert_array_equal(revived.reset(seed=0)[0], env.reset(seed=0)[0])


@pytest.mark.parametrize("vector", [False, True])
def test_render(vector: bool) -> None:
    for mode in ("rgb_array", "ansi"):
        env = make_vec(2, render_mode=mode) if vector else make(render_mode=mode)
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


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(2), r"shape \(2,\), expected \(1,\)"),
        (np.float32(0.5), r"shape \(\), expected \(1,\)"),
        (np.array([np.nan]), "not finite"),
        (np.array([np.inf]), "not finite"),
    ],
)
def test_bad_actions(action: Any, message: str) -> None:
    env = make().unwrapped
    env.reset(seed=0)
    with pytest.raises(ActionError, match=message):
        env.step(action)
    vector = make_vec(3)
    vector.reset(seed=0)
    with pytest.raises(ActionError):
        vector.step(np.full((3, 1), np.nan))
    with pytest.raises(ActionError, match=r"expected \(3, 1\)"):
        vector.step(np.zeros(3))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"horizon": 3, "episode_slots": 28}, "multiple of horizon"),
        ({"horizon": 0}, "horizon is 0"),
        ({"lookback": 0}, "lookback is 0"),
        ({"lookback": 200}, "fewer than lookback"),
        ({"capacity": -1.0}, "capacity is -1"),
        ({"order": "shuffled"}, "unknown order 'shuffled'"),
        ({"shift": "gausian(scale=0.1)"}, "did you mean 'gaussian'"),
        ({"lookbak": 5}, "unknown keyword of the environment 'lookbak'; did you mean 'lookback'"),
        ({"trace": "made-upp"}, "did you mean 'made-up'"),
        ({"trace": 5}, "trace is 5: give a text"),
        ({"lookback": 2.5}, "lookback is 2.5: give a whole number"),
        ({"horizon": "28"}, "horizon is '28': give a whole number"),
        ({"episode_slots": "28"}, "episode_slots is '28': give a whole number"),
        ({"shift_seed": -1}, "shift_seed is -1: give a whole number of at least 0"),
        ({"shift_seed": None}, "shift_seed is None"),
    ],
)
def test_bad_keywords(keywords: dict[str, Any], message: str) -> None:
    for build in (make, lambda **kw: make_vec(2, **kw)):
        with pytest.raises(ShiftgymError, match=message):
            build(**keywords)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 10_000}, r"start=10000 is outside the window.*\[0, 91\]"),
        ({"start": "2027-01-01"}, "outside the window"),
        ({"start": 0.5}, r"start=0.5: give a decision point"),
        ({"start": "soon"}, r"start='soon' is no ISO time"),
        ({"start": [1, 2, 3]}, "decision point"),
        ({"length": "long"}, "length='long'"),
        ({"length": float("nan")}, "length=nan"),
        ({"start": 3, "length": 0}, "length=0"),
        ({"stat": 3}, "did you mean 'start'"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    for env in (make(), make_vec(2)):
        with pytest.raises((TraceError, ShiftgymError), match=message):
            env.reset(options=options)


def test_bad_masks_and_counts() -> None:
    vector = make_vec(3)
    vector.reset()
    with pytest.raises(ShiftgymError, match="boolean array"):
        vector.reset(options={"reset_mask": [True, False, True]})
    with pytest.raises(ShiftgymError, match="no row"):
        vector.reset(options={"reset_mask": np.zeros(3, bool)})
    with pytest.raises(ShiftgymError, match="one per row"):
        vector.reset(seed=[1, 2])
    with pytest.raises(ShiftgymError, match="all rows replay one trace"):
        vector.reset(options={"reset_mask": np.array([True, False, True]), "shift": "scale(factor=2)"})
    with pytest.raises(ShiftgymError, match="num_envs"):
        make_vec(0)


def test_a_trace_that_is_no_workload() -> None:
    trace = make_trace()
    two = trace.replace(
        outcome=np.repeat(trace.outcome, 2, axis=1),
        observed=None,
        outcome_names=("a", "b"),
        outcome_units=("", ""),
    )
    with pytest.raises(TraceError, match="is no workload"):
        make(trace=two)
    silent = trace.replace(outcome=np.zeros_like(trace.outcome), observed=None)
    with pytest.raises(TraceError, match="no workload at all"):
        make(trace=silent)


def test_context_columns_are_those_of_the_reference() -> None:
    with_features, without = make_trace(context=True), make_trace()
    assert make(trace=with_features).observation_space.shape == (30,)
    assert make(trace=with_features, reference=without).observation_space.shape == (28,)
    assert make(trace=with_features, context=["b"]).unwrapped.reset()[0][-1] == np.float32(with_features.context[28, 1])
    with pytest.raises(TraceError, match=r"has no column 'a'.*context=\[\]"):
        make(trace=without, reference=with_features)
    assert make(trace=without, reference=with_features, context=[]).observation_space.shape == (28,)


def test_what_an_environment_shows_of_the_oracle_cannot_change_it() -> None:
    env = make(horizon=4).unwrapped
    env.reset(seed=0)
    env.step(np.full(4, 0.3))
    with pytest.raises(ValueError, match="read-only"):
        env.last_oracle[:] = 1.0


def test_a_swapped_trace_is_read_by_the_names_of_its_context_columns() -> None:
    ours, reordered, lacking = make_trace(context=True), make_trace(context=True), make_trace()
    reordered = reordered.replace(context=reordered.context[:, ::-1], context_names=("b", "a"))
    swapped = make(trace=ours, shift=[{"kind": "swap", "trace": reordered}]).unwrapped.task.points
    np.testing.assert_array_equal(swapped.context, make(trace=ours).unwrapped.task.points.context)
    with pytest.raises(TraceError, match=r"has no column 'a'.*context=\[\]"):
        make(trace=ours, shift=[{"kind": "swap", "trace": lacking}])


def test_a_reference_with_other_slots_is_refused_with_the_slot_to_ask_for() -> None:
    with pytest.raises(TraceError, match=r"has slots of 2s.*has slots of 10s.*NAME@10s"):
        make(trace=make_trace(), reference=make_trace(slots=400).coarsen("10s"))


def test_traces_of_other_units_do_not_compare() -> None:
    requests = make_trace().replace(outcome_units=("requests/2 s",))
    with pytest.raises(TraceError, match=r"counts 'requests/2 s'.*counts 'tokens/2 s'"):
        make(trace=requests, reference=make_trace())
    assert make(trace=requests, reference=make_trace(), units="any").unwrapped.task.capacity > 0
    with pytest.raises(ShiftgymError, match="unknown units 'some'"):
        make(units="some")
