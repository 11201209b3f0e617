"""Conformal calibration: how far a set must reach to hold the next outcome with a promised probability.

A set of possible outcomes is described by a score: the smallest threshold at which the set would have held an outcome.
Scores of past outcomes, in which the forecast was not fitted, then say which threshold the next one needs.

=================  ==============================================  ======================================
source             here                                            meaning
=================  ==============================================  ======================================
n                  ``len(scores)``                                 calibration outcomes
epsilon            ``epsilon``                                     promised rate of misses
k                  :func:`rank`                                    ceil((n + 1) (1 - epsilon)), exactly
q, r               :func:`kth_score`, :class:`Thresholds`          threshold
e_i (box)          :func:`box_scores`                              distance outside an interval
e_i (ellipsoid)    :func:`ellipsoid_scores`                        squared Mahalanobis distance
w_i                :func:`weighted_score`                          trust in an outcome, at most 1
epsilon_t, gamma   ``Calibration("adaptive")``, its ``rate``       adaptive conformal inference
=================  ==============================================  ======================================

Sources: Contextual Robust Optimization for AI Data Center Scheduling, Algorithms 1 and 2 and Theorem 2 (split conformal
prediction; Vovk, Gammerman and Shafer, 2005). Weights: Barber, Candes, Ramdas and Tibshirani (2023), equation 11.
Adaptive epsilon: Gibbs and Candes (2021), equation 2. Tracking: Angelopoulos, Candes and Tibshirani (2023), equation 7.

The promise is marginal, over the calibration sample and the next outcome together, and it is exact for outcomes that
are exchangeable. Days in a row are not: they drift. The methods other than "static" give up exactness for that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..data.errors import ShiftgymError, UnknownNameError
from ..envs.task import Floats

METHODS = ("static", "rolling", "weighted", "adaptive", "tracking")
SIDES = ("two", "lower", "upper")
#: Steps unless given: of the rate epsilon_t, and of the threshold in standard deviations of the scores.
_RATES = {"adaptive": 0.02, "tracking": 0.5}
_ROUNDING = 1e-12


def check_epsilon(epsilon: float, name: str = "epsilon") -> float:
    """Return a promised rate of misses, strictly between 0 and 1.

    Raises
    ------
    ShiftgymError
        For any other number.
    """
    if not 0 < epsilon < 1:
        raise ShiftgymError(f"{name} is {epsilon}: give a rate between 0 and 1, such as 0.05")
    return float(epsilon)


def rank(count: int, epsilon: float | Fraction) -> int:
    """Rank ceil((n + 1) (1 - epsilon)) in rational arithmetic, with a float read as the simple fraction it stands for.

    A rank above n says that so few outcomes cannot certify epsilon: it takes n >= 1 / epsilon - 1.

    Examples
    --------
    >>> rank(200, 0.05), rank(19, 0.05), rank(18, 0.05)
    (191, 19, 19)
    """
    return math.ceil((count + 1) * (1 - exact(epsilon)))


def exact(epsilon: float | Fraction) -> Fraction:
    """The simple fraction that a float stands for: 1/20 for 0.05, and for 1 - 0.95."""
    return Fraction(epsilon).limit_denominator(10**9)


def kth_score(scores: Floats, epsilon: float | Fraction) -> Floats:
    """Threshold (...) of the scores (n, ...): the k-th smallest along the first axis, +inf where k > n.

    With it, the next of n + 1 exchangeable scores is within the threshold with probability k / (n + 1) or more.
    """
    scores = _checked(scores)
    k = rank(len(scores), epsilon)
    if k > len(scores):
        return np.full(scores.shape[1:], np.inf)
    return np.asarray(np.partition(scores, k - 1, axis=0)[k - 1])


def weighted_score(scores: Floats, weights: Floats, epsilon: float) -> Floats:
    """Threshold (...) of scores (n, ...) that are trusted by weights (n,) in [0, 1]; the next one counts as 1.

    The smallest score such that those up to it hold 1 - epsilon of all weight, +inf where there is none. It is
    :func:`kth_score` for weights of one.
    """
    scores = _checked(scores)
    order = np.argsort(scores, axis=0)
    held = np.cumsum(weights[order], axis=0) / (weights.sum() + 1)
    place = (held < 1 - epsilon - _ROUNDING).sum(0, keepdims=True)
    ranked = np.concatenate((np.take_along_axis(scores, order, 0), np.full((1, *scores.shape[1:]), np.inf)))
    return np.asarray(np.take_along_axis(ranked, place, 0)[0])


def box_scores(outcomes: Floats, low: Floats, high: Floats, scale: Floats, sided: str = "two") -> Floats:
    """How far each component (..., L) is outside [low, high], in units of its scale; negative inside.

    The largest one is the joint score of a box (Algorithm 1), each by itself that of an individual constraint. Where
    only one side of a set can hurt, ``sided`` "lower" or "upper" scores that side alone, and the sets are smaller.
    """
    if sided not in SIDES:
        raise UnknownNameError("sided", sided, SIDES)
    below, above = (low - outcomes) / scale, (outcomes - high) / scale
    return {"two": np.maximum(below, above), "lower": below, "upper": above}[sided]


def ellipsoid_scores(
    outcomes: Floats,
    mean: Floats,
    deviation: Floats,
    correlation: Floats | None = None,
    sided: str = "two",
) -> Floats:
    """Squared Mahalanobis distances (...) of outcomes (..., L) (Algorithm 2).

    Parameters
    ----------
    outcomes, mean, deviation : array, shape (..., L)
        What happened, the forecast, and its standard deviation.
    correlation : array, shape (L, L), optional
        Of the standardised errors; none by default.
    sided : {"two", "lower", "upper"}
        "upper" scores the distance to the ellipsoid with everything below it: the least distance of any outcome that
        is at least as large in every component. Robust constraints with coefficients that are not negative cannot tell
        the two sets apart. "lower" is its mirror image.
    """
    if sided not in SIDES:
        raise UnknownNameError("sided", sided, SIDES)
    standard = (outcomes - mean) / deviation
    if sided == "lower":
        standard = -standard
    if correlation is None:
        return np.asarray(((standard if sided == "two" else np.maximum(standard, 0)) ** 2).sum(-1))
    white = np.linalg.inv(np.linalg.cholesky(correlation))
    if sided == "two":
        return np.asarray(((standard @ white.T) ** 2).sum(-1))
    from scipy.optimize import nnls

    flat = standard.reshape(-1, standard.shape[-1])  # min ||W (u + v)|| over v >= 0
    return np.array([nnls(white, -white @ row)[1] ** 2 for row in flat]).reshape(standard.shape[:-1])


@dataclass(frozen=True)
class Calibration:
    """How thresholds follow what happens.

    ========  ==================================================================================================
    static    the k-th score of the calibration outcomes, forever
    rolling   the k-th of the latest ``window`` scores
    weighted  the k-th by weight, ``decay`` to the power of the age
    adaptive  the k-th of the latest ``window`` scores, for a rate epsilon_t that a miss lowers and a hit raises:
              epsilon_{t+1} = epsilon_t + rate (epsilon - miss_t). On any series at all, the rate of misses over T
              steps differs from epsilon by at most (1 + rate) / (rate T). Sets are boundless while epsilon_t is
              below 1 / (n + 1).
    tracking  the static threshold, moved by rate (miss_t - epsilon) standard deviations of the scores. The same
              guarantee as long as scores are bounded, and no boundless sets.
    ========  ==================================================================================================

    Parameters
    ----------
    method : {"static", "rolling", "weighted", "adaptive", "tracking"}
        One of the table.
    window : int, optional
        Latest scores that count; as many as there are calibration outcomes unless given.
    decay : float
        Of the weights, per step.
    rate : float, optional
        Step size; 0.02 for adaptive, 0.5 for tracking unless given.

    Raises
    ------
    ShiftgymError
        For a parameter outside its range.
    """

    method: str = "static"
    window: int | None = None
    decay: float = 0.98
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UnknownNameError("calibration", self.method, METHODS)
        if self.window is not None and self.window < 1:
            raise ShiftgymError(f"window is {self.window}: give a whole number of at least 1, or None")
        if not 0 < self.decay <= 1:
            raise ShiftgymError(f"decay is {self.decay}: give a number in (0, 1]")
        if self.rate is not None and self.rate <= 0:
            raise ShiftgymError(f"rate is {self.rate}: give a positive number, or None")

    def start(self, scores: Floats, epsilon: float, paths: int = 1) -> Thresholds:
        """Thresholds for so many paths side by side that begin after the calibration scores (n, L), oldest first."""
        return Thresholds(self, scores, epsilon, paths)


@dataclass(kw_only=True, eq=False)
class Recalibrated:
    """Fields of agents whose thresholds follow what happens.

    Parameters
    ----------
    calibration : {"static", "rolling", "weighted", "adaptive", "tracking"}
        How they follow it, see :class:`Calibration`.
    window, decay, rate
        Of the calibration.
    """

    calibration: str = "static"
    window: int | None = None
    decay: float = 0.98
    rate: float | None = None

    @property
    def rule(self) -> Calibration:
        """The calibration that the fields describe."""
        return Calibration(self.calibration, self.window, self.decay, self.rate)


class Thresholds:
    """Thresholds of paths side by side; each path is told its scores, and follows them.

    Attributes
    ----------
    value : array, shape (paths, L)
        The threshold for the next score of each path and component.
    """

    def __init__(self, rule: Calibration, scores: Floats, epsilon: float, paths: int) -> None:
        scores = _checked(scores)
        self.rule, self.epsilon = rule, check_epsilon(epsilon)
        self.window = max(1, len(scores)) if rule.window is None else rule.window
        if rule.method == "rolling" and rank(self.window, epsilon) > self.window:
            raise ShiftgymError(
                f"window is {self.window} scores, which cannot certify epsilon={epsilon}: give at least "
                f"{math.ceil(1 / exact(epsilon)) - 1}"
            )
        shape = (paths, scores.shape[1])
        self.value = np.broadcast_to(kth_score(scores, epsilon), shape)
        self._rate = _RATES.get(rule.method, 0.0) if rule.rate is None else rule.rate
        if rule.method == "static":
            return
        self._scores = np.broadcast_to(scores, (paths, *scores.shape))
        if rule.method == "tracking":  # starts from the worst seen where nothing certifies epsilon
            self.value = np.minimum(self.value, scores.max(0, initial=-np.inf))
            self._step = self._rate * scores.std(0)
        self._epsilon = np.full(shape, self.epsilon)
        if rule.method in ("rolling", "weighted"):
            self.value = self._renewed()

    def update(self, scores: Floats) -> None:
        """Tell every path its latest score (paths, L)."""
        method, scores = self.rule.method, _checked(scores)
        if method == "static":
            return
        missed = (scores > self.value).astype(float)
        if method == "tracking":
            self.value = self.value + self._step * (missed - self.epsilon)
            return
        self._epsilon = self._epsilon + self._rate * (self.epsilon - missed)
        self._scores = np.concatenate((self._scores, scores[:, None]), axis=1)
        if method != "weighted" or self.rule.window is not None:
            self._scores = self._scores[:, -self.window :]
        self.value = self._renewed()

    def _renewed(self) -> Floats:
        """The thresholds that the scores so far lead to."""
        scores = np.moveaxis(self._scores, 1, 0)  # (n, paths, L)
        if self.rule.method == "rolling":
            return kth_score(scores[-self.window :], self.epsilon)
        if self.rule.method == "weighted":
            age = np.arange(len(scores), 0, -1) - 1
            return weighted_score(scores, self.rule.decay ** age.astype(float), self.epsilon)
        ends = np.full((1, *scores.shape[1:]), np.inf)
        ranked = np.concatenate((-ends, np.sort(scores, axis=0), ends))  # epsilon_t >= 1 holds nothing, <= 0 all
        k = np.ceil((len(scores) + 1) * (1 - self._epsilon) - _ROUNDING)
        place = np.clip(k, 0, len(scores) + 1).astype(np.int64)
        return np.asarray(np.take_along_axis(ranked, place[None], 0)[0])


def _checked(scores: Floats) -> Floats:
    scores = np.asarray(scores, np.float64)
    if np.isnan(scores).any():
        raise ShiftgymError("calibration scores hold NaN: leave out outcomes that are not known")
    return scores
