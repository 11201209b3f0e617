from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftgym.data import RequestLog, Trace, TraceError
from shiftgym.data.calendar import calendar_context, with_calendar
from shiftgym.data.spec import TraceSpec, parse_spec
from shiftgym.data.trace import format_duration, parse_duration

START = np.datetime64("2026-01-01T00:00", "ns")


def make(length: int = 12, slot: float = 2.0, **changes: Any) -> Trace:
    time = START + np.arange(length) * np.timedelta64(round(slot * 1e9), "ns")
    fields: dict[str, Any] = {
        "name": "made",
        "time": time,
        "outcome": np.arange(length, dtype=float),
        "slot": slot,
        "outcome_low": 0.0,
        "outcome_units": (f"tokens/{format_duration(slot)}",),
    }
    return Trace(**(fields | changes))


def test_a_trace_is_immutable_and_copies_its_input() -> None:
    outcome = np.ones(12)
    trace = make(outcome=outcome)
    outcome[0] = 5
    assert trace.outcome[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        trace.outcome[0, 0] = 2
    assert trace.observed is not None
    assert np.array_equal(trace.observed, trace.outcome)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outcome": np.empty(0), "time": np.empty(0, "datetime64[ns]")}, "empty"),
        ({"outcome": np.array([*range(11), np.nan])}, r"outcome .* is nan .*row 11, column 0"),
        ({"outcome": np.array([-3.0, *range(11)])}, "-3.0 .* smallest sensible value 0.0"),
        ({"outcome": np.ones(11)}, r"time .* shape \(12,\), expected \(11,\)"),
        ({"time": make().time[::-1]}, "unsorted at row 1"),
        ({"time": np.insert(make().time[:-1], 3, make().time[3])}, "duplicate at row 4 .* autumn"),
        ({"time": make(slot=3.0).time}, "not one slot apart at row 1"),
        ({"slot": 0.0}, "positive length"),
        ({"context": np.ones((12, 1))}, "context .* expected"),
    ],
)
def test_broken_traces_name_field_and_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    ("start", "stop", "rows"),
    [
        (None, None, range(12)),
        (3, 5, range(3, 5)),
        (0.5, None, range(6, 12)),
        (None, 0.25, range(3)),
        (0.0, 1.0, range(12)),
        ("2026-01-01T00:00:04", "2026-01-01T00:00:09Z", range(2, 5)),
    ],
)
def test_windows_take_indices_fractions_and_times(start: Any, stop: Any, rows: range) -> None:
    window = make().window(start, stop)
    assert window.outcome[:, 0].tolist() == list(rows)
    assert window.time[0] == make().time[rows[0]]


@pytest.mark.parametrize(
    ("start", "stop", "message"),
    [
        (0, 13, "outside"),
        (-1, 5, "outside"),
        (0.5, 1.5, "outside"),
        ("2027-01-01", None, "outside"),
        ("soon", None, "no ISO time"),
        ("NaT", None, "no time"),
        (True, None, "True"),
        (5, 5, "empty"),
        (8, 2, "empty"),
    ],
)
def test_windows_outside_the_trace_are_errors(start: Any, stop: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        make().window(start, stop)


def test_a_window_cuts_the_requests_as_well() -> None:
    time = START + np.array([0, 500, 2100, 4200, 9000]) * np.timedelta64(1, "ms")
    trace = RequestLog("log", time, np.ones(5), np.ones(5)).slots("2s")
    window = trace.window(1, 3)
    assert window.requests is not None
    assert window.requests.time.tolist() == time[2:4].tolist()
    assert trace.window(3, 4).requests is None  # a silence


def test_split_loses_nothing() -> None:
    before, after = make().split(0.3)
    assert np.array_equal(np.concatenate((before.outcome, after.outcome)), make().outcome)


@given(st.integers(1, 40), st.integers(1, 12))
def test_coarser_slots_keep_the_total(length: int, step: int) -> None:
    trace = make(length)
    if step > length:
        with pytest.raises(TraceError, match="longer than trace"):
            trace.coarsen(2.0 * step)
        return
    coarse = trace.coarsen(2.0 * step)
    assert len(coarse) == length // step
    assert coarse.outcome.sum() == trace.outcome[: len(coarse) * step].sum()
    assert coarse.time[0] == trace.time[0]
    assert coarse.outcome_units == (f"tokens/{format_duration(2.0 * step)}",)


@pytest.mark.parametrize("slot", ["3s", "1s", "2500ms"])
def test_a_slot_that_is_no_multiple_is_an_error(slot: str) -> None:
    with pytest.raises(TraceError, match="not a multiple of 2s"):
        make().coarsen(slot)


@given(st.floats(1e-3, 1e6))
def test_durations_round_trip(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2s", 2), ("10min", 600), ("1h", 3600), ("250ms", 0.25), (4, 4), ("1d", 86400)]
)
def test_durations_are_read(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2 weeks", "-1s", "0s", "nan", "s"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(TraceError, match="not a duration"):
        parse_duration(text)


def test_calendar_needs_each_period_twice() -> None:
    names = [calendar_context(make(2).time, days * 86400)[1] for days in (1.9, 2, 13, 14)]
    assert [len(n) for n in names] == [0, 2, 2, 4]
    trace = with_calendar(make(48 * 7, slot=3600.0))
    assert trace.context_names == ("hour_sin", "hour_cos", "week_sin", "week_cos")
    np.testing.assert_allclose(trace.context[0], trace.context[24 * 7], atol=1e-12)
    np.testing.assert_allclose(trace.context[6, :2], (1, 0), atol=1e-12)  # six in the morning
    assert with_calendar(make()).context_names == ()


def test_a_frame_has_the_columns_and_the_times() -> None:
    frame = make(context=np.ones((12, 1)), context_names=("price",), context_units=("EUR/MWh",)).to_frame()
    assert list(frame.columns) == ["outcome", "price"]
    assert frame.index[1] == make().time[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("azure-2023-conv", TraceSpec("azure-2023-conv")),
        ("azure-2023-conv@2s", TraceSpec("azure-2023-conv", "2s")),
        ("azure-2023-code@2s[0.5:]", TraceSpec("azure-2023-code", "2s", 0.5)),
        ("a[:100]", TraceSpec("a", "", None, 100)),
        ("a[1e-1:0.5]", TraceSpec("a", "", 0.1, 0.5)),
        ("a[:]", TraceSpec("a")),
        (
            "a[2023-11-16T18:20:2023-11-16T18:30:05]",
            TraceSpec("a", "", "2023-11-16T18:20", "2023-11-16T18:30:05"),
        ),
        ("a[2023-11-16T18:20:]", TraceSpec("a", "", "2023-11-16T18:20")),
        ("a[:2023-11-16T18:20Z]", TraceSpec("a", "", None, "2023-11-16T18:20")),
        ("a[0:2023-11-16]", TraceSpec("a", "", 0, "2023-11-16")),
        ("file:me@home/log.csv?time=t&prompt=p", TraceSpec("file:me@home/log.csv?time=t&prompt=p")),
        ("file:x[1].csv?time=t&prompt=p@10s[1:2]", TraceSpec("file:x[1].csv?time=t&prompt=p", "10s", 1, 2)),
    ],
)
def test_the_text_form_is_read(text: str, expected: TraceSpec) -> None:
    assert parse_spec(text) == expected
    assert parse_spec(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a[5]", "START:STOP"),
        ("a[x:y]", "START:STOP"),
        ("a[2023-11-16T18:20:30]", "START:STOP"),
        ("a[1:2:3]", "START:STOP"),
        ("a@soon", "slot 'soon'"),
        ("@2s", "no name"),
        ("", "no name"),
    ],
)
def test_malformed_text_forms_are_errors(text: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        parse_spec(text)


# ---------------------------------------------------------------------- sessions
def closes(length: int = 12, **changes: Any) -> Trace:
    """Weekdays from Thursday 2026-01-01 on."""
    days = np.busday_offset("2026-01-01", np.arange(length))
    fields: dict[str, Any] = {"slot": 86400.0, "time": days.astype("datetime64[ns]"), "sessions": True}
    return make(length, **(fields | changes))


def test_sessions_may_skip_days_and_count_as_slots() -> None:
    trace = closes()
    assert trace.duration == 16 * 86400  # Thursday to Friday two weeks later
    assert trace.window(0.5).outcome[:, 0].tolist() == list(range(6, 12))
    assert trace.window(2, 4).time.tolist() == closes().time[2:4].tolist()
    before, after = trace.split(0.25)
    assert (len(before), len(after), before.sessions, after.sessions) == (3, 9, True, True)
    assert trace.replace("note").sessions
    assert trace.coarsen("1d") is trace
    assert with_calendar(closes(30)).context_names == ()
    with pytest.raises(TraceError, match=r"not one slot apart at row 2 .* exchanges"):
        closes(sessions=False)


@given(st.integers(0, 40))
def test_a_time_is_the_first_session_from_then_on(hours: int) -> None:
    trace = closes()
    stamp = trace.time[0] + np.timedelta64(hours * 8, "h")
    index = trace.index(stamp)
    assert trace.time[index] >= stamp
    assert index == 0 or trace.time[index - 1] < stamp


@pytest.mark.parametrize(
    ("start", "stop", "rows"),
    [
        ("2026-01-03", "2026-01-06", [2]),  # a Saturday to a Tuesday
        ("2026-01-02", "2026-01-05T00:00:01", [1, 2]),
        ("2026-01-05", "2026-01-17", list(range(2, 12))),
    ],
)
def test_sessions_are_cut_by_time(start: str, stop: str, rows: list[int]) -> None:
    assert closes().window(start, stop).outcome[:, 0].tolist() == rows


@pytest.mark.parametrize("place", ["2025-12-31", "2026-01-18", "2027-01-01"])
def test_times_outside_the_sessions_are_errors(place: str) -> None:
    with pytest.raises(TraceError, match="outside trace"):
        closes().index(place)


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (closes().time[::-1], "unsorted at row 1"),
        (np.repeat(closes(6).time, 2), "duplicate at row 1"),
        (closes().time + np.arange(12) * np.timedelta64(1, "h"), "not whole slots apart at row 1 .* same time of the"),
    ],
)
def test_broken_sessions_are_named(time: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        closes(time=time)


def test_sessions_are_not_added_up() -> None:
    with pytest.raises(TraceError, match=r"exchange sessions .* returns do not add up"):
        closes().coarsen("2d")


places = st.none() | st.integers(0, 10**6) | st.floats(0, 1).filter(lambda x: "." in repr(x) or "e" in repr(x))


@given(st.sampled_from(["", "2s", "10min"]), places, places)
def test_text_forms_round_trip(slot: str, start: Any, stop: Any) -> None:
    spec = TraceSpec("azure-2023-conv", slot, start, stop)
    assert parse_spec(str(spec)) == spec
