"""What a shift did: its parameters, its seed and how far the outcomes moved."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.trace import Trace
from .base import Shift
from .parameters import ShiftError


@dataclass(frozen=True)
class ShiftReport:
    """What a shift did to a trace.

    Attributes
    ----------
    shift : str
        Text form.
    seed : int
        Seed it was applied with.
    trace, reference : str
        Names of the shifted trace and of the one that it is compared with (the training trace).
    active : float
        Share of the slots at which a shift is active.
    wasserstein : float
        Mean over the columns of the 1-Wasserstein distance between the outcomes of both, in their unit.
    relative_wasserstein : float
        The same as a multiple of the mean magnitude of the reference outcomes.
    """

    shift: str
    seed: int
    trace: str
    reference: str
    active: float
    wasserstein: float
    relative_wasserstein: float

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return dataclasses.asdict(self)


def report_shift(shift: Shift, seed: int, shifted: Trace, reference: Trace) -> ShiftReport:
    """Report what ``shift``, applied with ``seed``, made of a trace.

    Parameters
    ----------
    shift : Shift
        The shift that was applied.
    seed : int
        The seed of its generator.
    shifted : Trace
        What it returned.
    reference : Trace
        The trace to measure the distance from: the training trace.

    Raises
    ------
    ShiftError
        If the traces have different numbers of columns.
    """
    from scipy.stats import wasserstein_distance  # slow to import: only who asks for a report waits for it

    if shifted.outcome.shape[1] != reference.outcome.shape[1]:
        raise ShiftError(
            f"reference {reference.name!r} has {reference.outcome.shape[1]} columns, trace {shifted.name!r} "
            f"{shifted.outcome.shape[1]}: give a reference with the same columns"
        )
    columns = zip(shifted.outcome.T, reference.outcome.T, strict=True)
    distance = float(np.mean([wasserstein_distance(ours, theirs) for ours, theirs in columns]))
    magnitude = float(np.abs(reference.outcome).mean())
    return ShiftReport(
        shift=str(shift),
        seed=seed,
        trace=shifted.name,
        reference=reference.name,
        active=float(shifted.shifted.mean()),
        wasserstein=distance,
        relative_wasserstein=distance / magnitude if magnitude else math.inf if distance else 0.0,
    )
