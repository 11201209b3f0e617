"""Statistics that describe a trace of load: level, spread, memory, silence and tail."""

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
