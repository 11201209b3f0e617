"""Power scheduling: how much to generate in each hour of a day whose load is not known yet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import sub
from typing import Any

import numpy as np

from .arrays import (
    Array,
    beyond,
    density,
    in_chunks,
    in_double,
    inner,
    kind,
    largest,
    masses,
    namespace,
    nothing,
    on_numpy,
    smallest,
    total,
)
from .base import Adjoint, DecisionProblem, ProblemError, check_not_negative
from .ramp_projection import nearest
from .ramps import minimise

#: Elements of the largest temporary array in the solver (8 bytes each): bounds its memory to some 300 MB.
_CHUNK = 2**21


class PowerScheduling(DecisionProblem):
    """Price of generating too little or too much in each hour, with a limit on the change from hour to hour.

    ==========================  =============================================  ===========================
    Diffusion-DFL, Section 5    here                                           default
    ==========================  =============================================  ===========================
    y                           outcome: load of each hour                     —
    z                           decision: generation in each hour              in [``low``, ``high``]
    gamma_s, gamma_e            ``shortage``, ``excess``                       50, 0.5
    c_r                         ``ramp``                                       0.4
    ==========================  =============================================  ===========================

    cost(y, z) = sum_i shortage [y_i - z_i]+ + excess [z_i - y_i]+ + (z_i - y_i)^2 / 2 subject to
    |z_i - z_{i-1}| <= ramp. Loads and decisions are in the unit of the data (the paper's are GW), prices per unit.

    :meth:`solve` is exact and finite; see :mod:`shiftgym.solvers.ramps`. Time is O(B n M log M) for a sort, and a
    dynamic programme over the hours for the contexts whose hours do not separate; memory O(B n) plus a bounded chunk.

    Parameters
    ----------
    hours : int
        Hours of a day, at least 2.
    shortage, excess : float
        Prices per unit of missing and of surplus generation; not negative.
    ramp : float
        Largest change from one hour to the next.
    low, high : float
        Bounds of the generation in every hour; infinite for none.

    Raises
    ------
    ProblemError
        For a parameter outside its range.

    Examples
    --------
    >>> problem = PowerScheduling(hours=3)
    >>> problem.perfect(np.array([[1.0, 1.2, 2.0]])).round(3).tolist()
    [[1.2, 1.6, 2.0]]
    """

    soft_families = ()

    def __init__(
        self,
        hours: int = 24,
        shortage: float = 50.0,
        excess: float = 0.5,
        ramp: float = 0.4,
        low: float = 0.0,
        high: float = np.inf,
    ) -> None:
        if hours != int(hours) or hours < 2:
            raise ProblemError(f"hours is {hours}: give a whole number of at least 2")
        check_not_negative(shortage=shortage, excess=excess, ramp=ramp)
        if not low < high:
            raise ProblemError(f"low, high are {low}, {high}: give low < high")
        self._parameters = {"hours": int(hours), "shortage": shortage, "excess": excess, "ramp": ramp}
        self._parameters |= {"low": low, "high": high}
        self.hours = self.outcome_dim = self.decision_dim = int(hours)
        self.shortage, self.excess_price, self.ramp = float(shortage), float(excess), float(ramp)
        self.low, self.high = np.full(self.hours, float(low)), np.full(self.hours, float(high))
        self._bounds = float(low), float(high)
        # a surplus costs half + mean = excess, what is missing half - mean = shortage
        self._prices = (self.excess_price - self.shortage) / 2, (self.excess_price + self.shortage) / 2
        boxed = low > -np.inf or high < np.inf
        self.hard_families = ("ramp", "bounds") if boxed else ("ramp",)
        self.units = dict.fromkeys(self.hard_families, "unit of the load")

    def parameters(self) -> dict[str, Any]:
        """The constructor's keywords."""
        return dict(self._parameters)

    # ------------------------------------------------------------------ what a decision costs
    def cost(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """Sum over the hours; shape (...)."""
        surplus = decisions - outcomes
        mean, half = self._prices
        return 0.5 * inner(surplus, surplus) + mean * total(surplus) + half * total(abs(surplus))

    def perfect(self, outcomes: Array, previous: Array | None = None) -> Array:
        """The cheapest feasible generation for a known load, which is the load itself where it is feasible."""
        xp = namespace(outcomes)
        best = self.solve(xp.reshape(outcomes, (-1, 1, self.hours)))
        return xp.reshape(best, outcomes.shape)

    # ------------------------------------------------------------------ constraints
    def project(self, decisions: Array) -> Array:
        """Nearest feasible decisions in the Euclidean norm, exact; feasible ones come back as they are.

        A request that breaks a limit by no more than the tolerance counts as feasible.
        """
        if self._feasible(decisions):
            return decisions
        xp = namespace(decisions)
        if decisions.ndim == 1:
            return on_numpy(in_double(self._project), decisions[None])[0]
        found = xp.reshape(decisions, (-1, self.hours)) + 0.0
        rows = xp.nonzero(self._broken(found))[0]
        found[rows] = on_numpy(in_double(self._project), found[rows])
        return xp.reshape(found, decisions.shape)

    def _feasible(self, decisions: Array) -> bool:
        """Whether no limit is broken anywhere, from three numbers of the whole array."""
        if 0 in decisions.shape:
            return True
        low, high = self._bounds
        slack = self._slack(decisions)
        if decisions.ndim == 1:
            day = decisions.tolist()  # Python takes less than half the time of NumPy for one day
            steep, top, bottom = max(map(abs, map(sub, day[1:], day))), max(day), min(day)
        else:
            flat = decisions.reshape(-1)  # one long subtraction is several times faster than one per day
            change = abs(flat[1:] - flat[:-1])
            change[self.hours - 1 :: self.hours] = 0.0  # from one day to the next there is no limit
            steep, top, bottom = largest(change), largest(flat), smallest(flat)
        return bool(steep <= self.ramp + slack and top <= high + slack and bottom >= low - slack)

    def _broken(self, decisions: Array) -> Array:
        """In which rows (R,) a limit is broken."""
        low, high = self._bounds
        slack = self._slack(decisions)
        broken = _steepest(decisions) > self.ramp + slack
        return broken | (smallest(decisions) < low - slack) | (largest(decisions) > high + slack)

    def _slack(self, decisions: Array) -> float:
        """What still counts as keeping a limit: the tolerance, and in float32 what rounding may do."""
        if decisions.itemsize == 8:
            return self.tolerance
        xp = namespace(decisions)
        return self.tolerance + 2 * float(xp.finfo(decisions.dtype).eps) * float(xp.max(xp.abs(decisions)))

    def _project(self, decisions: Array) -> Array:
        """Nearest feasible rows (R, n); on a GPU, minimise with one sample that does not count."""
        if isinstance(decisions, np.ndarray):
            return nearest(decisions, *self._bounds, self.ramp)
        xp = namespace(decisions)
        level = xp.zeros((1, 1, 2), **kind(decisions))
        return in_chunks(
            lambda part: minimise(part[..., None], level, part, *self._bounds, self.ramp),
            _CHUNK // (4 * self.hours**2),
            decisions,
        )

    def excess(self, decisions: Array, feasible: Array) -> dict[str, Array]:
        """``ramp``: the largest change beyond the limit; ``bounds``: the largest distance outside [low, high]."""
        if feasible is decisions:
            return {family: nothing(decisions) for family in self.hard_families}
        low, high = self._bounds
        magnitudes = {"ramp": beyond(_steepest(decisions) - self.ramp, self.tolerance)}
        sides = []
        if low > -np.inf:
            sides.append(beyond(low - smallest(decisions), self.tolerance))
        if high < np.inf:
            sides.append(beyond(largest(decisions) - high, self.tolerance))
        if sides:
            magnitudes["bounds"] = sides[0] if len(sides) == 1 else namespace(sides[0]).maximum(*sides)
        return magnitudes

    # ------------------------------------------------------------------ the scenario problem
    def solve(self, scenarios: Array, weights: Array | None = None) -> Array:
        """Exact minimisers (B, hours) of the scenario average; float32 scenarios are worked on in float64."""
        self.check_scenarios(scenarios, weights)
        return on_numpy(in_double(self._solve), scenarios, weights)

    def _rows(self, scenarios: Array) -> int:
        """Contexts in a chunk."""
        return max(1, _CHUNK // (self.hours * max(scenarios.shape[1], self.hours)))

    def _solve(self, scenarios: Array, weights: Array | None) -> Array:
        return in_chunks(self._solve_rows, self._rows(scenarios), scenarios, weights)

    def _solve_rows(self, scenarios: Array, weights: Array | None) -> Array:
        xp = namespace(scenarios)
        samples = xp.permute_dims(scenarios, (0, 2, 1))  # (R, n, M)
        mass = masses(scenarios, weights)[:, None, :]
        centre = (mass * samples).sum(-1) + self.shortage
        if weights is None:
            samples = xp.sort(samples, axis=-1)
        else:
            order = xp.argsort(samples, axis=-1)
            samples = xp.take_along_axis(samples, order, axis=-1)
            mass = xp.take_along_axis(xp.broadcast_to(mass, samples.shape), order, axis=-1)
        rise = (self.shortage + self.excess_price) * xp.cumulative_sum(mass, axis=-1, include_initial=True)
        return minimise(samples, rise, centre, *self._bounds, self.ramp)

    def adjoint(self, scenarios: Array, decisions: Array, cotangent: Array, weights: Array | None = None) -> Adjoint:
        """Closed-form sensitivities of the scenario decision.

        Hours whose changes are at the ramp limit form a block, which moves as one. A block with an hour at a bound
        does not move. One with an hour pinned at a scenario moves one to one with it, and with several (duplicates,
        or a coincidence) with their mean, weighted as the scenarios are. A free block moves with the mean of its
        scenarios over its hours. A ramp at its limit without force counts as tied, and a scenario met without force
        as pinned: at such kinks of the decision itself this picks one of its one-sided derivatives.

        The score weights use the curvature of the population, 1 plus shortage plus excess times a Gaussian kernel
        estimate (Silverman's bandwidth) of the density at the decision, added up over the hours of a block, since a
        finite sample has no curvature at its kinks.
        """
        return self._derive(self._adjoint, scenarios, decisions, cotangent, weights)

    def pullback(self, scenarios: Array, decisions: Array, cotangent: Array, weights: Array | None = None) -> Array:
        """The gradient (B, M, hours) of :meth:`adjoint` alone, which needs no kernel estimate."""
        return self._derive(lambda *arrays: self._moves(*arrays)[0], scenarios, decisions, cotangent, weights)

    def _derive(self, rule: Callable[..., Any], scenarios: Array, decisions: Array, *others: Array) -> Any:
        """Apply a rule in chunks and in float64; its first argument is how coarse the decisions are rounded."""
        self.check_scenarios(scenarios, others[-1])
        rounding = float(namespace(decisions).finfo(decisions.dtype).eps)

        def chunks(*arrays: Array) -> Any:
            return in_chunks(partial(rule, rounding), self._rows(scenarios), *arrays)

        return on_numpy(in_double(chunks), scenarios, decisions, *others)

    def _moves(self, rounding: float, y: Array, decisions: Array, cotangent: Array, weights: Array | None) -> Any:
        """The gradient, and what else it takes to get there that the score weights need."""
        xp = namespace(y)
        low, high = self._bounds
        mass = masses(y, weights)[..., None]  # (R or 1, M, 1)
        # what the rounding of the decision, and of the sums of ramps it came from, may hide
        inner = float(xp.finfo(y.dtype).eps)
        size = xp.max(xp.abs(decisions), axis=-1)[:, None] + self.ramp
        slack = (2 * rounding + 4 * self.hours * inner) * size
        tied = xp.abs(decisions[:, 1:] - decisions[:, :-1]) >= self.ramp - slack
        block = xp.cumulative_sum(xp.astype(~tied, y.dtype), axis=-1, include_initial=True)
        same = xp.astype(block[:, :, None] == block[:, None, :], y.dtype)  # (R, n, n)

        def gather(hourly: Array) -> Array:
            """Sum over the block of each hour."""
            return xp.matmul(same, hourly[..., None])[..., 0]

        held = gather(xp.astype((decisions <= low + slack) | (decisions >= high - slack), y.dtype)) > 0
        pull = xp.where(held, xp.zeros_like(cotangent), gather(cotangent))
        surplus = decisions[:, None] - y
        hit = xp.where(xp.abs(surplus) <= slack[:, None], mass + 0 * y, xp.zeros_like(y))
        hits = gather(hit.sum(1))
        pinned = hits > 0
        count = xp.where(pinned, hits, gather(xp.ones_like(hits)))
        share = xp.where(pinned[:, None], hit, mass + 0 * y)
        return share * (pull / count)[:, None], mass, gather, pull, surplus, hit, hits

    def _adjoint(self, rounding: float, y: Array, decisions: Array, cotangent: Array, weights: Array | None) -> Adjoint:
        xp = namespace(y)
        moves, mass, gather, pull, surplus, hit, hits = self._moves(rounding, y, decisions, cotangent, weights)
        prices = self.shortage + self.excess_price
        multiplier = pull / gather(1 + prices * density(y, decisions, mass[..., 0]))
        jump = xp.where(surplus > 0, 0 * y + self.excess_price, 0 * y - self.shortage)
        jump = xp.where(hit > 0, xp.zeros_like(y), jump)
        # at a scenario that is met, the subgradient that makes the average over the block zero
        rest = gather((mass * (surplus + jump)).sum(1))
        fair = -rest / xp.where(hits > 0, hits, xp.ones_like(hits))
        marginal = surplus + xp.where(hit > 0, fair[:, None] + 0 * y, jump)
        return Adjoint(multiplier, moves, -(multiplier[:, None] * marginal).sum(-1))


def _steepest(decisions: Array) -> Array:
    """Largest change (...) from one hour to the next."""
    return largest(abs(decisions[..., 1:] - decisions[..., :-1]))
