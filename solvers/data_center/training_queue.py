"""Training work as a queue: bounds on what may wait, and the shares of (1a) to (2) that first in, first out gives.

All work of a class waits at most Delta_k hours, so serving it in the order of its arrival meets every deadline that any
order meets. A schedule therefore needs only the work done per class, center and slot, w, and the work b that waits:

    b_tau = b_{tau-1} + A_tau - sum_d w_{d tau},      0 <= b_tau <= what has arrived by tau and is not due by tau,

which is (1a) to (3a) without a variable for each pair of arrival and execution; shares are read off afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..sparse import Vector
from .fleet import Fleet


class Queue(NamedTuple):
    """Work per class and slot (K, T') [GPU h]: ``arriving``, and the most that may wait ``after`` each slot."""

    arriving: Vector
    after: Vector


def queue(fleet: Fleet, arrivals: Vector, backlog: Vector) -> Queue:
    """Queue of the arrivals (K, T), and of a backlog (K, W - 1) that is due by slot 0, 1, ... of this day.

    T' is T, or with ``carry_over`` reaches as far as the last window.
    """
    horizon = fleet.slots + fleet.tail
    arriving = np.zeros((len(fleet.classes), horizon))
    due = np.zeros_like(arriving)
    arriving[:, : fleet.slots] = arrivals
    arriving[:, 0] += backlog.sum(1)
    reach = min(backlog.shape[1], horizon)
    due[:, :reach] = backlog[:, :reach]
    due[:, horizon - 1] += backlog[:, reach:].sum(1)
    slot = np.arange(fleet.slots)
    for k, window in enumerate(fleet.windows):
        np.add.at(due[k], np.minimum(slot + window, horizon - 1), arrivals[k])
    return Queue(arriving, np.maximum(np.cumsum(arriving - due, axis=1), 0.0))


def first_in_first_out(fleet: Fleet, work: Vector, arrivals: Vector, backlog: Vector) -> tuple[Vector, Vector]:
    """Shares x (K, T, D, W) and executed backlog (K, D, T) of the work (K, D, T') done.

    Where nothing is expected to arrive, a share still says where work would run: at once, at the first allowed center.
    """
    K, D, horizon = work.shape
    T, reach = fleet.slots, fleet.reach
    total = work.sum(1)
    ends = np.concatenate([backlog.sum(1, keepdims=True), arrivals], 1).cumsum(1)  # of the queue, oldest first
    ends *= (total.sum(1) / np.maximum(ends[:, -1], 1e-300))[:, None]  # what is done is what arrived, up to rounding
    done = np.concatenate([np.zeros((K, 1)), total.cumsum(1)], 1)
    begins = np.concatenate([np.zeros((K, 1)), ends[:, :-1]], 1)
    overlap = np.minimum(ends[..., None], done[:, None, 1:]) - np.maximum(begins[..., None], done[:, None, :-1])
    amount = np.maximum(overlap, 0.0)  # (K, 1 + T, T'): of each arrival, the part done in each slot
    split = work / np.where(total > 0, total, 1.0)[:, None]
    carried = amount[:, 0, None, :T] * split[..., :T]
    shares = np.zeros((K, T, D, reach + 1))
    for offset in range(reach + 1):
        slots = max(0, min(T, horizon - offset))
        part = np.diagonal(amount[:, 1 : 1 + slots, offset : offset + slots], axis1=1, axis2=2)
        shares[:, :slots, :, offset] = part[..., None] * split[:, :, offset : offset + slots].transpose(0, 2, 1)
    return tidy_shares(fleet, shares), carried


def tidy_shares(fleet: Fleet, shares: Vector) -> Vector:
    """Shares with no negative part, none outside its window, and a sum of exactly one per arrival, (1a) to (1c)."""
    offset = np.arange(fleet.reach + 1)
    window = np.array(fleet.windows)[:, None]
    inside = (offset <= window)[:, None] & (np.arange(fleet.slots)[:, None] + offset < fleet.slots + fleet.tail)[None]
    shares = np.where(inside[:, :, None] & fleet.allowed[:, None, :, None], np.maximum(shares, 0.0), 0.0)
    total = shares.sum((2, 3), keepdims=True)
    lost = total[..., 0, 0] <= 0
    first = fleet.allowed.argmax(1)
    k, t = np.nonzero(lost)
    shares[k, t, first[k], 0] = 1.0
    return shares / np.where(lost[..., None, None], 1.0, total)


def executed(shares: Vector, arrivals: Vector, slots: int) -> Vector:
    """W (K, D, T) of (2) for shares (K, T, D, W) and arrivals (K, T) [GPU h], within the slots of the day."""
    K, T, D, width = shares.shape
    work = np.zeros((K, D, T + width))
    for offset in range(width):
        work[:, :, offset : offset + T] += (shares[..., offset] * arrivals[:, :, None]).transpose(0, 2, 1)
    return work[:, :, :slots]
