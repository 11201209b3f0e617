"""How sure one can be of a mean and of a difference, over time and over seeds.

Uncertainty over time comes from a moving-block bootstrap, because neighbouring steps are autocorrelated;
uncertainty over seeds from Student's t.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy  # which loads scipy.special when it is first asked for: workers never do
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

LEVEL = 0.95
"""Confidence level of every interval."""


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half its width."""
        return (self.high - self.low) / 2


def student_quantile(freedom: ArrayLike) -> Array:
    """Half-width in standard errors of an interval by Student's t; NaN without a degree of freedom."""
    return np.asarray(scipy.special.stdtrit(freedom, (1 + LEVEL) / 2))


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
    The sums of all blocks are differences of one cumulative sum, so a draw costs T / block look-ups.
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
    sums = np.stack([column.take(starts).sum(axis=1) for column in (total[block:] - total[:-block]).T], axis=1)
    if rest:
        sums += (total[rest:] - total[:-rest]).take(rng.integers(0, length - rest + 1, draws), axis=0)
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
    half = float(seed_half(sample.std(ddof=1), len(sample)))
    return Interval(float(sample.mean() - half), float(sample.mean() + half))


def seed_half(deviation: ArrayLike, seeds: ArrayLike) -> Array:
    """Half-width of :func:`seed_interval` from the standard deviation over so many seeds, numbers or arrays."""
    count = np.asarray(seeds, np.float64)
    return student_quantile(count - 1) * np.asarray(deviation, np.float64) / np.sqrt(count)


def combined_half(time_half: float, by_seed: ArrayLike) -> float:
    """Half-width of an interval over time and seeds together.

    Where all seeds replay the same slots, the luck of the slots does not average out over seeds: its half-width
    and that over seeds add up as independent errors do. Where each has slots of its own, ``time_half`` is NaN.
    """
    over_seeds = seed_interval(by_seed).half
    return float(np.hypot(np.nan_to_num(time_half), np.nan_to_num(over_seeds)))


class Estimate(NamedTuple):
    """A mean over steps and seeds, its standard error, and the degrees of freedom that the error was found with."""

    mean: float
    error: float
    freedom: float

    @property
    def interval(self) -> Interval:
        """Student's t interval; NaN where there was nothing to find an error from."""
        half = self.error * float(student_quantile(self.freedom)) if self.error else self.error
        return Interval(self.mean - half, self.mean + half)

    @property
    def p_value(self) -> float:
        """Probability of a mean at least as far from zero if the true one were zero."""
        if self.error == 0:
            return float(self.mean == 0)
        return float(2 * scipy.special.stdtr(self.freedom, -abs(self.mean) / self.error))


def time_error(values: ArrayLike, block: int | None = None) -> tuple[float, float]:
    """Standard error of the mean of one series over time, shape (T,), and its degrees of freedom.

    That of a moving-block bootstrap (Künsch 1989) with infinitely many draws, which has a closed form: T / l blocks
    of :func:`block_length` l are drawn from all T - l + 1 of them, so the variance of the mean is that of a block's sum
    times the number of blocks over T². It is too small by a share of about l / T (Lahiri 2003, ch. 3), which is put
    right here. There are T / l - 1 degrees of freedom, one less than the blocks that do not overlap.
    """
    series = np.asarray(values, np.float64)
    length, block = len(series), block_length(series) if block is None else block
    if length < 2:
        return float("nan"), float("nan")
    whole, rest = divmod(length, block)
    total = np.concatenate(([0.0], np.cumsum(series - series.mean())))
    variance = whole * (total[block:] - total[:-block]).var()
    if rest:
        variance += (total[rest:] - total[:-rest]).var()
    return float(np.sqrt(variance / (1 - block / length)) / length), max(1.0, length / block - 1)


def estimate(samples: Sequence[ArrayLike], *, same_steps: bool = True) -> Estimate:
    """Estimate a mean over steps and seeds.

    Parameters
    ----------
    samples : sequence of array, shape (T,)
        Values of the steps, one array per seed, in time order.
    same_steps : bool
        Whether all seeds replay the same steps, column t from the same slot: the luck of the slots then does not
        average out over seeds. If every seed has steps of its own, their luck is in the spread over seeds.

    Returns
    -------
    Estimate
        The variance is that of the seeds' mean over time, by :func:`time_error`, and that over seeds, added up as of
        independent errors, with the degrees of freedom of Welch (1947) and Satterthwaite. What is neither of the slot
        nor of the seed is counted in both, so the error is rather too large than too small (Owen 2007, for the
        bootstrap of rows and columns). A single seed has no error over seeds. NaN where there is no error at all.
    """
    rows = [np.asarray(values, np.float64) for values in samples]
    means, seeds = np.array([row.mean() for row in rows]), len(rows)
    errors = [time_error(np.mean(rows, axis=0))] if same_steps else []
    if seeds > 1:
        errors.append((float(means.std(ddof=1)) / seeds**0.5, seeds - 1.0))
    if not errors:
        return Estimate(float(means.mean()), float("nan"), float("nan"))
    variance = sum(error**2 for error, _ in errors)
    uncertain = sum(error**4 / freedom for error, freedom in errors)
    return Estimate(float(means.mean()), variance**0.5, variance**2 / uncertain if uncertain else float("inf"))


class Paired(NamedTuple):
    """Two agents on the same steps: ``difference`` is the first one's mean cost minus the second one's."""

    difference: float
    interval: Interval
    p_value: float
    win_rate: float


def paired(first: Sequence[ArrayLike], second: Sequence[ArrayLike], *, same_steps: bool = True) -> Paired:
    """Compare two agents' costs on the same seeds and steps.

    Parameters
    ----------
    first, second : sequence of array, shape (T,)
        Step costs, one array per seed; entry s of both comes from the same seed and the same steps.
    same_steps : bool
        Whether all seeds replay the same steps, as in :func:`estimate`.

    Returns
    -------
    Paired
        Mean difference (negative: the first is cheaper), its interval over time and seeds, the probability of one as
        large by chance, and the share of steps the first wins, a tie counting half.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    differences = []
    for a, b in zip(first, second, strict=True):
        mine, theirs = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if mine.shape != theirs.shape:
            raise ValueError(f"paired costs have shapes {mine.shape} and {theirs.shape}: replay both on the same steps")
        differences.append(mine - theirs)
    found, steps = estimate(differences, same_steps=same_steps), np.concatenate(differences)
    wins = (steps < 0).mean() + (steps == 0).mean() / 2
    return Paired(found.mean, found.interval, found.p_value, float(wins))


def binomial_interval(successes: float, trials: float) -> Interval:
    """Interval of a probability from independent trials (Clopper & Pearson 1934).

    It covers at least as often as it says, for any number of trials. Numbers that are not whole are for trials that
    are worth fewer, see :func:`realised_rate`.
    """
    tail, failures = (1 - LEVEL) / 2, trials - successes
    low = float(scipy.special.betaincinv(successes, failures + 1, tail)) if successes > 0 else 0.0
    return Interval(low, float(scipy.special.betaincinv(successes + 1, failures, 1 - tail)) if failures > 0 else 1.0)


class Rate(NamedTuple):
    """How often something happened, how sure that is, and how many independent steps that is worth."""

    rate: float
    interval: Interval
    trials: float

    def against(self, promised: float) -> str:
        """Say whether it was at most so often: ``"kept"``, ``"broken"`` or, where the steps do not tell, ``"open"``."""
        return "kept" if self.interval.high <= promised else "broken" if self.interval.low > promised else "open"


def realised_rate(happened: Sequence[ArrayLike], *, same_steps: bool = True) -> Rate:
    """Share of steps on which something happened, such as a violation, to be held against a promise.

    Parameters
    ----------
    happened : sequence of array of bool, shape (T,)
        One array per seed, in time order.
    same_steps : bool
        As in :func:`estimate`.

    Returns
    -------
    Rate
        The interval is the exact binomial one for as many independent trials as have the standard error of
        :func:`estimate`, at most the number of steps (Korn & Graubard 1998): violations come in bursts, and a thousand
        steps of one burst are one piece of news. Where it happened always or never, the steps of one seed count.
    """
    found, total = estimate(happened, same_steps=same_steps), sum(map(len, happened))  # type: ignore[arg-type]
    rate = found.mean
    if not found.error > 0:
        trials = float(len(np.atleast_1d(happened[0]))) if same_steps else float(total)
    else:
        stretch = student_quantile(total - 1) / student_quantile(found.freedom)
        trials = float(np.clip(rate * (1 - rate) / found.error**2 * stretch**2, 1, total))
    return Rate(rate, binomial_interval(rate * trials, trials), trials)
