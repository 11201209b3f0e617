"""Integer instances: the cheapest ones that serve a class's load, and their places among the centers.

Facility power is the only thing by which inference weighs on a center (GPU limits aside), and it is the same whichever
class it serves. So the schedule fixes the instances of the whole fleet first, :func:`cover`, then the power of each
center, and :func:`place` deals out whole instances to these powers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..sparse import Index, Vector
from .fleet import Fleet
from .serving import Serving

#: Power [kW] of an instance of a pair that a class lacks.
_NEVER = 1e9
#: Instances of each pair but the cheapest of a class that :func:`cover` tries.
_TRIED = 4


class Cover(NamedTuple):
    """Instances of the whole fleet: ``instances`` and ``load`` (P, T), and a lower bound (T,) on their power [kW]."""

    instances: Vector
    load: Vector
    bound: Vector


def energy_per_load(serving: Serving) -> Vector:
    """Power per served request rate (P,) of an instance filled to its limit [kW s]."""
    return serving.idle_power / serving.capacity + serving.dynamic_power


def power_of_work(fleet: Fleet) -> Vector:
    """Power of the GPUs (S + K,) [kW] per request and second of each service, then per GPU h of each training class.

    Services by the pair of each class that needs least.
    """
    serving = fleet.serving
    least = np.full(len(serving.classes), np.inf)
    np.minimum.at(least, serving.klass, energy_per_load(serving))
    return np.concatenate((np.bincount(serving.service_of, serving.share * least), fleet.gpu_power))


def relaxed_cover(serving: Serving, load: Vector) -> Cover:
    """Fractional instances of the pair with the least power per load, for class loads (I, T): exact without (10)."""
    per_load = energy_per_load(serving)
    best = np.lexsort((per_load, serving.klass))[np.searchsorted(np.sort(serving.klass), np.arange(len(load)))]
    placed = np.zeros((serving.pairs, load.shape[1]))
    placed[best] = load
    return Cover(placed / serving.capacity[:, None], placed, per_load[best] @ load)


def cover(serving: Serving, load: Vector) -> Cover:
    """Whole instances (P, T) of least power for class loads (I, T), exact up to mixes with many odd instances.

    With e_j the least power that one instance of pair j adds over the cheapest pair b, a mix with m_j of them exceeds
    the fractional optimum by m_j e_j, and rounding b up by P^id_b. Enumerating m_j <= 4 therefore leaves out only mixes
    whose power is at least that of the fractional optimum plus 5 e_j, which is what ``bound`` accounts for.
    """
    pairs = pairs_by_energy(serving)
    known = pairs >= 0
    columns = ((serving.idle_power, _NEVER), (serving.dynamic_power, _NEVER), (serving.capacity, 0.0))
    idle, dynamic, limit = (np.where(known, values[pairs], missing)[..., None] for values, missing in columns)
    odd = np.indices((_TRIED + 1,) * (pairs.shape[1] - 1)).reshape(pairs.shape[1] - 1, -1)  # (J-1, mixes)
    rest = load[:, None] - np.einsum("jm,ijt->imt", odd, limit[:, 1:])
    base = np.ceil(np.maximum(rest, 0.0) / limit[:, :1] - 1e-9)
    odd = np.broadcast_to(odd[None, :, :, None], (len(load), *odd.shape, load.shape[1]))
    counts = np.concatenate([base[:, None], odd], axis=1)
    split = _fill(counts * limit[:, :, None], dynamic, load)
    power = (counts * idle[:, :, None] + split * dynamic[:, :, None]).sum(1)
    best = power.argmin(1)[:, None, None]
    instances, placed = np.zeros((2, serving.pairs, load.shape[1]))
    where = pairs[known]
    instances[where] = np.take_along_axis(counts, best, 2)[:, :, 0][known]
    placed[where] = np.take_along_axis(split, best, 2)[:, :, 0][known]
    per_load = idle + dynamic * limit  # of a full instance, and what it takes more than the best pair would
    best_per_load = per_load[:, :1] / limit[:, :1]
    extra = np.minimum(idle, per_load - limit * best_per_load)[:, 1:]
    untried = best_per_load[:, 0] * load + (_TRIED + 1) * extra.min(1)
    return Cover(instances, placed, np.minimum(power.min(1), untried).sum(0))


def pairs_by_energy(serving: Serving) -> Index:
    """Pairs of each class (I, J >= 2), least power per load first; -1 where a class has fewer."""
    order = np.lexsort((energy_per_load(serving), serving.klass))
    klass = serving.klass[order]
    place = np.arange(len(order)) - np.searchsorted(klass, klass)
    table = np.full((len(serving.classes), max(2, int(place.max()) + 1)), -1)
    table[klass, place] = order
    return table


def _fill(room: Vector, dynamic: Vector, load: Vector) -> Vector:
    """Load of each pair (I, J, mixes, T): those with the least dynamic power are filled first."""
    order = np.argsort(dynamic, axis=1)[:, :, None]
    sorted_room = np.take_along_axis(room, order, 1)
    before = np.cumsum(sorted_room, 1) - sorted_room
    taken = np.clip(load[:, None, None] - before, 0.0, sorted_room)
    split = np.empty_like(taken)
    np.put_along_axis(split, np.broadcast_to(order, taken.shape), taken, 1)
    return split


def routed_cover(serving: Serving, load: Vector, flow: Vector) -> Cover:
    """Whole instances for class loads (I, T) that follow a flow (P, D, T): full ones, and a cover of the rest."""
    full = np.floor(flow.sum(1) / serving.capacity[:, None] + 1e-6)
    served = np.zeros_like(load)
    np.add.at(served, serving.klass, full * serving.capacity[:, None])
    rest = cover(serving, np.maximum(load - served, 0.0))
    most = np.where(served > 0, np.minimum(load / np.where(served > 0, served, 1.0), 1.0), 0.0)[serving.klass]
    return Cover(full + rest.instances, full * serving.capacity[:, None] * most + rest.load, rest.bound)


def place(
    serving: Serving,
    chosen: Cover,
    target: Vector,
    headroom: Vector,
    gpus: Vector,
    whole: bool,
    seed: Vector | None = None,
) -> tuple[Vector, Vector, Vector]:
    """Deal the fleet's instances out to the centers, to powers near ``target``.

    Parameters
    ----------
    chosen : Cover
        Instances and load of the whole fleet.
    target, headroom : arrays, shape (D, T)
        Power of the GPUs that each center is to have, whose sum is that of ``chosen``, and by how much it may exceed it
        [kW].
    gpus : array, shape (D,)
        Limits of (10).
    whole : bool
        Whether instances are whole.
    seed : array, shape (P, D, T), optional
        Instances that have their place already, within the limits; others join them.

    Returns
    -------
    instances, load : arrays, shape (P, D, T)
    left : array, shape (P, T)
        Instances that no center has the GPUs for.
    """
    slots = np.arange(target.shape[1])
    left = chosen.instances.copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(left > 0, chosen.load / np.where(left > 0, left, 1.0), 0.0)
    unit = serving.idle_power[:, None] + serving.dynamic_power[:, None] * each
    pairs = [int(p) for p in np.argsort(-unit.max(1)) if left[p].any()]
    placed = np.zeros((serving.pairs, *target.shape)) if seed is None else seed.copy()
    left = np.maximum(left - placed.sum(1), 0.0)
    free = np.asarray(gpus, float)[:, None] - np.tensordot(serving.gpus, placed, 1)
    target = target - np.einsum("pt,pdt->dt", unit, placed)

    def deal(center: Index, room: Vector) -> Vector:
        """Fill one center per slot up to a power; returns what of it is left."""
        for p in pairs:
            fits = np.minimum(room / unit[p], free[center, slots] / serving.gpus[p])
            take = np.clip(np.floor(fits + 1e-9) if whole else fits, 0.0, left[p])
            left[p] -= take
            placed[p, center, slots] += take
            free[center, slots] -= take * serving.gpus[p]
            room = room - take * unit[p]
        return room

    behind = np.zeros(len(slots))
    used = target > 1e-9
    for center in np.lexsort((headroom, used), axis=0):  # idle centers first, then those at their limit
        wanted = target[center, slots]
        room = wanted + np.minimum(behind, headroom[center, slots])
        behind = behind + wanted - (room - deal(center, room))
    spare = headroom + target - np.einsum("pt,pdt->dt", unit, placed - (0.0 if seed is None else seed))
    for limit in (spare, np.full(target.shape, np.inf)):  # what is left goes where there is room, then anywhere
        for center in np.argsort(-spare, axis=0):
            if not (left > 1e-9).any():
                break
            deal(center, np.maximum(limit[center, slots], 0.0))
    return placed, placed * each[:, None], left
