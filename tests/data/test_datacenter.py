"""Traces of data centers: the files of the zones on one UTC clock, their gaps, forecasts, and resampled demand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shiftgym.data import TraceError, load_trace, trace_info
from shiftgym.data.clock import utc_clock, wall_clock
from shiftgym.data.datacenter import FORECASTS, SOURCES, UNITS, Source, _filled, _forecast, _plant, _read
from shiftgym.data.demand import CLASSES, WINDOW, kinds, resampled, training_days

NAMES = ("datacenter-2021", "datacenter-2021-prices-2022", "datacenter-ca-nl")
YEAR = np.datetime64("2021-01-01", "ns") + np.arange(8760) * np.timedelta64(1, "h")
Floats = NDArray[np.float64]


def by_hour(values: Floats) -> Floats:
    return values.reshape(-1, 24).mean(axis=0)


# ---------------------------------------------------------------------- clocks and gaps
def test_a_local_clock_is_turned_back_into_utc_where_that_is_certain() -> None:
    wall = wall_clock(YEAR, "Europe/Berlin")
    found = utc_clock(wall, "Europe/Berlin")
    unsure = np.isnat(found)
    assert [str(time)[:13] for time in wall[unsure]] == ["2021-10-31T02"] * 2
    assert np.array_equal(found[~unsure], YEAR[~unsure])
    assert np.isnat(utc_clock(np.array(["2021-03-28T02:00"], "datetime64[ns]"), "Europe/Berlin")).all()


def test_stamps_are_brought_to_the_start_of_the_hour_in_utc(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("when,price\n2021-01-01 00:00:00,5\n2021-01-01 01:00:00,7\n2021-01-01 01:00:00,9\n")
    local = _read(path, Source("price:NL", "when", "price", 0.1, "Europe/Amsterdam"), YEAR[:4])
    assert local[0] == pytest.approx(0.7)  # midnight there is still 2020; of two rows the first one counts
    assert np.isnan(local[1:]).all()
    late = _read(path, Source("price:NL", "when", "price", late=True), YEAR[:4])
    assert late[0] == 7
    path.write_text("when,price\n01/13/2021 00:00:00,5\n")
    with pytest.raises(TraceError, match=r"'when'.*form %d/%m/%Y"):
        _read(path, Source("price:NL", "when", "price", form="%d/%m/%Y %H:%M:%S"), YEAR)


def test_missing_hours_are_those_of_the_day_before() -> None:
    values = np.arange(96.0 * 24)
    gappy = values.copy()
    gappy[[3, 50, 74]] = np.nan  # one on the first day, one hour on two days in a row
    filled = _filled(gappy, "price:NL")
    assert filled[[3, 50, 74]].tolist() == [27, 26, 26]
    rest = np.ones(len(values), bool)
    rest[[3, 50, 74]] = False
    assert np.array_equal(filled[rest], values[rest])
    gappy[:400] = np.nan
    with pytest.raises(TraceError, match="price:NL: 400 of 2304 hours"):
        _filled(gappy, "price:NL")


def test_a_plant_reaches_its_nameplate_once_in_every_year() -> None:
    time = np.datetime64("2021-12-01", "ns") + np.arange(24 * 62) * np.timedelta64(1, "h")
    grid = np.where(time < np.datetime64("2022-01-01"), 100.0, 300.0) * np.random.default_rng(0).random(len(time))
    power = _plant(grid, time, 1500.0)
    assert [power[: 31 * 24].max(), power[31 * 24 :].max()] == [1500, 1500]
    assert power[0] / power[1] == pytest.approx(grid[0] / grid[1])


# ---------------------------------------------------------------------- forecasts
def test_a_forecast_is_that_of_the_run_before_the_day(tmp_path: Path) -> None:
    leads = range(0, 49, 3)
    speeds = tmp_path / "WIND_SPEED.csv"
    rows = [[1000 * run + lead for lead in leads] for run in range(3)]
    speeds.write_text(
        "\n".join([",".join(f"{lead} hr fcst" for lead in leads), *(",".join(map(str, r)) for r in rows)])
    )
    time = np.datetime64("2019-01-02", "ns") + np.arange(48) * np.timedelta64(1, "h")
    assert _forecast(speeds, time) == pytest.approx([*(24.5 + np.arange(24)), *(1024.5 + np.arange(24))])
    with pytest.raises(TraceError, match="do not cover the span"):
        _forecast(speeds, time - np.timedelta64(24, "h"))
    fluxes = tmp_path / "DSWRF.csv"
    names = [f"{lead}-{lead + span} hr avg" for lead in range(24, 48, 6) for span in (3, 6)]
    fluxes.write_text(",".join(names) + "\n" + ",".join(["100", "80", "0", "0", "4", "1", "30", "60"]) + "\n")
    day = _forecast(fluxes, time[:24])
    assert day[::3].tolist() == [100, 60, 0, 0, 4, 0, 30, 90]  # 2 x 1 - 4 is negative: none
    assert np.array_equal(day.reshape(8, 3), day[::3, None].repeat(3, axis=1))


# ---------------------------------------------------------------------- demand
def week(rng: np.random.Generator, noise: float) -> tuple[Floats, NDArray[np.int64]]:
    hour = np.arange(24)
    factors = np.array([1, 1, 1, 1, 1, 0.5, 0.3])[:, None, None]
    days = (
        factors * (10 + 5 * np.cos(2 * np.pi * hour / 24))[None, :, None] * np.exp(noise * rng.normal(size=(7, 1, 1)))
    )
    return days * np.exp(noise * rng.normal(size=(7, 24, 1))), np.array([0, 0, 0, 0, 0, 1, 2])


def test_demand_has_the_profile_and_the_weekend_of_the_measured_week() -> None:
    days, kind = week(np.random.default_rng(0), 1e-9)
    made = resampled(days, kind, YEAR, np.random.default_rng(1))[:, 0]
    assert kinds(YEAR[::24])[:4].tolist() == [0, 1, 2, 0]  # 2021-01-01 is a Friday
    expected = days[[0, 0, 0, 0, 0, 5, 6]][[4, 5, 6, 0], :, 0].ravel()
    assert made[:96] == pytest.approx(expected, rel=1e-6)


def test_demand_is_as_noisy_as_what_was_measured_and_drawn_by_its_seed() -> None:
    rng = np.random.default_rng(2)
    days = np.concatenate([week(rng, 0.1)[0][:5] for _ in range(8)])
    kind = np.zeros(len(days), int)
    made, again, other = (resampled(days, kind, YEAR, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(made, again)
    assert not np.array_equal(made, other)
    noise = np.log(made[:, 0].reshape(-1, 24))
    noise -= noise.mean(axis=0)
    assert noise.std() == pytest.approx(np.sqrt(0.02), rel=0.15)
    assert made.mean() == pytest.approx(days.mean(), rel=0.03)


def test_classes_keep_their_correlation() -> None:
    rng = np.random.default_rng(3)
    common, own = rng.normal(size=(14, 24, 1)), rng.normal(size=(14, 24, 2))
    days = np.exp(0.2 * (0.8 * common + 0.6 * own))
    made = np.log(resampled(days, np.zeros(14, int), YEAR, rng))
    assert np.corrcoef(made.T)[0, 1] == pytest.approx(0.64, abs=0.12)


def test_training_is_cut_into_hours_and_split_by_the_types_it_may_run_on(tmp_path: Path) -> None:
    nodes, pods = tmp_path / "nodes.csv", tmp_path / "pods.csv"
    nodes.write_text("sn,gpu,model\n1,20,V100M16\n2,40,V100M32\n3,30,T4\n4,30,P100\n5,500,G2\n6,0,\n")
    start = WINDOW[0] * 86400
    rows = [
        f"2,1000,T4,{start},{start + 5400}",  # two GPUs for an hour and a half
        f"1,500,,{start + 3600},{start + 7200}",  # half a GPU of any type
        f"8,1000,G2|A10,{start},{start + 3600}",  # other types only
        f"1,1000,V100M16|P100,{start - 7200},{start + 1800}",  # began before
        f"4,1000,T4,,{start + 3600}",  # never scheduled
        f"0,0,T4,{start},{start + 3600}",
    ]
    pods.write_text("num_gpu,gpu_milli,gpu_spec,scheduled_time,deletion_time\n" + "\n".join(rows) + "\n")
    busy, kind = training_days(pods, nodes)
    assert busy.shape == (WINDOW[1] - WINDOW[0], 24, len(CLASSES))
    assert busy[0, 0] == pytest.approx([0.5 * 60 / 90, 2, 0.5 * 30 / 90])
    assert busy[0, 1] == pytest.approx([0.5 * 60 / 120, 1 + 0.5 * 30 / 120, 0.5 * 30 / 120])
    assert busy[0, 2:].max() == busy[1:].max() == 0
    assert set(kind) == {0}


# ---------------------------------------------------------------------- the real files
def test_every_column_has_a_unit_and_every_file_is_read() -> None:
    read = {*SOURCES, *FORECASTS, "azure-2024-10min", "openb-pods", "openb-nodes"}
    for name in NAMES:
        assert {re.sub(r"-\d+$", "", file.key) for file in trace_info(name).files} <= read
    assert {column.rpartition(":")[0] for column in FORECASTS.values()} < set(UNITS)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.real(name)) for name in NAMES])
def test_the_columns_are_the_same_as_in_the_stand_ins(name: str) -> None:
    real, made = load_trace(name), load_trace(f"synthetic-{name}")
    for field in ("outcome_names", "outcome_units", "context_names", "context_units", "slot", "outcome_low"):
        assert getattr(real, field) == getattr(made, field)
    assert np.array_equal(real.time, made.time)
    assert (real.synthetic, made.synthetic) == (False, True)
    counts = re.findall(r"(\S+) (\d+) hours of the day before", real.provenance.history[0])
    assert all(f"{count} of {column}" in re.sub(" hours of", " of", real.provenance.notes) for column, count in counts)
    a, b = (np.concatenate((trace.outcome, trace.context), axis=1) for trace in (real, made))
    assert b.mean(axis=0) == pytest.approx(a.mean(axis=0), rel=0.1)
    assert np.abs(np.corrcoef(a.T) - np.corrcoef(b.T)).max() < 0.3


@pytest.mark.real(NAMES[0])
def test_hours_are_aligned_with_the_sun_and_with_each_other() -> None:
    frame = load_trace(NAMES[0]).to_frame()
    for zone, peaks, noon, start in (("CA", (19, 20), 19.97, 8), ("NL", (11,), 11.65, 0)):
        plant, light = (by_hour(frame[f"{kind}:{zone}"].to_numpy()) for kind in ("renewable", "forecast:irradiance"))
        assert int(np.argmax(plant)) in peaks
        hours = start + (np.arange(24) - start) % 24  # from one night to the next
        for curve in (plant, light):
            assert np.average(hours, weights=curve) + 0.5 == pytest.approx(noon, abs=0.6)
    wind, forecast = frame["renewable:DE"].to_numpy(), frame["forecast:wind:DE"].to_numpy()
    lags = [np.corrcoef(wind[12 + lag : len(wind) - 12 + lag], forecast[12:-12])[0, 1] for lag in range(-12, 13)]
    assert abs(int(np.argmax(lags)) - 12) <= 2
    assert max(lags) > 0.85
    assert np.corrcoef(frame["renewable:CA"], frame["forecast:irradiance:CA"])[0, 1] > 0.9
    assert np.corrcoef(frame["renewable:NL"], frame["carbon:NL"])[0, 1] < -0.5
    assert np.corrcoef(frame["price:NL"], frame["price:DE"])[0, 1] > 0.9
    # the hour of the highest price: the Californian evening after sunset, the European one before
    assert int(np.argmax(by_hour(frame["price:CA"].to_numpy()))) in (1, 2, 3)
    assert int(np.argmax(by_hour(frame["price:DE"].to_numpy()))) in (16, 17, 18)


@pytest.mark.real(*NAMES)
def test_yearly_means_are_the_published_ones() -> None:
    euro = 1.07764
    here, crisis, pair = (load_trace(name).to_frame() for name in NAMES)
    means = {"CA": (52, 89), "NL": (103 * euro, 242 * euro), "DE": (97 * euro, 235 * euro)}  # $/MWh
    for zone, (before, after) in means.items():
        assert 1000 * here[f"price:{zone}"].mean() == pytest.approx(before, rel=0.01)
        assert 1000 * crisis[f"price:{zone}"].mean() == pytest.approx(after, rel=0.01)
    assert 1000 * here["carbon:CA"].mean() == pytest.approx(205.1, rel=0.005)
    assert 1000 * here["carbon:DE"].mean() == pytest.approx(371.1, rel=0.005)
    same = [column for column in here if not column.startswith(("price", "carbon"))]
    assert here[same].equals(crisis[same])
    shared = ["renewable:CA", "renewable:NL", "carbon:CA", "carbon:NL", "price:CA", "price:NL"]
    assert pair.loc["2021", shared].equals(here[shared])
    # Azure's means times ten; 2,100 GPU·h per hour; nameplates
    assert here["requests:code"].mean() == pytest.approx(278, rel=0.03)
    assert here["requests:conv"].mean() == pytest.approx(451, rel=0.03)
    assert here[[f"training:{kind}" for kind in CLASSES]].sum(axis=1).mean() == pytest.approx(2100, rel=0.02)
    assert here[[f"renewable:{zone}" for zone in ("CA", "NL", "DE")]].max().tolist() == [1470, 1550, 1580]
