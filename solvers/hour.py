"""An hour of a fleet of data centers: what is decided for it, and what is handed on from one to the next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .schedule import Schedule

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Hour(NamedTuple):
    """What is decided for an hour; leading axes are batched.

    Attributes
    ----------
    shares, run : arrays, shapes (..., K, W, D) and (..., K, W)
        Part of the work that arrived so many hours ago to be run at each center now, and at all of them.
    reserved : array, shape (..., K, D)
        Training GPUs.
    idle, dynamic : arrays, shapes (..., D) and (..., S, D)
        Power of the inference GPUs without load, and what the planned load of each service adds [kW].
    level : array, shape (..., S)
        Requests per second that the instances are for.
    power : array, shape (..., D)
        Of the facilities as planned [kW].
    purchase, charge, discharge : arrays, shape (..., D)
        Power [kW].
    """

    shares: Values
    run: Values
    reserved: Values
    idle: Values
    dynamic: Values
    level: Values
    power: Values
    purchase: Values
    charge: Values
    discharge: Values


class State(NamedTuple):
    """What an hour hands on.

    Charge (..., D) [kWh], arrivals (..., K, W - 1) [GPU h] of the last hours, and the part (..., K, W) that waits of
    what comes in this hour, which is all of it, and of each of those; whether it must run now (..., K, W), as its
    window ends or with it the day; and whether the hour is the last of its day (..., 1), None where no one's is.
    """

    charge: Values
    recent: Values
    waiting: Values
    ending: Flags
    last: Flags | None


def slices_of(sizes: list[int]) -> list[slice]:
    """Slices of so many columns, one after the other."""
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def normalised(weights: Values) -> Values:
    """Weights (..., D) scaled to sum to one; equal ones where all are nothing."""
    total = np.add.reduce(weights, -1, keepdims=True)
    if total.min(initial=np.inf) > 1e-9:
        return weights / total
    return np.where(total > 1e-9, weights / np.maximum(total, 1e-9), 1.0 / weights.shape[-1])


def prepended(first: Values, others: Values) -> Values:
    """Values (..., K, W) of which the first (..., K) come before the others (..., K, W - 1)."""
    lead = others.shape[:-1]
    if first.ndim > others.ndim - 1:
        lead = np.broadcast_shapes(first.shape, lead)
    joined = np.empty((*lead, others.shape[-1] + 1))
    joined[..., 0], joined[..., 1:] = first, others
    return joined


def slices(schedule: Schedule) -> Values:
    """A day-ahead schedule as decisions (T, d) by the hour, for ``action="schedule"``."""
    K, T, D, W = schedule.shares.shape
    by_age = np.zeros((T, K, W, D))
    for age in range(W):
        by_age[age:, :, age] = schedule.shares[:, : T - age, :, age].transpose(1, 0, 2)
    blocks = [schedule.reserved, schedule.load, schedule.instances, schedule.purchase, schedule.charge]
    rows = [np.moveaxis(block, -1, 0).reshape(T, -1) for block in (*blocks, schedule.discharge)]
    return np.concatenate((by_age.reshape(T, -1), *rows), axis=1)
