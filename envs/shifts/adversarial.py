"""Adversarial: the change that hurts one given agent most, within a budget."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ...data.trace import Trace
from .base import SingleShift, TraceShift, Values
from .parameters import ShiftError, parameter
from .registry import register

#: Losses of blocks (n,) in which the outcomes are those given (n, block, D).
BlockLosses = Callable[[Values], Values]


class Opponent(Protocol):
    """The agent that an adversarial shift is against: a black box, which is shown traces and loses on them."""

    def losses(self, traces: Sequence[Trace], toward: str) -> Values:
        """What it loses at every slot of every trace, (N, T): the loss of a decision is that of its first slot.

        Parameters
        ----------
        traces : sequence of Trace
            N of them, of one length T; the same ones give the same losses.
        toward : {"regret", "cost"}
            What counts as a loss.
        """
        ...

    def reach(self, trace: Trace) -> tuple[int, int]:
        """How many slots before and after a slot the losses lie that its outcome has a part in."""
        ...

    def worst_blocks(self, blocks: Values, losses: BlockLosses, budget: float, rounds: int, seed: int) -> Values:
        """Draw blocks (n, block, D) from the diffusion model that hurts most, J(theta) - J(theta_0) <= budget."""
        ...


@dataclass(frozen=True, kw_only=True)
class AdversarialShift(TraceShift):
    """Base of the shifts that are made against an agent: bound to it by ``against``, they can be applied."""

    opponent: ClassVar[Opponent | None] = None

    toward: str = parameter(
        "regret", kind="choice", choices=("regret", "cost"), doc="what the agent is made to lose: 'regret' or 'cost'"
    )

    def against(self, opponent: Opponent) -> AdversarialShift:  # noqa: D102
        bound = copy.copy(self)
        object.__setattr__(bound, "opponent", opponent)
        return bound

    def effective(self) -> SingleShift:  # noqa: D102
        found = copy.copy(super().effective())
        object.__setattr__(found, "opponent", self.opponent)  # scaling makes a new shift, which is against nobody
        return found

    def transform(self, trace: Trace, rng: np.random.Generator) -> Trace:  # noqa: D102
        if self.opponent is None:
            raise ShiftError(
                f"shift {self.name!r} needs an agent that it is against: evaluate one under it, as in "
                f'shiftgym run --agents persistence --shifts "{self}", or bind it with shift.against(opponent)'
            )
        return self.attack(trace, rng, self.opponent)

    @abstractmethod
    def attack(self, trace: Trace, rng: np.random.Generator, opponent: Opponent) -> Trace:
        """Return the trace as it hurts most; the base restores what lies before the onset."""

    def moved(self, trace: Trace, outcome: Values) -> Trace:
        """The trace with other outcomes, and readings that moved as far as these; neither under the least outcome."""
        outcome = np.maximum(outcome, trace.outcome_low)
        readings = np.maximum(trace.observed + (outcome - trace.outcome), trace.outcome_low)
        same = np.array_equal(trace.observed, trace.outcome)
        return trace.replace(outcome=outcome, observed=outcome if same else readings, requests=None)


@register("wasserstein-ball", family="adversarial", source="Staib and Jegelka (2017), the adversary of W-DRO")
@dataclass(frozen=True, kw_only=True)
class WassersteinBall(AdversarialShift):
    """Outcomes moved to where they hurt the agent most, within a Wasserstein ball that all slots share.

    The mean loss is maximised over perturbations with mean_t ||delta_t||^2 <= budget^2, in standard deviations of
    each column. Every step goes to the point of the ball that is furthest along the slope of the loss: what an agent
    loses is mostly convex in the outcomes, so its maximum lies on the ball's surface. The worst trace met is kept,
    be it the one before the shift.

    The slope of a black box is measured by opposite moves of all slots at once (simultaneous perturbation; Spall,
    1992). Each slot answers only for the losses within its reach, and the signs of the slots within one reach are
    orthogonal over the moves, so that their parts separate: with as many moves as there are values in a reach the
    slope is as exact as finite differences of every single value.
    """

    budget: float = parameter(
        0.5, identity=0.0, low=0.0, doc="root mean square of the distance that a slot is moved, in standard deviations"
    )
    steps: int = parameter(3, kind="integer", low=1, doc="steps of the search")
    directions: int = parameter(64, kind="integer", low=1, doc="pairs of opposite moves in a step at most")

    def attack(self, trace: Trace, rng: np.random.Generator, opponent: Opponent) -> Trace:  # noqa: D102
        first = self.first(trace)
        if first == len(trace):
            return trace
        spread = trace.outcome[first:].std(axis=0)
        # a slot must not be moved under the least outcome: that part of the budget would be lost
        low = (trace.outcome_low - trace.outcome[first:]) / np.where(spread > 0, spread, 1.0)
        radius = self.budget * len(low) ** 0.5

        def at(delta: Values) -> Trace:
            return self.moved(trace, trace.outcome + np.pad(delta * spread, ((first, 0), (0, 0))))

        def losses(deltas: Sequence[Values]) -> Values:
            return opponent.losses([at(delta) for delta in deltas], self.toward)

        delta = worst = np.zeros_like(low)
        most = losses([delta]).sum()
        reach = opponent.reach(trace)
        size = self.budget / (2 * low.shape[1] ** 0.5)
        for _ in range(self.steps):
            moves = separable_signs(low.shape, sum(reach) + 1, self.directions, rng)
            pairs = losses([delta + sign * size * move for move in moves for sign in (1, -1)])
            answer = within_reach(pairs[::2] - pairs[1::2], reach)[:, first:]
            slope = np.einsum("nt,ntd->td", answer, moves) * (spread > 0)
            if not slope.any():  # nothing to follow
                break
            delta = furthest(slope, radius, low)
            if (loss := losses([delta]).sum()) > most:
                worst, most = delta, loss
        return at(worst)


@register("worst-case-diffusion", family="adversarial", source="3D-Learning, Algorithm 1 (IMAX)")
@dataclass(frozen=True, kw_only=True)
class WorstCaseDiffusion(AdversarialShift):
    """Blocks drawn from the diffusion model that hurts the agent most among those that explain the trace.

    A model of the blocks of the trace is trained, then its last steps are moved towards losses, by policy gradient, as
    long as its score-matching loss on the blocks stays within the budget. All blocks are drawn anew, so a budget near
    0 is a trace of other blocks from the same law. The slots after the last whole block stay as they are.
    """

    budget: float = parameter(
        0.5, identity=0.0, low=0.0, doc="how much worse than its reference the model may explain a block, in nats"
    )
    block: int = parameter(28, kind="integer", low=2, doc="slots of a block; 24 hourly slots make days")
    rounds: int = parameter(12, kind="integer", low=1, doc="inner maximisations, one after the other")

    def attack(self, trace: Trace, rng: np.random.Generator, opponent: Opponent) -> Trace:  # noqa: D102
        first, count = self.first(trace), len(trace) // self.block
        if count < 2:
            raise ShiftError(
                f"block of shift {self.name!r} is {self.block}, but trace {trace.name!r} has {len(trace)} slots: "
                f"give {max(len(trace) // 2, 2)} or fewer"
            )
        rows = slice(0, count * self.block)

        def at(blocks: Values) -> Trace:
            outcome = trace.outcome.copy()
            outcome[rows] = blocks.reshape(-1, outcome.shape[1])
            outcome[:first] = trace.outcome[:first]
            return self.moved(trace, outcome)

        def losses(blocks: Values) -> Values:
            per_slot = opponent.losses([at(blocks)], self.toward)[0, rows]
            return np.asarray(per_slot.reshape(count, self.block).sum(axis=1))

        blocks = trace.outcome[rows].reshape(count, self.block, -1)
        seed = int(rng.integers(2**31))
        return at(opponent.worst_blocks(blocks, losses, self.budget, self.rounds, seed))


def separable_signs(shape: tuple[int, int], slots: int, count: int, rng: np.random.Generator) -> Values:
    """Random signs (n, T, D), orthogonal over the n moves among the values of any ``slots`` slots in a row.

    Columns of a Hadamard matrix, repeated along the trace, in random order and with random signs of their own. Where
    it has more than ``count`` rows, as many of them are drawn, and orthogonality holds on average.
    """
    order = 1 << (slots * shape[1] - 1).bit_length()
    values = np.arange(shape[0] * shape[1])
    rows, columns = rng.permutation(order)[:count], rng.permutation(order)[values % order]
    parity = np.bitwise_count(rows[:, None] & columns) % 2  # the entries of Sylvester's matrix are (-1)^parity
    signs = (1.0 - 2.0 * parity) * rng.choice((-1.0, 1.0), len(values))
    return np.asarray(signs.reshape(len(rows), *shape))


def within_reach(losses: Values, reach: tuple[int, int]) -> Values:
    """Sum (N, T) of the losses (N, T) from ``reach[0]`` slots before each slot to ``reach[1]`` slots after it."""
    before, after = reach
    slots = losses.shape[1]
    total = np.pad(np.cumsum(losses, axis=1), ((0, 0), (1, 0)))
    slot = np.arange(slots)
    return np.asarray(total[:, np.minimum(slot + after + 1, slots)] - total[:, np.maximum(slot - before, 0)])


def furthest(slope: Values, radius: float, low: Values) -> Values:
    """The delta with ||delta|| <= radius and delta >= low that is furthest along ``slope``; low <= 0.

    It is max(low, scale * slope). What is held at its bound leaves more to the others, whose scale grows, so the set of
    those that are held only grows too.
    """
    held: NDArray[np.bool_] = np.zeros(slope.shape, bool)
    while True:
        left = np.where(held, 0.0, slope)
        size = np.linalg.norm(left)
        if size == 0:
            return np.where(held, low, 0.0)
        scale = max(radius**2 - float((low[held] ** 2).sum()), 0.0) ** 0.5 / size
        over = ~held & (scale * slope < low)
        if not over.any():
            return np.where(held, low, scale * left)
        held = held | over
