import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shiftgym.evaluation import scores

costs = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e3, 1e3, width=32))


def ar1(rng, shape, phi):
    noise = rng.standard_normal(shape)
    series = np.empty(shape)
    series[..., 0] = noise[..., 0] / np.sqrt(1 - phi**2)
    for t in range(1, shape[-1]):
        series[..., t] = phi * series[..., t - 1] + noise[..., t]
    return series


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


def test_bootstrap_means_equal_a_loop_over_blocks():
    values = np.random.default_rng(1).normal(5.0, 1.0, (23, 2))
    fast = scores.bootstrap_means(values, block=5, draws=50, seed=3)
    rng = np.random.default_rng(3)
    starts, last = rng.integers(0, 19, (50, 4)), rng.integers(0, 21, 50)
    for draw in range(50):
        rows = [np.arange(s, s + 5) for s in starts[draw]] + [np.arange(last[draw], last[draw] + 3)]
        np.testing.assert_allclose(fast[draw], values[np.concatenate(rows)].mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize(("phi", "lowest"), [(0.0, 0.91), (0.7, 0.87)])
def test_time_interval_covers_the_mean_about_as_often_as_it_promises(phi, lowest):
    series = ar1(np.random.default_rng(7), (300, 400), phi)
    inside = [i.low <= 0 <= i.high for i in (scores.time_interval(row, draws=300) for row in series)]
    assert lowest <= np.mean(inside) <= 0.985


def test_blocks_grow_with_the_memory_of_the_series():
    rng = np.random.default_rng(2)
    lengths = [np.median([scores.block_length(row) for row in ar1(rng, (20, 1000), phi)]) for phi in (0, 0.5, 0.9)]
    assert lengths[0] <= 3 < lengths[1] < lengths[2] <= 250
    assert scores.block_length(np.ones(50)) == 1
    assert scores.block_length([1.0]) == 1


@given(costs, st.integers(0, 5))
def test_time_interval_is_seeded_and_stays_within_the_values(cost, seed):
    interval = scores.time_interval(cost, seed=seed, draws=50)
    assert interval == scores.time_interval(cost, seed=seed, draws=50)
    assert cost.min() - 1e-6 <= interval.low <= interval.high <= cost.max() + 1e-6


def test_time_interval_of_a_ratio_keeps_columns_paired():
    cost = np.random.default_rng(0).normal(-2.0, 1.0, 200)
    table = np.stack((0.5 * cost, cost), axis=1)
    interval = scores.time_interval(table, lambda m: scores.normalised_regret(m[:, 0], m[:, 1]))
    assert interval == pytest.approx((0.5, 0.5))  # a constant ratio has no uncertainty


def test_seed_interval_is_students():
    interval = scores.seed_interval([1.0, 2.0, 3.0])
    assert interval.half == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    assert np.isnan(scores.seed_interval([1.0]).half)


def test_combined_half_adds_independent_errors():
    assert scores.combined_half(3.0, [1.0]) == 3.0
    half = scores.seed_interval([1.0, 2.0]).half
    assert scores.combined_half(4.0, [1.0, 2.0]) == pytest.approx(np.hypot(4.0, half))


def test_paired_sees_a_difference_that_single_intervals_hide():
    rng = np.random.default_rng(4)
    common = 10 * rng.standard_normal((3, 400))
    first = common + 0.1 * rng.standard_normal((3, 400)) - 0.05
    result = scores.paired(first, common)
    assert result.interval.high < 0
    assert result.interval.low < result.difference < result.interval.high
    assert result.win_rate == pytest.approx((first < common).mean())
    assert scores.paired(common, common) == (0.0, (0.0, 0.0), 0.5)
    with pytest.raises(ValueError, match="same steps"):
        scores.paired(common, common[:, :5])


def test_seeds_with_steps_of_their_own_have_the_luck_of_the_steps_in_their_spread():
    rng = np.random.default_rng(5)
    first, second = [rng.normal(1, 1, n) for n in (50, 60, 70)], [rng.normal(0, 1, n) for n in (50, 60, 70)]
    result = scores.paired(first, second, same_steps=False)
    by_seed = [(a - b).mean() for a, b in zip(first, second, strict=True)]
    assert result.difference == pytest.approx(np.mean(by_seed))
    assert result.interval.half == pytest.approx(scores.seed_interval(by_seed).half)
    assert result.win_rate == pytest.approx(np.mean(np.concatenate(first) < np.concatenate(second)))


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
