"""The provisioning environment: what it replays, windows, options, and what it complains about."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from shiftgym.data import ShiftgymError, TraceError
from shiftgym.envs.task import ActionError
from tests import worlds

make, make_vec, make_trace = (
    partial(worlds.make, "Provisioning"),
    partial(worlds.make_vec, "Provisioning"),
    worlds.workload,
)


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


# ---------------------------------------------------------------- keeping, looking, complaining
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
        ({"trace": "small-Provisionin"}, "did you mean 'small-Provisioning'"),
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
