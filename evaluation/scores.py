"""Scores of one replay: cost, regret, violations, tail, forecasts, and how sure one can be of them.

The unit of everything here is the step: a decision, the outcome revealed after it, and the cost of both.
Uncertainty over time comes from a moving-block bootstrap, because neighbouring steps are autocorrelated;
uncertainty over seeds from Student's t.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

LEVEL = 0.95
"""Confidence level of every interval."""
LEADING = {"normalised_regret": "normalised regret", "regret": "regret", "cost": "mean cost"}
"""Scores that may lead a report, lower is better in each, and what a reader calls them."""


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half its width."""
        return (self.high - self.low) / 2


class Paired(NamedTuple):
    """Two agents on the same steps: ``difference`` is the first one's mean cost minus the second one's."""

    difference: float
    interval: Interval
    win_rate: float


def normalised_regret(cost: ArrayLike, oracle_cost: ArrayLike) -> Array:
    """(mean cost - mean oracle cost) / abs(mean oracle cost), from the two means, of any shape.

    For a cost that is minus a net utility this is (R_opt - R_alg) / R_opt of 3D-Learning, Table I. NaN where
    the oracle's mean cost is zero, because there is nothing to relate the regret to.
    """
    cost, oracle = np.asarray(cost, np.float64), np.asarray(oracle_cost, np.float64)
    scale = np.abs(oracle)
    return np.asarray(np.divide(cost - oracle, scale, out=np.full(np.shape(cost), np.nan), where=scale > 0))


def cvar(cost: ArrayLike, level: float = 0.95) -> float:
    """Mean of the worst ``1 - level`` share of the costs, shape (T,); one that straddles it counts in part.

    Equals min over t of t + E[max(cost - t, 0)] / (1 - level) (Rockafellar & Uryasev 2000, eq. 4).
    """
    worst = np.sort(np.asarray(cost, np.float64))[::-1]
    count = (1 - level) * len(worst)
    whole = min(int(count), len(worst) - 1)
    return float((worst[:whole].sum() + (count - whole) * worst[whole]) / count)


def sharpe_ratio(returns: ArrayLike, time: ArrayLike) -> float:
    """Annualised mean over standard deviation of the returns of steps, both (T,), whose times are epoch seconds.

    The interest on cash counts as zero. NaN for a single step or returns that never change.
    """
    values, seconds = np.asarray(returns, np.float64), np.asarray(time, np.float64)
    if len(values) < 2 or values.std() == 0:
        return float("nan")
    per_year = 365.25 * 86400 * (len(values) - 1) / (seconds[-1] - seconds[0])
    return float(values.mean() / values.std(ddof=1) * np.sqrt(per_year))


def block_length(values: ArrayLike) -> int:
    """Length of the blocks for a moving-block bootstrap of the mean of ``values``, shape (T,).

    The automatic rule of Politis & White (2004) for the circular bootstrap, with the correction of Patton,
    Politis & White (2009): a flat-top kernel over the autocovariances up to the last significant one. Near 1
    for independent steps, growing with their memory, at most a quarter of the series.
    """
    series = np.asarray(values, np.float64)
    length, longest = len(series), max(1, len(series) // 4)
    centred = series - series.mean()
    if length < 8 or not centred.any():
        return 1
    quiet = max(5, int(np.ceil(np.sqrt(np.log10(length)))))
    lags = min(length - 1, int(np.ceil(np.sqrt(length))) + quiet)
    spectrum = np.fft.rfft(centred, 2 * length)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2)[: lags + 1] / length
    significant = np.abs(covariance[1:] / covariance[0]) > 2 * np.sqrt(np.log10(length) / length)
    silent = np.convolve(significant, np.ones(quiet), "valid") == 0  # m: lags m+1 .. m+quiet are all noise
    memory = int(np.argmax(silent)) if silent.any() else int(np.max(np.nonzero(significant)[0])) + 1
    bandwidth = min(2 * max(memory, 1), lags)
    lag = np.arange(-bandwidth, bandwidth + 1)
    kernel = np.clip(2 * (1 - np.abs(lag / bandwidth)), 0, 1)
    weighted = kernel * covariance[np.abs(lag)]
    slope, spectral = float((np.abs(lag) * weighted).sum()), float(weighted.sum())
    if spectral <= 0:
        return longest
    best = (2 * slope**2 / (4 / 3 * spectral**2)) ** (1 / 3) * length ** (1 / 3)
    return int(np.clip(np.ceil(best), 1, longest))


def bootstrap_means(values: ArrayLike, block: int | None = None, draws: int = 1000, seed: int = 0) -> Array:
    """Moving-block bootstrap of column means (Künsch 1989).

    Parameters
    ----------
    values : array, shape (T,) or (T, C)
        Steps in time order. Columns are resampled together, so ratios and differences of them stay paired.
    block : int, optional
        Steps per block; by :func:`block_length` of the columns (the longest) when left out.
    draws : int
        Number of resampled series.
    seed : int
        Seed of the resampling.

    Returns
    -------
    array, shape (draws, C)
        The means of each resampled series of T steps.

    Notes
    -----
    Block sums are differences of one cumulative sum, so a draw costs T / block look-ups whatever the block.
    """
    table = np.asarray(values, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    length = len(table)
    block = max(map(block_length, table.T)) if block is None else min(block, length)
    whole, rest = divmod(length, block)
    mean = table.mean(axis=0)  # sums of centred values lose no digits to the level
    total = np.concatenate((np.zeros((1, table.shape[1])), np.cumsum(table - mean, axis=0)))
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, length - block + 1, (draws, whole))
    sums = (total[starts + block] - total[starts]).sum(axis=1)
    if rest:
        starts = rng.integers(0, length - rest + 1, draws)
        sums += total[starts + rest] - total[starts]
    return np.asarray(mean + sums / length)


def time_interval(
    values: ArrayLike, statistic: Callable[[Array], Array] | None = None, *, seed: int = 0, draws: int = 1000
) -> Interval:
    """Percentile interval over time of the mean of ``values``, or of a ``statistic`` of its column means.

    Parameters
    ----------
    values : array, shape (T,) or (T, C)
        Steps in time order.
    statistic : callable, optional
        Maps column means, shape (draws, C), to shape (draws,); the first column's mean when left out.
    seed, draws : int
        As in :func:`bootstrap_means`.
    """
    means = bootstrap_means(values, draws=draws, seed=seed)
    sample = means[:, 0] if statistic is None else statistic(means)
    if np.isnan(sample).any():
        return Interval(np.nan, np.nan)
    low, high = np.quantile(sample, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def seed_interval(values: ArrayLike) -> Interval:
    """Student's t interval of the mean over seeds, shape (S,); NaN for a single seed."""
    sample = np.asarray(values, np.float64)
    if len(sample) < 2:
        return Interval(np.nan, np.nan)
    half = stdtrit(len(sample) - 1, (1 + LEVEL) / 2) * sample.std(ddof=1) / np.sqrt(len(sample))
    return Interval(float(sample.mean() - half), float(sample.mean() + half))


def paired(
    first: Sequence[ArrayLike], second: Sequence[ArrayLike], *, same_steps: bool = True, seed: int = 0
) -> Paired:
    """Compare two agents' costs on the same seeds and steps.

    Parameters
    ----------
    first, second : sequence of array, shape (T,)
        Step costs, one array per seed; entry s of both comes from the same seed and the same steps.
    same_steps : bool
        Whether all seeds replay the same steps, column t from the same slot. If every seed has steps of its own, their
        luck is in the spread over seeds, and the interval is that over seeds alone.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Paired
        Mean difference (negative: the first is cheaper), its interval over time and seeds, and the share of
        steps the first wins, a tie counting half.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(first, second, strict=True)]
    for a, b in pairs:
        if a.shape != b.shape:
            raise ValueError(f"paired costs have shapes {a.shape} and {b.shape}: replay both on the same steps")
    differences = [a - b for a, b in pairs]
    over_time = time_interval(np.mean(differences, axis=0), seed=seed).half if same_steps else np.nan
    means = [difference.mean() for difference in differences]
    half, centre, steps = combined_half(over_time, means), float(np.mean(means)), np.concatenate(differences)
    wins = (steps < 0).mean() + (steps == 0).mean() / 2
    return Paired(centre, Interval(centre - half, centre + half), float(wins))


def combined_half(time_half: float, by_seed: ArrayLike) -> float:
    """Half-width of an interval over time and seeds together.

    Where all seeds replay the same slots, the luck of the slots does not average out over seeds: its half-width
    and that over seeds add up as independent errors do. Where each has slots of its own, ``time_half`` is NaN.
    """
    over_seeds = seed_interval(by_seed).half
    return float(np.hypot(np.nan_to_num(time_half), np.nan_to_num(over_seeds)))


class ForecastScores(NamedTuple):
    """How good a forecast was, averaged over steps and outcome columns, in the outcome's unit."""

    rmse: float
    crps: float
    coverage90: float
    width90: float


def forecast_scores(scenarios: ArrayLike, outcomes: ArrayLike) -> ForecastScores:
    """Score an ensemble forecast.

    Parameters
    ----------
    scenarios : array, shape (T, M, D)
        M equally likely outcomes per step, in outcome units; M = 1 is a point forecast.
    outcomes : array, shape (T, D)
        What happened.

    Returns
    -------
    ForecastScores
        RMSE of the ensemble mean; CRPS of the ensemble as an empirical distribution (Gneiting & Raftery 2007,
        eq. 20-21; the absolute error for M = 1); share of outcomes in the central 90% of the ensemble and its
        width, both NaN for M = 1.
    """
    sample = np.sort(np.asarray(scenarios, np.float64), axis=1)
    truth = np.asarray(outcomes, np.float64)[:, None]
    members = sample.shape[1]
    rmse = float(np.sqrt(np.mean((sample.mean(axis=1, keepdims=True) - truth) ** 2)))
    rank = 2 * np.arange(1, members + 1) - members - 1
    spread = np.einsum("m,tmd->td", rank, sample) / members**2  # E|X - X'| / 2 from the sorted members
    crps = float(np.mean(np.abs(sample - truth).mean(axis=1) - spread))
    if members == 1:
        return ForecastScores(rmse, crps, np.nan, np.nan)
    low, high = np.quantile(sample, [0.05, 0.95], axis=1)
    inside = (low <= truth[:, 0]) & (truth[:, 0] <= high)
    return ForecastScores(rmse, crps, float(inside.mean()), float((high - low).mean()))
