import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shiftgym.evaluation import aggregates

tables = hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.floats(-9, 9, width=16))
p_values = hnp.arrays(np.float64, st.integers(1, 9), elements=st.floats(0, 1))


def test_aggregates_equal_those_of_rliable():
    first, second = np.random.default_rng(0).random((5, 4)), np.random.default_rng(1).random((4, 4))
    assert aggregates.interquartile_mean(first) == pytest.approx(0.5593291746916277)  # rliable 1.2
    assert aggregates.probability_of_improvement(second, first) == pytest.approx(0.5125)  # where more is better


def test_interquartile_mean_ignores_what_is_far_out():
    assert aggregates.interquartile_mean([[0.0, 1.0], [2.0, 3.0]]) == 1.5
    assert aggregates.interquartile_mean([[0.0, 1.0], [2.0, 3e9]]) == 1.5


@given(tables, tables)
def test_one_of_two_is_the_better_one(first, second):
    width = min(first.shape[1], second.shape[1])
    a, b = first[:, :width], second[:, :width]
    chance = aggregates.probability_of_improvement(a, b)
    assert chance + aggregates.probability_of_improvement(b, a) == pytest.approx(1.0)
    brute = np.mean([[(x < y) + (x == y) / 2 for x in a[:, m] for y in b[:, m]] for m in range(width)])
    assert chance == pytest.approx(brute)


@given(tables)
def test_a_profile_rises_from_nothing_to_all(scores):
    assert aggregates.performance_profile(scores, [-10.0, 10.0]).tolist() == [0.0, 1.0]
    steps = np.sort(scores, axis=None)
    np.testing.assert_allclose(
        aggregates.performance_profile(scores, steps), [(scores <= step).mean() for step in steps]
    )


def test_the_jackknife_of_a_mean_is_students_interval():
    scores = np.random.default_rng(2).normal(size=(5, 3))
    by_seed = scores.mean(axis=1)
    interval = aggregates.seed_jackknife(np.mean, scores)
    assert interval == pytest.approx(by_seed.mean() + 2.776445 * by_seed.std(ddof=1) / 5**0.5 * np.array([-1, 1]))
    assert np.isnan(aggregates.seed_jackknife(np.mean, scores[:1]).half)


def test_the_jackknife_covers_the_interquartile_mean():
    rng = np.random.default_rng(4)
    tables = rng.normal(size=(200, 4, 1)) + rng.normal(size=(200, 4, 6))  # a seed's luck is with it everywhere
    found = [aggregates.seed_jackknife(aggregates.interquartile_mean, table) for table in tables]
    assert 0.89 <= np.mean([i.low <= 0 <= i.high for i in found]) <= 0.99


def test_holm_equals_a_known_case():
    known = [0.01, 0.04, np.nan, 0.03, 0.005, 0.2]
    adjusted = aggregates.holm(known)  # statsmodels 0.14, multipletests(method="holm")
    np.testing.assert_allclose(adjusted, [0.04, 0.09, np.nan, 0.09, 0.025, 0.2])


@given(p_values)
def test_holm_lies_between_no_correction_and_bonferronis(given_values):
    adjusted = aggregates.holm(given_values)
    assert (adjusted >= given_values).all()
    assert (adjusted <= np.minimum(given_values * len(given_values), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(given_values, kind="stable")]) >= 0).all()


def test_holm_is_rarely_wrong_where_there_is_nothing_to_find():
    noise = np.random.default_rng(5).random((2000, 20))
    assert np.mean([(aggregates.holm(row) < 0.05).any() for row in noise]) == pytest.approx(0.05, abs=0.015)
