"""Programs inside a solver: HiGHS and Gurobi keep them from one solve to the next, Clarabel takes cones.

All three are built from a :class:`.sparse.Program` and solved for :class:`.sparse.Vectors`, any number of times.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .backend import Backend, choose, gurobi_environment
from .base import ProblemError
from .sparse import Point, Program, Vectors


class Solver(Protocol):
    """A program that can be solved for new costs, bounds and right-hand sides."""

    def solve(self, vectors: Vectors) -> Point:
        """Optimum; raises :class:`ProblemError` when there is none."""

    def anchor(self) -> None:
        """Let :meth:`restart` come back to where the last solve ended."""

    def restart(self) -> None:
        """Make the next solve independent of those since the anchor."""


def load(program: Program, solver: str, interior: bool = False) -> tuple[Solver, Backend]:
    """Give a program to the solver asked for, see :func:`.backend.choose`.

    ``interior`` asks HiGHS for an interior-point method, whose solution need not be a vertex: it pays for many rows.
    """
    kind = "socp" if program.cones else "lp"
    backend = choose(solver, kind, program.columns.size + sum(program.cones), program.rows.size)
    if backend.name == "highs":
        return HighsProgram(program, interior), backend
    return (GurobiProgram(program) if backend.name == "gurobi" else ClarabelProgram(program)), backend


def _failure(name: str, status: object) -> ProblemError:
    return ProblemError(f"{name} found no optimum ({status}): check the fleet's limits and the day's levels")


class HighsProgram:
    """A linear program that stays in HiGHS; the next solve starts from the last basis, or from an anchored one."""

    def __init__(self, program: Program, interior: bool = False) -> None:
        import highspy

        self._basis: Any = None
        matrix = program.matrix()
        sense = np.array(program.sense)
        self._floor, self._ceiling = sense != "<", sense != ">"
        self._highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        self._highs.silent()
        self._highs.setOptionValue("solver", "ipm" if interior else "simplex")
        self._highs.setOptionValue("run_crossover", "off")
        self._optimal = highspy.HighsModelStatus.kOptimal
        lp = highspy.HighsLp()
        lp.num_row_, lp.num_col_ = matrix.shape
        lp.col_cost_ = lp.col_lower_ = lp.col_upper_ = np.zeros(matrix.shape[1])
        lp.row_lower_ = lp.row_upper_ = np.zeros(matrix.shape[0])
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
        self._highs.passModel(lp)
        self._columns = np.arange(matrix.shape[1], dtype=np.int32)
        self._rows = np.arange(matrix.shape[0], dtype=np.int32)

    def solve(self, vectors: Vectors) -> Point:
        """Optimum; by the simplex method it starts from the last basis."""
        highs = self._highs
        highs.changeColsCost(len(self._columns), self._columns, vectors.cost)
        highs.changeColsBounds(len(self._columns), self._columns, vectors.lower, vectors.upper)
        lower = np.where(self._floor, vectors.rhs, -np.inf)
        upper = np.where(self._ceiling, vectors.rhs, np.inf)
        highs.changeRowsBounds(len(self._rows), self._rows, lower, upper)
        highs.run()
        if highs.getModelStatus() != self._optimal:
            raise _failure("HiGHS", highs.modelStatusToString(highs.getModelStatus()))
        solution = highs.getSolution()
        value = highs.getInfo().objective_function_value
        return Point(np.array(solution.col_value), np.array(solution.row_dual), value)

    def append(self, columns: Any) -> None:
        """Add columns, a SciPy matrix with all rows, after those there are."""
        count, begin = columns.shape[1], len(self._columns)
        none = np.zeros(count)
        starts, indices = columns.indptr[:-1].astype(np.int32), columns.indices.astype(np.int32)
        self._highs.addCols(count, none, none, none, columns.nnz, starts, indices, columns.data)
        self._columns = np.arange(begin + count, dtype=np.int32)

    def anchor(self) -> None:
        """Keep the basis."""
        self._basis = self._highs.getBasis()

    def restart(self) -> None:
        """Forget the last solve, and take the basis that was kept."""
        self._highs.clearSolver()
        if self._basis is not None:
            self._highs.setBasis(self._basis)


class GurobiProgram:
    """A linear or conic program that stays in Gurobi."""

    def __init__(self, program: Program) -> None:
        import gurobipy

        self._status = gurobipy.GRB.Status
        self._model = model = gurobipy.Model(env=gurobi_environment())
        matrix, sense = program.matrix().tocsr(), np.array(program.sense)
        self._x = model.addMVar(matrix.shape[1], lb=-np.inf)
        self._linear, self._conic = sense != "c", np.flatnonzero(sense == "c")
        senses = np.array(["=" if s == "=" else s for s in sense[self._linear]])
        self._rows = model.addMConstr(matrix[self._linear], self._x, senses, np.zeros(len(senses)))
        if program.cones:
            slack = model.addMVar(len(self._conic), lb=-np.inf)
            self._cone_rows = model.addConstr(slack - matrix[self._conic] @ self._x == np.zeros(len(self._conic)))
            for last, size in zip(np.cumsum(program.cones), program.cones, strict=True):
                head, tail = slack[last - size], slack[last - size + 1 : last]
                head.LB = 0.0
                model.addConstr(tail @ tail <= head * head)

    def solve(self, vectors: Vectors) -> Point:
        """Optimum, started from the last basis where there is one."""
        for name, values in (("Obj", vectors.cost), ("LB", vectors.lower), ("UB", vectors.upper)):
            self._x.setAttr(name, values)
        self._rows.RHS = vectors.rhs[self._linear]
        if len(self._conic):
            self._cone_rows.RHS = -vectors.rhs[self._conic]
        self._model.optimize()
        if self._model.Status != self._status.OPTIMAL:
            raise _failure("Gurobi", f"status {self._model.Status}")
        duals = np.zeros(len(vectors.rhs))
        if not len(self._conic):
            duals[self._linear] = self._rows.Pi
        return Point(np.array(self._x.X), duals, self._model.ObjVal)

    def anchor(self) -> None:
        """Nothing: a restart begins from nothing."""

    def restart(self) -> None:
        """Forget the last solve."""
        self._model.reset()


class ClarabelProgram:
    """A linear or conic program for Clarabel, an interior-point method without warm start."""

    def __init__(self, program: Program) -> None:
        self._matrix, self._sense, self._cones = program.matrix().tocsr(), np.array(program.sense), program.cones

    def solve(self, vectors: Vectors) -> Point:
        """Optimum, with the multipliers of all rows but those of cones."""
        import clarabel
        from scipy import sparse

        matrix, sense, rhs = self._matrix, self._sense, vectors.rhs
        count = matrix.shape[1]
        equal, least, most, conic = (np.flatnonzero(sense == mark) for mark in "=><c")
        fixed = vectors.lower == vectors.upper
        low, high = (np.flatnonzero(np.isfinite(edge) & ~fixed) for edge in (vectors.lower, vectors.upper))
        held = np.flatnonzero(fixed)
        unit = sparse.identity(count, format="csr")
        blocks = [matrix[equal], unit[held], -matrix[least], matrix[most], -unit[low], unit[high], -matrix[conic]]
        right = [rhs[equal], vectors.lower[held], -rhs[least], rhs[most], -vectors.lower[low], vectors.upper[high]]
        cones = [
            clarabel.ZeroConeT(len(equal) + len(held)),
            clarabel.NonnegativeConeT(len(least) + len(most) + len(low) + len(high)),
            *(clarabel.SecondOrderConeT(size) for size in self._cones),
        ]
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        stacked = sparse.vstack(blocks, format="csc")
        quadratic = sparse.csc_matrix((count, count))
        right_side = np.concatenate([*right, -rhs[conic]])
        solution = clarabel.DefaultSolver(quadratic, vectors.cost, stacked, right_side, cones, settings).solve()
        if str(solution.status) not in ("Solved", "AlmostSolved"):
            raise _failure("Clarabel", solution.status)
        duals, z = np.zeros_like(rhs), np.array(solution.z)
        first = len(equal) + len(held)
        duals[equal], duals[least] = -z[: len(equal)], z[first : first + len(least)]
        duals[most] = -z[first + len(least) : first + len(least) + len(most)]
        x = np.clip(solution.x, vectors.lower, vectors.upper)
        return Point(x, duals, min(solution.obj_val, solution.obj_val_dual))

    def anchor(self) -> None:
        """Nothing: no solve knows of another."""

    def restart(self) -> None:
        """Nothing, likewise."""
