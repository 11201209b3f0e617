"""Mean-variance portfolio: how to spread wealth over assets whose returns are not known yet."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrays import (
    Array,
    beyond,
    constant,
    every,
    inner,
    kind,
    largest,
    namespace,
    nothing,
    on_torch,
    smallest,
    total,
    warn_unsolved,
)
from .base import Adjoint, DecisionProblem, Judged, ProblemError, check_not_negative


class Portfolio(DecisionProblem):
    """Second moment of the portfolio's return minus its mean, over long-only portfolios.

    ====================  ==================================================  ==========
    Diffusion-DFL, A.3    here                                                default
    ====================  ==================================================  ==========
    y                     outcome: return of each asset, in any unit          —
    z                     decision: share of wealth in each asset             on the simplex
    alpha                 ``risk_aversion``, per unit of return               1
    n                     ``assets``                                          50
    ====================  ==================================================  ==========

    cost(y, z) = alpha/2 (y'z)^2 - y'z, plus ``transaction_cost`` times the absolute change of z since the previous
    decision; 1'z = 1 and 0 <= z <= 1. Scenario decisions ignore the transaction cost; the cost and the oracle
    (:meth:`perfect`) do not.

    :meth:`solve` prices all assets, solves the problem on the two dozen with the least reduced costs (an exact active
    set) and repeats until no asset is left out wrongly. Where several portfolios are optimal,
    as with a singular covariance (fewer scenarios than assets) they may be, it returns the one of least norm on
    its support: with less than 48 assets, the one of least norm of all. :meth:`adjoint` differentiates that choice.

    Parameters
    ----------
    assets : int
        Columns of outcome and decision.
    risk_aversion : float
        Price of the second moment.
    transaction_cost : float
        Price per unit of sum_i |z_i - previous_i|.

    Raises
    ------
    ProblemError
        For a parameter outside its range.

    Examples
    --------
    >>> problem = Portfolio(assets=3, risk_aversion=2.0)
    >>> problem.solve(np.array([[[1.0, -1.0, 0.0], [-1.0, 2.0, 0.0]]])).round(3).tolist()
    [[0.577, 0.423, 0.0]]
    """

    hard_families = ("budget", "bounds")
    measures = ("return", "turnover")

    def __init__(self, assets: int = 50, risk_aversion: float = 1.0, transaction_cost: float = 0.0) -> None:
        if assets != int(assets) or assets < 2:
            raise ProblemError(f"assets is {assets}: give a whole number of at least 2, or there is nothing to decide")
        if not (np.isfinite(risk_aversion) and risk_aversion > 0):
            raise ProblemError(f"risk_aversion is {risk_aversion}: give a positive number")
        check_not_negative(transaction_cost=transaction_cost)
        self.outcome_dim = self.decision_dim = int(assets)
        self.low, self.high = np.zeros(assets), np.ones(assets)
        self.risk_aversion, self.transaction_cost = float(risk_aversion), float(transaction_cost)
        self.stateful = transaction_cost > 0
        self.units = {"budget": "share of wealth", "bounds": "share of wealth"}

    def parameters(self) -> dict[str, Any]:
        """The constructor's keywords."""
        return {
            "assets": self.outcome_dim,
            "risk_aversion": self.risk_aversion,
            "transaction_cost": self.transaction_cost,
        }

    # ------------------------------------------------------------------ what a decision costs
    def cost(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """alpha/2 (y'z)^2 - y'z plus the price of trading from ``previous``; shape (...)."""
        traded = _traded(decisions, previous) if self.stateful and previous is not None else 0.0
        return self._price(inner(outcomes, decisions), traded)

    def _price(self, gain: Array, traded: Array) -> Array:
        """Cost (...) of a return and of the absolute change that led to it."""
        value = (0.5 * self.risk_aversion * gain - 1) * gain
        return value + self.transaction_cost * traded if self.stateful else value

    def measure(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> dict[str, Array]:
        """``return`` y'z, and ``turnover``: half the absolute change of the shares, 0 where there were none.

        The drift of the shares with the returns between two decisions is not counted as a change.
        """
        return self.judge(outcomes, decisions, previous).measures

    def judge(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Judged:
        """All that a step brings, from one pass over returns and shares, and one over the changes."""
        gain = inner(outcomes, decisions)
        traded = 0 * gain if previous is None else _traded(decisions, previous)
        return Judged(self._price(gain, traded), {"return": gain, "turnover": 0.5 * traded}, {}, decisions)

    def perfect(self, outcomes: Array, previous: Array | None = None) -> Array:
        """Best portfolio (..., n) for known returns; with a transaction cost, the exact reply to ``previous``.

        The cost depends on the return t = y'z alone and is least at 1/alpha, or as near to it as the returns of the
        assets allow. The answer holds the two assets with returns next to that, below and above, in the mix that
        earns it; a single one where it is the smallest or largest return (the first of equal ones).
        """
        xp = namespace(outcomes)
        worst, best = xp.min(outcomes, axis=-1, keepdims=True), xp.max(outcomes, axis=-1, keepdims=True)
        target = xp.minimum(xp.maximum(xp.ones_like(best) / self.risk_aversion, worst), best)
        under = xp.where(outcomes <= target, outcomes, xp.zeros_like(outcomes) - math.inf)
        over = xp.where(outcomes >= target, outcomes, xp.zeros_like(outcomes) + math.inf)
        lower, upper = xp.max(under, axis=-1, keepdims=True), xp.min(over, axis=-1, keepdims=True)
        width = upper - lower
        share = xp.where(width > 0, (target - lower) / xp.where(width > 0, width, xp.ones_like(width)), 0 * width)
        free = share * _unit(xp.argmin(over, axis=-1), outcomes) + (1 - share) * _unit(
            xp.argmax(under, axis=-1), outcomes
        )
        if not self.stateful or previous is None:
            return free
        # no portfolio yet, which is NaN in a replay and zeros in an observation: there is nothing to sell
        unknown = ~(abs(previous).sum(-1) > 0)[..., None]
        held = xp.where(unknown, free, previous)
        return xp.where(unknown, free, self._reply(outcomes, held))

    def _reply(self, y: Array, held: Array) -> Array:
        """Best portfolio for known returns y (..., n) after holding ``held``: what to sell, and for what.

        A return above the present one costs least when the worst assets are sold first, all for the best one: a
        unit sold of asset i gains y_best - y_i and costs two units of trade. Asset after asset, sell until the
        marginal cost of the return, 1 - alpha t, no longer pays for it: exact, because the price of a unit of return
        rises along the way. Where the return is too high the same holds with signs reversed.
        """
        xp = namespace(y)
        trade = held * 0.0
        now = (y * held).sum(-1)[..., None]
        for sign in (1.0, -1.0):
            order = xp.argsort(sign * y, axis=-1)
            target = xp.argmax(sign * y, axis=-1)[..., None]
            ordered, stock = xp.take_along_axis(y, order, axis=-1), xp.take_along_axis(held, order, axis=-1)
            gain = xp.abs(xp.take_along_axis(y, target, axis=-1) - ordered)
            safe = xp.where(gain > 0, gain, xp.ones_like(gain))
            passed = xp.cumulative_sum(stock * gain, axis=-1) - stock * gain
            stop = (1 - sign * 2 * self.transaction_cost / safe) / self.risk_aversion
            sold = (sign * (stop - now) - passed) / safe
            sold = xp.minimum(xp.maximum(sold, xp.zeros_like(sold)), stock) * (gain > 0)
            back = xp.argsort(order, axis=-1)
            trade = trade - xp.take_along_axis(sold, back, axis=-1)
            trade = trade + sold.sum(-1)[..., None] * _unit(target[..., 0], y)
        return held + trade

    # ------------------------------------------------------------------ constraints
    def project(self, decisions: Array) -> Array:
        """Euclidean projection onto the simplex: sort and threshold (Held, Wolfe and Crowder 1974).

        Portfolios that miss it by no more than the tolerance, in their sum or an entry, come back as they are.
        """
        balanced = abs(total(decisions) - 1) <= self.tolerance
        if 0 in decisions.shape or (every(balanced) and smallest(decisions.reshape(-1)) >= -self.tolerance):
            return decisions
        xp = namespace(decisions)
        fits = balanced & (smallest(decisions) >= -self.tolerance)
        # how far below the largest entry; no entry more than one below it survives
        below = largest(decisions)[..., None] - decisions
        below = xp.minimum(below, constant(1.0, below))
        # the level makes the entries above it one in sum; it is the least mean distance of the leading entries
        sums = xp.cumulative_sum(xp.sort(below, axis=-1), axis=-1) + 1
        count = xp.arange(1, self.decision_dim + 1, **kind(sums))
        nearest = xp.maximum(smallest(sums / count)[..., None] - below, constant(0.0, below))
        return nearest if decisions.ndim == 1 else xp.where(fits[..., None], decisions, nearest)

    def excess(self, decisions: Array, feasible: Array) -> dict[str, Array]:
        """``budget``: distance of the sum from one; ``bounds``: largest distance of a share outside [0, 1]."""
        if feasible is decisions:
            return dict.fromkeys(self.hard_families, nothing(decisions))
        short, over = -smallest(decisions), largest(decisions) - 1
        outside = namespace(over).maximum(short, over)
        budget = abs(total(decisions) - 1)
        return {"budget": beyond(budget, self.tolerance), "bounds": beyond(outside, self.tolerance)}

    # ------------------------------------------------------------------ the scenario problem
    def solve(self, scenarios: Array, weights: Array | None = None) -> Array:
        """Exact minimisers (B, n), computed in float64; NaN, with a warning, in rows that do not converge.

        Time is O(B M n) per round of pricing plus O(B K^3) for K candidates. Beside the scenarios, memory is three
        times a chunk of contexts with 4 million elements (100 MB), or three times one context if that is larger.
        """
        self.check_scenarios(scenarios, weights)

        from .mean_variance import minimise  # torch, which an environment that only replays does not need

        decisions = on_torch(lambda y, w: minimise(y, w, self.risk_aversion), scenarios, weights, lean=True)
        warn_unsolved("Portfolio.solve", decisions)
        return decisions

    def adjoint(self, scenarios: Array, decisions: Array, cotangent: Array, weights: Array | None = None) -> Adjoint:
        """KKT sensitivities on the support of the decision.

        With v the multiplier, dF/dy_m = -w_m [alpha ((y_m'z) v + (y_m'v) z) - v] and the score weight is
        -(alpha y_m'z - 1) y_m'v, where w_m are the masses. An asset at zero stays there. Where several portfolios on
        the support are optimal, v is the solution of least norm, and the derivative of choosing the portfolio of
        least norm is added to dF/dy_m. Rows without a decision (NaN) get zeros.

        Memory is as for :meth:`solve`, and twice the gradient (B, M, D) while its chunks are joined.
        """
        self.check_scenarios(scenarios, weights)
        from .mean_variance import adjoint

        def derive(y: Array, z: Array, g: Array, w: Array | None) -> Adjoint:
            return adjoint(y, z, g, w, self.risk_aversion)

        return on_torch(derive, scenarios, decisions, cotangent, weights)


def _traded(decisions: Array, previous: Array) -> Array:
    """Sum (...) of the absolute changes, 0 where there is no previous portfolio."""
    change = decisions - previous
    # in place where no gradient needs the change itself: a batch of them is larger than a fast cache
    traded = total(np.abs(change, out=change) if isinstance(change, np.ndarray) else abs(change))
    if isinstance(traded, float):  # a single portfolio
        return 0.0 if math.isnan(traded) else traded
    xp = namespace(traded)
    return xp.where(xp.isnan(traded), constant(0.0, traded), traded)


def _unit(index: Array, like: Array) -> Array:
    """Unit vectors (..., n) with a one at ``index`` (...,)."""
    xp = namespace(like)
    place = xp.arange(like.shape[-1], device=like.device)
    return xp.astype(place == index[..., None], like.dtype)
