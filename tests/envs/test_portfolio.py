"""The portfolio environment: assets, components fitted on the reference, and what it complains about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shiftgym.data import ShiftgymError, TraceError, UnknownNameError
from tests.worlds import make, market


def test_components_are_fitted_on_the_reference_alone() -> None:
    """Their scores have mean zero and deviation one there, are uncorrelated, and do not move with what is replayed."""
    reference, other = market(seed=0), market(seed=1)
    scores = make("Portfolio", trace=reference).unwrapped.task.points.context[:-1]
    np.testing.assert_allclose(scores.T @ scores / len(scores), np.eye(4), atol=0.1)
    again = make("Portfolio", trace=other, reference=reference).unwrapped.task
    louder = other.replace(outcome=other.outcome * 0.5, observed=None)
    quiet = make("Portfolio", trace=louder, reference=reference).unwrapped.task
    np.testing.assert_array_equal(again._axes, quiet._axes)


def test_an_observation_holds_the_last_returns_and_then_the_components() -> None:
    task = make("Portfolio", assets=["A4", "A0", "A2"], components=2).unwrapped.task
    observations, outcomes = task.dataset()
    np.testing.assert_allclose(observations[1:, :3], outcomes[:-1], rtol=1e-6)
    assert observations.shape[1] == 5
    assert task.trace.context_names == ("volume:A4", "volume:A0", "volume:A2")
    assert make("Portfolio", components=0).observation_space.shape == (5,)
    assert make("Portfolio", trace=market(volume=False), components=3).observation_space.shape == (8,)


def test_trading_costs_what_was_traded() -> None:
    env = make("Portfolio", transaction_cost=0.01)
    observation, _ = env.reset(seed=0)
    assert not observation[-5:].any()
    first, second = np.array([1.0, 0, 0, 0, 0]), np.array([0.5, 0.5, 0, 0, 0])
    *_, info = env.step(first)
    gain = info["return"]
    assert info["cost"] == pytest.approx(0.5 * gain**2 - gain)  # nothing was held before: buying is free
    assert info["turnover"] == 0.0
    observation, *_, info = env.step(second)
    gain = info["return"]
    assert info["cost"] == pytest.approx(0.5 * gain**2 - gain + 0.01)
    assert info["turnover"] == pytest.approx(0.5)
    np.testing.assert_allclose(observation[-5:], second)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"assets": 1}, "assets is 1: give 2 to 6"),
        ({"assets": 7}, "assets is 7: give 2 to 6"),
        ({"assets": ["A1"]}, "name at least two"),
        ({"assets": ["A1", "A1"]}, "each once"),
        ({"assets": ["A1", "B1"]}, "assets: 'B1' is not a column of"),
        ({"components": 500}, "components is 500: give less than"),
        ({"window": 0}, "window is 0"),
        ({"alpha": 3.0}, "unknown keyword of the environment 'alpha'"),
        ({"lookback": 90}, "fewer than lookback"),
    ],
)
def test_bad_keywords(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises((ShiftgymError, TraceError, UnknownNameError), match=message):
        make("Portfolio", **keywords)


@pytest.mark.real("sp500")
def test_a_ticker_that_appears_late_is_named_with_its_first_session() -> None:
    with pytest.raises(TraceError, match=r"'AAP' is left out of 'sp500' \(late: its first session is 2005-02-25\)"):
        make("Portfolio", trace="sp500", assets=["AAPL", "AAP"])
