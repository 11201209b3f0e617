"""Random draws that the synthetic stand-ins are made of."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
HOUR, DAY = 3600 * 10**9, 86400 * 10**9  # nanoseconds


def drift(count: int, memory: float, rng: np.random.Generator) -> Floats:
    """Ornstein-Uhlenbeck path of ``count`` steps with correlation time ``memory`` steps, shape (count,)."""
    return coloured(rng.standard_normal(noise_length(count)), count, memory)


def noise_length(count: int) -> int:
    """How much white noise :func:`coloured` wants: a power of two, as prime lengths make it ten times slower."""
    return 2 << max(count - 1, 1).bit_length()


def coloured(white: Floats, count: int, memory: float) -> Floats:
    """Ornstein-Uhlenbeck path of ``count`` steps from white noise of ``noise_length(count)``, shape (count,).

    Exact by circulant embedding (Davies and Harte, Biometrika 74(1), 1987), then brought to mean 0 and
    standard deviation 1, so that every seed has the fitted variance even when the path is short.
    """
    half = len(white) // 2
    covariance = np.exp(-np.arange(half + 1) / memory)
    spectrum = np.fft.rfft(np.append(covariance, covariance[-2:0:-1])).real.clip(0)
    path = np.fft.irfft(np.fft.rfft(white) * np.sqrt(spectrum), len(white))[:count]
    centred: Floats = path - path.mean()
    return centred / max(float(centred.std()), 1e-12)


def day_and_weekend(time: NDArray[np.datetime64], slot: float) -> tuple[Floats, Floats]:
    """Fraction of the day, and a weekend indicator that changes over half a day, both of shape (T,)."""
    since = time.astype("datetime64[ns]").astype(np.int64)
    return (since % DAY / 1e9 + slot / 2) / 86400, share_of_weekdays(time, 5)


def share_of_weekdays(time: NDArray[np.datetime64], first: int) -> Floats:
    """Share of the hours around, from six before to six after, that are on weekday ``first`` (Monday is 0) or later."""
    since = time.astype("datetime64[ns]").astype(np.int64)  # whole days are ten times slower to get from dates
    share = np.zeros(len(time))
    for hours in range(-6, 7):
        share += ((since + hours * HOUR) // DAY + 3) % 7 >= first  # 1970-01-01 is a Thursday, day 3 of its week
    return share / 13


def orthogonal(path: Floats, *others: Floats) -> Floats:
    """Part of ``path``, shape (T,), that the other paths do not explain, with mean 0 and standard deviation 1.

    Over a trace of an hour slow paths correlate by chance, which would make seeds differ more than they should;
    the residual of a fitted wave is orthogonal to it in the real trace as well.
    """
    design = np.stack((np.ones(len(path)), *others), axis=1)
    rest: Floats = path - design @ np.linalg.solve(design.T @ design, design.T @ path)
    return rest / max(float(rest.std()), 1e-12)


def stratified_lognormal(median: float, sigma: float, count: int, rng: np.random.Generator) -> Floats:
    """One lognormal draw from each of ``count`` equally likely strata, in random order, shape (count,).

    A trace of an hour has few long silences; strata give every seed the fitted mix of them. The draw is from the
    middle half of its stratum, which bounds the extremes.
    """
    places = (rng.permutation(count) + rng.uniform(0.25, 0.75, count)) / max(count, 1)
    normal = NormalDist()
    scores: Floats = np.array([normal.inv_cdf(float(place)) for place in places])
    return median * np.exp(sigma * scores)


def reorder(values: Floats, partner: Floats, correlation: float, rng: np.random.Generator) -> Floats:
    """Permute ``values`` so that their ranks correlate with those of ``partner`` (Iman and Conover)."""
    ranks = np.argsort(np.argsort(partner, kind="stable"), kind="stable")
    scores = np.sort(rng.standard_normal(len(values)))[ranks]
    mixed = correlation * scores + np.sqrt(1 - correlation**2) * rng.standard_normal(len(values))
    return np.sort(values)[np.argsort(np.argsort(mixed, kind="stable"), kind="stable")]


def stamp(seconds: Floats, period: float, offset: float, jitter: float, rng: np.random.Generator) -> Floats:
    """Stamp each arrival with the last tick of a clock whose ticks are read with a small error, in whole ms."""
    tick = (seconds / period).astype(np.int64)
    error = rng.normal(offset, jitter, tick.max() + 1)
    error[0] = max(error[0], 0.0)
    stamped: Floats = np.floor((tick * period + error[tick]) * 1e3) / 1e3
    return stamped
