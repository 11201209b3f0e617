"""``shiftgym/Inventory-v0``: order stock for a demand that is not known yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.trace import Trace
from ..solvers.inventory import Inventory
from .replay import ReplayEnv
from .rows import Rows, RowTask
from .shifts import Shift
from .task import Layout, check_constants
from .vector import ReplayVectorEnv


class InventoryTask(RowTask):
    """Stock ordering (Diffusion-DFL, A.12) on any trace of demand.

    One step decides one order. One-shot by default: what is left over is gone. With ``carry=True`` it is kept for the
    next step and seen in the observation, so the orders of an episode depend on each other. The observation is the
    demand of the last ``lookback`` steps, then the context columns of the trace if it has any, then the stock.

    Parameters
    ----------
    trace, shift, shift_seed, reference, lookback, episode_steps
        See :class:`~shiftgym.envs.rows.RowTask`.
    **problem
        Constants of :class:`~shiftgym.solvers.inventory.Inventory`, ``carry`` among them. Demand and ``capacity``, the
        largest order, are in the unit of the trace.
    """

    axes = ("step", "demand and order")

    def __init__(
        self,
        trace: str | Trace = "inventory-k3",
        shift: str | Mapping[str, Any] | Shift | None = None,
        shift_seed: int = 0,
        reference: str | Trace | None = None,
        lookback: int = 1,
        episode_steps: int | None = 28,
        **problem: Any,
    ) -> None:
        check_constants(type(self), Inventory, problem)
        self._constants = problem
        super().__init__(trace, shift, shift_seed, reference, lookback, episode_steps)

    def _define(self) -> tuple[Inventory, Layout]:
        self._check_comparable()
        self._check_amount("demand")
        self._names = self.reference.context_names
        problem = Inventory(**self._constants)
        return problem, Layout(self.lookback, 1, len(self._names), int(problem.stateful), self._last_row(1))

    def _rows(self, trace: Trace) -> Rows:
        return Rows.of_slots(trace, self._context_of(trace, self._names))


class InventoryEnv(ReplayEnv):
    """``gymnasium.make("shiftgym/Inventory-v0", …)``; keywords as in :class:`InventoryTask`."""

    task_class = InventoryTask


class InventoryVectorEnv(ReplayVectorEnv):
    """``gymnasium.make_vec("shiftgym/Inventory-v0", …)``; keywords as in :class:`InventoryTask`."""

    task_class = InventoryTask
