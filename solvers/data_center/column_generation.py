"""Routing by column generation, for the slots in which the GPUs of some centers do not suffice, (10).

Elsewhere inference is a power per center, see :mod:`.center_program`. Where GPUs are scarce it matters which pair of
class and TP degree runs where, so the slots concerned get a column f_pdt for each route that may carry load [req/s]:

    sum_{p of i, d} f_pdt = pi_i Lambda-bar_{s(i)t}       (4a)
    sum_p g_p / (mu rho-bar)_p f_pdt <= G-bar_d           (10), with n = lambda / (mu rho-bar)
    q_dt >= sum_p a_p f_pdt,                              a_p the power per load of a filled instance

Of P D routes per slot hardly more than there are classes and centers carry load. They are found by their reduced cost:
those with the most negative ones join, until the bound of Lagrange,

    optimum of the columns present + sum_{i,t} pi_i Lambda-bar min(0, least reduced cost of a route of i in t),

is within a tolerance of the optimum of the columns present.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..programs import HighsProgram
from ..sparse import Index, Point, Program, Vector, Vectors
from .center_program import OVERDRAFT_PRICE
from .instances import energy_per_load, pairs_by_energy
from .serving import Serving

#: Fewer routes than this are listed at once.
_FEW = 20_000
#: Routes that join per class and slot in a round, and rounds.
_JOINING, _ROUNDS = 3, 30


class Routes(NamedTuple):
    """Flow (P, D, T) [req/s] in the slots asked for, the solved program, and the certified bound on its optimum."""

    flow: Vector
    point: Point
    bound: float


class _Candidates(NamedTuple):
    """Routes as three index arrays: pair, center, place of the slot in the list."""

    pair: Index
    center: Index
    place: Index


def route(
    program: Program,
    vectors: Vectors,
    serving: Serving,
    load: Vector,
    gpus: Vector,
    slots: Index,
    start: Vector,
    tolerance: float = 1e-4,
) -> Routes:
    """Solve a day with routes in some slots.

    Parameters
    ----------
    program : Program
        Fresh center program with its training; blocks are appended to it.
    vectors : Vectors
        Its costs, bounds and right-hand sides. Those of ``inference`` are the least power in each slot.
    load : array, shape (I, T)
        Load of each class [req/s].
    gpus : array, shape (D, T)
        GPUs that inference may use.
    slots : array of int
        Slots with routes.
    start : array, shape (P, D, T)
        Routes to begin with: where this is positive.
    """
    master = _Master(program, vectors, serving, load[:, slots], gpus[:, slots], slots)
    if start[:, :, slots].size <= _FEW:
        start = np.ones_like(start)
    point, bound = master.solve(_Candidates(*np.nonzero(start[:, :, slots] > 0))), -np.inf
    for _ in range(_ROUNDS):
        joining, deficit = master.price(point)
        bound = max(bound, point.value - deficit)
        if point.value - bound <= tolerance * max(abs(point.value), 1.0) or not len(joining.pair):
            break
        point = master.solve(joining)
    flow = np.zeros_like(start)
    pair, center, place = master.routes
    flow[pair, center, slots[place]] = np.maximum(point.x[master.first :], 0.0)
    return Routes(flow, point, bound)


class _Master:
    """The program restricted to the routes that have joined."""

    def __init__(
        self, program: Program, vectors: Vectors, serving: Serving, load: Vector, gpus: Vector, slots: Index
    ) -> None:
        self._serving, self._load, self._vectors = serving, load, vectors
        centers, count = gpus.shape
        excess, spill = program.columns.block("excess", count), program.columns.block("spill", centers, count)
        program.add(program.rows["inference"][slots], excess, -1.0)
        self._power = program.row("routed power", ">", centers, count)
        program.add(self._power, program.columns["inference"][:, slots])
        self._gpus = program.row("gpus", "<", centers, count)
        program.add(self._gpus, spill, -1.0)
        self._classes = program.row("routed load", "=", *load.shape)
        self.first = program.columns.size
        self._rows = program.rows.size
        cost = np.concatenate([vectors.cost, np.zeros(count), np.full(spill.size, OVERDRAFT_PRICE)])
        rhs = np.concatenate([vectors.rhs, np.zeros(gpus.size), gpus.ravel(), load.ravel()])
        more = np.zeros(count + spill.size)
        lower, upper = np.append(vectors.lower, more), np.append(vectors.upper, more + np.inf)
        self._vectors = Vectors(cost, lower, upper, rhs)
        self._solver = HighsProgram(program)
        self.routes = _Candidates(*np.zeros((3, 0), int))

    def solve(self, joining: _Candidates) -> Point:
        """Optimum once these routes have joined."""
        from scipy import sparse

        pair, center, place = joining
        serving, count = self._serving, len(pair)
        rows = [self._power[center, place], self._gpus[center, place], self._classes[serving.klass[pair], place]]
        values = [-energy_per_load(serving)[pair], (serving.gpus / serving.capacity)[pair], np.ones(count)]
        columns = np.tile(np.arange(count), 3)
        entries = (np.concatenate(values), (np.concatenate(rows), columns))
        self._solver.append(sparse.csc_matrix(entries, shape=(self._rows, count)))
        self.routes = _Candidates(*(np.concatenate(both) for both in zip(self.routes, joining, strict=True)))
        cost, lower, upper, rhs = self._vectors
        none = np.zeros(len(self.routes.pair))
        full = Vectors(np.append(cost, none), np.append(lower, none), np.append(upper, none + np.inf), rhs)
        return self._solver.solve(full)

    def price(self, point: Point) -> tuple[_Candidates, float]:
        """Routes with the most negative reduced costs, and by how much the optimum may still fall."""
        serving, (classes, count) = self._serving, self._load.shape
        power, gpus, of_class = (point.duals[rows] for rows in (self._power, self._gpus, self._classes))
        table = pairs_by_energy(serving)
        known = (table >= 0)[:, :, None, None]
        energy, need = energy_per_load(serving)[table], (serving.gpus / serving.capacity)[table]
        reduced = energy[..., None, None] * power - need[..., None, None] * gpus - of_class[:, None, None]
        reduced = np.where(known, reduced, np.inf).reshape(classes, -1, count)
        deficit = float((self._load * np.maximum(-reduced.min(1), 0.0)).sum())
        best = np.argpartition(reduced, min(_JOINING, reduced.shape[1] - 1), axis=1)[:, :_JOINING]
        worth = np.take_along_axis(reduced, best, 1) < -1e-9 * max(1.0, float(np.abs(of_class).max()))
        klass, _, place = np.nonzero(worth)
        rank, center = np.divmod(best[worth], power.shape[0])
        joining = _Candidates(table[klass, rank], center, place)
        return joining, deficit
