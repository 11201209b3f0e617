"""The stand-ins of markets: form, sessions, and the statistics of the real ones."""

from __future__ import annotations

import numpy as np
import pytest

from shiftgym.data import Provenance, load_trace, synthetic
from shiftgym.data.exchange import exchange_sessions
from shiftgym.data.fit_market import measure, measure_volumes
from shiftgym.data.summary import autocorrelation, summarise_returns
from shiftgym.data.synthetic_market import Shocks, Volumes, autoregressive, market_trace
from tests.stand_ins import drawn

MARKETS = ("sp500", "sp500-20")
SEEDS = range(100, 103)  # not those of the fit

# Tolerance of the median over seeds: relative where it says so. The size of the market's real return depends less on
# the session before than on the one of a week ago, which no sum of decaying paths does.
TOLERANCES = {
    "mean": (0.05, "relative"),
    "deviation": (0.05, "relative"),
    "deviation_spread": (0.1, "relative"),
    "correlation": (0.05, "absolute"),
    "correlation_spread": (0.03, "absolute"),
    "acf1": (0.02, "absolute"),
    "kurtosis": (0.25, "relative"),
    "square1": (0.08, "absolute"),
    "square5": (0.08, "absolute"),
    "square20": (0.08, "absolute"),
    "market_deviation": (0.05, "relative"),
    "market_kurtosis": (0.4, "relative"),
    "market_size1": (0.12, "absolute"),
    "market_size20": (0.08, "absolute"),
    "own_kurtosis": (0.3, "relative"),
    "own_size1": (0.05, "absolute"),
    "own_size20": (0.05, "absolute"),
    "own_together": (0.06, "absolute"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.real(name)) for name in MARKETS])
def test_a_stand_in_has_the_statistics_of_the_real_market(name):
    expected = summarise_returns(load_trace(name).outcome)
    draws = [summarise_returns(drawn(name, seed).outcome) for seed in SEEDS]
    found = {key: float(np.median([draw[key] for draw in draws])) for key in expected}
    off = {
        key: (expected[key], found[key])
        for key, (size, kind) in TOLERANCES.items()
        if not abs(found[key] - expected[key]) <= size * (abs(expected[key]) if kind == "relative" else 1.0)
    }
    assert not off, "statistic: (real, stand-in)"


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.real(name)) for name in MARKETS])
def test_a_stand_in_has_the_form_of_the_real_market(name):
    real, made = load_trace(name), load_trace(f"synthetic-{name}")
    assert made.outcome.shape[1] == real.outcome.shape[1]
    assert made.context.shape[1] == real.context.shape[1]
    assert abs(len(made) - len(real)) <= 12  # closures that no rule foretells
    assert (made.time[0], made.time[-1]) == (real.time[0], real.time[-1])
    assert made.outcome_units == real.outcome_units
    assert made.context_units == real.context_units
    assert (made.slot, made.sessions, made.outcome_low) == (real.slot, real.sessions, real.outcome_low)


@pytest.mark.real("sp500")
def test_volumes_of_the_stand_in_have_the_statistics_of_the_real_ones():
    figures = []
    for trace in (load_trace("sp500"), load_trace("synthetic-sp500")):
        changes = trace.context - trace.context.mean(axis=0)
        size = np.abs(trace.outcome)
        figures.append(
            {
                "deviation": np.median(changes.std(axis=0)),
                "acf1": np.median([autocorrelation(column, 1) for column in changes.T]),
                "acf2": np.median([autocorrelation(column, 2) for column in changes.T]),
                "together": np.corrcoef(changes.T)[np.triu_indices(changes.shape[1], 1)].mean(),
                "reaction": np.median(
                    [np.corrcoef(c[1:], s[:-1])[0, 1] for c, s in zip(changes.T, size.T, strict=True)]
                ),
            }
        )
    real, made = figures
    assert made["deviation"] == pytest.approx(real["deviation"], rel=0.15)
    for key in ("acf1", "acf2", "together", "reaction"):
        assert made[key] == pytest.approx(real[key], abs=0.08), key


@pytest.mark.parametrize("name", MARKETS)
def test_a_stand_in_is_a_market(name):
    trace = load_trace(f"synthetic-{name}")
    assert trace.sessions
    assert trace.outcome_names[:2] == ("S001", "S002")
    assert trace.outcome.min() >= -0.9
    assert np.isin(trace.time.astype("datetime64[D]"), exchange_sessions("1990-01-01", "2022-12-31")).all()
    found = summarise_returns(trace.outcome)
    assert found["kurtosis"] > 6
    assert found["square1"] > 0.08
    assert abs(found["acf1"]) < 0.08
    assert 0.2 < found["correlation"] < 0.5
    other = drawn(name, SEEDS[0]).outcome
    assert not np.array_equal(trace.outcome, other)
    assert other.mean() == pytest.approx(trace.outcome.mean(), rel=0.05)  # every seed has the fitted moments


def test_volumes_of_the_stand_in_are_those_of_the_sessions_before():
    trace = load_trace("synthetic-sp500")
    assert trace.context_names[0] == "volume:S001"
    size = np.abs(trace.outcome)
    before = np.mean([np.corrcoef(trace.context[1:, i], size[:-1, i])[0, 1] for i in range(40)])
    same = np.mean([np.corrcoef(trace.context[:, i], size[:, i])[0, 1] for i in range(40)])
    assert before > 0.15 > abs(same)


def test_the_pieces_have_the_moments_that_they_say():
    rng = np.random.default_rng(0)
    path = autoregressive(60_000, 3, 10.0, rng)
    assert path.std(axis=0) == pytest.approx(1, rel=0.05)
    assert autocorrelation(path[:, 0], 10) == pytest.approx(np.exp(-1), abs=0.03)
    heavy = autoregressive(60_000, 1, 0.01, rng, 4.0)[:, 0]
    assert heavy.std() == pytest.approx(1, rel=0.1)
    assert (heavy**4).mean() > 5
    level = Shocks((0.3, 50.0), (0.4, 2.0), 5.0).volatility(60_000, 2, rng)
    assert level.std(axis=0) == pytest.approx(0.5, rel=0.1)
    volumes = Volumes(0.5, 1.0, 0.25, 0.0, 1e9).draw(rng.standard_normal((60_000, 2)), rng)
    assert volumes.std(axis=0) == pytest.approx(0.5, rel=0.05)
    assert np.corrcoef(volumes.T)[0, 1] == pytest.approx(0.25, abs=0.02)


def test_a_fit_measures_what_made_the_market():
    truth = synthetic._parameters()["market"]["sp500"] | {"tickers": 80}
    trace = market_trace("made", truth, np.random.default_rng(3), Provenance())
    found = measure(trace.outcome)
    assert found["mean"] == pytest.approx(truth["mean"], rel=0.05)
    assert found["market"] == pytest.approx(truth["market"], rel=0.1)
    assert found["exposure"] == pytest.approx(truth["exposure"], rel=0.2)
    assert found["own"] == pytest.approx(truth["own"], rel=0.1)
    assert found["affinity"] == pytest.approx(truth["affinity"], abs=0.1)
    volumes, made = measure_volumes(trace), truth["volumes"]
    for key, tolerance in {"deviation": 0.15, "memory": 0.3, "common": 0.2, "reaction": 0.15}.items():
        assert volumes[key] == pytest.approx(made[key], rel=tolerance), key
