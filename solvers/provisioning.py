"""LLM resource provisioning: how much capacity to hold for a workload that is not known yet."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from .arrays import Array, beyond, constant, density, in_chunks, kind, largest, namespace, on_numpy, pick_rows, total
from .base import Adjoint, BoxProblem, ProblemError, check_not_negative

#: Elements of the largest temporary array in the solver (8 bytes each): bounds its memory to some 100 MB.
_CHUNK = 2**21
#: Parts into which a range of kinks is cut at each level of the search.
_BRANCH = 8
_TINY = 1e-30


class Provisioning(BoxProblem):
    """Utility of served tokens minus the price of energy, per slot and in units of the capacity.

    ========================  =======================================  =============================
    3D-Learning, Sec. V-A     here                                     default
    ========================  =======================================  =============================
    c_i                       outcome: workload / capacity             —
    a_i                       decision: share of the capacity held     in [``low``, ``high``]
    N                         ``horizon``                              1
    A, B of s(r)              ``curvature``, ``utility``               20, 0.2
    omega                     ``pue``                                  1.1
    P_act, P_idle             ``active_energy``, ``idle_energy``       1.6, 0.56 kWh per full slot
    gamma                     ``energy_price``                         0.34 utility per kWh
    ========================  =======================================  =============================

    cost(c, a) = -sum_i [ B ln(A m_i / c_i + 1) c_i - gamma omega (P_act m_i + P_idle (a_i - m_i)) ] with
    m = min(a, c) (equations 14 to 16, negated). The paper's energies per token are meant per 4e5 tokens; per
    token the energy term would be 4e5 times too small and the best decision always ``high``.

    With the paper's constants the scenario average is **not** concave: the slope jumps up by
    delta = gamma omega (P_act - P_idle) - A B / (A + 1) = 0.198 where the capacity passes a scenario. Between two
    scenarios it is concave, so :meth:`solve` finds every interval that can hold a maximum and compares them.

    Parameters
    ----------
    horizon : int
        Slots decided at once; outcome and decision have this many columns.
    utility, curvature, energy_price, pue, active_energy, idle_energy : float
        See the table.
    low, high : float
        Bounds of the capacity share.
    service_ratio : float
        A slot with a < service_ratio * c breaks the ``service`` family by the missing share.
    switching_cost : float
        Price per unit of |a_i - a_{i-1}|. Scenario decisions ignore it; the cost and the oracle do not.

    Raises
    ------
    ProblemError
        For a parameter outside its range.

    Examples
    --------
    >>> problem = Provisioning()
    >>> round(problem.clairvoyant_ratio, 5)
    0.28422
    >>> workload = np.array([[0.5], [0.0]])
    >>> problem.perfect(workload).round(4).tolist()
    [[0.1421], [0.0]]
    """

    outcome_low = 0.0
    soft_families = ("service",)

    def __init__(
        self,
        horizon: int = 1,
        utility: float = 0.2,
        curvature: float = 20.0,
        energy_price: float = 0.34,
        pue: float = 1.1,
        active_energy: float = 1.6,
        idle_energy: float = 0.56,
        low: float = 0.0,
        high: float = 1.0,
        service_ratio: float = 0.2,
        switching_cost: float = 0.0,
    ) -> None:
        positive = {"horizon": horizon, "utility": utility, "curvature": curvature, "energy_price": energy_price}
        positive |= {"pue": pue, "active_energy": active_energy, "idle_energy": idle_energy}
        for name, value in positive.items():
            if not (np.isfinite(value) and value > 0):
                raise ProblemError(f"{name} is {value}: give a positive number")
        check_not_negative(service_ratio=service_ratio, switching_cost=switching_cost)
        if not 0 <= low < high < np.inf:
            raise ProblemError(f"low, high are {low}, {high}: give 0 <= low < high")
        self._parameters = {**positive, "low": low, "high": high, "service_ratio": service_ratio}
        self._parameters["switching_cost"] = switching_cost
        self.horizon = self.outcome_dim = self.decision_dim = int(horizon)
        self.utility, self.curvature = utility, curvature
        self.active_cost = energy_price * pue * active_energy
        self.idle_cost = energy_price * pue * idle_energy
        self.low, self.high = np.full(horizon, float(low)), np.full(horizon, float(high))
        self._bounds = float(low), float(high)
        self.service_ratio, self.switching_cost = service_ratio, switching_cost
        self.stateful = switching_cost > 0
        self.units = {"bounds": "share of capacity", "service": "share of capacity"}

    def parameters(self) -> dict[str, Any]:
        """The constructor's keywords."""
        return dict(self._parameters)

    @cached_property
    def clairvoyant_ratio(self) -> float:
        """r* = a*/c for a known workload, before clipping to the bounds."""
        ratio = (self.utility * self.curvature / self.active_cost - 1) / self.curvature
        return min(max(ratio, 0.0), 1.0)

    @cached_property
    def kink(self) -> float:
        """delta, the jump of the marginal net utility where the capacity passes a workload."""
        return self.active_cost - self.idle_cost - self.utility * self.curvature / (self.curvature + 1)

    # ------------------------------------------------------------------ what a decision costs
    def net_utility(self, workload: Array, capacity: Array) -> Array:
        """Net utility of each slot (equation 16 without the sum), elementwise."""
        return -self._slot_cost(workload, capacity)

    def _slot_cost(self, workload: Array, capacity: Array) -> Array:
        xp = namespace(workload)
        served = xp.minimum(capacity, workload)
        per_token = xp.log1p(self.curvature * served / (workload + _TINY))  # an idle slot divides 0 by _TINY
        energy = (self.active_cost - self.idle_cost) * served + self.idle_cost * capacity
        return energy - self.utility * workload * per_token

    def cost(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """Minus the net utility, plus the price of switching from ``previous``; shape (...)."""
        value = total(self._slot_cost(outcomes, decisions))
        if self.stateful:
            value = value + self.switching_cost * self._switched(decisions, previous)
        return value

    def _switched(self, decisions: Array, previous: Array | None) -> Array:
        xp = namespace(decisions)
        if isinstance(decisions, float):
            return 0.0 if previous is None or previous != previous else abs(decisions - previous)
        inner = total(xp.abs(decisions[..., 1:] - decisions[..., :-1]))
        if previous is None:
            return inner
        first = xp.abs(decisions[..., 0] - previous[..., -1])
        return inner + xp.where(xp.isnan(first), xp.zeros_like(first), first)

    def perfect(self, outcomes: Array, previous: Array | None = None) -> Array:
        """r* c clipped to the bounds; with a switching cost, the best reply to ``previous``.

        With several slots at once the switching cost is charged slot after slot, each reply given the one before.
        """
        if not self.stateful or previous is None:
            return self.project(outcomes * self.clairvoyant_ratio)
        if isinstance(outcomes, float):
            reply = self._reply(np.array([outcomes]), np.array([previous]))
            return float(reply[0])
        xp = namespace(outcomes)
        replies, last = [], previous[..., -1]
        for slot in range(self.horizon):
            last = self._reply(outcomes[..., slot], last)
            replies.append(last)
        return xp.stack(replies, axis=-1)

    def _reply(self, workload: Array, previous: Array) -> Array:
        """Best capacity for a known workload (...,) given the previous one (NaN: none).

        Staying, the two points where the marginal equals plus or minus the switching cost, the workload itself
        (a convex kink of the net utility is still a place to stop when switching down) and the bounds are the only
        candidates, because the objective is monotone between them.
        """
        xp = namespace(workload)
        low, high = self._bounds
        top = self.utility * self.curvature

        def ratio(price: float) -> float:
            return min(max((top / price - 1) / self.curvature, 0.0), 1.0) if price > 0 else 1.0

        free = xp.isnan(previous)
        start = xp.where(free, workload * self.clairvoyant_ratio, previous)
        shares = [ratio(self.active_cost + self.switching_cost), ratio(self.active_cost - self.switching_cost), 1.0]
        candidates = xp.stack(
            [start, *(workload * share for share in shares), 0 * workload, 0 * workload + high], axis=-1
        )
        candidates = xp.clip(candidates, low, high)
        price = xp.where(free, xp.zeros_like(workload), xp.zeros_like(workload) + self.switching_cost)
        value = self.net_utility(workload[..., None], candidates)
        value = value - price[..., None] * xp.abs(candidates - start[..., None])
        best = xp.argmax(value, axis=-1)
        return xp.take_along_axis(candidates, best[..., None], axis=-1)[..., 0]

    # ------------------------------------------------------------------ constraints
    def project(self, decisions: Array) -> Array:
        """Clip to the bounds."""
        if isinstance(decisions, float):
            low, high = self._bounds
            return low if decisions < low else min(decisions, high)
        xp = namespace(decisions)
        low, high = self.box(decisions)
        return xp.minimum(xp.maximum(decisions, low), high)

    def enough(self, outcomes: Array) -> Array:
        """Least capacities (..., d) without ``service`` shortfall for these workloads, and for all below them."""
        return self.project(self.service_ratio * outcomes)

    def shortfall(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> dict[str, Array]:
        """``service``: the largest r_min c - a over the slots, where positive."""
        return {"service": largest(beyond(self.service_ratio * outcomes - decisions, self.tolerance))}

    # ------------------------------------------------------------------ the scenario problem
    def solve(self, scenarios: Array, weights: Array | None = None) -> Array:
        """Exact maximisers of the scenario average, slot by slot; memory O(B M N) plus a bounded chunk.

        Time is O(B N M log M) for a sort and a search over the kinks that looks at _BRANCH of them per level;
        where the average is not concave, only ranges whose marginal may change sign are looked into.
        """
        self.check_scenarios(scenarios, weights)
        return on_numpy(self._solve, scenarios, weights)

    def _solve(self, scenarios: Array, weights: Array | None) -> Array:
        xp = namespace(scenarios)
        contexts, count, slots = scenarios.shape
        samples = xp.reshape(xp.permute_dims(scenarios, (0, 2, 1)), (contexts * slots, count))
        if weights is None:
            samples = xp.sort(samples, axis=-1)
            mass = xp.ones_like(samples[:1]) / count
        else:
            order = xp.argsort(samples, axis=-1)
            samples = xp.take_along_axis(samples, order, axis=-1)
            mass = (weights / weights.sum(-1)[:, None])[:, None, :]
            mass = xp.reshape(xp.broadcast_to(mass, (contexts, slots, count)), (contexts * slots, count))
            mass = xp.take_along_axis(mass, order, axis=-1)
        rows = max(1, _CHUNK // ((_BRANCH + 1) * count))
        parts = [
            self._solve_rows(samples[i : i + rows], mass if len(mass) == 1 else mass[i : i + rows])
            for i in range(0, len(samples), rows)
        ]
        best = xp.concat(parts, axis=0) if parts else samples[:, 0]
        return xp.reshape(best, (contexts, slots))

    def _solve_rows(self, c: Array, w: Array) -> Array:
        """Best capacity (R,) for sorted workloads c (R, M) with masses w (R or 1, M) that sum to one."""
        xp = namespace(c)
        low, high = self._bounds
        edge = xp.zeros_like(c[:, :1])
        kinks = xp.concat((edge + low, xp.clip(c, low, high), edge + high), axis=-1)  # (R, M + 2)
        below = xp.cumulative_sum(w, axis=-1, include_initial=True)  # mass under interval i, (R or 1, M + 1)
        row, interval = self._peaks(c, w, kinks, below)
        peak = self._stationary(c[row], pick_rows(w, row), kinks[row, interval], kinks[row, interval + 1], interval)
        # the bounds are candidates in every row; the peaks of a row stand beside them in a padded table
        position = xp.arange(len(row), **kind(row)) - xp.searchsorted(row, row)
        width = 2 + (int(xp.max(position)) + 1 if len(row) else 0)
        candidates = xp.concat((edge + low, edge + high, xp.zeros((len(c), width - 2), **kind(c)) + low), axis=-1)
        candidates[row, position + 2] = peak
        value = xp.stack([(self.net_utility(c, a[:, None]) * w).sum(-1) for a in candidates.T], axis=-1)
        best = xp.argmax(value, axis=-1)
        return xp.take_along_axis(candidates, best[:, None], axis=-1)[:, 0]

    def _peaks(self, c: Array, w: Array, kinks: Array, below: Array) -> tuple[Array, Array]:
        """(row, interval) of every interval between neighbouring kinks in which the marginal may cross zero.

        The marginal is phi(a) = u(a) - active_cost + delta F(a), with u continuous and decreasing and F the
        distribution function of the scenarios. Over a range of intervals that bounds it from both sides by its
        values at the ends, so ranges without a sign change are dropped and the others cut into _BRANCH parts.
        """
        xp = namespace(c)
        count = c.shape[1]
        below = xp.concat((below, below[:, -1:]), axis=-1)
        row = xp.arange(len(c), **kind(xp.argmax(c, axis=-1)))
        first, last = 0 * row, 0 * row + count + 1
        parts = xp.arange(_BRANCH + 1, **kind(row))
        while len(row) and int(xp.max(last - first)) >= 1:
            cuts = first[:, None] + ((last - first)[:, None] * parts) // _BRANCH
            place = kinks[row[:, None], cuts]  # (P, _BRANCH + 1)
            samples = xp.maximum(c[row], constant(_TINY, c))[:, None, :]
            slope = samples / (self.curvature * xp.minimum(place[:, :, None], samples) + samples)
            u = self.utility * self.curvature * (slope * pick_rows(w, row)[:, None, :]).sum(-1) - self.active_cost
            jump = self.kink * below[row[:, None] if len(below) > 1 else 0 * row[:, None], cuts]
            most = u[:, :-1] + xp.maximum(jump[:, :-1], jump[:, 1:])
            least = u[:, 1:] + xp.minimum(jump[:, :-1], jump[:, 1:])
            kept = (most >= 0) & (least <= 0) & (cuts[:, 1:] > cuts[:, :-1])
            done = bool(xp.all(last - first <= _BRANCH))
            pair, part = xp.nonzero(kept)
            row, first, last = row[pair], cuts[pair, part], cuts[pair, part + 1]
            if done:
                break
        return row, first

    def _stationary(self, c: Array, w: Array, left: Array, right: Array, interval: Array) -> Array:
        """Maximiser (P,) within [left, right], where exactly the scenarios from ``interval`` on exceed it.

        Newton's method on 1/h = 1/K, with h(a) the mean marginal utility of the scenarios above and K the mean
        energy price: 1/h is concave and increasing, so the steps from the left end never pass the root, and exact
        in one step for a single scenario.
        """
        xp = namespace(c)
        above = xp.arange(c.shape[1], **kind(interval)) >= interval[:, None]
        active = xp.where(above, w * c, xp.zeros_like(c)) * (self.utility * self.curvature)
        mass = xp.where(above, w + 0 * c, xp.zeros_like(c)).sum(-1)
        price = self.active_cost * mass + self.idle_cost * (1 - mass)
        a = left
        for _ in range(60):
            reciprocal = 1 / xp.maximum(self.curvature * a[:, None] + c, constant(_TINY, c))
            terms = active * reciprocal
            h = terms.sum(-1)
            slope = self.curvature * (terms * reciprocal).sum(-1)
            step = h * (h / price - 1) / xp.maximum(slope, constant(_TINY, c))
            new = xp.clip(a + xp.maximum(step, xp.zeros_like(step)), left, right)
            moved = xp.abs(new - a)
            a = new
            if not bool(xp.any(moved > 4 * xp.finfo(c.dtype).eps * a)):
                break
        return a

    def adjoint(self, scenarios: Array, decisions: Array, cotangent: Array, weights: Array | None = None) -> Adjoint:
        """Closed-form sensitivities of the scenario decision.

        A decision at a bound does not move. One pinned at a workload (only possible where delta < 0) moves one to
        one with it. Elsewhere the implicit function theorem gives da/dc_m. The score weights use the curvature of
        the population, smooth part plus delta times a Gaussian kernel estimate (Silverman's bandwidth) of the
        density at the decision, since a finite sample has no curvature at its kinks.
        """
        self.check_scenarios(scenarios, weights)
        rows = max(1, _CHUNK // (scenarios.shape[1] * self.horizon))

        def chunks(*arrays: Array) -> Adjoint:
            return in_chunks(self._adjoint, rows, *arrays)

        return on_numpy(chunks, scenarios, decisions, cotangent, weights)

    def _adjoint(self, c: Array, decisions: Array, cotangent: Array, weights: Array | None) -> Adjoint:
        xp = namespace(c)
        a = decisions[:, None, :]
        mass = (
            xp.ones_like(c[:, :, :1]) / c.shape[1]
            if weights is None
            else (weights / weights.sum(-1)[:, None])[..., None]
        )
        low, high = self.box(c)
        inside = (decisions > low) & (decisions < high)
        pull = xp.where(inside, cotangent, xp.zeros_like(cotangent))
        above = c > a
        root = 1 / xp.maximum(self.curvature * a + c, constant(_TINY, c))
        gain = self.curvature**2 * self.utility * xp.where(above, mass * root**2, xp.zeros_like(c))
        curvature = xp.maximum((gain * c).sum(1), constant(_TINY, c))  # (B, N), positive
        hit = xp.where(xp.abs(c - a) <= 8 * xp.finfo(c.dtype).eps * a, mass + 0 * c, xp.zeros_like(c))
        pinned = (hit.sum(1) > 0) & inside
        moves = xp.where(
            pinned[:, None], hit / xp.maximum(hit.sum(1), constant(_TINY, c))[:, None], gain * a / curvature[:, None]
        )
        # score weights
        smooth = xp.maximum(curvature - self.kink * density(c, decisions, mass[..., 0]), 0.1 * curvature)
        multiplier = pull / smooth
        marginal = self.utility * self.curvature * c * root - self.active_cost
        marginal = xp.where(above, marginal, xp.zeros_like(c) - self.idle_cost)
        # at a hit scenario the subgradient that makes the average zero
        rest = (mass * xp.where(hit > 0, xp.zeros_like(c), marginal)).sum(1)
        fair = -rest / xp.maximum(hit.sum(1), constant(_TINY, c))
        marginal = xp.where((hit > 0) & pinned[:, None], fair[:, None] + 0 * c, marginal)
        score = total(multiplier[:, None] * marginal)
        return Adjoint(multiplier, moves * pull[:, None], score)
