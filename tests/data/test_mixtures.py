from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shiftgym.data import (
    ShiftgymError,
    TraceError,
    UnknownNameError,
    list_traces,
    load_requests,
    load_trace,
    register_trace,
    trace_info,
)
from shiftgym.data.mixtures import LENGTH, LONG, GaussianMixture, draw_trace, generated, mixture

NAMES = list(generated())


def distribution(law: GaussianMixture, values: np.ndarray) -> np.ndarray:
    parts = zip(law.weights, law.means, law.deviations, strict=True)
    return np.sum([weight * stats.norm.cdf(values, mean, deviation) for weight, mean, deviation in parts], axis=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_generated_trace_is_drawn_from_its_law(name: str) -> None:
    trace, law = load_trace(name), mixture(name)
    length = LONG if name.endswith("-long") else LENGTH
    assert (np.diff(trace.time) == np.timedelta64(int(trace.slot), "s")).all()  # nanoseconds run out in 2262
    assert trace.outcome.shape == (length, law.columns)
    error = law.deviation / np.sqrt(length)
    assert trace.outcome.mean(axis=0) == pytest.approx(law.mean, abs=4 * error)
    assert trace.outcome.std(axis=0) == pytest.approx(law.deviation, rel=0.05)
    for column in trace.outcome.T:
        assert stats.kstest(column, lambda values: distribution(law, values)).pvalue > 1e-3
        assert abs(np.corrcoef(column[1:], column[:-1])[0, 1]) < 4 / np.sqrt(length)
    if law.columns > 1:
        between = np.corrcoef(trace.outcome.T)[np.triu_indices(law.columns, 1)]
        assert np.abs(between).max() < 4 / np.sqrt(length)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_name_gives_the_same_numbers(name: str) -> None:
    assert np.array_equal(draw_trace(name).outcome, draw_trace(name).outcome)
    assert load_trace(name) is load_trace(name)
    others = [draw_trace(other).outcome[:, 0] for other in NAMES if other != name]
    mine = draw_trace(name).outcome[:LENGTH, 0]
    assert not any(np.array_equal(mine, other[:LENGTH]) for other in others)


@pytest.mark.parametrize("name", NAMES)
def test_a_generated_trace_says_what_it_is(name: str) -> None:
    info, trace = trace_info(name), load_trace(name)
    assert info.kind == "generated"
    assert info.synthetic
    assert trace.synthetic
    assert info.licence == trace.provenance.licence == "Apache-2.0"
    assert "Diffusion-DFL" in info.citation
    assert tuple(info.columns) == trace.outcome_names
    assert trace.context_names == ()
    assert name in list_traces()
    assert f"synthetic-{name}" not in list_traces()
    with pytest.raises(UnknownNameError, match=name):
        load_trace(f"synthetic-{name}")
    with pytest.raises(TraceError, match="no request log"):
        load_requests(name)
    with pytest.raises(TraceError, match="taken by the catalogue"):
        register_trace(name, lambda: trace)


def test_windows_are_data_sets_of_their_own() -> None:
    one, two = load_trace("allocation[:1000]"), load_trace("allocation[1000:2000]")
    assert one.time[0] == np.datetime64("2000-01-01")
    assert not (one.outcome == two.outcome).any()
    assert len(load_trace("inventory-k3@2d")) == LENGTH // 2


def test_the_laws_are_those_of_the_papers_tasks() -> None:
    code, paper = mixture("allocation"), mixture("allocation-paper")
    assert (code.weights, code.means, code.deviations) == ((0.9, 0.1), (0.5, -1.5), (0.075, 0.075))
    assert (paper.weights, paper.means, paper.deviations) == ((0.8, 0.2), (1, -3), (0.15, 0.15))
    assert code.mean == pytest.approx(0.3)
    assert paper.mean == pytest.approx(0.2)
    for modes in (1, 2, 3, 5, 8):
        demand = mixture(f"inventory-k{modes}")
        assert len(demand.weights) == modes
        assert demand.mean == pytest.approx(10)
        assert min(demand.means) > 6 * demand.deviations[0]  # no demand under zero
        assert np.all(np.diff(demand.means) > 5 * demand.deviations[0])  # every mode shows
        assert load_trace(f"inventory-k{modes}").outcome_low == 0


@given(st.lists(st.tuples(st.floats(0.1, 1), st.floats(-5, 5), st.floats(0, 3)), min_size=1, max_size=5))
def test_moments_are_those_of_the_draws(parts: list[tuple[float, float, float]]) -> None:
    weights, means, deviations = map(np.array, zip(*parts, strict=True))
    law = GaussianMixture(tuple(weights / weights.sum()), tuple(means), tuple(deviations), columns=2)
    drawn = law.sample(20_000, np.random.default_rng(0))
    spread = np.sqrt(weights @ (means - law.mean) ** 2 / weights.sum() + weights @ deviations**2 / weights.sum())
    assert law.deviation == pytest.approx(spread, abs=1e-6)
    assert drawn.mean(axis=0) == pytest.approx([law.mean] * 2, abs=5 * spread / np.sqrt(20_000) + 1e-9)


@pytest.mark.parametrize(
    ("weights", "means", "deviations", "message"),
    [
        ((), (), (), "at least one"),
        ((1.0,), (1.0, 2.0), (1.0,), "1 weights, 2 means"),
        ((0.5, 0.6), (1.0, 2.0), (1.0, 1.0), "sum to 1"),
        ((1.5, -0.5), (1.0, 2.0), (1.0, 1.0), "positive"),
        ((1.0,), (1.0,), (-1.0,), "deviations"),
    ],
)
def test_impossible_laws_are_named(weights, means, deviations, message: str) -> None:
    with pytest.raises(ShiftgymError, match=message):
        GaussianMixture(weights, means, deviations)


def test_an_unknown_law_gets_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="inventory-k3"):
        mixture("inventory-k4")
