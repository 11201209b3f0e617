"""Calendar features: what is known of a slot before it comes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .trace import Trace

DAY = 86400.0
WEEK = 7 * DAY


def calendar_context(time: NDArray[np.datetime64], duration: float) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the hour of the day and the day of the week as points on a circle.

    A period is used only when the trace shows it twice; otherwise nothing could be learnt from it.

    Parameters
    ----------
    time : array of datetime64, shape (T,)
        Start of each slot.
    duration : float
        Length of the whole trace in seconds: ``hour_sin`` and ``hour_cos`` from two days on, ``week_sin`` and
        ``week_cos`` from two weeks on.

    Returns
    -------
    context : array of float64, shape (T, C)
        In [-1, 1], without a unit.
    names : tuple of str
        One per column.
    """
    seconds = time.astype("datetime64[ns]").astype(np.int64) / 1e9
    periods = [(label, p) for label, p in (("hour", DAY), ("week", WEEK)) if duration >= 2 * p]
    angles = [2 * np.pi * (seconds % period) / period for _, period in periods]
    columns = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    names = tuple(f"{label}_{wave}" for label, _ in periods for wave in ("sin", "cos"))
    return np.stack(columns, axis=1) if columns else np.empty((len(time), 0)), names


def with_calendar(trace: Trace) -> Trace:
    """Return the trace with calendar features as its context, unless it has a context or is too short.

    Exchange sessions get none: all start at the same hour, and their weeks have gaps.
    """
    context, names = calendar_context(trace.time, trace.duration)
    if trace.context_names or trace.sessions or not names:
        return trace
    return trace.replace(context=context, context_names=names, context_units=("",) * len(names))
