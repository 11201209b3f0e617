"""Tasks that decide once per row of a table: a day, an exchange session, a draw."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.errors import TraceError
from ..data.trace import Trace
from .shifts import Shift
from .task import Floats, Points, Task, check_count


@dataclass(frozen=True)
class Rows:
    """A trace as a table with a row per decision, in the problem's units; all arrays have R rows.

    Attributes
    ----------
    readings : array, shape (R, D)
        What the sensors read of the outcome.
    context : array, shape (R, C)
        Features known before the decision about this row.
    outcomes : array of float64, shape (R, D)
        What that decision is judged by.
    time : array of datetime64, shape (R,)
        When the row begins.
    shifted : array of bool, shape (R,)
        Whether a shift is active in it.
    """

    readings: Floats
    context: Floats
    outcomes: Floats
    time: Any
    shifted: Any

    @classmethod
    def of_slots(cls, trace: Trace, context: Floats | None = None) -> Rows:
        """A row per slot; without context unless one is given."""
        context = np.empty((len(trace), 0)) if context is None else context
        return cls(trace.observed, context, trace.outcome, trace.time, trace.shifted)


class RowTask(Task):
    """Decides about one row after the other, having seen the ``lookback`` rows before it.

    Parameters
    ----------
    trace, shift, shift_seed, reference, lookback
        See :class:`~shiftgym.envs.task.Task`; ``lookback`` counts rows.
    episode_steps : int or None
        Decisions of an episode; None replays to the end of the data.
    """

    def __init__(
        self,
        trace: str | Trace,
        shift: str | Mapping[str, Any] | Shift | None,
        shift_seed: int,
        reference: str | Trace | None,
        lookback: int,
        episode_steps: int | None,
    ) -> None:
        self.episode_steps = None if episode_steps is None else check_count("episode_steps", episode_steps)
        super().__init__(trace, shift, shift_seed, reference, lookback)

    @abstractmethod
    def _rows(self, trace: Trace) -> Rows:
        """Make the table of a trace."""

    def _points(self, trace: Trace) -> Points:
        rows = self._rows(trace)
        count = len(rows.outcomes) - self.lookback
        if count < 1:
            raise TraceError(
                f"trace {trace.name!r} has {len(rows.outcomes)} rows to decide about, fewer than lookback + 1 = "
                f"{self.lookback + 1}: use a longer window or a shorter lookback"
            )

        def decided(values: Any) -> Any:
            """Rows after the first history; the observation after the last decision has no context of its own."""
            return np.concatenate((values[self.lookback :], values[-1:]))

        return Points(
            readings=rows.readings.astype(np.float32),
            context=decided(rows.context).astype(np.float32),
            outcomes=np.ascontiguousarray(rows.outcomes[self.lookback :], dtype=np.float64),
            time=decided(rows.time.astype("datetime64[ns]").astype(np.int64) / 1e9),
            shifted=decided(rows.shifted).astype(np.float64),
            stride=1,
        )

    def _last_row(self, columns: int) -> tuple[int, ...]:
        """Places of the last row of the history in an observation: the persistence forecast."""
        return tuple(range((self.lookback - 1) * columns, self.lookback * columns))
