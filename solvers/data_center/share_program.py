"""The scheduling model with the shares x themselves, for robust rows (15b) that a queue cannot stand for.

Columns ``amount`` are x_ktdtau times a scale of the class and slot, so that they are of the size of the work [GPU h];
they exist for admissible indices only, (1b) and (1c). Rows ``share`` are (1a). With ``carry_over`` the backlog of the
day before is work of its own, ``carried``, and waits in a queue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..sparse import Index, Program, Vector, Vectors
from .center_program import center_program, center_vectors
from .fleet import Fleet
from .schedule import Day
from .training_queue import queue, tidy_shares


@dataclass(frozen=True)
class ShareProgram:
    """A program with one column per admissible share, and where each of them belongs.

    Attributes
    ----------
    program : Program
        Shared blocks, ``amount``, ``share``, and with ``carry_over`` ``carried``, ``waiting`` and ``queue``.
    k, t, d, offset : arrays of int, shape (N,)
        Class, slot of arrival, center and hours put off of each column of ``amount``.
    scale : array, shape (K, T)
        Amount that a share of one stands for [GPU h].
    """

    fleet: Fleet
    program: Program
    k: Index
    t: Index
    d: Index
    offset: Index
    scale: Vector

    @property
    def tau(self) -> Index:
        """Slot of execution (N,)."""
        return self.t + self.offset

    @property
    def unit(self) -> Vector:
        """Share (N,) per unit of a column."""
        return 1 / self.scale[self.k, self.t]

    def vectors(self, day: Day, inference: Vector) -> Vectors:
        """Costs, bounds and right-hand sides but those of the robust rows, see :func:`.center_vectors`."""
        program = self.program
        vectors = center_vectors(self.fleet, program, day, inference)
        vectors.rhs[program.rows["share"]] = self.scale
        if self.fleet.tail:
            nothing = np.zeros((len(self.fleet.classes), self.fleet.slots))
            waiting = queue(self.fleet, nothing, day.backlog)
            vectors.upper[program.columns["waiting"]] = waiting.after
            vectors.rhs[program.rows["queue"]] = waiting.arriving
            vectors.upper[program.columns["carried"]] = np.where(self.fleet.allowed, np.inf, 0.0)[..., None]
        return vectors

    def read(self, x: Vector, backlog: Vector) -> tuple[Vector, Vector]:
        """Shares (K, T, D, W), exactly as (1a) to (1c) want them, and backlog done (K, D, T') [GPU h]."""
        fleet = self.fleet
        shares = np.zeros((len(fleet.classes), fleet.slots, fleet.size, fleet.reach + 1))
        shares[self.k, self.t, self.d, self.offset] = x[self.program.columns["amount"]] * self.unit
        carried = np.zeros((len(fleet.classes), fleet.size, fleet.slots + fleet.tail))
        if fleet.tail:
            carried = np.maximum(x[self.program.columns["carried"]], 0.0)
            total = carried.sum((1, 2), keepdims=True)
            carried *= backlog.sum(1)[:, None, None] / np.where(total > 0, total, 1.0)
        return tidy_shares(fleet, shares), carried


def share_program(fleet: Fleet, scale: Vector) -> ShareProgram:
    """Build the program for a scale (K, T) of the amounts; robust rows are to follow."""
    program = center_program(fleet)
    K, T, horizon = len(fleet.classes), fleet.slots, fleet.slots + fleet.tail
    k, t, d, offset = np.indices((K, T, fleet.size, fleet.reach + 1)).reshape(4, -1)
    kept = fleet.allowed[k, d] & (offset <= np.array(fleet.windows)[k]) & (t + offset < horizon)
    k, t, d, offset = k[kept], t[kept], d[kept], offset[kept]
    amount = program.columns.block("amount", len(k))
    program.add(program.row("share", "=", K, T)[k, t], amount)
    if fleet.tail:
        carried, waiting = (
            program.columns.block("carried", K, fleet.size, horizon),
            program.columns.block("waiting", K, horizon),
        )
        add_queue(program, carried, waiting)
    return ShareProgram(fleet, program, k, t, d, offset, np.maximum(scale, 1e-3 * max(scale.max(), 1.0)))


def add_queue(program: Program, work: Index, waiting: Index) -> None:
    """Append rows ``queue``: what waits is what waited and arrived, less the work (K, D, T') done."""
    rows = program.row("queue", "=", *waiting.shape)
    program.add(rows, waiting)
    program.add(rows[:, 1:], waiting[:, :-1], -1.0)
    program.add(rows[:, None], work)
