"""Sparse linear programs from named blocks of columns and rows, kept in a solver from one solve to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base import ProblemError

Vector = NDArray[np.float64]
Index = NDArray[np.int64]


class Blocks(dict[str, Index]):
    """Named blocks of consecutive indices, each in the shape of its quantity."""

    size: int = 0

    def block(self, name: str, *shape: int) -> Index:
        """Append a block and return its indices in that shape."""
        count = int(np.prod(shape))
        self[name] = np.arange(self.size, self.size + count).reshape(shape)
        self.size += count
        return self[name]


@dataclass
class Program:
    """min cost'x subject to rows of one sense each and bounds on x; rows are appended block by block."""

    columns: Blocks = field(default_factory=Blocks)
    rows: Blocks = field(default_factory=Blocks)
    sense: list[str] = field(default_factory=list)
    _terms: list[tuple[Any, ...]] = field(default_factory=list)

    def row(self, name: str, sense: str, *shape: int) -> Index:
        """Append a block of rows, all ``"="``, ``">"`` or ``"<"``, and return their indices in that shape."""
        rows = self.rows.block(name, *shape)
        self.sense += [sense] * rows.size
        return rows

    def add(self, rows: ArrayLike, columns: ArrayLike, values: ArrayLike = 1.0) -> None:
        """Add coefficients; the three broadcast."""
        self._terms.append(tuple(part.ravel() for part in np.broadcast_arrays(rows, columns, values)))

    def matrix(self) -> Any:
        """All coefficients as a SciPy matrix in compressed columns."""
        from scipy import sparse

        rows, columns, values = (np.concatenate(parts) for parts in zip(*self._terms, strict=True))
        shape = (self.rows.size, self.columns.size)
        return sparse.csc_matrix((np.asarray(values, float), (rows, columns)), shape=shape)


class Vectors(NamedTuple):
    """What changes from day to day: cost and bounds of the columns, right-hand side of the rows."""

    cost: Vector
    lower: Vector
    upper: Vector
    rhs: Vector


class Point(NamedTuple):
    """A solved program: value of the columns, multipliers of the rows, optimal value."""

    x: Vector
    duals: Vector
    value: float


class HighsProgram:
    """A linear program that stays in HiGHS; the next solve starts from the last basis.

    Parameters
    ----------
    program : Program
        Its columns, rows and coefficients.
    interior : bool
        Whether the first solve is by interior point, which pays for large programs.
    """

    name = "highs"

    def __init__(self, program: Program, interior: bool = False) -> None:
        import highspy

        self._interior = interior
        matrix = program.matrix()
        sense = np.array(program.sense)
        self._floor, self._ceiling = sense != "<", sense != ">"
        self._highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        self._highs.silent()
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
        """Solve for new costs, bounds and right-hand sides.

        Raises
        ------
        ProblemError
            When HiGHS finds no optimum.
        """
        highs = self._highs
        highs.changeColsCost(len(self._columns), self._columns, vectors.cost)
        highs.changeColsBounds(len(self._columns), self._columns, vectors.lower, vectors.upper)
        lower = np.where(self._floor, vectors.rhs, -np.inf)
        upper = np.where(self._ceiling, vectors.rhs, np.inf)
        highs.changeRowsBounds(len(self._rows), self._rows, lower, upper)
        highs.setOptionValue("solver", "ipm" if self._interior else "simplex")
        self._interior = False
        highs.run()
        if highs.getModelStatus() != self._optimal:
            status = highs.modelStatusToString(highs.getModelStatus())
            raise ProblemError(f"HiGHS found no optimum ({status}): check the fleet's limits and the day's levels")
        solution = highs.getSolution()
        value = highs.getInfo().objective_function_value
        return Point(np.array(solution.col_value), np.array(solution.row_dual), value)
