"""The power scheduling environment: days, features and what it complains about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shiftgym.data import ShiftgymError, TraceError
from shiftgym.envs.power import calendar_features, weather_features
from tests.worlds import demand, load, make


def test_days_run_from_midnight_to_midnight() -> None:
    """The trace begins at five: its first day is left out, and so is what is left at its end."""
    trace = load(days=12)
    task = make("PowerScheduling", trace=trace, lookback=2).unwrapped.task
    observations, outcomes = task.dataset()
    assert len(task) == 11 - 2
    np.testing.assert_array_equal(outcomes[0], trace.outcome[19 + 48 : 19 + 72, 0])
    np.testing.assert_allclose(observations[0, :48], trace.outcome[19 : 19 + 48, 0], rtol=1e-6)
    assert np.datetime64(int(task.points.time[0]), "s") == np.datetime64("2026-01-04")


def test_calendar_by_hand() -> None:
    days = np.array(["2010-07-03", "2010-07-05", "2010-12-24", "2010-12-25", "2011-01-03"], "datetime64[D]")
    features = np.concatenate([calendar_features(days[i : i + 1]) for i in range(5)])
    assert features[:, 0].tolist() == [1, 0, 0, 1, 0]  # Saturday, Monday, Friday, Saturday, Monday
    assert features[:, 1].tolist() == [0, 1, 1, 0, 0]  # Independence Day and Christmas as observed
    assert features[:, 2].tolist() == [1, 1, 0, 0, 0]
    angle = 2 * np.pi * 3 / 365
    np.testing.assert_allclose(features[4, 3:], [np.cos(angle), np.sin(angle)])


def test_weather_is_standardised_by_the_reference() -> None:
    reference, hot = load(), load(seed=1)
    hot = hot.replace(context=hot.context + 30)
    task = make("PowerScheduling", trace=hot, reference=reference, lookback=1, context=["temperature"]).unwrapped.task
    observations, _ = task.dataset()
    assert observations.shape[1] == 149
    standard = (hot.context[19 + 24 : 19 + 48, 0] - reference.context.mean()) / reference.context.std()
    before = (hot.context[19 : 19 + 24, 0] - reference.context.mean()) / reference.context.std()
    expected = np.concatenate((before, before**2, standard, standard**2, standard**3))
    np.testing.assert_allclose(observations[0, 29:], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weather_features(np.ones((2, 24, 1))), np.ones((2, 120)))


def test_capacity_is_fitted_on_the_reference_and_bounds_the_action() -> None:
    reference = load()
    env = make("PowerScheduling", trace=load(seed=1), reference=reference)
    assert env.unwrapped.task.capacity == pytest.approx(1.5 * reference.outcome.max())
    np.testing.assert_allclose(env.action_space.high, env.unwrapped.task.capacity, rtol=1e-6)
    env.reset(seed=0)
    *_, info = env.step(np.linspace(0, 23, 24).astype(np.float32))
    assert info["violation_ramp"] == pytest.approx(0.6, rel=1e-5)
    assert info["violation_bounds"] == pytest.approx(23 - env.unwrapped.task.capacity)
    assert np.abs(np.diff(env.unwrapped.last_decision)).max() <= 0.4 + 1e-9


def test_half_hours_have_forty_eight_decisions() -> None:
    trace = load()
    halves = trace.replace(
        slot=1800.0,
        time=trace.time[0].astype("datetime64[D]") + np.arange(len(trace)) * np.timedelta64(30, "m"),
    )
    assert make("PowerScheduling", trace=halves).action_space.shape == (48,)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"capacity": 0.0}, "capacity is 0.0: give a positive load"),
        ({"context": ["humidity"]}, "has no column 'humidity'"),
        ({"trace": demand()}, "has slots of 1d: a day needs at least two"),
        ({"trace": load().window(0, 20)}, "holds no whole day"),
        ({"trace": load().window(0, 60)}, "1 rows to decide about, fewer than lookback"),
        ({"reference": load().replace(outcome_units=("MW",))}, r"counts 'GW'.*counts 'MW'"),
        ({"trace": load().replace(outcome_low=-1.0)}, "is no load"),
        ({"hours": 24}, "unknown keyword of the environment 'hours'"),
        ({"episode_steps": 0}, "episode_steps is 0"),
    ],
)
def test_bad_keywords(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises((ShiftgymError, TraceError), match=message):
        make("PowerScheduling", **keywords)
