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
    before, now : array, shape (..., K, D)
        Work of the hours before to be run at each center [GPU h], and the part of what comes in this hour.
    run : array, shape (..., K, W)
        Part of the work that arrived so many hours ago to be run, at all centers.
    reserved : array, shape (..., K, D)
        Training GPUs.
    idle, dynamic : arrays, shapes (..., D) and (..., S, D)
        Power of the inference GPUs without load, and what the planned load of each service adds [kW].
    level : array, shape (..., S)
        Requests per second that the instances are for.
    power : array, shape (..., D)
        Of the facilities as planned [kW].
    purchase : array, shape (..., D)
        Power [kW].
    net, charge : array, shape (..., D)
        Power into batteries less that out of them [kW], and the charge that this leaves [kWh].
    """

    before: Values
    now: Values
    run: Values
    reserved: Values
    idle: Values
    dynamic: Values
    level: Values
    power: Values
    purchase: Values
    net: Values
    charge: Values


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
    positive = np.maximum(weights, 1e-15)
    return positive / np.add.reduce(positive, -1, keepdims=True)


def slices(schedule: Schedule) -> Values:
    """A day-ahead schedule as decisions (T, d) by the hour, for ``action="schedule"``."""
    K, T, D, W = schedule.shares.shape
    by_age = np.zeros((T, K, W, D))
    for age in range(W):
        by_age[age:, :, age] = schedule.shares[:, : T - age, :, age].transpose(1, 0, 2)
    blocks = [schedule.reserved, schedule.load, schedule.instances, schedule.purchase, schedule.charge]
    rows = [np.moveaxis(block, -1, 0).reshape(T, -1) for block in (*blocks, schedule.discharge)]
    return np.concatenate((by_age.reshape(T, -1), *rows), axis=1)
