"""``shiftgym/ProductAllocation-v0``: hold products whose values are not known yet and may be disastrous."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.errors import TraceError
from ..data.trace import Trace
from ..solvers.allocation import ProductAllocation
from .replay import ReplayEnv
from .rows import Rows, RowTask
from .shifts import Shift
from .task import Layout, check_constants
from .vector import ReplayVectorEnv


class ProductAllocationTask(RowTask):
    """Product allocation (Diffusion-DFL, A.9) on any trace of product values.

    One step decides the amount of each product, one product per outcome column. The observation is the values of the
    last ``lookback`` steps, then the context columns of the trace if it has any; in the paper's task, independent
    draws, neither says anything about the next.

    Parameters
    ----------
    trace, shift, shift_seed, reference, lookback, episode_steps
        See :class:`~shiftgym.envs.rows.RowTask`.
    **problem
        Constants of :class:`~shiftgym.solvers.allocation.ProductAllocation`: ``cap``.
    """

    axes = ("product, step after step", "value and amount")

    def __init__(
        self,
        trace: str | Trace = "allocation",
        shift: str | Mapping[str, Any] | Shift | None = None,
        shift_seed: int = 0,
        reference: str | Trace | None = None,
        lookback: int = 1,
        episode_steps: int | None = 28,
        **problem: float,
    ) -> None:
        check_constants(type(self), ProductAllocation, problem, own=("products",))
        self._constants = problem
        super().__init__(trace, shift, shift_seed, reference, lookback, episode_steps)

    def _define(self) -> tuple[ProductAllocation, Layout]:
        self._check_comparable()
        self._names = self.reference.context_names
        products = self.reference.outcome.shape[1]
        if self.source.outcome.shape[1] != products:
            raise TraceError(
                f"trace {self.source.name!r} has {self.source.outcome.shape[1]} products, the reference "
                f"{self.reference.name!r} has {products}: give traces of the same products"
            )
        problem = ProductAllocation(products=products, **self._constants)
        return problem, Layout(self.lookback, products, len(self._names), 0, self._last_row(products))

    def _rows(self, trace: Trace) -> Rows:
        return Rows.of_slots(trace, self._context_of(trace, self._names))


class ProductAllocationEnv(ReplayEnv):
    """``gymnasium.make("shiftgym/ProductAllocation-v0", …)``; keywords as in :class:`ProductAllocationTask`."""

    task_class = ProductAllocationTask


class ProductAllocationVectorEnv(ReplayVectorEnv):
    """``gymnasium.make_vec("shiftgym/ProductAllocation-v0", …)``; keywords as in :class:`ProductAllocationTask`."""

    task_class = ProductAllocationTask
