import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.signal import lfilter

from shiftgym.evaluation import statistics
from shiftgym.evaluation.scores import normalised_regret

costs = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e3, 1e3, width=32))


def ar1(rng, shape, phi):
    noise = rng.standard_normal((*shape[:-1], shape[-1] + 100))
    return lfilter([1.0], [1.0, -phi], noise)[..., 100:]


def test_bootstrap_means_equal_a_loop_over_blocks():
    values = np.random.default_rng(1).normal(5.0, 1.0, (23, 2))
    fast = statistics.bootstrap_means(values, block=5, draws=50, seed=3)
    rng = np.random.default_rng(3)
    starts, last = rng.integers(0, 19, (50, 4)), rng.integers(0, 21, 50)
    for draw in range(50):
        rows = [np.arange(s, s + 5) for s in starts[draw]] + [np.arange(last[draw], last[draw] + 3)]
        np.testing.assert_allclose(fast[draw], values[np.concatenate(rows)].mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize(("phi", "lowest"), [(0.0, 0.91), (0.7, 0.87)])
def test_time_interval_covers_the_mean_about_as_often_as_it_promises(phi, lowest):
    series = ar1(np.random.default_rng(7), (300, 400), phi)
    inside = [i.low <= 0 <= i.high for i in (statistics.time_interval(row, draws=300) for row in series)]
    assert lowest <= np.mean(inside) <= 0.985


def test_blocks_grow_with_the_memory_of_the_series():
    rng = np.random.default_rng(2)
    lengths = [np.median([statistics.block_length(row) for row in ar1(rng, (20, 1000), phi)]) for phi in (0, 0.5, 0.9)]
    assert lengths[0] <= 3 < lengths[1] < lengths[2] <= 250
    assert statistics.block_length(np.ones(50)) == 1
    assert statistics.block_length([1.0]) == 1


@given(costs, st.integers(0, 5))
def test_time_interval_is_seeded_and_stays_within_the_values(cost, seed):
    interval = statistics.time_interval(cost, seed=seed, draws=50)
    assert interval == statistics.time_interval(cost, seed=seed, draws=50)
    assert cost.min() - 1e-6 <= interval.low <= interval.high <= cost.max() + 1e-6


def test_time_interval_of_a_ratio_keeps_columns_paired():
    cost = np.random.default_rng(0).normal(-2.0, 1.0, 200)
    table = np.stack((0.5 * cost, cost), axis=1)
    interval = statistics.time_interval(table, lambda m: normalised_regret(m[:, 0], m[:, 1]))
    assert interval == pytest.approx((0.5, 0.5))  # a constant ratio has no uncertainty


def test_seed_interval_is_students():
    interval = statistics.seed_interval([1.0, 2.0, 3.0])
    assert interval.half == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    assert np.isnan(statistics.seed_interval([1.0]).half)


def test_combined_half_adds_independent_errors():
    assert statistics.combined_half(3.0, [1.0]) == 3.0
    half = statistics.seed_interval([1.0, 2.0]).half
    assert statistics.combined_half(4.0, [1.0, 2.0]) == pytest.approx(np.hypot(4.0, half))


def test_paired_sees_a_difference_that_single_intervals_hide():
    rng = np.random.default_rng(4)
    common = 10 * rng.standard_normal((3, 400))
    first = common + 0.1 * rng.standard_normal((3, 400)) - 0.05
    result = statistics.paired(first, common)
    assert result.interval.high < 0
    assert result.interval.low < result.difference < result.interval.high
    assert result.win_rate == pytest.approx((first < common).mean())
    assert result.p_value < 0.05
    assert statistics.paired(common, common) == (0.0, (0.0, 0.0), 1.0, 0.5)
    with pytest.raises(ValueError, match="same steps"):
        statistics.paired(common, common[:, :5])


def test_seeds_with_steps_of_their_own_have_the_luck_of_the_steps_in_their_spread():
    rng = np.random.default_rng(5)
    first, second = [rng.normal(1, 1, n) for n in (50, 60, 70)], [rng.normal(0, 1, n) for n in (50, 60, 70)]
    result = statistics.paired(first, second, same_steps=False)
    by_seed = [(a - b).mean() for a, b in zip(first, second, strict=True)]
    assert result.difference == pytest.approx(np.mean(by_seed))
    assert result.interval.half == pytest.approx(statistics.seed_interval(by_seed).half)
    assert result.win_rate == pytest.approx(np.mean(np.concatenate(first) < np.concatenate(second)))


def test_time_error_is_that_of_infinitely_many_draws():
    series = ar1(np.random.default_rng(11), (1000,), 0.7)
    drawn = statistics.bootstrap_means(series, 9, draws=20_000).std()
    error, freedom = statistics.time_error(series, 9)
    assert error * np.sqrt(1 - 9 / 1000) == pytest.approx(drawn, rel=0.02)
    assert freedom == pytest.approx(1000 / 9 - 1)
    # the bootstrap of arch 8.0 and its rule for the length say so too
    known = lfilter([1.0], [1.0, -0.7], np.random.default_rng(11).standard_normal(1200))[200:]
    assert statistics.time_error(known, 9)[0] * np.sqrt(1 - 9 / 1000) == pytest.approx(0.08956, rel=0.02)
    assert statistics.block_length(known) == np.ceil(19.172107)


@pytest.mark.parametrize(("phi", "steps", "lowest"), [(0.0, 100, 0.92), (0.7, 400, 0.90), (0.9, 1600, 0.90)])
def test_the_interval_of_one_seed_covers_the_mean(phi, steps, lowest):
    series = ar1(np.random.default_rng(7), (500, steps), phi)
    found = [statistics.estimate([row]) for row in series]
    inside = [e.interval.low <= 0 <= e.interval.high for e in found]
    assert lowest <= np.mean(inside) <= 0.98
    assert [e.p_value >= 0.05 for e in found] == inside


@pytest.mark.parametrize("of_seed", [0.0, 0.3, 1.0])
def test_the_interval_covers_what_slots_and_seeds_have_to_themselves(of_seed):
    rng = np.random.default_rng(8)
    inside = []
    for _ in range(300):
        luck = of_seed * rng.standard_normal((3, 1)) + ar1(rng, (1, 300), 0.6) + 0.3 * ar1(rng, (3, 300), 0.6)
        interval = statistics.estimate(luck).interval
        inside.append(interval.low <= 0 <= interval.high)
    assert 0.90 <= np.mean(inside) <= 0.99


def test_nothing_to_find_an_error_from_is_no_certainty():
    assert np.isnan(statistics.estimate([np.arange(9.0)], same_steps=False).interval.half)
    assert np.isnan(statistics.estimate([[1.0]]).p_value)
    assert statistics.estimate([np.ones(9), np.ones(9)]) == (1.0, 0.0, np.inf)


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),  # of statsmodels 0.14, method "beta"
    [(0, 20, (0, 0.168433)), (3, 20, (0.032071, 0.378927)), (20, 20, (0.831567, 1)), (57, 1680, (0.025796, 0.043737))],
)
def test_binomial_interval_is_that_of_clopper_and_pearson(successes, trials, expected):
    assert statistics.binomial_interval(successes, trials) == pytest.approx(expected, abs=1e-6)


def test_bursts_of_violations_are_worth_fewer_trials():
    rng = np.random.default_rng(3)
    scattered, bursts = rng.random(2000) < 0.05, np.repeat(rng.random(100) < 0.05, 20)
    alone, together = statistics.realised_rate([scattered]), statistics.realised_rate([bursts])
    assert alone.rate == scattered.mean()
    assert alone.trials > 1400 > 300 > together.trials
    assert alone.interval.half < 0.02 < together.interval.half
    assert statistics.realised_rate([scattered] * 4).trials < 2000 * 1.1  # four times the same is no news
    assert statistics.realised_rate([np.zeros(50, bool)] * 2) == (0.0, statistics.binomial_interval(0, 50), 50.0)
    assert [alone.against(promised) for promised in (0.01, alone.rate, 0.1)] == ["broken", "open", "kept"]


def test_a_kept_promise_is_rarely_called_broken():
    inside = []
    for series in ar1(np.random.default_rng(9), (400, 800), 0.8):
        rate = statistics.realised_rate([series / np.sqrt(1 / (1 - 0.8**2)) > 1.2815516])  # 10% of a normal law
        inside.append(rate.interval.low <= 0.1 <= rate.interval.high)
    assert np.mean(inside) > 0.91
