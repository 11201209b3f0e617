from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftgym.data import RequestLog, TraceError

START = np.datetime64("2026-01-01", "ns")


def make(milliseconds: Any, prompt: Any = None, output: Any = None, name: str = "log") -> RequestLog:
    time = START + np.asarray(milliseconds, dtype=np.int64) * np.timedelta64(1, "ms")
    ones = np.ones(len(time))
    return RequestLog(name, time, ones if prompt is None else prompt, ones if output is None else output)


logs = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(0, 10**5), st.integers(0, 10**5)), min_size=2, max_size=60
).map(sorted)


@settings(max_examples=60)
@given(logs, st.sampled_from([1.0, 0.7, 2.0, "250ms"]))
def test_slots_are_exact(rows: list[tuple[int, int, int]], slot: Any) -> None:
    log = make([r[0] for r in rows], np.array([r[1] for r in rows]), np.array([r[2] for r in rows]))
    width = 250 if slot == "250ms" else round(slot * 1000)
    first, last = rows[0][0], rows[-1][0]
    count = (last - first) // width
    if count < 1:
        with pytest.raises(TraceError, match="longer than request log"):
            log.slots(slot)
        return
    trace = log.slots(slot)
    expected = [
        sum(p + o for t, p, o in rows if first + i * width <= t < first + (i + 1) * width) for i in range(count)
    ]
    assert trace.outcome[:, 0].tolist() == expected
    assert trace.requests is log


def test_a_boundary_belongs_to_the_slot_it_starts() -> None:
    trace = make([0, 1999, 2000, 4000], [1, 2, 4, 8], np.zeros(4)).slots("2s")
    assert trace.outcome[:, 0].tolist() == [3, 4]  # the last arrival starts a slot that does not end


def test_slots_of_a_longer_span_have_zeros() -> None:
    log = make([1000, 3000])
    trace = log.slots("1s", start=START, stop=START + np.timedelta64(6, "s"))
    assert trace.outcome[:, 0].tolist() == [0, 2, 0, 2, 0, 0]
    silent = log.slots("1s", start=START + np.timedelta64(4, "s"), stop=START + np.timedelta64(6, "s"))
    assert silent.outcome[:, 0].tolist() == [0, 0]


def test_ties_are_allowed() -> None:
    assert make([0, 500, 500, 500, 1000]).slots("500ms").outcome[:, 0].tolist() == [2, 6]


@pytest.mark.parametrize(
    ("milliseconds", "prompt", "message"),
    [
        ([], [], "empty"),
        ([0, 5, 3], [1, 1, 1], "unsorted at row 2"),
        ([0, 1, 2], [1, np.nan, 1], "prompt tokens .* nan at row 1"),
        ([0, 1, 2], [1, 1, -4], "prompt tokens .* -4.0 at row 2 .*1 such"),
        ([0, 1, 2], [1, np.inf, 1], "inf at row 1"),
        ([0, 1, 2], [1, 1], r"shape \(2,\), expected \(3,\)"),
    ],
)
def test_broken_logs_name_field_and_row(milliseconds: Any, prompt: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        make(milliseconds, np.array(prompt, float))


def test_a_missing_time_names_its_row() -> None:
    time = np.array(["2026-01-01", "NaT"], "datetime64[ns]")
    with pytest.raises(TraceError, match="missing at row 1"):
        RequestLog("log", time, np.ones(2), np.ones(2))


def test_merge_takes_the_fraction_of_each_and_stays_sorted() -> None:
    rng = np.random.default_rng(0)
    ours = make(np.sort(rng.integers(0, 10**6, 4000)), np.full(4000, 1.0), name="ours")
    theirs = make(np.sort(rng.integers(0, 10**6, 4000)) + 10**8, np.full(4000, 2.0), name="theirs")
    merged = ours.merge(theirs, 0.25, np.random.default_rng(1))
    assert (np.diff(merged.time) >= np.timedelta64(0)).all()
    assert (merged.prompt == 1).sum() == pytest.approx(3000, abs=150)
    assert (merged.prompt == 2).sum() == pytest.approx(1000, abs=100)
    assert merged.time[-1] <= ours.time[-1]
    assert len(ours.merge(theirs, 0.0, np.random.default_rng(1))) == pytest.approx(4000, abs=100)
    again = ours.merge(theirs, 0.25, np.random.default_rng(1))
    assert np.array_equal(again.time, merged.time)
