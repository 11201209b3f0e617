"""Levels that hold a promised share of scenarios: order statistics, exact and weighted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def quantile(values: Values, mass: Values, promise: float) -> Values:
    """Smallest of the values (B, M, N), per component (B, N), below or at which lies the promised share of the mass.

    ``mass`` (B, M) sums to one over M.
    """
    order = np.argsort(values, axis=1)
    met = np.cumsum(np.take_along_axis(mass[..., None], order, axis=1), axis=1)
    rank = (met < promise - 1e-12).sum(1, keepdims=True)
    place = np.take_along_axis(order, np.minimum(rank, values.shape[1] - 1), axis=1)
    return np.take_along_axis(values, place, axis=1)[:, 0]


def smallest_box(values: Values, mass: Values, promise: float) -> Values:
    """Upper levels (B, N) of one common margin that hold a share of the scenarios (B, M, N), each in all components.

    The margin is in standard deviations of each component above its mean, both over the scenarios: the score of a
    scenario is its largest standardised component, and the margin the quantile of the scores.
    """
    weight = mass[..., None]
    centre = (weight * values).sum(1, keepdims=True)
    spread = np.sqrt((weight * (values - centre) ** 2).sum(1, keepdims=True))
    moves = spread > 1e-9 * (1 + np.abs(centre))
    score = np.divide(values - centre, spread, out=np.zeros_like(values), where=moves).max(2, keepdims=True)
    margin = quantile(score, mass, promise)[:, None]
    levels: Values = np.where(moves, centre + margin * spread, values.max(1, keepdims=True))[:, 0]
    return levels
