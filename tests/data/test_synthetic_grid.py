"""Stand-ins of grid loads: the cycles of the year, the week and the day, the weather and the forecast."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from shiftgym.data import fit_grid as fitting
from shiftgym.data.catalogue import catalogue
from shiftgym.data.fit_grid import fit_grid, fit_noise, fit_signal
from shiftgym.data.registry import load_trace
from shiftgym.data.sampling import drift
from shiftgym.data.summary import autocorrelation
from shiftgym.data.synthetic import _parameters, synthetic_trace
from shiftgym.data.synthetic_grid import Signal, degree_hours, grid_model
from shiftgym.data.trace import Trace
from tests.stand_ins import drawn

GRIDS = [name for name, info in catalogue().items() if info.kind == "grid"]
SEEDS = range(100, 102)  # not those that anything was chosen by
Floats = NDArray[np.float64]


def cycles(values: Floats, time: NDArray[np.datetime64]) -> dict[str, Floats]:
    """Means by month, by day of the week, and by hour within each quarter of the year."""
    month = time.astype("datetime64[M]").astype(int) % 12
    weekday = (time.astype("datetime64[D]").astype(int) + 3) % 7
    hour = time.astype("datetime64[h]").astype(int) % 24

    def means(group: NDArray[np.int64]) -> Floats:
        return np.bincount(group, values) / np.bincount(group)

    return {
        "year": means(month),
        "week": means(weekday),
        "day": means(24 * (month // 3) + hour),
        "memory": np.array([autocorrelation(values, lag) for lag in (24, 168, 8766)]),
    }


# Largest error of any month, weekday, hour and autocorrelation: of the mean load, and absolute.
TOLERANCES = {"year": 0.07, "week": 0.02, "day": 0.05, "memory": 0.1}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.real(name)) for name in GRIDS])
def test_a_stand_in_has_the_cycles_of_the_real_load(name: str) -> None:
    real = load_trace(name)
    assert (real.outcome_low, real.outcome_units, real.slot) == (0, ("GW",), 3600)
    expected = cycles(real.outcome[:, 0] / real.outcome.mean(), real.time)
    made = [drawn(name, seed) for seed in SEEDS]
    assert all(np.array_equal(trace.time, real.time) for trace in made)
    draws = [cycles(trace.outcome[:, 0] / trace.outcome.mean(), trace.time) for trace in made]
    off = {key: float(np.abs(np.mean([d[key] for d in draws], 0) - expected[key]).max()) for key in TOLERANCES}
    assert {key: error for key, error in off.items() if error > TOLERANCES[key]} == {}


@pytest.mark.real("pjm-duq")
def test_the_weather_of_the_stand_in_is_that_of_pittsburgh() -> None:
    real = load_trace("pjm-duq").window(None, "2011-12-30")  # the temperature is broken after

    def describe(trace: Trace) -> dict[str, Floats]:
        load, degrees = trace.outcome[:, 0], trace.context[:, 0]
        month = trace.time.astype("datetime64[M]").astype(int) % 12
        summer, winter = np.isin(month, (5, 6, 7)), np.isin(month, (11, 0, 1))
        return {
            "degrees": np.array([degrees.mean(), degrees.std(), *np.quantile(degrees, (0.01, 0.5, 0.99))]),
            "year": cycles(degrees, trace.time)["year"],
            "memory": np.array([autocorrelation(degrees, lag) for lag in (1, 24, 96)]),
            "response": np.array([np.corrcoef(load[part], degrees[part])[0, 1] for part in (summer, winter)]),
        }

    tolerances = {"degrees": 4.0, "year": 4.0, "memory": 0.06, "response": 0.15}
    expected, draws = describe(real), [describe(drawn("pjm-duq", s).window(0, len(real))) for s in SEEDS]
    off = {key: float(np.abs(np.mean([d[key] for d in draws], 0) - expected[key]).max()) for key in tolerances}
    assert {key: error for key, error in off.items() if error > tolerances[key]} == {}
    assert expected["response"][0] > 0.6
    assert expected["response"][1] < -0.1


def test_heat_and_cold_both_raise_the_synthetic_load() -> None:
    trace = load_trace("synthetic-pjm-duq")
    assert (trace.context_names, trace.context_units) == (("temperature",), ("degF",))
    noon = trace.time.astype("datetime64[h]").astype(int) % 24 == 12
    load, degrees = trace.outcome[noon, 0], trace.context[noon, 0]
    mild = load[np.abs(degrees - 57) < 5].mean()
    assert load[degrees > 85].mean() > 1.2 * mild
    assert load[degrees < 20].mean() > 1.05 * mild


@pytest.mark.real("caiso")
def test_the_forecast_of_the_stand_in_errs_as_the_real_one() -> None:
    def error(trace: Trace) -> list[float]:
        log = np.log(trace.outcome[:, 0] / trace.context[:, 0])
        return [float(log.mean()), float(log.std()), autocorrelation(log, 1)]

    assert error(synthetic_trace("caiso")) == pytest.approx(error(load_trace("caiso")), abs=0.005)
    assert synthetic_trace("caiso").context_names == ("forecast",)


def test_every_day_is_whole_and_starts_at_midnight() -> None:
    for name in GRIDS:
        model = grid_model(_parameters()["grid"][name])
        assert model.count % 24 == 0
        assert model.start.endswith("T00:00:00")


# ---------------------------------------------------------------------- the pieces
def test_a_fit_finds_the_signal_that_it_was_made_of() -> None:
    truth = Signal(
        annual=[0.1, -0.05], daily=[-0.1, 0.05, 0.02, 0.0], seasonal=[[0.03, 0.0], [0.0, -0.02]],
        weekend=[-0.1, 0.04], sunday=[-0.05], noise=[[0.05, 30.0, 0], [0.02, 100.0, 1]], spread=[0.3, 0.0],
    )  # fmt: skip
    time = np.datetime64("2010-01-01", "ns") + np.arange(6 * 8766) * np.timedelta64(1, "h")
    values = truth.draw(time, np.random.default_rng(0))
    start = {key: np.zeros_like(value).tolist() for key, value in vars(truth).items()}
    found, extra = fit_signal(time, values + 7, start | {"noise": [[1.0, 10.0, 0], [1.0, 50.0, 1]]})
    assert extra.shape == (0,)
    for key in ("annual", "daily", "weekend", "sunday", "spread"):
        assert found[key] == pytest.approx(getattr(truth, key), abs=0.06 if key == "spread" else 0.012)
    assert np.array(found["seasonal"]) == pytest.approx(np.array(truth.seasonal), abs=0.01)
    sigma, memory, harmonic = np.array(found["noise"]).T
    assert sigma == pytest.approx([0.05, 0.02], rel=0.15)
    assert memory == pytest.approx([30, 100], rel=0.4)
    assert harmonic.tolist() == [0, 1]


def test_noise_without_a_second_term_gets_none() -> None:
    residual = drift(60_000, 40.0, np.random.default_rng(0))
    (sigma, memory, _), (other, _, _) = fit_noise(residual, [[1.0, 20.0, 0], [1.0, 100.0, 1]])
    assert (sigma, memory) == (pytest.approx(1, abs=0.05), pytest.approx(40, rel=0.2))
    assert other < 0.2


def test_buildings_feel_the_mean_of_the_last_hours() -> None:
    degrees = np.concatenate((np.full(200, 40.0), np.full(200, 80.0)))
    cold, hot = degree_hours(degrees, 8.0, 50.0, 66.0).T
    assert (cold[0], hot[0]) == (pytest.approx(10), 0)
    assert (cold[-1], hot[-1]) == (0, pytest.approx(14))
    assert 4 <= int(np.argmax(hot > 0)) - 200 <= 12
    assert (np.diff(cold) <= 1e-9).all()


def test_a_refit_of_a_stand_in_finds_its_mean_and_its_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "FELT", ((2.0, 8.0, 24.0), (46.0, 50.0, 56.0), (60.0, 66.0, 72.0)))
    table = _parameters()["grid"]["pjm-duq"]
    found = fit_grid(load_trace("synthetic-pjm-duq"), table)
    assert found["mean"] == pytest.approx(table["mean"], rel=1e-3)
    assert (found["start"], found["count"]) == (table["start"], table["count"])
    assert found["inertia"] == table["inertia"]
    assert found["heating"] == pytest.approx(table["heating"], rel=0.2)
    assert found["cooling"] == pytest.approx(table["cooling"], rel=0.1)
