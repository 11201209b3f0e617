"""How protective levels move with the scenarios: both gradients of the order statistics behind them.

For a loss F of the levels with gradient g = dF/dlevel, "gradient" is dF/dy_m of the sample problem, for samples that
are moved, and "influence" the change of F per unit of probability that is moved to y_m, for samples that become
likelier (Hampel, 1974): dF/dtheta = E[influence(y) d/dtheta log p(y)]. It divides by a density, which a finite sample
has none of; that is a Gaussian kernel estimate with Silverman's bandwidth.

| symbol | here | |
|---|---|---|
| y_m, w_m | ``values`` (B, M, N), ``mass`` (B, M) | scenarios and their weights, which sum to one |
| p, g | ``promise``, ``pull`` (B, N) | |
| c, s | ``Margin.centre``, ``spread`` | mean and standard deviation of each component |
| u_m | ``Margin.standard`` | (y_m - c) / s |
| T_m, k_m | ``Margin.score``, ``worst`` | max_j u_mj, and the j where it is |
| q, r | ``Margin.size``, ``Margin.pivot`` | p-quantile of T, and the scenario that it is |

A level of a box is l_j = c_j + q s_j. Moving one sample moves c_j by w_m, s_j by w_m u_mj, and q = u_rk by
(1[m = r] - w_m (1 + q u_mk)) / s_k in the component k = k_r alone. Moving probability moves c_j by s_j u_j, s_j by
s_j (u_j^2 - 1) / 2, and so all scores; from P(T <= q) = p follows

    dq = (p - 1[T <= q]) / f_T(q) - sum_j P(k = j | T = q) a_j    with a_j = u_j + q (u_j^2 - 1) / 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..arrays import closeness, density
from .protective_levels import Margin, common_margin, families, quantile, quantile_place

Values = NDArray[np.float64]


def levels_gradient(values: Values, mass: Values, promise: float, sizes: Sequence[int], pull: Values) -> Values:
    """dF/dy_m (B, M, N) through :func:`~.protective_levels.protective_levels`."""
    lower, *uppers = zip(families(values, sizes), families(pull, sizes), strict=True)
    place = quantile_place(-lower[0], mass, promise)[:, None]  # a quantile is a scenario, and moves one to one with it
    moved = np.where(np.arange(values.shape[1])[:, None] == place, lower[1][:, None], 0.0)
    return np.concatenate((moved, *(box_gradient(group, mass, promise, force) for group, force in uppers)), axis=-1)


def levels_influence(values: Values, mass: Values, promise: float, sizes: Sequence[int], pull: Values) -> Values:
    """Influence (B, M) through :func:`~.protective_levels.protective_levels`, zero on average."""
    lower, *uppers = zip(families(values, sizes), families(pull, sizes), strict=True)
    level = -quantile(-lower[0], mass, promise)
    met = _centred((lower[0] >= level[:, None]).astype(float), mass[..., None])  # (1[y >= level] - p) / f(level)
    alone: Values = (met * (lower[1] / density(lower[0], level, mass))[:, None]).sum(2)
    return sum((box_influence(group, mass, promise, force) for group, force in uppers), alone)


def box_gradient(values: Values, mass: Values, promise: float, pull: Values) -> Values:
    """dF/dy_m (B, M, N) through the levels of a box; one that is the same in all scenarios moves with their mean."""
    margin = common_margin(values, mass, promise)
    size = margin.size[..., None]
    own = mass[..., None] * (1 + np.where(margin.moves, size * margin.standard, 0.0))
    worst = np.take_along_axis(_worst(margin), margin.pivot[..., None], axis=1)
    force = _force(margin, pull).sum(2, keepdims=True)
    force = np.divide(force * worst, margin.spread, out=np.zeros_like(margin.spread), where=margin.moves)
    pivot = np.arange(values.shape[1])[:, None] == margin.pivot[..., None]
    return (pull[:, None] - force) * own + force * pivot


def box_influence(values: Values, mass: Values, promise: float, pull: Values) -> Values:
    """Influence (B, M) through the levels of a box."""
    margin = common_margin(values, mass, promise)
    near = closeness(margin.score[..., None], margin.size, mass)
    dense = near.sum(1)
    share = (near * _worst(margin)).sum(1, keepdims=True) / dense[..., None]  # P(k = j | T = q)
    force = _force(margin, pull)
    moved = margin.standard + margin.size[..., None] * (margin.standard**2 - 1) / 2
    shape = np.where(margin.moves, force - share * force.sum(2, keepdims=True), 0.0)
    met = _centred((margin.score <= margin.size).astype(float), mass)
    return (shape * moved).sum(2) - force.sum(2) * met / dense


def _force(margin: Margin, pull: Values) -> Values:
    """g_j s_j (B, 1, N), whose sum is dF/dq."""
    return np.where(margin.moves, pull[:, None] * margin.spread, 0.0)


def _worst(margin: Margin) -> Values:
    """One (B, M, N) in the worst component k_m of each scenario, zero elsewhere."""
    worst: Values = (np.arange(margin.standard.shape[2]) == margin.standard.argmax(2)[..., None]).astype(float)
    return worst


def _centred(values: Values, mass: Values) -> Values:
    return values - (mass * values).sum(1, keepdims=True)
