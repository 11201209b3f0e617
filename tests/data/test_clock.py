from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftgym.data.clock import HOUR, clock_changes, regular, wall_clock
from shiftgym.data.errors import TraceError

ZONES = ["America/New_York", "America/Los_Angeles", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]


@given(
    st.sampled_from(ZONES),
    st.lists(st.integers(1_300_000_000, 1_600_000_000), max_size=40),
    st.integers(0, 48 * 3600),
)
def test_the_wall_clock_is_that_of_zoneinfo(zone: str, seconds: list[int], around: int) -> None:
    # 2 November 2014 and 9 March 2014 are days of change in New York: times near them are drawn on purpose
    utc = np.array([*seconds, 1_414_886_400 + around, 1_394_323_200 + around]).astype("datetime64[s]")
    expected = [dt.datetime.fromtimestamp(int(t), ZoneInfo(zone)).replace(tzinfo=None) for t in utc.astype(int)]
    assert wall_clock(utc.astype("datetime64[ns]"), zone).tolist() == np.array(expected, "datetime64[ns]").tolist()


def test_changes_are_found_to_the_second() -> None:
    year = [np.datetime64(f"{year}-01-01", "ns") for year in (2014, 2015)]
    spring, autumn = clock_changes("America/New_York", *year)
    assert (str(spring.instant)[:19], str(autumn.instant)[:19]) == ("2014-03-09T07:00:00", "2014-11-02T06:00:00")
    wall = np.array(["01:59:59", "02:00:00", "02:59:59", "03:00:00"])
    skipped = np.array([f"2014-03-09T{time}" for time in wall], "datetime64[ns]")
    assert spring.shows(skipped).tolist() == [False, True, True, False]
    assert autumn.shows(np.array(["2014-11-02T00:59", "2014-11-02T01:00"], "datetime64[ns]")).tolist() == [False, True]
    assert clock_changes("Asia/Kolkata", *year) == []
    assert len(wall_clock(np.empty(0, "datetime64[ns]"), "UTC")) == 0


@pytest.mark.parametrize("zone", ["America/Pittsburgh", "", "../etc", "Eastern"])
def test_unknown_zones_are_errors(zone: str) -> None:
    with pytest.raises(TraceError, match="unknown: give one of the time zone database"):
        wall_clock(np.array(["2014-01-01"], "datetime64[ns]"), zone)


@given(st.permutations(range(6)), st.sets(st.integers(1, 4), max_size=3))
def test_rows_in_any_order_become_one_per_slot(order: list[int], left_out: set[int]) -> None:
    kept = [hour for hour in order if hour not in left_out]
    time = np.datetime64("2026-01-01", "ns") + np.array([*kept, 5]) * HOUR  # the last hour comes twice
    values = np.array([10.0 * hour for hour in kept] + [60.0])[:, None]
    rows = regular(time, values, HOUR)
    assert np.flatnonzero(rows.filled).tolist() == sorted(left_out)
    assert np.flatnonzero(rows.doubled).tolist() == [5]
    assert rows.values[:5, 0] == pytest.approx([0, 10, 20, 30, 40] if 4 not in left_out else rows.values[:5, 0])
    assert rows.values[5, 0] == 55
