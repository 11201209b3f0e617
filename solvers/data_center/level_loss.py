"""What protective levels are worth in training: the price of what they keep ready, and that of breaking them.

A settled day does not charge for work that it leaves undone, so nobody who is trained for its cost keeps a promise. The
levels of a promise p solve instead, family by family,

    min_l sum_j v_j l_j   subject to   P(y_j <= l_j for all j) >= p,

with v_j the price of a unit of level j. The loss of N levels that are promised together is

    F(y, l) = sum_j v_j l_j + N / (1 - p) max_j v_j (y_j - l_j)^+.

Its mean is convex in l and, with k the component of the largest breach, least where
v_j = N / (1 - p) v_j P(k = j, a breach). So each component is the one that breaks in a share (1 - p) / N of all cases:
the promise is kept exactly, jointly, and its risk is spread evenly. A level on its own, N = 1, has the pinball loss in
the form of the conditional value at risk (Rockafellar and Uryasev, 2000), whose minimiser is the quantile. For
renewables, which are promised from below and one by one, y, l and the price change their sign.

| symbol | here | unit |
|---|---|---|
| y, l, v | ``outcomes``, ``levels``, ``price`` | kW, req/s or GPU h; 1000 $ per unit and hour |
| 1 - p, N | ``tail``, ``sizes`` | |
| pi + c kappa | ``rate`` | $/kWh |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, constant, largest, namespace
from .fleet import Fleet
from .instances import power_of_work

Values = NDArray[np.float64]

#: Least price of an hour, as a share of the mean magnitude of a day's: where power is free a promise still counts.
_LEAST_PRICE = 0.1


def level_prices(fleet: Fleet, rate: Values) -> Values:
    """Price (..., D + S + K, T) of a unit of each level [1000 $] at rates (..., D, T) [$/kWh], positive.

    A kW that renewables yield saves its purchase; requests and training work take the power of the cheapest instances,
    bought at the mean of the centers, each with its facility.
    """
    bought = np.maximum(rate, _LEAST_PRICE * np.abs(rate).mean(-1, keepdims=True))
    power = (fleet.facility[:, None] * bought).mean(-2, keepdims=True)
    return np.concatenate((bought, power_of_work(fleet)[:, None] * power), axis=-2) / 1000


def level_loss(outcomes: Array, levels: Array, price: Array, tail: float, sizes: Sequence[int]) -> Array:
    """F (...) [1000 $] of levels for outcomes, (..., N) each: renewables, requests, arrivals, of these ``sizes``."""
    xp, none = namespace(outcomes), constant(0.0, outcomes)
    alone = sizes[0]
    kept, breach = price * levels, price * (outcomes - levels)
    cost = kept[..., alone:].sum(-1) - kept[..., :alone].sum(-1)
    broken = xp.maximum(-breach[..., :alone], none).sum(-1)
    for begin, end in zip(np.cumsum(sizes)[:-1].tolist(), np.cumsum(sizes)[1:].tolist(), strict=True):
        broken = broken + (end - begin) * largest(xp.maximum(breach[..., begin:end], none))
    return cost + broken / tail
