"""Series of the user's own, named by ``file:PATH?time=…&outcome=…``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shiftgym.data import TraceError, load_requests, load_trace

HOUR = np.timedelta64(1, "h")


def hours(first: str, count: int, step: str = "1h") -> np.ndarray:
    return np.datetime64(first, "ns") + np.arange(count) * np.timedelta64(int(step[:-1]), step[-1])


def write(path: Path, time: object, **columns: object) -> str:
    """The file, and its name as a trace."""
    rows = zip(*([str(value) for value in column] for column in (time, *columns.values())), strict=True)
    path.write_text("\n".join([",".join(["when", *columns]), *(",".join(row) for row in rows)]) + "\n")
    return f"file:{path}?time=when"


def test_columns_become_outcomes_and_context(tmp_path: Path) -> None:
    spec = write(tmp_path / "grid.csv", hours("2026-01-01", 72), load=range(72), wind=[0.5] * 72, degrees=[9] * 72)
    trace = load_trace(f"{spec}&outcome=load,wind&context=degrees&unit=GW,MW&low=0")
    assert (trace.name, len(trace), trace.slot) == ("grid", 72, 3600)
    assert (trace.outcome_names, trace.outcome_units) == (("load", "wind"), ("GW", "MW"))
    assert (trace.context_names, trace.outcome_low) == (("degrees",), 0)
    assert trace.outcome[7].tolist() == [7, 0.5]
    assert load_trace(f"{spec}&outcome=load&unit=GW@2h[0:2]").outcome[:, 0].tolist() == [1, 5]
    assert load_trace(f"{spec}&outcome=load").context_names == ("hour_sin", "hour_cos")
    assert load_trace(f"{spec}&outcome=load").outcome_low == -np.inf
    with pytest.raises(TraceError, match="no request log"):
        load_requests(f"{spec}&outcome=load")


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_other_formats_and_numeric_times(tmp_path: Path, ending: str) -> None:
    seconds = np.arange(5) * 900
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        pa.parquet.write_table(pa.table({"t": seconds, "y": np.arange(5.0)}), path)
    else:
        path.write_text("".join(f'{{"t": {s}, "y": {i}}}\n' for i, s in enumerate(seconds)))
    trace = load_trace(f"file:{path}?time=t&outcome=y&time_unit=s")
    assert (trace.slot, trace.outcome[:, 0].tolist()) == (900, [0, 1, 2, 3, 4])
    with pytest.raises(TraceError, match=r"'t' .* holds numbers \(0.*time_unit=s"):
        load_trace(f"file:{path}?time=t&outcome=y")


# ---------------------------------------------------------------------- clocks
def test_utc_stamps_are_shown_on_the_clock_of_the_zone(tmp_path: Path) -> None:
    utc = hours("2014-03-08T05", 71)  # three New York days, of which the second has 23 hours
    spec = write(tmp_path / "a.csv", [f"{t}Z" for t in utc.astype("datetime64[s]")], load=range(71))
    trace = load_trace(f"{spec}&outcome=load&zone=America/New_York")
    assert (len(trace), str(trace.time[0])[:13]) == (72, "2014-03-08T00")
    assert trace.outcome[24:29, 0].tolist() == [24, 25, 25.5, 26, 27]
    assert trace.provenance.history == ("1 slots interpolated or averaged at clock changes",)
    plain = load_trace(f"{spec}&outcome=load")
    assert (len(plain), str(plain.time[0])[:13], plain.provenance.history) == (71, "2014-03-08T05", ())


@pytest.mark.parametrize("sort", ["", "&sort=true"])
def test_local_stamps_double_an_hour_in_autumn(tmp_path: Path, sort: str) -> None:
    local = [f"2014-11-0{day}T{hour:02d}:{minute:02d}" for day in (1, 2) for hour in range(24) for minute in (0, 30)]
    local[52:52] = local[50:52]  # 01:00 and 01:30 of the second day come twice
    spec = write(tmp_path / "a.csv", local, load=range(98)) + sort
    trace = load_trace(f"{spec}&outcome=load&zone=America/New_York")
    assert (len(trace), trace.slot) == (96, 1800)
    assert trace.outcome[49:53, 0].tolist() == [49, 51, 52, 54]
    with pytest.raises(TraceError, match="unsorted: row 52" if not sort else "2014-11-02T01:00:00.* is doubled"):
        load_trace(f"{spec}&outcome=load")


def test_a_gap_of_the_clock_needs_its_zone(tmp_path: Path) -> None:
    spec = write(tmp_path / "a.csv", np.delete(hours("2014-03-08", 72), 26), load=range(71))
    assert len(load_trace(f"{spec}&outcome=load&zone=America/New_York")) == 72
    with pytest.raises(TraceError, match=r"2014-03-09T02:00:00\S* is missing .*name its zone"):
        load_trace(f"{spec}&outcome=load")
    with pytest.raises(TraceError, match=r"2014-03-09T02:00:00\S* is missing .*cut the file there$"):
        load_trace(f"{spec}&outcome=load&zone=Europe/Berlin")
    with pytest.raises(TraceError, match="zone 'New York' is unknown"):
        load_trace(f"{spec}&outcome=load&zone=New York")


def test_days_need_no_zone(tmp_path: Path) -> None:
    spec = write(tmp_path / "a.csv", hours("2014-03-08", 30, "1D").astype("datetime64[D]"), load=range(30))
    assert load_trace(f"{spec}&outcome=load").slot == 86400
    with pytest.raises(TraceError, match=r"slots of 1d.*leave zone out"):
        load_trace(f"{spec}&outcome=load&zone=America/New_York")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    first=st.integers(0, 365 * 24),
    step=st.sampled_from([15, 30, 60]),
    zone=st.sampled_from(["US/Pacific", "Asia/Tokyo"]),
)
def test_a_year_on_a_clock_keeps_every_day_whole(tmp_path: Path, first: int, step: int, zone: str) -> None:
    """Whenever it begins, a year of UTC stamps becomes slots that are one apart, and loses no more than it gains."""
    utc = np.datetime64("2021-01-01", "m") + first * np.timedelta64(60, "m")
    utc = utc + np.arange(370 * 1440 // step) * np.timedelta64(step, "m")
    path = tmp_path / f"{first}-{step}-{zone[:2]}.parquet"
    values = np.arange(len(utc), dtype=float)
    pa.parquet.write_table(
        pa.table({"t": pa.array(utc.astype("datetime64[ns]")).cast(pa.timestamp("ns", "UTC")), "y": values}), path
    )
    trace = load_trace(f"file:{path}?time=t&outcome=y&zone={zone}")
    assert abs(len(trace) - len(utc)) <= 60 // step
    assert np.abs(np.diff(trace.outcome[:, 0])).max() <= 60 // step + 1
    assert trace.outcome[[0, -1], 0] == pytest.approx(values[[0, -1]], abs=60 // step)


# ---------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("&outcome=lod", "no column 'lod'; did you mean 'load'"),
        ("&outcome=load&context=load", "'load' .* is named twice"),
        ("&outcome=load&outcome2=x", "unknown option 'outcome2'"),
        ("&outcome=load&prompt=load", "both 'prompt' and 'outcome'"),
        ("&outcome=", "no 'outcome'"),
        ("", "no 'prompt' and no 'outcome'"),
        ("&outcome=load&unit=GW,MW", "names 2 units for 1 outcomes"),
        ("&outcome=load&low=none", "low 'none' .* is no number"),
        ("&outcome=load&low=1", "under its smallest sensible value 1"),
        ("&outcome=name", "CSV column #2.*'a'"),
        ("&outcome=load&time_unit=h", "use one of s, ms, us, ns"),
    ],
)
def test_options_without_sense(tmp_path: Path, options: str, message: str) -> None:
    spec = write(tmp_path / "a.csv", hours("2026-01-01", 5), load=range(5), name="abcde")
    with pytest.raises(TraceError, match=message):
        load_trace(spec + options)


@pytest.mark.parametrize(
    ("row", "value", "message"),
    [
        (3, "2026-01-01T03:00:00,", r"column 'load' .* is nan at row 3 \(2026-01-01T03:00:00"),
        (3, "2026-01-01T03:00:00,inf", "column 'load' .* is inf at row 3"),
        (3, "2026-01-01T03:00:00,much", "cannot be read as csv"),
        (3, ",3", "'when' .* is missing at row 3"),
        (3, "noon,3", "noon"),
        (3, "2026-01-01T02:00:00,3", "2026-01-01T02:00:00.* is doubled"),
        (3, "2026-01-01T01:00:00,3", "unsorted: row 3"),
        (3, "2026-01-01T02:30:00,3", "2026-01-01T02:30:00.* at row 3, between two slots of 1h"),
        (9, "2026-01-01T12:00:00,3", r"2026-01-01T09:00:00.* is missing \(the first of 1 such"),
        (9, "2226-01-01T12:00:00,3", r"2026-01-01T09:00:00.* is missing"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: int, value: str, message: str) -> None:
    lines = [f"{time},{i}" for i, time in enumerate(hours("2026-01-01", 10).astype("datetime64[s]"))]
    lines[row] = value
    (tmp_path / "a.csv").write_text("when,load\n" + "\n".join(lines) + "\n")
    with pytest.raises(TraceError, match=message):
        load_trace(f"file:{tmp_path}/a.csv?time=when&outcome=load")


def test_a_series_needs_two_times(tmp_path: Path) -> None:
    for times, message in (([], "no row"), (["2026-01-01"], "one time only"), (["2026-01-01"] * 2, "one time only")):
        spec = write(tmp_path / f"{len(times)}.csv", times, load=range(len(times)))
        with pytest.raises(TraceError, match=message):
            load_trace(f"{spec}&outcome=load")
