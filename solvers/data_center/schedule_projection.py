"""A schedule that can be carried out, next to one that was asked for: what is beyond a limit is cut, block by block.

The order matters, since later limits depend on earlier blocks: shares of the training work (1a) to (1c), instances
(10), load (9'), reserved GPUs (3b), purchase (16c), battery (14a) to (14g). What breaks no limit stays as it is, to the
last bit. Source of the constraints: "Contextual Robust Optimization for AI Data Center Scheduling with Statistical
Guarantees", Sec. III; the rules are this project's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .fleet import Fleet
from .schedule import Schedule

Values = NDArray[np.float64]

#: What may remain open: shares, GPUs, req/s and kW alike.
TOLERANCE = 1e-6


def admissible(fleet: Fleet) -> NDArray[np.bool_]:
    """Whether work of class k arriving in t may run at d so many slots later, (K, T, D, W): (1b), (1c)."""
    offset = np.arange(fleet.reach + 1)
    in_window = offset <= np.array(fleet.windows)[:, None]  # (K, W)
    in_time = np.arange(fleet.slots)[:, None] + offset < fleet.slots + fleet.tail  # (T, W)
    inside = in_window[:, None] & in_time  # (K, T, W)
    return inside[:, :, None] & fleet.allowed[:, None, :, None]


def within_limits(fleet: Fleet, asked: Schedule, whole: bool) -> Schedule:
    """The schedule with everything cut to the limits that do not depend on the state of the fleet.

    Parameters
    ----------
    fleet : Fleet
        Whose limits.
    asked : Schedule
        What was asked for: any finite numbers.
    whole : bool
        Whether instances must be whole.
    """
    serving = fleet.serving
    instances = _instances(fleet, asked.instances, whole)
    charge, discharge = _one_way(
        _clipped(asked.charge, np.array(fleet.charge_power)[:, None]),
        _clipped(asked.discharge, np.array(fleet.discharge_power)[:, None]),
    )
    return asked.replace(
        shares=_shares(fleet, asked.shares),
        carried=_clipped(asked.carried, np.inf if fleet.tail else 0.0),
        reserved=_scaled(_clipped(asked.reserved, np.inf), 1.0, np.array(fleet.training_capacity)),
        instances=instances,
        load=_clipped(asked.load, instances * serving.capacity[:, None, None]),
        purchase=_clipped(asked.purchase, np.array(fleet.grid_limit)[:, None]),
        charge=charge,
        discharge=discharge,
    )


def _kept(asked: Values, cut: Values) -> Values:
    """What was asked for where it is as good as what it was cut to."""
    return np.where(np.abs(asked - cut) <= TOLERANCE * (1 + np.abs(cut)), asked, cut)


def _clipped(asked: Values, high: Values | float) -> Values:
    return _kept(asked, np.clip(asked, 0.0, high))


def _scaled(asked: Values, weight: Values | float, capacity: Values) -> Values:
    """Amounts (X, D, T) scaled down so that their weighted sum is at most the capacity (D,)."""
    used = (asked * weight).sum(0)
    factor = np.minimum(1.0, capacity[:, None] / np.maximum(used, 1e-12))
    return _kept(asked, asked * factor)


def _shares(fleet: Fleet, asked: Values) -> Values:
    """Shares clipped to what is admissible, each row (k, t) summing to one; work that no one asks for runs at once."""
    allowed = admissible(fleet)
    clipped = np.where(allowed, np.maximum(asked, 0.0), 0.0)
    total = clipped.sum((2, 3), keepdims=True)
    at_once = allowed & (np.arange(allowed.shape[3]) == 0)
    spread = at_once / at_once.sum((2, 3), keepdims=True)
    return _kept(asked, np.where(total > TOLERANCE, clipped / np.maximum(total, TOLERANCE), spread))


def _instances(fleet: Fleet, asked: Values, whole: bool) -> Values:
    gpus = fleet.serving.gpus[:, None, None].astype(float)
    capacity = np.array(fleet.inference_capacity)
    positive = _clipped(asked, np.inf)
    if not whole:
        return _scaled(positive, gpus, capacity)
    whole_up = np.ceil(positive - TOLERANCE)
    scaled = _scaled(whole_up, gpus, capacity)
    return np.floor(scaled + TOLERANCE)


def _one_way(charge: Values, discharge: Values) -> tuple[Values, Values]:
    """No battery charges and discharges at once, (14c) to (14e): the difference remains."""
    both = np.minimum(charge, discharge)
    both = np.where(both > TOLERANCE, both, 0.0)
    return charge - both, discharge - both


def within_battery(fleet: Fleet, charge: Values, discharge: Values, stored: Values) -> tuple[Values, Values, Values]:
    """Charge and discharge (D, T) cut to what a battery that holds ``stored`` (D,) [kWh] can do.

    The last slot brings it back to where it began, as far as its power allows, unless the fleet's ``terminal`` is free.

    Returns
    -------
    charge, discharge : arrays, shape (D, T)
    stored : array, shape (D,)
        At the end of the day.
    """
    gain, loss = np.array(fleet.charge_efficiency), 1 / np.array(fleet.discharge_efficiency)
    low, high = (edge * np.array(fleet.battery) for edge in fleet.charge_range)
    begun, level = stored, stored
    done_in, done_out = charge.copy(), discharge.copy()
    for slot in range(charge.shape[1]):
        if slot == charge.shape[1] - 1 and fleet.terminal == "cyclic":
            needed = begun - level - gain * charge[:, slot] + loss * discharge[:, slot]
            off = np.abs(needed) > TOLERANCE * (1 + begun)
            change = begun - level
            back_in = np.clip(change / gain, 0.0, fleet.charge_power)
            back_out = np.clip(-change / loss, 0.0, fleet.discharge_power)
            done_in[:, slot] = np.where(off, back_in, charge[:, slot])
            done_out[:, slot] = np.where(off, back_out, discharge[:, slot])
        else:
            net = gain * charge[:, slot] - loss * discharge[:, slot]
            room_in, room_out = np.maximum(high - level, 0.0) / gain, np.maximum(level - low, 0.0) / loss
            full, empty = level + net > high + TOLERANCE, level + net < low - TOLERANCE
            done_in[:, slot] = np.where(full, np.minimum(charge[:, slot], room_in), charge[:, slot])
            done_out[:, slot] = np.where(empty, np.minimum(discharge[:, slot], room_out), discharge[:, slot])
        level = level + gain * done_in[:, slot] - loss * done_out[:, slot]
    return done_in, done_out, level
