import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shiftgym.evaluation import scores

costs = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e3, 1e3, width=32))


@given(costs, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_cvar_is_the_rockafellar_uryasev_minimum(cost, level):
    brute = min(t + np.maximum(cost - t, 0).mean() / (1 - level) for t in cost)  # convex, kinks at the costs
    assert scores.cvar(cost, level) == pytest.approx(brute, rel=1e-9, abs=1e-6)


def test_cvar_of_a_hundred_steps_is_the_mean_of_the_worst_five():
    assert scores.cvar(np.random.default_rng(0).permutation(100.0 + np.arange(100))) == pytest.approx(197.0)


@given(costs)
def test_cvar_lies_between_mean_and_maximum(cost):
    assert cost.mean() - 1e-9 <= scores.cvar(cost) + 1e-6
    assert scores.cvar(cost) <= cost.max() + 1e-6


def test_normalised_regret_relates_means_and_refuses_a_zero_oracle():
    assert scores.normalised_regret(-0.6, -0.8) == pytest.approx(0.25)
    assert scores.normalised_regret(3.0, 2.0) == pytest.approx(0.5)
    assert np.isnan(scores.normalised_regret(1.0, 0.0))
    assert scores.normalised_regret([-0.6, -0.8], [-0.8, -0.8]) == pytest.approx([0.25, 0.0])


def test_forecast_scores_equal_brute_force():
    rng = np.random.default_rng(5)
    sample, truth = rng.gamma(2.0, 1.0, (40, 9, 2)), rng.gamma(2.0, 1.0, (40, 2))
    result = scores.forecast_scores(sample, truth)
    crps = np.abs(sample - truth[:, None]).mean(axis=1)
    crps -= np.abs(sample[:, :, None] - sample[:, None]).mean(axis=(1, 2)) / 2
    assert result.crps == pytest.approx(crps.mean())
    assert result.rmse == pytest.approx(np.sqrt(((sample.mean(axis=1) - truth) ** 2).mean()))
    assert result.width90 == pytest.approx((np.quantile(sample, 0.95, 1) - np.quantile(sample, 0.05, 1)).mean())


def test_forecast_coverage_of_the_true_distribution_is_ninety_percent():
    rng = np.random.default_rng(6)
    result = scores.forecast_scores(rng.standard_normal((2000, 200, 1)), rng.standard_normal((2000, 1)))
    assert result.coverage90 == pytest.approx(0.9, abs=0.02)
    assert result.crps == pytest.approx(1 / np.sqrt(np.pi), abs=0.03)  # E|X - Y| - E|X - X'| / 2 = 1 / sqrt(pi)


def test_a_point_forecast_has_an_absolute_error_and_no_coverage():
    result = scores.forecast_scores(np.zeros((3, 1, 1)), np.array([[1.0], [-2.0], [3.0]]))
    assert result.crps == pytest.approx(2.0)
    assert np.isnan(result.coverage90)
