"""Conformal calibration: exact ranks, the coverage that theory promises, and promises kept under drift."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftgym.agents.calibration import (
    METHODS,
    Calibration,
    box_scores,
    ellipsoid_scores,
    kth_score,
    rank,
    weighted_score,
)
from shiftgym.data.errors import ShiftgymError, UnknownNameError

EPSILONS = st.fractions(Fraction(1, 1000), Fraction(999, 1000), max_denominator=1000)
SCORES = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=60).map(np.array)


# ---------------------------------------------------------------------- order statistics
def test_the_rank_is_exact() -> None:
    scores = np.random.default_rng(0).permutation(200.0 + np.arange(200))
    assert kth_score(scores, 0.05) == np.sort(scores)[190]
    assert kth_score(scores[:19], 0.05) == scores[:19].max()
    assert kth_score(scores[:18], 0.05) == math.inf
    assert rank(99, 0.01) == 99
    assert rank(98, 0.01) == 99
    assert rank(199, 1 - 0.95) == rank(199, 0.05) == 190  # whatever the rounding of the float


@given(st.integers(0, 2000), EPSILONS)
def test_a_float_ranks_like_the_fraction_it_stands_for(count: int, epsilon: Fraction) -> None:
    k = rank(count, float(epsilon))
    assert k == rank(count, epsilon)
    assert k - 1 < (count + 1) * (1 - epsilon) <= k
    assert (k <= count) == (count >= 1 / epsilon - 1)


@given(SCORES, EPSILONS)
def test_the_threshold_holds_enough_scores_and_no_more(scores: np.ndarray, epsilon: Fraction) -> None:
    threshold, needed = kth_score(scores, epsilon), (len(scores) + 1) * (1 - epsilon)
    if math.isinf(threshold):
        assert needed > len(scores)
    else:
        assert (scores <= threshold).sum() >= needed > (scores < threshold).sum()


@given(SCORES, EPSILONS)
def test_weights_of_one_change_nothing(scores: np.ndarray, epsilon: Fraction) -> None:
    assert weighted_score(scores, np.ones(len(scores)), float(epsilon)) == kth_score(scores, epsilon)


@given(SCORES, EPSILONS, st.integers(1, 59))
def test_weights_of_zero_leave_scores_out(scores: np.ndarray, epsilon: Fraction, kept: int) -> None:
    weights = (np.arange(len(scores)) < kept).astype(float)
    assert weighted_score(scores, weights, float(epsilon)) == kth_score(scores[:kept], epsilon)


def test_thresholds_go_by_component() -> None:
    scores = np.random.default_rng(0).normal(size=(40, 3, 2))
    weights = 0.9 ** np.arange(40)
    for j in np.ndindex(3, 2):
        assert kth_score(scores, 0.1)[j] == kth_score(scores[(slice(None), *j)], 0.1)
        assert weighted_score(scores, weights, 0.1)[j] == weighted_score(scores[(slice(None), *j)], weights, 0.1)


# ---------------------------------------------------------------------- scores
@given(st.integers(0, 10_000), st.sampled_from(["two", "lower", "upper"]))
def test_a_box_score_is_the_threshold_at_which_the_box_holds_the_outcome(seed: int, sided: str) -> None:
    rng = np.random.default_rng(seed)
    low, outcome = rng.normal(size=(2, 5))
    high, scale = low + rng.random(5), 0.1 + rng.random(5)
    scores = box_scores(outcome, low, high, scale, sided)

    def held(q: np.ndarray) -> np.ndarray:
        above, below = low - q * scale <= outcome, outcome <= high + q * scale
        return {"two": above & below, "lower": above, "upper": below}[sided]

    assert held(scores + 1e-9).all()
    assert not held(scores - 1e-9).any()


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_an_ellipsoid_score_is_a_mahalanobis_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, outcome = rng.normal(size=(2, 4))
    deviation = 0.1 + rng.random(4)
    correlation = np.corrcoef(rng.normal(size=(4, 9)))
    covariance = np.diag(deviation) @ correlation @ np.diag(deviation)
    expected = (outcome - mean) @ np.linalg.inv(covariance) @ (outcome - mean)
    assert ellipsoid_scores(outcome[None], mean, deviation, correlation)[0] == pytest.approx(expected)
    plain = ellipsoid_scores(outcome, mean, deviation)
    assert plain == pytest.approx(ellipsoid_scores(outcome, mean, deviation, np.eye(4)))
    for sided, sign in (("upper", 1), ("lower", -1)):
        one = ellipsoid_scores(outcome, mean, deviation, sided=sided)
        assert one == pytest.approx(ellipsoid_scores(outcome, mean, deviation, np.eye(4), sided), abs=1e-9)
        assert one <= plain
        tight = ellipsoid_scores(outcome, mean, deviation, correlation, sided)
        assert tight <= expected + 1e-9
        # no weighted sum with weights that are not negative exceeds what the robust constraint reckons with
        for row in rng.random((20, 4)):
            reach = row @ mean + sign * np.sqrt(tight * (row @ covariance @ row))
            assert sign * (row @ outcome) <= sign * reach + 1e-9


# ---------------------------------------------------------------------- coverage
@pytest.mark.parametrize("shape", ["box", "box, upper", "ellipsoid", "ellipsoid, correlated"])
def test_coverage_over_random_splits(shape: str) -> None:
    """The share of covered outcomes is k / (n + 1) on average over splits of exchangeable days (Theorem 2)."""
    rng, splits, days, count, epsilon = np.random.default_rng(0), 200, 400, 99, 0.05
    mixing = np.eye(6) + 0.3 * rng.normal(size=(6, 6))
    outcomes = rng.standard_t(4, (splits * days, 6)) @ mixing.T
    if shape.startswith("box"):
        sided = "upper" if "upper" in shape else "two"
        scores = box_scores(outcomes, np.full(6, -1.0), np.ones(6), mixing.std(1), sided).max(-1)
    else:
        correlation = np.corrcoef(mixing) * 0.9 + 0.1 * np.eye(6)
        scores = ellipsoid_scores(outcomes, np.zeros(6), mixing.std(1), correlation if "correlated" in shape else None)
    scores = scores.reshape(splits, days)
    covered = [(row[count:] <= kth_score(row[:count], epsilon)).mean() for row in scores]
    expected = rank(count, epsilon) / (count + 1)
    assert abs(np.mean(covered) - expected) < 3 * np.std(covered) / math.sqrt(splits)


def misses(scores: np.ndarray, epsilon: float, calibration: int = 200, **rule: object) -> np.ndarray:
    """Whether each score after the calibration scores exceeded its threshold."""
    thresholds = Calibration(**rule).start(scores[:calibration, None], epsilon)  # type: ignore[arg-type]
    missed = []
    for score in scores[calibration:]:
        missed.append(score > thresholds.value[0, 0])
        thresholds.update(np.array([[score]]))
    return np.array(missed)


@pytest.mark.parametrize("method", METHODS)
def test_without_drift_every_method_keeps_its_promise(method: str) -> None:
    scores = np.random.default_rng(0).normal(size=2200)
    assert misses(scores, 0.1, method=method).mean() == pytest.approx(0.1, abs=0.025)


def test_under_drift_the_methods_that_follow_keep_the_promise_that_the_static_one_breaks() -> None:
    steps = 2200
    scores = np.random.default_rng(2).normal(size=steps) + 3 * np.maximum(np.arange(steps) - 200, 0) / 2000
    rates = {method: misses(scores, 0.1, method=method, window=99).mean() for method in METHODS}
    assert rates.pop("static") > 0.4
    assert max(rates.values()) < 0.13
    assert min(rates.values()) > 0.07


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from(["adaptive", "tracking"]))
def test_the_rate_is_kept_on_any_series(seed: int, method: str) -> None:
    """The bound of Gibbs and Candes, on series that nobody would call exchangeable."""
    rng = np.random.default_rng(seed)
    level = rng.choice([-5.0, 0.0, 5.0], 12).repeat(25)
    scores = np.concatenate((rng.normal(size=50), level + rng.normal(size=300)))
    missed = misses(scores, 0.2, 50, method=method, rate=0.1 if method == "adaptive" else 1.0)
    spread = 1.0 if method == "adaptive" else np.ptp(scores) / scores[:50].std()
    step = 0.1 if method == "adaptive" else 1.0
    assert abs(missed.mean() - 0.2) <= (spread + step) / (step * len(missed))


def test_an_adaptive_rate_reaches_for_everything_and_for_nothing() -> None:
    thresholds = Calibration("adaptive", rate=0.5).start(np.zeros((30, 1)), 0.1)
    thresholds.update(np.array([[1.0]]))
    assert thresholds.value == math.inf  # epsilon_t = 0.1 - 0.5 * 0.9
    reached = []
    for _ in range(30):
        thresholds.update(np.array([[-1.0]]))
        reached.append(thresholds.value.item())
    assert -math.inf in reached


def test_paths_and_components_are_followed_by_themselves() -> None:
    rng = np.random.default_rng(3)
    start, path = rng.normal(size=(40, 2)), rng.normal(size=(25, 3, 2)) + np.array([0.0, 2.0])
    for method in METHODS:
        together = Calibration(method).start(start, 0.1, paths=3)
        single = {(i, j): Calibration(method).start(start[:, [j]], 0.1) for i in range(3) for j in range(2)}
        for scores in path:
            together.update(scores)
            for (i, j), alone in single.items():
                alone.update(scores[i : i + 1, j : j + 1])
                assert together.value[i, j] == alone.value[0, 0]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="rolling"):
        Calibration("roling")
    for bad in ({"window": 0}, {"decay": 0.0}, {"rate": -1.0}):
        with pytest.raises(ShiftgymError, match=next(iter(bad))):
            Calibration(**bad)  # type: ignore[arg-type]
    with pytest.raises(ShiftgymError, match="at least 19"):
        Calibration("rolling", window=18).start(np.zeros((40, 1)), 0.05)
    with pytest.raises(ShiftgymError, match="epsilon is 1"):
        Calibration().start(np.zeros((40, 1)), 1)
    with pytest.raises(ShiftgymError, match="NaN"):
        kth_score(np.array([np.nan, 1.0]), 0.1)
    with pytest.raises(UnknownNameError, match="sided"):
        box_scores(np.zeros(1), np.zeros(1), np.zeros(1), np.ones(1), "left")
