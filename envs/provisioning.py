"""``shiftgym/Provisioning-v0``: hold capacity for LLM workload that is not known yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data.errors import ShiftgymError, TraceError, UnknownNameError
from ..data.trace import Trace
from ..solvers.provisioning import Provisioning
from .replay import ReplayEnv
from .shifts import Shift
from .task import Layout, Points, Task, check_constants, check_count
from .vector import ReplayVectorEnv


class ProvisioningTask(Task):
    """LLM resource provisioning (3D-Learning, Section V) on any workload trace of one column.

    One step decides ``horizon`` slots; an episode has ``episode_slots``. The observation is the last ``lookback``
    workloads in units of the capacity, then the calendar features of the trace if it has any, then the previous
    decision if switching costs something. The action is one share of the capacity per slot.

    Parameters
    ----------
    trace, shift, shift_seed, reference, lookback
        See :class:`~shiftgym.envs.task.Task`.
    horizon : int
        Slots decided at once: 1 decides slot by slot, 28 is the one-shot variant of the paper.
    episode_slots : int or None
        Length of an episode; None replays to the end of the data.
    capacity : float, optional
        Workload that full capacity serves in one slot, in the trace's unit. The largest workload of the
        reference trace by default. Costs are per unit of capacity, so regrets do not depend on it except through
        the bounds.
    context : sequence of str, optional
        Context columns of the trace that the observation holds; all those of the reference by default.
    units : {"same", "any"}
        Whether the trace must count what the reference counts; "any" accepts, say, prompt tokens for tokens.
    **problem
        Constants of :class:`~shiftgym.solvers.provisioning.Provisioning`.
    """

    axes = ("slot", "share of capacity")

    def __init__(
        self,
        trace: str | Trace = "synthetic-azure-2023-conv",
        shift: str | Mapping[str, Any] | Shift | None = None,
        shift_seed: int = 0,
        reference: str | Trace | None = None,
        lookback: int = 28,
        horizon: int = 1,
        episode_slots: int | None = 28,
        capacity: float | None = None,
        context: Sequence[str] | None = None,
        units: str = "same",
        **problem: float,
    ) -> None:
        check_count("horizon", horizon)
        if episode_slots is not None and check_count("episode_slots", episode_slots) % horizon:
            raise ShiftgymError(f"episode_slots is {episode_slots}: give a multiple of horizon={horizon}, or None")
        if capacity is not None and not (np.isfinite(capacity) and capacity > 0):
            raise ShiftgymError(f"capacity is {capacity}: give a positive workload per slot")
        check_constants(type(self), Provisioning, problem, own=("horizon",))
        self.horizon, self.capacity, self._constants = horizon, capacity, problem
        self._context, self._units = context, units
        if units not in ("same", "any"):
            raise UnknownNameError("units", units, ("same", "any"))
        self.episode_steps = None if episode_slots is None else episode_slots // horizon
        super().__init__(trace, shift, shift_seed, reference, lookback)

    def _define(self) -> tuple[Provisioning, Layout]:
        self._check_amount("workload")
        self._check_comparable(self._units == "same", ", or say units='any' if they are close enough")
        if self.capacity is None:
            self.capacity = float(self.reference.outcome.max())
        if self.capacity <= 0:
            raise TraceError(f"reference {self.reference.name!r} has no workload at all: set capacity")
        self._names = self.reference.context_names if self._context is None else tuple(self._context)
        problem = Provisioning(horizon=self.horizon, **self._constants)
        previous = self.horizon if problem.stateful else 0
        return problem, Layout(
            lookback=self.lookback,
            columns=1,
            context=len(self._names),
            previous=previous,
            naive=(self.lookback - 1,) * self.horizon,
        )

    def _points(self, trace: Trace) -> Points:
        count = len(trace) - self.lookback - self.horizon + 1
        if count < 1:
            raise TraceError(
                f"trace {trace.name!r} has {len(trace)} slots, fewer than lookback + horizon = "
                f"{self.lookback + self.horizon}: use a longer window or a shorter slot"
            )
        assert self.capacity is not None
        assert trace.observed is not None
        assert trace.shifted is not None
        workload = trace.outcome[:, 0] / self.capacity
        decided = slice(self.lookback, None)
        context = self._context_of(trace, self._names)[decided]
        shifted = np.lib.stride_tricks.sliding_window_view(trace.shifted[decided], self.horizon).any(-1)
        time = trace.time[decided].astype(np.int64) / 1e9

        def beyond(values: Any) -> Any:
            """Pad with the last row: the observation after the last decision has no context of its own."""
            return np.concatenate((values, np.repeat(values[-1:], count + self.horizon - len(values), axis=0)))

        return Points(
            readings=(trace.observed / self.capacity).astype(np.float32),
            context=beyond(context.astype(np.float32)[: count + self.horizon]),
            outcomes=np.lib.stride_tricks.sliding_window_view(workload[decided], self.horizon),
            time=beyond(time),
            shifted=beyond(shifted.astype(np.float64)),
            stride=self.horizon,
        )


class ProvisioningEnv(ReplayEnv):
    """``gymnasium.make("shiftgym/Provisioning-v0", …)``; keywords as in :class:`ProvisioningTask`."""

    task_class = ProvisioningTask


class ProvisioningVectorEnv(ReplayVectorEnv):
    """``gymnasium.make_vec("shiftgym/Provisioning-v0", num_envs=…)``; keywords as in :class:`ProvisioningTask`."""

    task_class = ProvisioningTask
