"""Levels that hold a promised share of scenarios: order statistics, exact and weighted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def protective_levels(values: Values, mass: Values, promise: float, sizes: Sequence[int]) -> Values:
    """Levels (B, N) for scenarios (B, M, N) of renewables, requests and arrivals, of these ``sizes``.

    Each of the renewables has a quantile of its own, which it surely yields; requests and arrivals have a box each.
    """
    lower, *uppers = families(values, sizes)
    boxes = (smallest_box(group, mass, promise) for group in uppers)
    return np.concatenate((-quantile(-lower, mass, promise), *boxes), axis=-1)


def families(values: Values, sizes: Sequence[int]) -> list[Values]:
    """The parts of arrays (..., N) of these ``sizes``."""
    return np.split(values, np.cumsum(sizes)[:-1], axis=-1)


def quantile_place(values: Values, mass: Values, promise: float) -> NDArray[np.int64]:
    """Which scenario is the :func:`quantile` of each component (B, N)."""
    order = np.argsort(values, axis=1)
    met = np.cumsum(np.take_along_axis(mass[..., None], order, axis=1), axis=1)
    rank = (met < promise - 1e-12).sum(1, keepdims=True)
    return np.take_along_axis(order, np.minimum(rank, values.shape[1] - 1), axis=1)[:, 0]


def quantile(values: Values, mass: Values, promise: float) -> Values:
    """Smallest of the values (B, M, N), per component (B, N), below or at which lies the promised share of the mass.

    ``mass`` (B, M) sums to one over M.
    """
    return np.take_along_axis(values, quantile_place(values, mass, promise)[:, None], axis=1)[:, 0]


class Margin(NamedTuple):
    """The common margin of a box, in standard deviations of each component above its mean over the scenarios.

    Attributes
    ----------
    centre, spread : array, shape (B, 1, N)
        Mean and standard deviation of each component.
    moves : array of bool, shape (B, 1, N)
        Components that are not the same in all scenarios.
    standard : array, shape (B, M, N)
        The scenarios in standard deviations above the mean; 0 in components that do not move.
    score : array, shape (B, M)
        The largest component of each.
    pivot : array of int, shape (B, 1)
        The scenario whose score is the margin.
    size : array, shape (B, 1)
        The margin, the quantile of the scores.
    """

    centre: Values
    spread: Values
    moves: NDArray[np.bool_]
    standard: Values
    score: Values
    pivot: NDArray[np.int64]
    size: Values


def common_margin(values: Values, mass: Values, promise: float) -> Margin:
    """The margin that holds a share of the scenarios (B, M, N), each in all components."""
    weight = mass[..., None]
    centre = (weight * values).sum(1, keepdims=True)
    spread = np.sqrt((weight * (values - centre) ** 2).sum(1, keepdims=True))
    moves = spread > 1e-9 * (1 + np.abs(centre))
    standard = np.divide(values - centre, spread, out=np.zeros_like(values), where=moves)
    score = standard.max(2)
    pivot = quantile_place(score[..., None], mass, promise)
    return Margin(centre, spread, moves, standard, score, pivot, np.take_along_axis(score, pivot, axis=1))


def smallest_box(values: Values, mass: Values, promise: float) -> Values:
    """Upper levels (B, N) of one common margin that hold a share of the scenarios (B, M, N), each in all components.

    The score of a scenario is its largest standardised component, and the margin the quantile of the scores.
    """
    margin = common_margin(values, mass, promise)
    level = margin.centre + margin.size[..., None] * margin.spread
    levels: Values = np.where(margin.moves, level, values.max(1, keepdims=True))[:, 0]
    return levels
