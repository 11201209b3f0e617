"""What the next day may bring: features in their places, and learners that find quantiles and deviations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shiftgym.agents.uncertainty import (
    ALPHA,
    GROUPS,
    WIDTH_WEIGHT,
    Learning,
    Series,
    interval_quantile_loss,
    mean_variance_loss,
    predict,
)
from shiftgym.envs.task import Layout

LEARNING = Learning(hidden=(32, 32), epochs=25, batch_size=512, learning_rate=5e-3, seed=0)


def world(days: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (days, 2, 24, 3) and targets whose mean and deviation both follow the first two features."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, (days, 2, 24, 3))
    targets = 1 + features[..., 0] + (0.1 + 0.2 * (features[..., 1] > 0)) * rng.normal(size=features.shape[:-1])
    return features, targets


def test_an_interval_finds_its_quantiles() -> None:
    low, high = predict(LEARNING.fit("iql", *world()), world(seed=1)[0])
    features, targets = world(seed=1)
    share = ALPHA / 2 + WIDTH_WEIGHT  # the price of the width moves both quantiles inwards
    assert (targets < low).mean() == pytest.approx(share, abs=0.02)
    assert (targets > high).mean() == pytest.approx(share, abs=0.02)
    width = high - low
    loud = features[..., 1] > 0.1
    assert width[loud].mean() > 2 * width[features[..., 1] < -0.1].mean()


def test_moments_find_mean_and_deviation() -> None:
    mean, deviation = predict(LEARNING.fit("mvl", *world()), world(seed=1)[0])
    features, _ = world(seed=1)
    assert np.abs(mean - 1 - features[..., 0]).mean() < 0.03
    assert deviation[features[..., 1] > 0.1].mean() == pytest.approx(0.3, abs=0.04)
    assert deviation[features[..., 1] < -0.1].mean() == pytest.approx(0.1, abs=0.02)
    (point,) = predict(LEARNING.fit("mse", *world()), features)
    np.testing.assert_array_equal(point, mean)  # the first stage is the point forecast


def test_the_losses_are_those_of_the_paper() -> None:
    bounds, target = torch.tensor([[1.0, 3.0]]), torch.tensor([[4.0]])
    assert interval_quantile_loss(bounds, target) == pytest.approx(0.05 * 3 + 0.95 * 1 + 0.02 * 2)
    loss = mean_variance_loss(torch.tensor([1.0]), torch.tensor([np.log(4.0)]), torch.tensor([4.0]))
    assert loss.item() == pytest.approx(9 / 4 + np.log(4))


def test_a_fit_is_repeatable_and_leaves_torch_alone() -> None:
    before = torch.get_rng_state()
    learning = Learning(hidden=(4,), epochs=2, batch_size=512, learning_rate=1e-2, seed=3)
    first, again = (predict(learning.fit("mvl", *world(5)), world(2)[0]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("lookback", "weather"), [(1, 3), (8, 2), (1, 0)])
def test_features_are_in_their_places(lookback: int, weather: int) -> None:
    series = Series(renewables=3, requests=2, arrivals=1, weather=weather)
    layout = Layout(lookback, series.uncertain, 9 + 24 * weather + 7, 2, tuple(range(series.uncertain)))
    rng = np.random.default_rng(0)
    observations = rng.random((4, layout.size)).astype(np.float32)
    means = {group: 1 + np.arange(getattr(series, group), dtype=float) for group in GROUPS}
    features = series.features(layout, observations, means)
    last = series.split(series.yesterday(layout, observations))
    for group in GROUPS:
        count = getattr(series, group)
        assert features[group].shape[:3] == (4, count, 24)
        place = count + 6 + 9  # after the series, the hour and the calendar
        np.testing.assert_allclose(features[group][..., place] * means[group][:, None], last[group], rtol=1e-6)
        np.testing.assert_array_equal(features[group][:, 0, 0, count + 6 : place], layout.rest(observations)[:, :9])
    if weather == 3:
        forecast = layout.rest(observations)[:, 9 : 9 + 72].reshape(4, 3, 24)
        np.testing.assert_allclose(features["renewables"][..., -4], forecast)
    plants = features["renewables"].shape[-1] - 3 - (features["requests"].shape[-1] - 2)
    assert plants == 4 * (1 if weather == 3 else weather)
