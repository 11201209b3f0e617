"""Nearest sequences that change by no more than a ramp limit: min |z - a|^2, |z_i - z_{i-1}| <= ramp, low <= z <= high.

Exact and finite, in NumPy and Python floats. A few rows go one by one through the dynamic programme over the hours
of :mod:`shiftgym.solvers.ramps`, which without samples needs no sorting (:func:`nearest_row`). Many rows at once
guess which ramps hold and correct the guess (:func:`_pivot`); rows for which that does not settle go one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: Fewer rows than this are faster one by one.
_FEW = 8
#: Changes of the guess; three or four are typical, and what takes more may never settle.
_PIVOTS = 12


def nearest(wanted: Floats, low: float, high: float, ramp: float) -> Floats:
    """Nearest feasible rows (R, n) to ``wanted`` (R, n); the box may be infinite."""
    found = np.empty_like(wanted)
    open_rows: Any = range(len(wanted))
    if len(wanted) >= _FEW:
        open_rows = _pivot(wanted, low, high, ramp, found)
    for row in open_rows:
        found[row] = nearest_row(wanted[row].tolist(), low, high, ramp)
    return found


def nearest_row(wanted: list[float], low: float, high: float, ramp: float) -> list[float]:
    """The nearest feasible sequence to one, as floats.

    The derivative of the cost-to-go is zero on a flat piece, and linear between the kinks on either side of it. Each
    side is a stack of (place, slope beyond, jump) with the kink next to the flat piece on top, in coordinates that
    decrease away from it: those of the right side are negated. An hour adds one to all slopes and moves all kinks
    away by the ramp, so they are kept as they would have been at the first hour. The hour's zero lies in the flat
    piece or on one side of it, and kinks passed on the way to it change sides.
    """
    left: list[tuple[float, float, float]] = []
    right: list[tuple[float, float, float]] = []
    best = []
    for hour, aim in enumerate(wanted):
        moved, rate = hour * ramp, 1.0 + hour
        start = max(left[-1][0] - moved, low) if left else low
        end = min(moved - right[-1][0], high) if right else high
        if start <= aim <= end:
            left.append((aim + moved, 1.0 - rate, 0.0))
            right.append((moved - aim, 1.0 - rate, 0.0))
            best.append(aim)
            continue
        near, far, sign, bound, place = (left, right, 1.0, low, start)
        if aim > end:
            near, far, sign, bound, place = right, left, -1.0, -high, -end
        value, slope = place - sign * aim, 1.0  # just before the kink at this place
        while place > bound:
            _, beyond, jump = near.pop()
            beyond += rate
            after = value - jump
            if after <= 0:  # the zero is the kink
                near.append((place + moved, beyond - rate, -after))
                far.append((moved - place, slope - rate, value))
                break
            far.append((moved - place, slope - rate, jump))
            following = max(near[-1][0] - moved, bound) if near else bound
            zero = place - after / beyond
            if zero >= following:
                place = zero
                near.append((place + moved, beyond - rate, 0.0))
                far.append((moved - place, beyond - rate, 0.0))
                break
            value, slope, place = after - beyond * (place - following), beyond, following
        else:  # the derivative is not zero before the bound, beyond which nothing matters
            near.clear()
            far.append((moved - place, slope - rate, value))
        best.append(sign * place)
    for hour in range(len(best) - 2, -1, -1):
        best[hour] = min(max(best[hour], best[hour + 1] - ramp), best[hour + 1] + ramp)
    return best


def _pivot(wanted: Floats, low: float, high: float, ramp: float, found: Floats) -> Floats:
    """Fill the rows of ``found`` that a few guesses of the active ramps settle; return the numbers of the others.

    Hours tied by active ramps form a block, and the best shift of a block is a mean, or where it meets the box. Then
    a ramp that is broken becomes active, and one whose multiplier has the wrong sign becomes free (the primal-dual
    active set method of Hintermueller, Ito and Kunisch 2002). Where nothing changes, the conditions of
    optimality hold.
    """
    hours = wanted.shape[1]
    rows = np.arange(len(wanted))
    held = np.zeros_like(wanted)  # sign of the change from the hour before where the ramp holds it, else 0
    slack = 1e-14 * hours * (np.abs(wanted).max(1, keepdims=True) + ramp)
    lost = []
    for _ in range(_PIVOTS):
        offset = held.cumsum(1) * ramp
        first = np.flatnonzero(held.reshape(-1) == 0)  # of every block
        size = np.diff(first, append=wanted.size)
        shift = np.add.reduceat((wanted - offset).reshape(-1), first) / size
        z = offset + shift.repeat(size).reshape(offset.shape)
        force = z - wanted
        if z.min() < low or z.max() > high:
            _meet_box(z, force, offset, first, size, low, high)
        multiplier = force.cumsum(1)[:, :-1]
        change, now = np.diff(z, axis=1), held[:, 1:]
        kept = now * (now * multiplier >= -slack)
        new = np.where(now != 0, kept, np.sign(change) * (np.abs(change) > ramp + slack))
        open_row = (new != now).any(1)
        held[:, 1:] = new
        if not open_row.all():
            settled = ~open_row
            inside = ((z >= low - slack) & (z <= high + slack)).all(1)  # a block may be too long for the box
            found[rows[settled]] = np.clip(z[settled], low, high)
            lost.append(rows[settled & ~inside])
            rows, wanted, held, slack = rows[open_row], wanted[open_row], held[open_row], slack[open_row]
            if not len(rows):
                break
    return np.concatenate((*lost, rows))


def _meet_box(
    z: Floats, force: Floats, offset: Floats, first: NDArray[Any], size: NDArray[Any], low: float, high: float
) -> None:
    """Shift blocks that leave the box into it, in place, and take the force of the bound off the hour it acts on."""
    flat, forces = z.reshape(-1), force.reshape(-1)
    below, above = np.minimum.reduceat(flat, first) < low, np.maximum.reduceat(flat, first) > high
    block = np.flatnonzero(below | above)
    size, sign = size[block], np.where(below[block], 1.0, -1.0)
    hour = (first[block] - np.append(0, size[:-1].cumsum())).repeat(size) + np.arange(size.sum())
    begin = np.append(0, size[:-1].cumsum())
    towards = flat[hour] * sign.repeat(size)
    extreme = np.minimum.reduceat(towards, begin)
    shift = np.where(sign > 0, low, high) - sign * extreme
    flat[hour] += shift.repeat(size)
    forces[hour] += shift.repeat(size)
    touch = np.flatnonzero(towards == extreme.repeat(size))
    owner = np.arange(len(block)).repeat(size)[touch]
    touch = touch[np.append(True, owner[1:] != owner[:-1])]  # the first hour of each block
    forces[hour[touch]] -= shift * size
