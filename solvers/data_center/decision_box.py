"""The box of a data center's decisions: how far protective levels, or the blocks of a schedule, can reach."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fleet import Fleet
from .schedule import layout

Values = NDArray[np.float64]

#: Multiples of the forecast that relative levels may be: of renewables, of requests, of arrivals.
RELATIVE = ((0.0, 1.0), (0.5, 4.0), (0.5, 4.0))


def decision_box(fleet: Fleet, action: str) -> tuple[Values, Values]:
    """Least and largest decision, for an action of :class:`~shiftgym.solvers.data_center.DataCenter`.

    Levels reach from nothing to the nameplate power of a plant, to the requests that all GPUs could serve if there was
    but one service, and to the training work that all GPUs could run.
    """
    if action == "relative":
        counts = np.array([fleet.size, len(fleet.services), len(fleet.classes)]) * fleet.slots
        low, high = np.repeat(RELATIVE, counts, axis=0).T
        return low.copy(), high.copy()
    limits = _levels(fleet) if action == "levels" else _schedule(fleet)
    return np.zeros_like(limits), limits


def served_by_all(fleet: Fleet) -> Values:
    """Requests per second (S,) of each service that all GPUs of the fleet can take."""
    serving = fleet.serving
    need = np.full(len(serving.classes), np.inf)
    np.minimum.at(need, serving.klass, serving.gpus / serving.capacity)
    return sum(fleet.inference_capacity) / np.bincount(serving.service_of, serving.share * need)


def _levels(fleet: Fleet) -> Values:
    work = fleet.allowed @ np.array(fleet.training_capacity)
    return np.concatenate((fleet.renewable_limit, served_by_all(fleet), work)).repeat(fleet.slots)


def _schedule(fleet: Fleet) -> Values:
    reserved = np.array(fleet.training_capacity)[:, None]
    limits: dict[str, Any] = {"shares": 1.0, "carried": reserved, "reserved": reserved}
    limits |= {"instances": np.array(fleet.inference_capacity)[:, None] / 2, "load": served_by_all(fleet).max()}
    for name, field in (("purchase", "grid_limit"), ("charge", "charge_power"), ("discharge", "discharge_power")):
        limits[name] = np.array(getattr(fleet, field))[:, None]
    blocks = [np.broadcast_to(limits[name], shape).ravel() for name, shape in layout(fleet).items()]
    return np.concatenate(blocks).astype(np.float64)
