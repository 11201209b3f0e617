"""Properties of the shifts: identity, determinism, purity, text form, and the exact effect of each."""

from __future__ import annotations

import dataclasses
import json
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shiftgym.data import Provenance, RequestLog, Trace, load_trace, register_trace
from shiftgym.data.errors import TraceError, UnknownNameError
from shiftgym.envs.shifts import (
    ArrayShift,
    Compose,
    ShiftError,
    describe_shifts,
    list_shifts,
    parameter,
    parse_shift,
    register,
    report_shift,
    severity_sweep,
    tilt_weights,
    wasserstein_distance,
)
from shiftgym.envs.shifts import registry as shift_registry

START = np.datetime64("2026-01-01", "ns")
EXAMPLES = {
    "cutout": "cutout(p=0.2)",
    "gaussian": "gaussian(scale=0.2)",
    "perlin": "perlin(scale=0.2, period=7.5)",
    "scale": "scale(factor=0.5)",
    "offset": "offset(amount=-0.4)",
    "stretch": "stretch(factor=3.0, tail=both)",
    "clip": "clip(quantile=0.7)",
    "correlation": "correlation(share=0.7)",
    "drift": "drift(slope=-0.5)",
    "step": "step(factor=2.0, at=0.25)",
    "phase": "phase(hours=5.0)",
    "lag": "lag(slots=3)",
    "daylight": "daylight(left=summer)",
    "missing": "missing(p=0.3, duration=5)",
    "frozen": "frozen(p=0.3, duration=5)",
    "merge": "merge(trace=other-hourly, fraction=0.6, block=5)",
    "splice": "splice(trace=other-hourly, at=0.3)",
    "swap": "swap(trace=other-hourly)",
    "tilt": "tilt(kl=0.4, block=6)",
    "wasserstein-ball": "wasserstein-ball(budget=0.3, steps=1, directions=4)",
    "worst-case-diffusion": "worst-case-diffusion(budget=0.4, block=6)",
}
WITH_ONSET = [
    text.replace(")", ", onset=0.4)") for name, text in EXAMPLES.items() if name not in ("step", "splice", "swap")
]


def make_trace(length: int = 120, columns: int = 2, low: float = 0.0, seed: int = 0, **changes) -> Trace:
    rng = np.random.default_rng(seed)
    outcome = rng.gamma(2.0, 50.0, (length, columns)) if low == 0 else rng.standard_normal((length, columns))
    values = {
        "context": rng.standard_normal((length, 1)),
        "context_names": ("temperature",),
        "context_units": ("K",),
        "outcome_names": tuple(f"y{column}" for column in range(columns)),
        "outcome_units": ("MW",) * columns,
        **changes,
    }
    time = START + np.arange(length) * np.timedelta64(3600, "s")
    return Trace(**{"name": "hourly", "time": time, "outcome": outcome, "slot": 3600.0, "outcome_low": low, **values})


class Overrun:
    """Whom adversarial shifts are against here: someone who loses what comes, and takes blocks in another order."""

    def losses(self, traces, toward):
        return np.stack([trace.outcome.sum(axis=1) for trace in traces])

    def reach(self, trace):
        return 0, 0

    def worst_blocks(self, blocks, losses, budget, rounds, seed):
        return np.random.default_rng(seed).permutation(blocks)


@pytest.fixture(autouse=True, scope="module")
def _other_trace():
    register_trace("other-hourly", lambda: make_trace(length=90, seed=9))


def apply(text, trace: Trace, seed: int = 1) -> Trace:
    return parse_shift(text).against(Overrun()).apply(trace, np.random.default_rng(seed))


def arrays(trace: Trace) -> list[np.ndarray]:
    return [trace.time, trace.outcome, trace.observed, trace.context, trace.shifted]


def same(one: Trace, two: Trace) -> bool:
    return all(map(np.array_equal, arrays(one), arrays(two)))


def test_every_shift_has_an_example_here():
    assert sorted(EXAMPLES) == sorted(row["name"] for row in describe_shifts() if row["family"] != "user")
    assert set(EXAMPLES) <= set(list_shifts())


# --- what holds for every shift ---


@pytest.mark.parametrize("text", EXAMPLES.values())
def test_severity_zero_is_the_identity(text):
    trace = make_trace()
    assert parse_shift(text).at_severity(0.0).is_identity
    assert parse_shift(text).at_severity(0.0).apply(trace, np.random.default_rng(0)) is trace


@pytest.mark.parametrize("text", EXAMPLES.values())
@given(seed=st.integers(0, 2**32 - 1), columns=st.integers(1, 3))
@settings(max_examples=5, deadline=None)
def test_seeded_pure_and_above_the_low(text, seed, columns):
    columns += columns == 1 and "correlation" in text  # one column has no correlation
    trace = make_trace(columns=columns, seed=seed)
    before = [array.copy() for array in arrays(trace)]
    other = dataclasses.replace(make_trace(length=90, columns=columns, seed=3), name="other-hourly")
    shift = parse_shift(text)
    if "trace" in shift.parameters():
        shift = dataclasses.replace(shift, trace=other)
    shift = shift.against(Overrun())
    shifted = shift.apply(trace, np.random.default_rng(seed))
    assert same(shifted, shift.apply(trace, np.random.default_rng(seed)))
    assert all(map(np.array_equal, before, arrays(trace)))
    assert shifted.outcome.min() >= 0
    assert shifted.observed.min() >= 0
    assert shifted.provenance.history[-1] == str(shift)
    assert shifted.shifted.any()
    assert not np.array_equal(shifted.observed, trace.observed)


@pytest.mark.parametrize("text", WITH_ONSET)
@given(onset=st.one_of(st.floats(0.0, 1.0), st.integers(0, 120), st.just("2026-01-03T01:30")))
@settings(max_examples=8, deadline=None)
def test_onset_leaves_the_past_alone(text, onset):
    trace = make_trace()
    shift = dataclasses.replace(parse_shift(text), onset=onset).against(Overrun())
    first = trace.index(onset)
    shifted = shift.apply(trace, np.random.default_rng(0))
    for ours, theirs in zip(arrays(shifted), arrays(trace), strict=True):
        assert np.array_equal(ours[:first], theirs[:first])
    assert shifted.shifted[first:].all()


@pytest.mark.parametrize("text", [text for text in (*EXAMPLES.values(), *WITH_ONSET) if "daylight" not in text])
def test_sessions_of_an_exchange_are_shifted_by_count(text):
    """What counts slots counts sessions: the same numbers come out, on the dates of the sessions."""
    slots = make_trace(slot=86400.0, time=START + np.arange(120) * np.timedelta64(1, "D"))
    days = np.busday_offset("2026-01-01", np.arange(120), weekmask="1111100").astype("datetime64[ns]")
    sessions = slots.replace(time=days, sessions=True)
    shift = parse_shift(text.replace("hours=5.0", "hours=48.0"))
    if "trace" in shift.parameters():
        shift = dataclasses.replace(shift, trace=slots.window(0, 90).replace(outcome=2 * slots.outcome[:90]))
    one, two = (shift.against(Overrun()).apply(trace, np.random.default_rng(0)) for trace in (slots, sessions))
    for name in ("outcome", "observed", "context", "shifted"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    if shift.name != "swap":
        assert two.sessions
        assert np.array_equal(two.time, days[: len(two)])


@pytest.mark.parametrize("text", [*EXAMPLES.values(), *WITH_ONSET])
def test_text_and_json_round_trip(text):
    shift = parse_shift(text)
    assert str(shift) == text
    assert parse_shift(str(shift)) == shift
    assert parse_shift(json.loads(json.dumps(shift.to_dict()))) == shift
    assert pickle.loads(pickle.dumps(shift)) == shift


@given(
    factor=st.floats(0, 1e6),
    severity=st.floats(0, 10),
    onset=st.one_of(st.none(), st.floats(0, 1), st.integers(0, 10**6), st.just("2026-01-03 01:30"), st.just("2026")),
    channel=st.sampled_from(["outcome", "observed", "context"]),
)
def test_text_round_trips_any_value(factor, severity, onset, channel):
    shift = parse_shift(
        {"kind": "scale", "factor": factor, "severity": severity, "onset": onset, "channel": channel}
        if severity == 0 or factor >= 1
        else {"kind": "scale", "factor": factor, "onset": onset, "channel": channel}
    )
    again = parse_shift(str(shift))
    assert again == shift
    assert type(again.onset) is type(shift.onset)


@given(st.text(min_size=1))
def test_any_trace_text_round_trips(spec):
    shift = parse_shift({"kind": "swap", "trace": spec})
    assert parse_shift(str(shift)) == shift


@given(st.lists(st.sampled_from(sorted(EXAMPLES.values())), max_size=4), st.data())
def test_composition_is_associative(texts, data):
    cut = data.draw(st.integers(0, len(texts)))
    shifts = [parse_shift(text) for text in texts]
    left, right = parse_shift(texts[:cut]), parse_shift(texts[cut:])
    assert left | right == parse_shift(shifts) == parse_shift(" | ".join(texts))
    assert str(left | right) == (" | ".join(texts) or "none")
    assert parse_shift((left | right).to_dict()) == left | right


def test_composition_applies_in_order():
    trace = make_trace()
    shifted = apply("scale(factor=2) | offset(amount=1)", trace)
    assert np.allclose(shifted.outcome, 2 * trace.outcome + 2 * trace.outcome.mean(axis=0))
    assert shifted.provenance.history == ("scale(factor=2.0)", "offset(amount=1.0)")
    assert shifted.name == "hourly | scale(factor=2.0) | offset(amount=1.0)"


def test_members_of_a_composition_draw_independently():
    trace = make_trace()
    one, two = (apply(f"cutout(p={p}) | gaussian(scale=0.1, channel=context)", trace) for p in (0.0, 0.5))
    assert np.array_equal(one.context, two.context)


@pytest.mark.parametrize("none", [None, "", "none", " none ", {"kind": "none"}, [], Compose()])
def test_none_is_the_identity(none):
    trace = make_trace()
    assert str(parse_shift(none)) == "none"
    assert apply(none, trace) is trace


def test_sweep_scales_every_member_and_shares_its_draws():
    trace = make_trace()
    sweep = severity_sweep("gaussian(scale=0.1) | drift(slope=0.4)", [0.0, 0.5, 1.0, 2.0])
    assert sweep[0].is_identity
    assert str(sweep[1]) == "gaussian(scale=0.1, severity=0.5) | drift(slope=0.4, severity=0.5)"
    noise = [
        s.apply(trace, np.random.default_rng(0)).context
        for s in severity_sweep("gaussian(scale=0.1, channel=context)", [0.0, 1.0, 2.0])
    ]
    assert np.allclose(noise[2] - noise[0], 2 * (noise[1] - noise[0]))


def test_severity_scales_integers_to_integers():
    shift = parse_shift("lag(slots=3, severity=0.5)").effective()
    assert shift.slots == 2
    assert isinstance(shift.slots, int)


# --- channels ---


def test_reading_moves_with_the_outcome():
    trace = make_trace()
    faulty = apply("missing(p=0.2)", trace)
    shifted = apply("gaussian(scale=0.1)", faulty)
    clean = apply("gaussian(scale=0.1)", trace)
    assert np.array_equal(shifted.outcome, clean.outcome)
    read = faulty.observed == faulty.outcome
    assert np.array_equal(shifted.observed[read], shifted.outcome[read])


@pytest.mark.parametrize(
    ("channel", "changed"),
    [("outcome", {"outcome", "observed"}), ("observed", {"observed"}), ("context", {"context"})],
)
def test_channel_limits_what_changes(channel, changed):
    trace = make_trace()
    shifted = apply(f"scale(factor=2, channel={channel})", trace)
    for name in ("outcome", "observed", "context"):
        expected = getattr(trace, name) * (2 if name in changed else 1)
        assert np.array_equal(getattr(shifted, name), expected)


def test_columns_limit_what_changes():
    trace = load_trace("synthetic-datacenter[:200]")
    text = 'scale(factor=2.0, columns="requests:* training:T4")'
    assert str(parse_shift(text)) == text
    changed = (apply(text, trace).outcome != trace.outcome).any(axis=0)
    assert [n for n, moved in zip(trace.outcome_names, changed, strict=True) if moved] == [
        *("requests:code", "requests:conv", "training:T4")
    ]
    prices = apply("offset(amount=1.0, channel=context, columns=price:*)", trace)
    assert np.array_equal(prices.outcome, trace.outcome)
    assert (prices.context != trace.context).all(axis=0).tolist() == [True] * 3 + [False] * 6
    # what is taken over all columns is taken over the chosen ones only
    pair = apply('correlation(share=1, columns="training:T4 training:P100")', trace)
    assert np.corrcoef(pair.outcome[:, 6:].T)[0, 1] == pytest.approx(1, abs=1e-6)
    assert np.array_equal(pair.outcome[:, :6], trace.outcome[:, :6])
    with pytest.raises(
        ShiftError, match=r"columns of shift 'scale' .* no column .* called 'train:\*': give some of renewable:CA"
    ):
        apply('scale(columns="requests:* train:*")', trace)


def test_context_channel_needs_context():
    bare = make_trace(context=np.empty((0, 0)), context_names=(), context_units=())
    with pytest.raises(ShiftError, match="has no context"):
        apply("scale(factor=2, channel=context)", bare)


@pytest.mark.parametrize("name", ["lag", "missing", "frozen"])
def test_sensor_faults_leave_the_outcome(name):
    trace = make_trace()
    assert np.array_equal(apply(EXAMPLES[name], trace).outcome, trace.outcome)
    with pytest.raises(ShiftError, match="channel"):
        parse_shift(f"{name}(channel=outcome)")


# --- corruption ---


def test_cutout_share():
    trace = make_trace(length=20000)
    shifted = apply("cutout(p=0.05)", trace)
    assert np.mean(shifted.outcome == 0) == pytest.approx(0.05, abs=0.005)
    kept = shifted.outcome != 0
    assert np.array_equal(shifted.outcome[kept], trace.outcome[kept])


def test_gaussian_scale_is_of_the_maximum():
    trace = make_trace(length=20000, low=-np.inf)
    noise = apply("gaussian(scale=0.1)", trace).outcome - trace.outcome
    assert noise.std(axis=0) / np.abs(trace.outcome).max(axis=0) == pytest.approx([0.1, 0.1], rel=0.02)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.03


@given(period=st.floats(1.0, 300.0), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_perlin_is_bounded_by_its_scale(period, seed):
    trace = make_trace(low=-np.inf)
    noise = apply(f"perlin(scale=0.05, period={period!r})", trace, seed).outcome - trace.outcome
    assert np.all(np.abs(noise) <= 0.05 * np.abs(trace.outcome).max(axis=0) + 1e-12)
    assert noise.any()


def test_perlin_reaches_its_scale_and_is_smooth():
    trace = make_trace(length=50000, low=-np.inf)
    noise = (apply("perlin(scale=1, period=50)", trace).outcome - trace.outcome) / np.abs(trace.outcome).max(axis=0)
    assert noise.max() > 0.8
    assert noise.min() < -0.8
    assert np.abs(np.diff(noise, axis=0)).max() < 0.12
    assert np.abs(np.corrcoef(noise[:-120, 0], noise[120:, 0])[0, 1]) < 0.1


# --- marginal ---


def test_scale_offset_exact():
    trace = make_trace()
    assert np.array_equal(apply("scale(factor=1.3)", trace).outcome, trace.outcome * 1.3)
    shifted = apply("offset(amount=-0.5)", trace)
    assert np.array_equal(shifted.outcome, np.maximum(trace.outcome - 0.5 * trace.outcome.mean(axis=0), 0.0))


@given(factor=st.floats(1.0, 10.0), tail=st.sampled_from(["high", "low", "both"]))
def test_stretch_keeps_order_and_median(factor, tail):
    trace = make_trace(length=101, low=-np.inf)
    shifted = apply(f"stretch(factor={factor!r}, tail={tail})", trace)
    order = np.argsort(trace.outcome, axis=0)
    assert (np.diff(np.take_along_axis(shifted.outcome, order, axis=0), axis=0) >= 0).all()
    median = np.median(trace.outcome, axis=0)
    assert np.median(shifted.outcome, axis=0) == pytest.approx(median)
    far = shifted.outcome.max(axis=0) - median
    assert far == pytest.approx((factor if tail != "low" else 1.0) * (trace.outcome.max(axis=0) - median))


def test_clip():
    trace = make_trace()
    by_quantile = apply("clip(quantile=0.9)", trace).outcome
    assert np.array_equal(by_quantile, np.minimum(trace.outcome, np.quantile(trace.outcome, 0.9, axis=0)))
    assert apply("clip(level=0.5)", trace).outcome.max(axis=0) == pytest.approx(trace.outcome.max(axis=0) / 2)
    for text in ("clip", "clip(quantile=0.5, level=0.5)"):
        with pytest.raises(ShiftError, match="one of the two"):
            parse_shift(text)


def test_scale_about_the_mean_changes_the_spread_alone():
    trace = make_trace(low=-np.inf).replace(outcome=0.3 + make_trace(low=-np.inf).outcome, observed=None)
    shifted = apply("scale(factor=2, about=mean)", trace).outcome
    assert shifted.mean(axis=0) == pytest.approx(trace.outcome.mean(axis=0))
    assert shifted.std(axis=0) == pytest.approx(2 * trace.outcome.std(axis=0))
    half = apply("scale(factor=2, about=mean, severity=0.5)", trace).outcome
    assert half.std(axis=0) == pytest.approx(1.5 * trace.outcome.std(axis=0))


def test_scaled_returns_lose_no_more_than_everything():
    returns = np.array([[0.1, -0.6], [-0.2, 0.3], [0.0, 0.1]])
    trace = Trace("r", START + np.arange(3) * np.timedelta64(1, "D"), returns, 86400.0, ("A", "B"), ("1",) * 2,
                  outcome_low=-1.0, sessions=True)  # fmt: skip
    assert np.array_equal(apply("scale(factor=2)", trace).outcome, np.maximum(2 * returns, -1))


# --- correlation ---


def market(columns: int, length: int = 400, seed: int = 0) -> Trace:
    """Columns that a common factor drives, some against it."""
    rng = np.random.default_rng(seed)
    loads = rng.uniform(-0.5, 1.0, columns)
    values = rng.standard_t(4, (length, 1)) * loads + rng.standard_normal((length, columns))
    values = rng.normal(0.0, 0.3, columns) + values * rng.uniform(0.01, 2.0, columns)
    return make_trace(length, columns, low=-np.inf, outcome=values)


@given(
    share=st.floats(0.01, 1.0),
    columns=st.integers(2, 12),
    toward=st.sampled_from(["one", "zero"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40)
def test_correlations_move_linearly_and_columns_keep_mean_and_deviation(share, columns, toward, seed):
    trace = market(columns, seed=seed)
    shifted = apply(f"correlation(share={share!r}, toward={toward})", trace).outcome
    assert shifted.mean(axis=0) == pytest.approx(trace.outcome.mean(axis=0), abs=1e-9)
    assert shifted.std(axis=0) == pytest.approx(trace.outcome.std(axis=0), rel=1e-6)
    before, after = np.corrcoef(trace.outcome.T), np.corrcoef(shifted.T)
    target = np.ones((columns, columns)) if toward == "one" else np.eye(columns)
    assert after == pytest.approx((1 - share) * before + share * target, abs=1e-5)


def test_correlations_of_one_are_the_mean_of_all_and_zero_is_the_nearest():
    trace = market(6)
    mean, deviation = trace.outcome.mean(axis=0), trace.outcome.std(axis=0)
    standard = (trace.outcome - mean) / deviation
    common = standard.sum(axis=1) / standard.sum(axis=1).std()
    shifted = apply("correlation(share=1)", trace).outcome
    assert (shifted - mean) / deviation == pytest.approx(np.repeat(common[:, None], 6, axis=1), abs=1e-6)
    apart = (apply("correlation(share=1, toward=zero)", trace).outcome - mean) / deviation
    turned = apart @ np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]  # uncorrelated as well
    assert np.square(apart - standard).mean() < np.square(turned - standard).mean()


def test_correlation_depends_on_the_present_slot_only():
    trace = market(3)
    order = np.random.default_rng(0).permutation(len(trace))
    shuffled = trace.replace(outcome=trace.outcome[order], observed=None)
    one, two = (apply("correlation(share=0.8)", t).outcome for t in (trace, shuffled))
    assert two == pytest.approx(one[order], abs=1e-9)
    assert np.array_equal(one, apply("correlation(share=0.8)", trace, seed=7).outcome)


def test_correlation_of_a_severity_is_that_of_a_share():
    trace = market(4)
    half = apply("correlation(share=0.8, severity=0.5)", trace).outcome
    assert np.array_equal(half, apply("correlation(share=0.4)", trace).outcome)
    with pytest.raises(ShiftError, match="from 0 to 1"):
        parse_shift("correlation(share=0.8, severity=2)")


def test_correlation_leaves_constant_columns_and_moves_readings_alike():
    trace = market(3)
    flat = trace.replace(outcome=np.where(np.arange(3) == 1, 5.0, trace.outcome), observed=None)
    shifted = apply("correlation(share=1)", flat)
    assert np.array_equal(shifted.outcome[:, 1], flat.outcome[:, 1])
    assert np.corrcoef(shifted.outcome[:, [0, 2]].T)[0, 1] == pytest.approx(1)
    assert np.array_equal(shifted.observed, shifted.outcome)
    late = apply("lag(slots=1) | correlation(share=0.5)", trace)
    assert np.array_equal(late.outcome, apply("correlation(share=0.5)", trace).outcome)
    assert late.observed[1:] == pytest.approx(late.outcome[:-1])


@pytest.mark.parametrize(
    ("trace", "text", "message"),
    [
        (market(1), "correlation", "two columns"),
        (market(12, length=8), "correlation(toward=zero)", "more slots than columns"),
        (market(2), "correlation(share=1, channel=context)", "context"),
    ],
)
def test_correlations_that_cannot_be_moved_say_why(trace, text, message):
    with pytest.raises(ShiftError, match=message):
        apply(text, trace)


def test_columns_that_cancel_out_have_no_common_part():
    column = np.random.default_rng(0).standard_normal((50, 1))
    trace = make_trace(50, 2, low=-np.inf, outcome=np.hstack((column, -column)))
    with pytest.raises(ShiftError, match="cancel out"):
        apply("correlation(share=1)", trace)


# --- temporal ---


def test_drift_starts_at_the_onset_and_ends_at_its_slope():
    trace = make_trace(length=101)
    ratio = apply("drift(slope=0.5)", trace).outcome / trace.outcome
    assert np.allclose(ratio, 1 + 0.5 * np.linspace(0, 1, 101)[:, None])
    ratio = apply("drift(slope=0.5, onset=51)", trace).outcome / trace.outcome
    assert np.allclose(ratio[51:], 1 + 0.5 * np.linspace(0, 1, 50)[:, None])


@pytest.mark.parametrize("at", ["0.5", "60", "2026-01-03T12:00"])
def test_step_at_a_date(at):
    trace = make_trace(length=120)
    shifted = apply(f"step(factor=1.5, at={at})", trace)
    assert np.array_equal(shifted.outcome[60:], 1.5 * trace.outcome[60:])
    assert np.array_equal(shifted.outcome[:60], trace.outcome[:60])
    assert np.array_equal(shifted.shifted, np.arange(120) >= 60)


@given(st.integers(1, 200))
def test_phase_is_circular(hours):
    trace = make_trace()
    shifted = apply(f"phase(hours={hours})", trace)
    assert np.array_equal(shifted.outcome, np.roll(trace.outcome, hours, axis=0))
    assert np.array_equal(shifted.context, trace.context)
    assert np.array_equal(apply(f"phase(hours={-hours})", shifted).outcome, trace.outcome)


def test_phase_over_the_hours_of_daily_loads():
    time = START + np.arange(10) * np.timedelta64(1, "D")
    trace = Trace("days", time, np.arange(240.0).reshape(10, 24), 86400.0, tuple(map(str, range(24))), ("MW",) * 24)
    shifted = apply("phase(hours=3, axis=columns)", trace)
    assert np.array_equal(shifted.outcome.ravel(), np.roll(np.arange(240.0), 3))
    with pytest.raises(ShiftError, match="less than half a step"):
        apply("phase(hours=3)", trace)


def test_lag_reads_the_past():
    trace = make_trace()
    shifted = apply("lag(slots=3)", trace)
    assert np.array_equal(shifted.observed[3:], trace.outcome[:-3])
    assert np.array_equal(shifted.observed[:3], np.repeat(trace.outcome[:1], 3, axis=0))


def year(slot: int = 3600) -> Trace:
    """A year by the clock of New York whose outcome counts the slots."""
    length = 366 * 86400 // slot
    time = np.datetime64("2012-01-01", "ns") + np.arange(length) * np.timedelta64(slot, "s")
    return Trace("year", time, np.arange(float(length)), float(slot), outcome_low=0.0)


@pytest.mark.parametrize("slot", [3600, 1800])
def test_a_clock_left_on_winter_time_reads_the_next_hour_in_summer_but_nothing_of_tomorrow(slot):
    trace = year(slot)
    ahead = apply("daylight", trace).observed[:, 0] - trace.outcome[:, 0]
    steps, day = 3600 // slot, 86400 // slot
    off = np.flatnonzero(ahead)
    assert trace.time[off[0]] == np.datetime64("2012-03-11T02:00")
    assert trace.time[off[-1]] < np.datetime64("2012-11-04T02:00")
    whole = ahead[trace.index("2012-07-01") : trace.index("2012-08-01")].reshape(-1, day)
    assert (whole == np.minimum(np.arange(day)[::-1], steps)).all()
    days = trace.time.astype("datetime64[D]")
    assert (days[(trace.outcome[:, 0] + ahead).astype(int)] == days).all()


def test_a_clock_left_on_summer_time_reads_the_hour_before_in_winter():
    trace = year()
    behind = trace.outcome[:, 0] - apply("daylight(left=summer)", trace).observed[:, 0]
    summer = (trace.time >= np.datetime64("2012-03-11T02:00")) & (trace.time < np.datetime64("2012-11-04T02:00"))
    assert (behind[1:] == ~summer[1:]).all()
    south = apply("daylight(left=summer, zone=Australia/Sydney)", trace).observed[:, 0]
    assert not np.array_equal(south[4000:5000], trace.outcome[4000:5000, 0])  # winter there


def test_a_clock_that_is_not_changed_says_why():
    with pytest.raises(ShiftError, match="slots of 86400 s, but shift 'daylight' moves readings by an hour"):
        apply("daylight", make_trace(slot=86400.0, time=START + np.arange(120) * np.timedelta64(1, "D")))
    with pytest.raises(ShiftError, match="zone of shift 'daylight' is 'UTC', whose clock is not changed"):
        apply("daylight(zone=UTC)", make_trace())
    with pytest.raises(TraceError, match="'America/New_Yorck' is unknown"):
        apply("daylight(zone=America/New_Yorck)", make_trace())


@given(p=st.floats(0.01, 0.9), duration=st.integers(1, 30))
@settings(max_examples=10, deadline=None)
def test_missing_reads_zero_for_its_share(p, duration):
    trace = make_trace(length=40000)
    lost = apply(f"missing(p={p!r}, duration={duration})", trace).observed == 0
    assert lost.mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) * 2 * duration / lost.size) + 1e-3)


def test_outages_last_their_duration():
    lost = apply("missing(p=0.01, duration=5)", make_trace(length=20000, columns=1)).observed[:, 0] == 0
    edges = np.flatnonzero(np.diff(np.concatenate(([0], lost.astype(int), [0]))))
    lengths = np.diff(edges)[::2][1:-1]
    assert lengths.min() == 5


def test_frozen_repeats_the_last_reading():
    trace = make_trace(length=400)
    frozen = apply("frozen(p=0.3, duration=5, onset=100)", trace)
    lost = frozen.observed != trace.outcome
    assert 0.1 < lost.mean() < 0.4
    for row, column in np.argwhere(lost):
        assert frozen.observed[row, column] == frozen.observed[row - 1, column]


# --- mixture and swap ---


def test_merge_takes_blocks_of_the_other_trace():
    trace, other = make_trace(length=2000), make_trace(length=90, seed=5)
    shift = dataclasses.replace(parse_shift("merge(trace=x, fraction=0.25, block=20)"), trace=other)
    shifted = shift.apply(trace, np.random.default_rng(0))
    taken = (shifted.outcome != trace.outcome).all(axis=1)
    blocks = taken.reshape(100, 20)
    assert (blocks.all(axis=1) | ~blocks.any(axis=1)).all()
    assert taken.mean() == pytest.approx(0.25, abs=0.12)
    rows = np.arange(2000) % 80  # four whole blocks of the other trace, again and again
    assert np.array_equal(shifted.outcome[taken], other.outcome[rows[taken]])
    assert np.array_equal(shifted.context[taken], other.context[rows[taken]])


def make_log(rate: float, tokens: float, seconds: int, name: str, seed: int) -> RequestLog:
    rng = np.random.default_rng(seed)
    count = rng.poisson(rate * seconds)
    time = START + np.sort(rng.integers(0, seconds * 10**9, count)).astype("timedelta64[ns]")
    return RequestLog(name, time, np.full(count, tokens), np.zeros(count))


def test_merge_of_requests_conserves_the_expected_rate():
    trace = make_log(20.0, 100.0, 2000, "conversation", 0).slots("2s")
    other = make_log(5.0, 1000.0, 1000, "code", 1).slots("2s")
    for fraction in (0.25, 0.5, 1.0):
        shift = dataclasses.replace(parse_shift(f"merge(trace=x, fraction={fraction}, level=request)"), trace=other)
        merged = shift.apply(trace, np.random.default_rng(0))
        expected = 2 * ((1 - fraction) * 20.0 * 100.0 + fraction * 5.0 * 1000.0)
        assert merged.outcome.mean() == pytest.approx(expected, rel=0.05)
        assert len(merged) in (498, 499, 500)
        assert merged.slot == trace.slot
        assert merged.requests is not None
        assert np.array_equal(merged.requests.slots(2.0, start=trace.time[0]).outcome[:400], merged.outcome[:400])


def test_merge_of_requests_by_name_takes_the_slot_of_the_trace():
    register_trace("log-of-code", lambda: make_log(5.0, 1000.0, 1000, "code", 1))
    trace = make_log(20.0, 100.0, 2000, "conversation", 0).slots("5s").window(0.1, 0.2)
    merged = apply("merge(trace=log-of-code, level=request)", trace)
    assert merged.slot == 5.0
    assert 38 <= len(merged) <= 40
    assert merged.time[0] == trace.time[0]
    with pytest.raises(ShiftError, match="slots 2 s"):
        apply("merge(trace=log-of-code@2s, level=request)", trace)


def test_merge_of_requests_needs_the_logs():
    with pytest.raises(ShiftError, match="level=instance"):
        apply("merge(trace=other-hourly, level=request)", make_trace())
    log = make_log(20.0, 100.0, 200, "conversation", 0).slots("2s")
    shift = parse_shift("scale(factor=2)") | dataclasses.replace(
        parse_shift("merge(trace=x, level=request)"), trace=log
    )
    with pytest.raises(ShiftError, match="merge first"):
        shift.apply(log, np.random.default_rng(0))


def test_splice_plays_the_other_trace_from_its_start():
    trace, other = make_trace(length=120), load_trace("other-hourly")
    shifted = apply("splice(trace=other-hourly, at=20)", trace)
    assert len(shifted) == 110  # the other trace ends here
    assert np.array_equal(shifted.outcome, np.concatenate((trace.outcome[:20], other.outcome)))
    assert len(apply("splice(trace=other-hourly, at=100)", trace)) == 120
    with pytest.raises(ShiftError, match="its own 'at'"):
        parse_shift("splice(trace=other-hourly, onset=0.5)")


def test_swap_is_the_other_trace():
    other = load_trace("other-hourly")
    shifted = apply("swap(trace=other-hourly)", make_trace())
    assert np.array_equal(shifted.outcome, other.outcome)
    assert np.array_equal(shifted.time, other.time)
    assert shifted.shifted.all()
    windowed = apply('swap(trace="other-hourly[:0.5]")', make_trace())
    assert len(windowed) == 45


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slot": 7200.0}, "slots 7200 s"),
        ({"columns": 3}, "columns 3"),
        ({"outcome_units": ("kW", "kW")}, r"units \('kW', 'kW'\)"),
    ],
)
def test_other_trace_must_fit(change, message):
    if "slot" in change:
        base = make_trace()
        other = base.replace(slot=7200.0, time=START + np.arange(len(base)) * np.timedelta64(7200, "s"))
    else:
        other = make_trace(**change)
    with pytest.raises(ShiftError, match=message):
        dataclasses.replace(parse_shift("swap(trace=x)"), trace=other).apply(make_trace(), np.random.default_rng(0))
    if "outcome_units" in change:
        shift = dataclasses.replace(parse_shift("merge(trace=x, units=any)"), trace=other)
        assert len(shift.apply(make_trace(), np.random.default_rng(0))) == 120


# --- resampling ---


@given(
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=2, max_size=60),
    st.floats(1e-4, 0.99),
)
def test_tilt_spends_its_budget(costs, share):
    costs = np.array(costs)
    limit = np.log(len(costs) / (costs == costs.max()).sum())
    weights = tilt_weights(costs, share * limit)
    positive = weights[weights > 0]
    divergence = float(positive @ np.log(positive * len(costs)))
    assert weights.sum() == pytest.approx(1.0)
    assert divergence == pytest.approx(share * limit, abs=1e-6)
    assert weights @ costs >= costs.mean() - 1e-6
    beyond = tilt_weights(costs, limit + 1.0)
    assert np.array_equal(beyond > 0, costs == costs.max()) or limit == 0


def test_tilt_maximises_the_mean_cost_within_its_budget():
    rng = np.random.default_rng(0)
    costs = rng.standard_normal(8)
    best = tilt_weights(costs, 0.3) @ costs
    for other in rng.dirichlet(np.full(8, 2.0), 20000):
        if other @ np.log(other * 8) <= 0.3:
            assert other @ costs <= best + 1e-9


def test_tilt_draws_blocks_with_their_weights():
    trace = make_trace(length=60)
    shift = parse_shift("tilt(kl=0.5, block=6)")
    blocks = trace.outcome.reshape(10, 6, 2)
    weights = tilt_weights(blocks.mean(axis=(1, 2)), 0.5)
    counts = np.zeros(10)
    for seed in range(800):
        shifted = shift.apply(trace, np.random.default_rng(seed)).outcome.reshape(10, 1, 6, 2)
        hits = (shifted == blocks).all(axis=(2, 3))
        assert (hits.sum(axis=1) == 1).all()  # every place holds a whole block
        counts += hits.sum(axis=0)
    assert counts / 8000 == pytest.approx(weights, abs=0.02)


def test_tilt_by_a_column():
    trace = make_trace(length=600)
    hot = apply("tilt(kl=0.5, block=6, by=temperature)", trace)
    cold = apply("tilt(kl=0.5, block=6, by=temperature, toward=low)", trace)
    assert cold.context.mean() < trace.context.mean() < hot.context.mean()
    with pytest.raises(UnknownNameError, match="temperature"):
        apply("tilt(by=temperatur)", trace)
    with pytest.raises(ShiftError, match="block"):
        apply("tilt(block=400)", trace)


def test_tilt_by_the_peak_of_a_day_moves_whole_days_with_their_context():
    trace = make_trace(length=24 * 400, columns=1)
    days = trace.outcome.reshape(-1, 24)
    budget = 0.5
    shifted = apply(f"tilt(kl={budget}, block=24, statistic=max)", trace, seed=3)
    drawn = [np.flatnonzero((days == day).all(axis=1)).item() for day in shifted.outcome.reshape(-1, 24)]
    assert np.array_equal(shifted.context.reshape(-1, 24), trace.context.reshape(-1, 24)[drawn])
    assert np.array_equal(shifted.time, trace.time)
    expected = tilt_weights(days.max(axis=1), budget) @ days.max(axis=1)
    assert days[drawn].max(axis=1).mean() == pytest.approx(expected, rel=0.05)
    by_mean = apply(f"tilt(kl={budget}, block=24)", trace, seed=3).outcome.reshape(-1, 24)
    assert by_mean.max(axis=1).mean() < days[drawn].max(axis=1).mean()
    assert by_mean.mean() > days[drawn].mean()
    lows = apply("tilt(kl=0.5, block=24, statistic=max, toward=low)", trace, seed=3).outcome.reshape(-1, 24)
    assert lows.min(axis=1).mean() < days.min(axis=1).mean()


def test_severity_of_tilt_raises_the_mean():
    trace = make_trace(length=2800)
    means = [s.apply(trace, np.random.default_rng(0)).outcome.mean() for s in severity_sweep("tilt(kl=1)", [0, 0.2, 1])]
    assert all(low < high for low, high in pairwise(means))


def test_a_mixture_with_a_synthetic_trace_is_synthetic():
    other = make_trace(provenance=Provenance(synthetic=True))
    for text in ("merge(trace=x)", "splice(trace=x)", "swap(trace=x)"):
        shift = dataclasses.replace(parse_shift(text), trace=other)
        assert shift.apply(make_trace(), np.random.default_rng(0)).synthetic


# --- errors, listing, users' own shifts, report ---


@pytest.mark.parametrize(
    ("shift", "error", "message"),
    [
        ("gausian", UnknownNameError, "did you mean 'gaussian'"),
        ("gaussian(scal=0.1)", UnknownNameError, "did you mean 'scale'"),
        (
            "gaussian(scale=lots)",
            ShiftError,
            "scale of shift 'gaussian' is 'lots': give a finite number of 0 or more",
        ),
        ("gaussian(scale=-1)", ShiftError, "is -1: give"),
        ({"kind": "gaussian", "scale": float("nan")}, ShiftError, "is nan"),
        ({"kind": "gaussian", "scale": True}, ShiftError, "is True"),
        ("cutout(p=1.5)", ShiftError, "from 0 to 1"),
        ("cutout(p=0.6, severity=2)", ShiftError, "after scaling by severity 2"),
        ("swap(trace=a, severity=0.5)", ShiftError, "all or nothing"),
        ("swap(trace=a, onset=0.5)", ShiftError, "splice"),
        ("merge", ShiftError, "trace of shift 'merge' is missing"),
        ("lag(slots=1.5)", ShiftError, "an integer"),
        ("gaussian(onset=1.5)", ShiftError, "onset"),
        ("gaussian(onset=yesterday)", ShiftError, "onset"),
        ("gaussian(severity=-1)", ShiftError, "severity"),
        ("stretch(tail=left)", ShiftError, "'high' or 'low' or 'both'"),
        ("gaussian(scale=0.1", ShiftError, r"',' or '\)' at 'the end'"),
        ("gaussian(0.1)", ShiftError, "'parameter=value'"),
        ("gaussian scale", ShiftError, r"'\|' or the end"),
        ("gaussian |", ShiftError, "the name of a shift"),
        ("gaussian(scale=1, scale=2)", ShiftError, "once"),
        ("swap(trace='a)", ShiftError, "a value for 'trace'"),
        ({"scale": 1}, ShiftError, "kind of shift"),
        (3, ShiftError, "shift is 3"),
    ],
)
def test_bad_shifts_say_what_to_do(shift, error, message):
    with pytest.raises(error, match=message):
        parse_shift(shift)


def test_onset_outside_the_trace():
    with pytest.raises(TraceError, match="outside trace"):
        apply("scale(factor=2, onset=5000)", make_trace())


def test_a_shift_of_ones_own():
    @register("spike-of-ones-own")
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Hiccup(ArrayShift):
        """Every tenth slot multiplied."""

        factor: float = parameter(2.0, identity=1.0, low=0.0, doc="multiple of every tenth slot")

        def distort(self, values, scene):
            return np.where(np.arange(len(values))[:, None] % 10 == 0, values * self.factor, values)

    try:
        trace = make_trace()
        shifted = apply("spike-of-ones-own(factor=3, severity=0.5) | scale(factor=1)", trace)
        assert np.array_equal(shifted.outcome[::10], 2 * trace.outcome[::10])
        assert {
            "name": "spike-of-ones-own",
            "family": "user",
            "parameters": "factor=2.0 (multiple of every tenth slot)",
            "models": "Every tenth slot multiplied",
            "source": "",
        } in describe_shifts()
        with pytest.raises(ShiftError, match="is taken"):
            register("scale")(Hiccup)
        with pytest.raises(ShiftError, match="use letters"):
            register("a b")(Hiccup)
    finally:
        del shift_registry._SHIFTS["spike-of-ones-own"]


def test_a_distort_of_the_wrong_shape_is_named():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Short(ArrayShift):
        def distort(self, values, scene):
            return values[1:]

    with pytest.raises(ShiftError, match="must keep it"):
        Short().apply(make_trace(), np.random.default_rng(0))


def test_report():
    trace = make_trace(length=200)
    shift = parse_shift("scale(factor=1.5, onset=0.5)")
    shifted = shift.apply(trace, np.random.default_rng(4))
    report = report_shift(shift, 4, shifted, trace)
    expected = np.mean([stats.wasserstein_distance(shifted.outcome[:, c], trace.outcome[:, c]) for c in (0, 1)])
    assert report.wasserstein == pytest.approx(expected)
    assert report.relative_wasserstein == pytest.approx(expected / trace.outcome.mean())
    assert report.active == 0.5
    assert parse_shift(report.to_dict()["shift"]) == shift
    assert json.loads(json.dumps(report.to_dict()))["seed"] == 4
    moved = apply("offset(amount=0.25)", trace)
    assert report_shift(shift, 0, moved, trace).relative_wasserstein == pytest.approx(0.25)
    assert report_shift(parse_shift(None), 0, trace, trace).wasserstein == 0
    with pytest.raises(ShiftError, match="same columns"):
        report_shift(shift, 0, shifted, make_trace(columns=3))


def test_negative_values_keep_their_sign():
    trace = make_trace(low=-np.inf)
    assert np.array_equal(apply("scale(factor=2)", trace).outcome, 2 * trace.outcome)
    assert apply("stretch(factor=3, tail=low)", trace).outcome.min() < trace.outcome.min()


def test_the_page_lists_every_shift():
    page = (Path(__file__).parents[2] / "docs" / "shifts.md").read_text(encoding="utf-8")
    for row in describe_shifts():
        assert row["family"] == "user" or (
            f"| `{row['name']}` | {row['family']} | {row['parameters']} | {row['models']} | {row['source']} |" in page
        )
    common = parse_shift("scale").parameters()
    for name in ("onset", "severity", "channel", "columns"):
        assert f"| `{name}` | {common[name].doc} |" in page


def test_the_example_of_the_page_runs():
    page = (Path(__file__).parents[2] / "docs" / "shifts.md").read_text(encoding="utf-8")
    names: dict = {"__name__": "__main__"}
    try:
        exec(page.split("```python")[1].split("```")[0], names)
        shifted = names["shift"].apply(make_trace(), np.random.default_rng(0))
        assert not np.array_equal(shifted.outcome, make_trace().outcome)
    finally:
        shift_registry._SHIFTS.pop("hiccup", None)


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30),
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30),
)
def test_wasserstein_distance_is_that_of_scipy(one, two):
    assert wasserstein_distance(one, two) == pytest.approx(stats.wasserstein_distance(one, two), abs=1e-9)
