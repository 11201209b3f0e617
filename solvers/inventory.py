"""Inventory: how much to order for a demand that is not known yet."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import (
    Array,
    clipped,
    constant,
    density,
    entries,
    in_chunks,
    in_double,
    masses,
    namespace,
    on_numpy,
    total,
)
from .base import Adjoint, BoxProblem, ProblemError, check_not_negative

#: Elements of the largest temporary array in the solver (8 bytes each): bounds its memory to some 300 MB.
_CHUNK = 2**21
_TINY, _HUGE = 1e-300, 1e300


class Inventory(BoxProblem):
    """The newsvendor with prices that grow with the quantity: order z, then meet a demand y.

    ==============================  ========================================  =========
    Diffusion-DFL, A.12             here                                      default
    ==============================  ========================================  =========
    y                               outcome: demand                           —
    z                               decision: order in [0, ``capacity``]      —
    c_0, q_0                        ``order``, ``order_growth``               1, 0.1
    c_b, r_b                        ``shortage``, ``shortage_growth``         3, 0.3
    c_h, r_h                        ``holding``, ``holding_growth``           0.5, 0.2
    z_max                           ``capacity``                              20
    (not there)                     ``carry``: stock s is kept                False
    ==============================  ========================================  =========

    cost(y, z) = c_0 z + q_0 z^2 / 2 + c_b [y - z]+ + r_b [y - z]+^3 / 3 + c_h [z - y]+ + r_h [z - y]+^3 / 3. The
    paper names no constants: the defaults suit demands of some five units, and no price dominates. A negative
    demand (returned goods) is one.

    With ``carry``, what is left over stays in stock for the next step: s' = [s + z - y]+, the ``previous`` of all
    methods, 0 where it is NaN. An order meets the net demand y - s, at cost(y - s, z), and what is missing is lost.
    Decisions are best for the step at hand: :meth:`given` subtracts the stock from scenarios of the demand.

    :meth:`solve` is exact. Between two neighbouring demands the derivative is quadratic, with coefficients from
    running moments of the sorted demands, so the interval of its zero and the zero in it are closed forms. The
    moments are taken twice, the second time about the first result: far from it they cancel, at it they do not.
    Time is O(B M log M) for the sort; memory O(B) plus a bounded chunk. Where several orders are optimal, which
    takes prices that do not grow, it returns the smallest.

    Parameters
    ----------
    order, shortage, holding : float
        Prices of the first unit ordered, missing and left over.
    order_growth, shortage_growth, holding_growth : float
        How fast the price of a further unit grows, with the quantity ordered, with the squares of those missing and
        left over.
    capacity : float
        Largest order.
    carry : bool
        Whether stock is kept from step to step.

    Raises
    ------
    ProblemError
        For a parameter outside its range.

    Examples
    --------
    >>> problem = Inventory()
    >>> problem.perfect(np.array([[5.0], [50.0], [-1.0]])).tolist()
    [[5.0], [20.0], [0.0]]
    >>> problem.solve(np.array([[[4.0], [5.0], [7.0]]])).round(3).tolist()
    [[5.0]]
    """

    outcome_dim = decision_dim = 1
    measures = ("missing", "left")

    def __init__(
        self,
        order: float = 1.0,
        order_growth: float = 0.1,
        shortage: float = 3.0,
        shortage_growth: float = 0.3,
        holding: float = 0.5,
        holding_growth: float = 0.2,
        capacity: float = 20.0,
        carry: bool = False,
    ) -> None:
        prices = {
            "order": order,
            "order_growth": order_growth,
            "shortage": shortage,
            "shortage_growth": shortage_growth,
            "holding": holding,
            "holding_growth": holding_growth,
            "capacity": capacity,
        }
        check_not_negative(**prices)
        if capacity == 0:
            raise ProblemError("capacity is 0: give a positive number")
        if not isinstance(carry, bool):
            raise ProblemError(f"carry is {carry!r}: give True to keep stock from step to step, or False")
        self._parameters: dict[str, Any] = {**prices, "carry": carry}
        self.stateful = carry
        self.order, self.order_growth = float(order), float(order_growth)
        self.shortage, self.shortage_growth = float(shortage), float(shortage_growth)
        self.holding, self.holding_growth = float(holding), float(holding_growth)
        self.capacity = float(capacity)
        self.low, self.high = np.zeros(1), np.full(1, self.capacity)
        self.units = {"bounds": "unit of the demand"}

    def parameters(self) -> dict[str, Any]:
        """The constructor's keywords."""
        return dict(self._parameters)

    # ------------------------------------------------------------------ what a decision costs
    def cost(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """Price of the order and of what is missing or left over; shape (...)."""
        missing, left = self._balance(outcomes, decisions, previous)
        price = (self.order + self.order_growth / 2 * decisions) * decisions
        price = price + (self.shortage + self.shortage_growth / 3 * missing**2) * missing
        return total(price + (self.holding + self.holding_growth / 3 * left**2) * left)

    def _balance(self, outcomes: Array, decisions: Array, previous: Array | None) -> tuple[Array, Array]:
        """What is missing and what is left over."""
        xp, none = namespace(outcomes), constant(0.0, outcomes)
        short = self._net(outcomes, previous) - decisions
        return xp.maximum(short, none), xp.maximum(-short, none)

    def _net(self, outcomes: Array, stock: Array | None) -> Array:
        """Demand that the stock does not meet."""
        if not self.stateful or stock is None:
            return outcomes
        xp = namespace(stock)
        return outcomes - xp.where(xp.isnan(stock), constant(0.0, stock), stock)

    def carry(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """The stock left over, for the next step; the order itself where no stock is kept."""
        return self._balance(outcomes, decisions, previous)[1] if self.stateful else decisions

    def given(self, scenarios: Array, previous: Array | None = None) -> Array:
        """Scenarios (B, M, 1) of the net demand for stocks (B, 1)."""
        return self._net(scenarios, None if previous is None else previous[:, None])

    def measure(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> dict[str, Array]:
        """``missing`` and ``left``: units of demand not met, and of goods not sold."""
        return dict(zip(self.measures, map(total, self._balance(outcomes, decisions, previous)), strict=True))

    def perfect(self, outcomes: Array, previous: Array | None = None) -> Array:
        """The demand itself, or less of it where the last unit ordered costs more than a missing one."""
        outcomes = self._net(outcomes, previous)
        xp = namespace(outcomes)
        loss = self.order + self.order_growth * outcomes - self.shortage  # of the last unit when all is ordered
        loss = xp.maximum(loss, constant(0.0, outcomes))
        steepness = self.order_growth + (self.order_growth**2 + 4 * self.shortage_growth * loss) ** 0.5
        return self._clip(outcomes - 2 * loss / xp.maximum(steepness, constant(_TINY, outcomes)))

    def _clip(self, orders: Array) -> Array:
        return clipped(orders, 0.0, self.capacity, 0.0)

    # ------------------------------------------------------------------ constraints
    def project(self, decisions: Array) -> Array:
        """Clip to [0, capacity] what leaves it by more than the tolerance."""
        return clipped(decisions, 0.0, self.capacity, self.tolerance)

    # ------------------------------------------------------------------ the scenario problem
    def solve(self, scenarios: Array, weights: Array | None = None) -> Array:
        """Exact minimisers (B, 1) of the scenario average; float32 scenarios are worked on in float64."""
        self.check_scenarios(scenarios, weights)
        return on_numpy(in_double(self._solve), scenarios, weights)

    def _solve(self, scenarios: Array, weights: Array | None) -> Array:
        return in_chunks(self._solve_rows, max(1, _CHUNK // scenarios.shape[1]), scenarios, weights)

    def _solve_rows(self, scenarios: Array, weights: Array | None) -> Array:
        xp = namespace(scenarios)
        y, mass = scenarios[..., 0], masses(scenarios, weights)
        mean = (mass * y).sum(-1)[:, None]
        if weights is None:
            y = xp.sort(y, axis=-1)
        else:
            order = xp.argsort(y, axis=-1)
            y, mass = entries(order, y, mass)
        near = self._minimum(y, mass, mean)
        return self._clip(self._minimum(y, mass, self._clip(near)))

    def _minimum(self, y: Array, mass: Array, centre: Array) -> Array:
        """Minimiser (R, 1) without bounds for sorted demands y (R, M), from moments about ``centre`` (R, 1)."""
        xp = namespace(y)
        x = y - centre
        counts, first, second = mass + 0 * x, mass * x, mass * x**2
        under, under1, under2 = (xp.cumulative_sum(m, axis=-1, include_initial=True) for m in (counts, first, second))
        over, over1, over2 = (
            xp.flip(xp.cumulative_sum(xp.flip(m, axis=-1), axis=-1, include_initial=True), axis=-1)
            for m in (counts, first, second)
        )
        # with k demands below u = z - centre, the derivative is a0 + a1 u + a2 u^2; all (R, M + 1)
        a0 = self.order + self.order_growth * centre + self.holding * under - self.shortage * over
        a0 = a0 + self.holding_growth * under2 - self.shortage_growth * over2
        a1 = self.order_growth + 2 * (self.shortage_growth * over1 - self.holding_growth * under1)
        a2 = self.holding_growth * under - self.shortage_growth * over
        right = a0[:, 1:] + (a1[:, 1:] + a2[:, 1:] * x) * x  # derivative right of each demand: increasing
        below = (right < 0).sum(-1)[:, None]
        c0, c1, c2 = entries(below, a0, a1, a2)
        # the zero on the increasing side; a derivative that is constant there sends it to an end of the interval
        steepness = c1 + xp.clip(c1**2 - 4 * c2 * c0, 0, None) ** 0.5
        level = steepness <= 0
        u = xp.where(level, -_HUGE * xp.sign(c0), -2 * c0 / xp.where(level, xp.ones_like(c0), steepness))
        last = y.shape[1] - 1
        previous, demand = entries(xp.clip(below - 1, 0, None), y)[0], entries(xp.clip(below, None, last), y)[0]
        z = centre + u
        z = xp.where(below > 0, xp.maximum(z, previous), z)
        return xp.where(below <= last, xp.minimum(z, demand), z)

    def adjoint(self, scenarios: Array, decisions: Array, cotangent: Array, weights: Array | None = None) -> Adjoint:
        """Closed-form sensitivities of the scenario decision.

        An order at a bound does not move. One that equals a demand is pinned there, because the derivative of the
        cost jumps, and moves one to one with it; with several equal demands, with their mean. Elsewhere the implicit
        function theorem gives dz/dy_m. The score weights use the curvature of the population, the smooth part plus
        shortage plus holding times a Gaussian kernel estimate (Silverman's bandwidth) of the density at the order,
        since a finite sample has no curvature at its kinks.
        """
        self.check_scenarios(scenarios, weights)
        rounding = float(namespace(decisions).finfo(decisions.dtype).eps)
        rows = max(1, _CHUNK // scenarios.shape[1])

        def chunk(*arrays: Array) -> Adjoint:
            return self._adjoint(rounding, *arrays)

        return on_numpy(
            in_double(lambda *arrays: in_chunks(chunk, rows, *arrays)), scenarios, decisions, cotangent, weights
        )

    def _adjoint(self, rounding: float, scenarios: Array, z: Array, cotangent: Array, weights: Array | None) -> Adjoint:
        xp = namespace(scenarios)
        y, mass = scenarios[..., 0], masses(scenarios, weights)
        inside = (z > 0) & (z < self.capacity)
        pull = xp.where(inside, cotangent, xp.zeros_like(cotangent))
        left = z - y
        none, tiny = xp.zeros_like(y), constant(_TINY, y)
        hit = xp.where(xp.abs(left) <= 4 * rounding * xp.abs(z), mass + none, none)
        hits = hit.sum(-1)[:, None]
        growth = xp.where(left > 0, none + self.holding_growth, none - self.shortage_growth)
        curve = 2 * mass * growth * left  # d2 cost / dz2 of each demand, not negative
        curvature = self.order_growth + curve.sum(-1)[:, None]
        moves = xp.where(hits > 0, hit / xp.maximum(hits, tiny), curve / xp.maximum(curvature, tiny))
        # score weights
        kernel = density(scenarios, z, mass)
        multiplier = pull / xp.maximum(curvature + (self.shortage + self.holding) * kernel, tiny)
        jump = xp.where(left > 0, none + self.holding, none - self.shortage)
        marginal = self.order + self.order_growth * z + growth * left**2 + jump
        # at a demand that is met, the subgradient that makes the average zero
        rest = (mass * xp.where(hit > 0, none, marginal)).sum(-1)[:, None]
        fair = -rest / xp.where(hits > 0, hits, xp.ones_like(hits))
        marginal = xp.where((hit > 0) & inside, fair + none, marginal)
        return Adjoint(multiplier, (moves * pull)[..., None], -multiplier * marginal)
