"""Scores of one replay: cost, regret, tail, forecasts.

The unit of everything here is the step: a decision, the outcome revealed after it, and the cost of both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

LEADING = {"normalised_regret": "normalised regret", "regret": "regret", "cost": "mean cost"}
"""Scores that may lead a report, lower is better in each, and what a reader calls them."""


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
