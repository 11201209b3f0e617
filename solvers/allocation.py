"""Product allocation: how much of each product to hold when a bad outcome hurts exponentially."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Array, clipped, inner, namespace, on_torch, warn_unsolved
from .base import Adjoint, BoxProblem, ProblemError


class ProductAllocation(BoxProblem):
    """Exponential disutility of the value y'z of an allocation z, with 0 <= z <= C.

    ====================  ==================================  ==============
    Diffusion-DFL, A.1    here                                default
    ====================  ==================================  ==============
    y                     outcome: value of each product      —
    z                     decision: amount of each product    in [0, C]
    C                     ``cap``                             2
    ====================  ==================================  ==============

    cost(y, z) = exp(-y'z). :meth:`solve` minimises the log of its mean, which has the same minimiser and does not
    overflow; the cost itself is infinite below y'z = -709.

    The minimiser is unique unless products are redundant (copies of each other, or worth nothing in any scenario).
    A worthless product is left out; among copies the answer treats all alike. :meth:`adjoint` keeps the decision's
    share in directions without curvature fixed.

    Parameters
    ----------
    products : int
        Columns of outcome and decision.
    cap : float
        C, the largest amount of a product.

    Raises
    ------
    ProblemError
        For a parameter outside its range.

    Examples
    --------
    >>> problem = ProductAllocation(products=2)
    >>> problem.solve(np.array([[[1.0, -1.0], [-0.5, 1.0]]])).round(3).tolist()
    [[2.0, 1.5]]
    """

    def __init__(self, products: int = 10, cap: float = 2.0) -> None:
        if products != int(products) or products < 1:
            raise ProblemError(f"products is {products}: give a whole number of at least 1")
        if not (np.isfinite(cap) and cap > 0):
            raise ProblemError(f"cap is {cap}: give a positive number")
        self.outcome_dim = self.decision_dim = int(products)
        self.cap = float(cap)
        self.low, self.high = np.zeros(self.decision_dim), np.full(self.decision_dim, self.cap)
        self.units = {"bounds": "amount of a product"}

    def parameters(self) -> dict[str, Any]:
        """The constructor's keywords."""
        return {"products": self.decision_dim, "cap": self.cap}

    # ------------------------------------------------------------------ what a decision costs
    def cost(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """exp(-y'z), shape (...); infinite where it overflows."""
        value = inner(outcomes, decisions)
        if isinstance(value, float):
            return namespace(value).exp(-value)
        with np.errstate(over="ignore"):
            return namespace(value).exp(-value)

    def perfect(self, outcomes: Array, previous: Array | None = None) -> Array:
        """All of each product that turns out to be worth something, nothing of the others."""
        if isinstance(outcomes, float):
            return self.cap * (outcomes > 0)
        return self.cap * namespace(outcomes).astype(outcomes > 0, outcomes.dtype)

    # ------------------------------------------------------------------ constraints
    def project(self, decisions: Array) -> Array:
        """Clip to the bounds what leaves them by more than the tolerance."""
        return clipped(decisions, 0.0, self.cap, self.tolerance)

    # ------------------------------------------------------------------ the scenario problem
    def solve(self, scenarios: Array, weights: Array | None = None) -> Array:
        """Exact minimisers (B, d), computed in float64; NaN, with a warning, in rows that do not converge.

        Time is O(B M d^2) per Newton step. Beside the scenarios, memory is four times a chunk of contexts with
        4 million elements (130 MB), or four times one context if that is larger.
        """
        self.check_scenarios(scenarios, weights)
        from .log_mean_exp import minimise  # torch, which an environment that only replays does not need

        decisions = on_torch(lambda y, w: minimise(y, w, self.cap), scenarios, weights, lean=True)
        warn_unsolved("ProductAllocation.solve", decisions)
        return decisions

    def adjoint(self, scenarios: Array, decisions: Array, cotangent: Array, weights: Array | None = None) -> Adjoint:
        """Sensitivities from the Hessian on the free set, divided by the mean cost so that nothing overflows.

        With p_m the share of scenario m in the mean cost, H = sum_m p_m y_m y_m' on the free products and v = H^-1 g:
        dF/dy_m = p_m (v - (y_m'v) z) and the score weight is f(y_m, z) / mean f * y_m'v. ``multiplier`` is v, which
        belongs to the log of the mean. A product at a bound stays there. Rows without a decision (NaN) get zeros.

        Memory is as for :meth:`solve`, and twice the gradient (B, M, D) while its chunks are joined.
        """
        self.check_scenarios(scenarios, weights)
        from .log_mean_exp import adjoint

        xp = namespace(decisions)
        free = (decisions > 0) & (decisions < self.cap * (1 - 4 * float(xp.finfo(decisions.dtype).eps)))

        def derive(y: Array, z: Array, g: Array, inside: Array, w: Array | None) -> Adjoint:
            return adjoint(y, z, g, w, inside > 0)

        return on_torch(derive, scenarios, decisions, cotangent, free, weights)
