"""Sparse linear and conic programs from named blocks of columns and rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    """min cost'x subject to rows A x (=, >, <) rhs, rows A x - rhs in cones, and bounds on x.

    Rows are appended block by block. The sense ``"c"`` marks rows of second-order cones, first entry >= norm of the
    others; ``cones`` gives their sizes, in the order of the rows.
    """

    columns: Blocks = field(default_factory=Blocks)
    rows: Blocks = field(default_factory=Blocks)
    sense: list[str] = field(default_factory=list)
    cones: list[int] = field(default_factory=list)
    _terms: list[tuple[Any, ...]] = field(default_factory=list)

    def row(self, name: str, sense: str, *shape: int) -> Index:
        """Append a block of rows, all ``"="``, ``">"`` or ``"<"``, and return their indices in that shape."""
        rows = self.rows.block(name, *shape)
        self.sense += [sense] * rows.size
        return rows

    def cone(self, name: str, count: int, size: int) -> Index:
        """Append ``count`` cones of ``size`` entries each and return their rows (count, size)."""
        self.cones += [size] * count
        return self.row(name, "c", count, size)

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
