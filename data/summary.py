"""Statistics that describe a trace: of load (level, memory, silence, tail) or of returns (correlation, clusters)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LAGS = (1, 5, 30)


def autocorrelation(outcome: Floats, lag: int) -> float:
    """Autocorrelation at ``lag`` slots (biased estimate); 0 for a constant."""
    centred = outcome - outcome.mean()
    variance = float((centred**2).mean())
    return float((centred[:-lag] * centred[lag:]).mean()) / variance if variance > 0 else 0.0


def longest_silence(outcome: Floats) -> float:
    """Longest run of empty slots, as a share of all slots."""
    busy = np.flatnonzero(np.concatenate(([1.0], outcome, [1.0])))
    return float(np.diff(busy).max() - 1) / len(outcome)


def summarise(outcome: Floats) -> dict[str, float]:
    """Return mean, coefficient of variation, zero share, autocorrelation, and quantiles as multiples of the mean.

    Parameters
    ----------
    outcome : array, shape (T,)
        Tokens or requests per slot; longer than the longest lag.

    Returns
    -------
    dict
        ``mean``, ``cv``, ``change`` (mean absolute step, in means), ``zero``, ``silence`` (the longest), ``acf1``,
        ``acf5``, ``acf30``, ``p95``, ``p99``, ``max``.
    """
    mean = float(outcome.mean())
    p95, p99 = np.quantile(outcome, (0.95, 0.99)) / mean
    return {
        "mean": mean,
        "cv": float(outcome.std()) / mean,
        "change": float(np.abs(np.diff(outcome)).mean()) / mean,
        "zero": float((outcome == 0).mean()),
        "silence": longest_silence(outcome),
        **{f"acf{lag}": autocorrelation(outcome, lag) for lag in LAGS},
        "p95": float(p95),
        "p99": float(p99),
        "max": float(outcome.max()) / mean,
    }


def summarise_returns(returns: Floats) -> dict[str, float]:
    """Return what the returns of a market are like; medians are over its tickers.

    Parameters
    ----------
    returns : array, shape (T, N)
        Simple returns of N tickers.

    Returns
    -------
    dict
        ``mean``; ``deviation`` (root mean square) and ``deviation_spread`` (of its logarithm); ``correlation`` (mean
        over the pairs) and ``correlation_spread``; ``acf1``; ``kurtosis`` (median); ``square1``, ``square5``,
        ``square20`` (median autocorrelation of squared returns); of the mean over the tickers ``market_deviation``,
        ``market_kurtosis`` and the autocorrelations of its size ``market_size1`` to ``market_size60``; of what it
        leaves of each ticker likewise ``own_kurtosis``, ``own_size1`` to ``own_size60`` and ``own_together`` (mean
        correlation of the sizes); ``sectors`` (mean squared correlation of what it leaves).
    """
    centred: Floats = returns - returns.mean(axis=0)
    market = centred.mean(axis=1)
    own = centred - np.outer(market, market @ centred / (market @ market))
    correlations = _pairs(returns)
    deviations = returns.std(axis=0)
    figures = {
        "mean": returns.mean(),
        "deviation": np.sqrt(np.square(deviations).mean()),
        "deviation_spread": np.log(deviations).std(),
        "correlation": correlations.mean(),
        "correlation_spread": correlations.std(),
        "acf1": _autocorrelations(centred, 1),
        "kurtosis": _kurtosis(centred),
        "market_deviation": market.std(),
        "market_kurtosis": _kurtosis(market[:, None]),
        "own_kurtosis": _kurtosis(own),
        "own_together": _pairs(np.abs(own)).mean(),
        "sectors": np.square(_pairs(own)).mean(),
    }
    figures |= {f"square{lag}": _autocorrelations(np.square(centred), lag) for lag in (1, 5, 20)}
    for lag in (1, 5, 20, 60):
        figures[f"market_size{lag}"] = autocorrelation(np.abs(market), lag)
        figures[f"own_size{lag}"] = _autocorrelations(np.abs(own), lag)
    return {key: float(value) for key, value in figures.items()}


def _pairs(columns: Floats) -> Floats:
    """Correlation of each pair of columns."""
    matrix: Floats = np.atleast_2d(np.corrcoef(columns.T))
    return matrix[np.triu_indices(len(matrix), 1)]


def _autocorrelations(columns: Floats, lag: int) -> float:
    return float(np.median([autocorrelation(column, lag) for column in columns.T]))


def _kurtosis(columns: Floats) -> float:
    squares = np.square(columns - columns.mean(axis=0))
    return float(np.median(np.square(squares).mean(axis=0) / np.square(squares.mean(axis=0))))
