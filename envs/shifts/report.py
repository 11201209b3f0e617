"""What a shift did: its parameters, its seed and how far the outcomes moved."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...data.trace import Trace
from .base import Shift
from .parameters import ShiftError


def wasserstein_distance(one: ArrayLike, two: ArrayLike) -> float:
    """1-Wasserstein distance of two samples: the area between their distribution functions.

    The same as ``scipy.stats.wasserstein_distance``, whose import alone takes longer than all the rest that
    the construction of an environment does.

    Parameters
    ----------
    one, two : array, shapes (N,) and (M,)
        The samples; their lengths may differ.
    """
    first, second = np.sort(np.ravel(one)), np.sort(np.ravel(two))
    values = np.sort(np.concatenate((first, second)))
    below = [np.searchsorted(sample, values[:-1], side="right") / len(sample) for sample in (first, second)]
    return float(np.abs(below[0] - below[1]) @ np.diff(values))


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
