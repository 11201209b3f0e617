"""What many scenarios and seeds say together, and what is left of it once all comparisons are counted.

After Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021), for
scores of which the lower is the better one. Scores have shape (S, M): seeds, scenarios.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .statistics import Interval, student_quantile

Array = NDArray[np.float64]


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all scores, which a few outliers do not move and which still uses half of them."""
    ordered = np.sort(np.asarray(scores, np.float64), axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Array:
    """Share of scores, of any shape, that are no larger than each threshold (Dolan & Moré 2002)."""
    ordered = np.sort(np.asarray(scores, np.float64), axis=None)
    return np.asarray(np.searchsorted(ordered, np.asarray(thresholds, np.float64), side="right") / ordered.size)


def probability_of_improvement(first: ArrayLike, second: ArrayLike) -> float:
    """Probability that a run of the first has a lower score than one of the second, in a scenario chosen by lot.

    The Mann-Whitney statistic of the seeds of each scenario, shapes (S, M) and (R, M), a tie counting half, averaged
    over scenarios.
    """
    mine, theirs = np.asarray(first, np.float64)[:, None], np.asarray(second, np.float64)[None]
    return float((mine < theirs).mean() + (mine == theirs).mean() / 2)


def seed_jackknife(statistic: Callable[..., float], *scores: ArrayLike) -> Interval:
    """Interval over seeds of a statistic of scores of shape (S, M), NaN for a single seed.

    Tukey's jackknife (1958) with Student's t: seeds are left out one at a time, each with all its scenarios, because
    an agent fitted with one seed replays all of them. A bootstrap of two to five seeds would promise too much.
    """
    tables = [np.asarray(table, np.float64) for table in scores]
    seeds = len(tables[0])
    if seeds < 2:
        return Interval(np.nan, np.nan)
    whole = statistic(*tables)
    left = np.array([statistic(*(np.delete(table, seed, axis=0) for table in tables)) for seed in range(seeds)])
    pseudo = seeds * whole - (seeds - 1) * left
    half = float(student_quantile(seeds - 1) * pseudo.std(ddof=1) / seeds**0.5)
    return Interval(whole - half, whole + half)


def holm(p_values: ArrayLike) -> Array:
    """Probabilities of error, shape (C,), corrected for their number (Holm 1979).

    Whoever believes the comparisons below 5% is wrong about any of them at most one time in twenty. NaN, where nothing
    could be compared, stays NaN and does not count.
    """
    given = np.asarray(p_values, np.float64)
    adjusted = np.full(given.shape, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
