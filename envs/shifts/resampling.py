"""Resampling: what happened stays, how often it happens changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...data.errors import UnknownNameError
from ...data.trace import Trace
from .base import TraceShift
from .parameters import ShiftError, parameter
from .registry import register


@register("tilt", family="resampling", source="Hu and Hong (2013), the adversary of KL-DRO")
@dataclass(frozen=True, kw_only=True)
class Tilt(TraceShift):
    """Expensive blocks (days, episodes) made frequent, within a budget of Kullback-Leibler divergence.

    Blocks are weighted exponentially in their cost (:func:`tilt_weights`) and drawn with these weights, with
    replacement. A block keeps its place as far as its weight allows (a maximal coupling with the original
    order), so that no budget changes nothing, and seasons and neighbours stay as far as they can. The slots
    after the last whole block stay as they are. Context and reading move along with the outcome.
    """

    kl: float = parameter(
        0.5, identity=0.0, low=0.0, doc="budget of the Kullback-Leibler divergence from the original, in nats"
    )
    block: int = parameter(28, kind="integer", low=1.0, doc="slots of a block; 24 hourly slots make days")
    by: str | None = parameter(
        None,
        kind="text",
        doc="outcome or context column that is the cost of a slot; the mean outcome by default",
    )
    toward: str = parameter(
        "high", kind="choice", choices=("high", "low"), doc="whether high or low values are the costly ones"
    )
    statistic: str = parameter(
        "mean", kind="choice", choices=("mean", "max"), doc="cost of a block: the 'mean' or the 'max' of its slots"
    )

    def cost(self, trace: Trace) -> NDArray[np.float64]:
        """Cost of every slot, shape (T,); override it to tilt toward something else."""
        names = (*trace.outcome_names, *trace.context_names)
        if self.by is None:
            values = trace.outcome.mean(axis=1)
        elif self.by in names:
            values = np.concatenate((trace.outcome, trace.context), axis=1)[:, names.index(self.by)]
        else:
            raise UnknownNameError(f"column of trace {trace.name!r}", self.by, names)
        return np.asarray(values if self.toward == "high" else -values)

    def transform(self, trace: Trace, rng: np.random.Generator) -> Trace:  # noqa: D102
        count = len(trace) // self.block
        if count < 2:
            raise ShiftError(
                f"block of shift 'tilt' is {self.block}, but trace {trace.name!r} has {len(trace)} slots: "
                f"give {max(len(trace) // 2, 1)} or fewer"
            )
        slots = self.cost(trace)[: count * self.block].reshape(count, self.block)
        costs = slots.max(axis=1) if self.statistic == "max" else slots.mean(axis=1)
        drawn = _drawn_near_home(tilt_weights(costs, self.kl), rng)
        rows = np.arange(len(trace))
        rows[: count * self.block] = (drawn[:, None] * self.block + np.arange(self.block)).ravel()
        return trace.replace(
            outcome=trace.outcome[rows],
            observed=trace.observed[rows],
            context=trace.context[rows],
            requests=None,
        )


def tilt_weights(costs: ArrayLike, budget: float) -> NDArray[np.float64]:
    """Weights q that maximise the mean cost subject to KL(q || uniform) <= budget.

    They are q_i ~ exp(beta c_i), with the dual variable beta >= 0 such that the budget is spent. Among n
    costs of which m are the largest, no more than log(n / m) can be spent: from there on, q is uniform over
    the largest.

    Parameters
    ----------
    costs : array, shape (n,)
        One cost per block.
    budget : float
        In nats.

    Returns
    -------
    array, shape (n,)
        Positive weights that sum to one.

    References
    ----------
    Z. Hu and L. J. Hong, Kullback-Leibler divergence constrained distributionally robust optimization, 2013.
    """
    from scipy.optimize import brentq  # slow to import: only who tilts waits for it

    costs = np.asarray(costs, dtype=np.float64)
    span = np.ptp(costs)
    if span == 0 or budget == 0:
        return np.full(len(costs), 1 / len(costs))
    below = (costs - costs.max()) / span  # in [-1, 0]; 0 for the largest

    def weights(beta: float) -> NDArray[np.float64]:
        mass = np.exp(beta * below)
        return np.asarray(mass / mass.sum())

    def excess(beta: float) -> float:
        total = np.exp(beta * below).sum()
        return float(beta * (weights(beta) @ below) - np.log(total / len(costs)) - budget)

    largest = below == 0
    if budget >= np.log(len(costs) / largest.sum()):
        return np.asarray(largest / largest.sum())
    high = 1.0
    while excess(high) < 0:
        high *= 2.0
    return weights(brentq(excess, 0.0, high, xtol=1e-14, rtol=1e-14))


def _drawn_near_home(weights: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw one block for every place, block j for a share weights[j] of the places, most from home.

    The maximal coupling of the uniform distribution and ``weights``: place i keeps block i with probability
    min(1, n weights[i]), and otherwise draws from the excess of the weights over 1 / n.
    """
    count = len(weights)
    excess = np.maximum(weights - 1 / count, 0.0)
    stays, other = rng.random(count) < count * weights, rng.random(count)
    if excess.sum() == 0:
        return np.arange(count)
    cumulative = np.cumsum(excess) / excess.sum()
    drawn = np.minimum(np.searchsorted(cumulative, other, side="right"), count - 1)
    return np.where(stays, np.arange(count), drawn)
