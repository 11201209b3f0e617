"""Grid loads: small made-up files with every defect, and the exact figures of the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shiftgym.data import TraceError, load_trace
from shiftgym.data.catalogue import catalogue, entry
from shiftgym.data.grid import read_grid
from shiftgym.data.trace import Trace

GRIDS = [name for name, info in catalogue().items() if info.kind == "grid"]
LONG = "{} missing hours interpolated; 4 doubled hours averaged"


def stamps(first: str, hours: int) -> list[np.datetime64]:
    return list(np.datetime64(first, "s") + np.arange(hours) * np.timedelta64(1, "h"))


def hour_ending(time: np.datetime64) -> str:
    day, clock = str(time).split("T")
    year, month, date = day.split("-")
    return f"{int(month)}/{int(date)}/{year} {int(clock[:2])}:00"


def write_local(path: Path, rows: list[tuple[np.datetime64, float]]) -> Path:
    path.write_text("Datetime,DUQ_MW\r\n" + "".join(f"{hour_ending(t)},{mw:g}\r\n" for t, mw in rows))
    return path


def by_time(trace: Trace, time: str) -> float:
    return float(trace.outcome[trace.index(time), 0])


# ---------------------------------------------------------------------- local stamps of the end of the hour
def spring() -> list[tuple[np.datetime64, float]]:
    """Three days around the change of 2014-03-09, whose hour that ends at 3:00 does not exist."""
    return [(t, 1000.0 + 10 * i) for i, t in enumerate(stamps("2014-03-08T01", 72)) if i != 26]


def test_the_hour_skipped_in_spring_is_interpolated(tmp_path: Path) -> None:
    trace = read_grid([write_local(tmp_path / "a.csv", spring())], entry("pjm-duq-long"))
    assert (len(trace), trace.slot, trace.outcome_units, trace.outcome_low) == (72, 3600, ("GW",), 0)
    assert str(trace.time[0])[:13] == "2014-03-08T00"
    assert by_time(trace, "2014-03-09T01") == pytest.approx(1.25)
    assert by_time(trace, "2014-03-09T02") == pytest.approx(1.26)  # between 1.25 and 1.27
    assert by_time(trace, "2014-03-09T03") == pytest.approx(1.27)
    assert trace.provenance.history == ("1 missing hours interpolated",)


def test_the_hour_doubled_in_autumn_is_averaged_and_order_does_not_matter(tmp_path: Path) -> None:
    rows = [(t, 1000.0 + i) for i, t in enumerate(stamps("2014-11-01T01", 72))]
    rows.append((np.datetime64("2014-11-02T02", "s"), 2000.0))
    trace = read_grid([write_local(tmp_path / "a.csv", rows[::-1])], entry("pjm-duq-long"))
    assert by_time(trace, "2014-11-02T01") == pytest.approx((1.025 + 2.0) / 2)
    assert trace.provenance.history == ("1 doubled hours averaged",)


def test_days_that_are_not_whole_are_cut(tmp_path: Path) -> None:
    rows = [(t, 1000.0) for t in stamps("2014-06-01T05", 60)]
    trace = read_grid([write_local(tmp_path / "a.csv", rows)], entry("pjm-duq-long"))
    assert (str(trace.time[0])[:13], str(trace.time[-1])[:13]) == ("2014-06-02T00", "2014-06-02T23")


def test_longer_holes_and_broken_cells_are_errors(tmp_path: Path) -> None:
    rows = [(t, 1000.0) for i, t in enumerate(stamps("2014-06-01T01", 72)) if i not in (30, 31)]
    with pytest.raises(TraceError, match="lacks more than 1 hour from 2014-06-02T06"):
        read_grid([write_local(tmp_path / "a.csv", rows)], entry("pjm-duq-long"))
    for row, message in (
        ("1/1/2005 1:00,many", "does not hold numbers"),
        ("yesterday,1", "does not hold times"),
        (",1", "missing at row 0"),
        ("1/1/2005 1:00,-1", "under its smallest sensible value"),
    ):
        lines = [row, *(f"1/1/2005 {hour}:00,5" for hour in range(2, 24)), "1/2/2005 0:00,5"]
        (tmp_path / "b.csv").write_text("Datetime,DUQ_MW\n" + "\n".join(lines) + "\n")
        with pytest.raises(TraceError, match=message):
            read_grid([tmp_path / "b.csv"], entry("pjm-duq-long"))
    (tmp_path / "c.csv").write_text("Datetime,Duq_mw\n1/1/2005 1:00,5\n")
    with pytest.raises(TraceError, match="no column 'DUQ_MW'; did you mean 'Duq_mw'"):
        read_grid([tmp_path / "c.csv"], entry("pjm-duq-long"))


# ---------------------------------------------------------------------- UTC made from local stamps
def test_utc_that_was_local_is_undone_and_files_are_joined(tmp_path: Path) -> None:
    # hours of 2008-11-01 and 02 by their local end; 01:00 of the 2nd went to 06:00 UTC, 05:00 UTC is missing
    utc = [str(t) for t in stamps("2008-11-01T05", 24)] + [str(t) for t in stamps("2008-11-02T06", 24)]
    rows = [(time, 1.0 + i / 100, 50.0 + i) for i, time in enumerate(utc)]
    lines = [f" {np.datetime64(t, 's').astype(int):.8e} {load:.8e} {temp:.8e}\n" for t, load, temp in rows]
    (tmp_path / "a.txt").write_text("".join(lines[:30]))
    (tmp_path / "b.txt").write_text("".join(lines[28:]).replace("1.28", "9.28"))  # the earlier file counts
    trace = read_grid([tmp_path / "a.txt", tmp_path / "b.txt"], entry("pjm-duq"))
    assert [str(t)[:13] for t in trace.time[[0, -1]]] == ["2008-11-01T00", "2008-11-02T23"]
    assert trace.outcome[:, 0] == pytest.approx([load for _, load, _ in rows])
    assert trace.context[:, 0] == pytest.approx([temp for _, _, temp in rows])
    assert (trace.context_names, trace.context_units) == (("temperature",), ("degF",))
    assert trace.provenance.history == ()


def test_a_copied_spring_hour_is_interpolated(tmp_path: Path) -> None:
    ends = stamps("2008-03-09T06", 23)
    rows = [(t, 1.0 + i / 100) for i, t in enumerate(ends)]
    rows.insert(2, rows[1])  # 07:00 UTC twice: the hour that does not exist
    text = "".join(f" {t.astype(int):.8e} {load:.8e} {40:.8e}\n" for t, load in rows)
    (tmp_path / "a.txt").write_text(text)
    trace = read_grid([tmp_path / "a.txt"], entry("pjm-duq"))
    assert len(trace) == 24
    assert [by_time(trace, f"2008-03-09T0{hour}") for hour in range(4)] == pytest.approx([1.0, 1.01, 1.015, 1.02])
    assert trace.provenance.history == ("1 missing hours interpolated; 1 doubled hours averaged",)


# ---------------------------------------------------------------------- forecast, separators
def test_demand_far_from_its_forecast_is_replaced_by_it(tmp_path: Path) -> None:
    demand = [20000.0] * 24
    demand[3], demand[4], demand[5], demand[6] = 14.0, 12900.0, 23900.0, 24100.0
    utc = stamps("2019-06-01T07", 24)
    lines = [f"{t.astype(object):%m/%d/%Y %H:%M:%S},{mw},20000" for t, mw in zip(utc, demand, strict=True)]
    (tmp_path / "a.csv").write_text("UTC time,demand,avg_demand_forecast\n" + "\n".join(lines) + "\n")
    trace = read_grid([tmp_path / "a.csv"], entry("caiso"))
    assert str(trace.time[0])[:13] == "2019-06-01T00"
    assert trace.outcome[2:8, 0] == pytest.approx([20, 20, 20, 23.9, 20, 20])
    assert trace.context[:, 0].tolist() == [20] * 24
    assert trace.provenance.history == ("3 hours replaced by the forecast",)


def test_thousands_semicolons_and_a_byte_order_mark(tmp_path: Path) -> None:
    column = entry("germany").reading["outcome"]
    hours = [f"Jan 1, 2023 {h % 12 or 12}:00 {'AM' if h < 12 else 'PM'};x;38,{h:03d}.50" for h in range(24)]
    (tmp_path / "a.csv").write_text(f"Start date;End date;{column}\r\n" + "\r\n".join(hours), encoding="utf-8-sig")
    trace = read_grid([tmp_path / "a.csv"], entry("germany"))
    assert trace.outcome[:, 0] == pytest.approx([38 + (h + 0.5) / 1000 for h in range(24)])


# ---------------------------------------------------------------------- the real files
@pytest.mark.parametrize(
    ("name", "days", "first", "mean", "largest", "history"),
    [
        ("pjm-duq", 3193, "2008-01-01", 1.670749, 3.054, LONG.format(9)),
        ("pjm-duq-long", 4962, "2005-01-01", 1.658771, 3.054, LONG.format(24)),
        ("pjm-east", 6058, "2002-01-01", 32.078928, 62.009, LONG.format(30)),
        ("pjm-aep", 3178, "2016-01-01", 4.434657, 8.820496, "9 missing hours interpolated; 8 doubled hours averaged"),
        (
            "caiso", 1098, "2019-01-01", 24.766689, 46.643,
            "32 hours replaced by the forecast; 3 missing hours interpolated; 3 doubled hours averaged",
        ),
        ("germany", 1155, "2023-01-01", 53.277672, 78.00167, "3 missing hours interpolated; 3 doubled hours averaged"),
    ],
)  # fmt: skip
@pytest.mark.real(*GRIDS)
def test_real_loads_have_these_figures(
    name: str, days: int, first: str, mean: float, largest: float, history: str
) -> None:
    trace = load_trace(name)
    assert len(trace) == 24 * days
    assert trace.time[0] == np.datetime64(first)
    assert trace.outcome.mean() == pytest.approx(mean, abs=1e-6)
    assert trace.outcome.max() == pytest.approx(largest, abs=1e-6)
    assert trace.provenance.history == (history,)
    assert entry(name).span.startswith(f"{first} to {trace.time[-1].astype('datetime64[D]')}")


@pytest.mark.real("pjm-duq", "pjm-duq-long")
def test_the_two_sources_of_duquesne_agree() -> None:
    short, long = load_trace("pjm-duq"), load_trace("pjm-duq-long[2008-01-01:2016-09-28]")
    assert np.array_equal(short.time, long.time)
    off = np.abs(short.outcome - long.outcome)[:, 0] > 0.0006
    hours = [str(time)[:13] for time in short.time[off]]
    # the doubled hours of autumn, of which the sources keep one, both, none or an interpolated one; a day that one
    # of them has an hour early; an hour that one lacks; an hour of which nothing is known
    assert len(hours) == 31
    assert {h for h in hours if not h.endswith("T01")} - {"2010-12-09T23", "2011-11-06T23"} == {
        h for h in hours if h.startswith("2009-11-01") and not h.endswith("T01")
    }
    assert "31 hours" in short.provenance.notes


@pytest.mark.real("pjm-duq")
def test_the_temperature_of_duquesne_is_good_to_2011_and_broken_after() -> None:
    trace = load_trace("pjm-duq")
    good = trace.window(None, "2011-12-30").context[:, 0]
    assert (good.min(), good.max()) == (pytest.approx(-5, abs=10), pytest.approx(97, abs=8))
    bad = trace.window("2014-01-25", None).context[:, 0]
    assert np.unique(bad).tolist() == [1.4]
    assert "BROKEN" in trace.provenance.notes


@pytest.mark.real("caiso")
def test_the_forecast_of_california_is_one() -> None:
    trace = load_trace("caiso")
    ratio = trace.outcome[:, 0] / trace.context[:, 0]
    assert ratio.min() >= 0.65
    assert ratio.max() <= 1.2
    assert np.corrcoef(trace.outcome[:, 0], trace.context[:, 0])[0, 1] > 0.97


@pytest.mark.real(*GRIDS)
@pytest.mark.parametrize("name", GRIDS)
def test_every_day_peaks_when_people_are_awake(name: str) -> None:
    """A wrong zone or stamp would move the night."""
    profile = load_trace(name).outcome[:, 0].reshape(-1, 24).mean(0)
    assert 2 <= profile.argmin() <= 4
    assert 10 <= profile.argmax() <= 19
