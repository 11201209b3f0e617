"""A day's schedule and the protective levels that it is made for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..base import ProblemError
from ..sparse import Vector
from .fleet import Fleet


class Levels(NamedTuple):
    """What a schedule must withstand; with the values to come it is the schedule of perfect information.

    Attributes
    ----------
    renewables : array, shape (D, T)
        R^low [kW]: at least this much comes from the plants on site.
    requests : array, shape (S, T)
        Lambda-bar [req/s]: at most this much arrives per service.
    arrivals : array, shape (K, T)
        A-bar [GPU h]: at most this much training work arrives per class in a slot.
    """

    renewables: Vector
    requests: Vector
    arrivals: Vector

    def checked(self, fleet: Fleet) -> Levels:
        """Levels as float arrays, within what is possible: 0 <= R <= R-bar, the others not negative.

        Raises
        ------
        ProblemError
            For a wrong shape or values that are not finite.
        """
        rows = {"renewables": fleet.size, "requests": len(fleet.services), "arrivals": len(fleet.classes)}
        arrays = {}
        for name, values in self._asdict().items():
            arrays[name] = check_array(f"levels.{name}", values, (rows[name], fleet.slots))
        limit = np.array(fleet.renewable_limit)[:, None]
        return Levels(
            np.clip(arrays["renewables"], 0.0, limit),
            np.maximum(arrays["requests"], 0.0),
            np.maximum(arrays["arrivals"], 0.0),
        )


class Day(NamedTuple):
    """Checked inputs of a day: ``prices`` (D, T + tail), ``levels``, ``charge`` (D,), ``backlog`` (K, W - 1)."""

    prices: Vector
    levels: Levels
    charge: Vector
    backlog: Vector


class Given(NamedTuple):
    """Training decided by itself: ``shares`` (K, T, D, W), ``carried`` and ``reserved`` (K, D, T').

    ``bound`` [$] holds for the whole schedule; ``solver`` says what solved it.
    """

    shares: Vector
    carried: Vector
    reserved: Vector
    bound: float
    solver: str


class Decided(NamedTuple):
    """The parts of a schedule from which the rest follows; shapes as in :class:`Schedule`."""

    shares: Vector
    carried: Vector
    reserved: Vector
    instances: Vector
    load: Vector


def check_array(name: str, values: object, shape: tuple[int, ...]) -> Vector:
    """Return ``values`` as float64 of that shape, finite; raises :class:`ProblemError` by their name."""
    array = np.asarray(values, float)
    if array.shape != shape:
        raise ProblemError(f"{name} has shape {array.shape}: give {shape}")
    if not np.isfinite(array).all():
        place = [int(axis[0]) for axis in np.nonzero(~np.isfinite(array))]
        raise ProblemError(f"{name} is {array[tuple(place)]} at {place}: give finite numbers")
    return array


@dataclass(frozen=True, eq=False)
class Schedule:
    """All decisions of a day, fixed before it begins.

    Attributes
    ----------
    shares : array, shape (K, T, D, W)
        x: part of the work arriving in slot t that runs at center d, tau - t slots later; W = longest window + 1.
        With ``carry_over`` slots after the last belong to the next day.
    carried : array, shape (K, D, T)
        Work from the day before [GPU h] that runs at center d in slot t.
    reserved : array, shape (K, D, T)
        C: reserved training GPUs.
    load, instances : arrays, shape (P, D, T)
        lambda [req/s] and n.
    level : array, shape (S, T)
        Lambda-bar [req/s].
    purchase, charge, discharge : arrays, shape (D, T)
        P^g, P^ch, P^dis [kW].
    overdraft : array, shape (D, T)
        Power [kW] that the levels leave uncovered; 0 in a feasible schedule.
    power : array, shape (D, T)
        P^DC, the planned power of the facility [kW].
    cost : float
        Objective (16a) [$]; no penalty is part of it.
    deferred : float
        Estimated cost [$] of what is put off to the next day.
    bound, gap : float
        A lower bound on the least ``cost + deferred`` [$], certified, and the relative distance to it. Both count
        what exceeds the fleet with its penalty; where requests were cut, the gap is infinite.
    feasible : bool
        Whether the fleet withstands the levels: nothing was cut, and there is no overdraft.
    solver : str
        What solved it, and why that.
    """

    shares: Vector
    carried: Vector
    reserved: Vector
    load: Vector
    instances: Vector
    level: Vector
    purchase: Vector
    charge: Vector
    discharge: Vector
    overdraft: Vector
    power: Vector
    cost: float = np.nan
    deferred: float = 0.0
    bound: float = -np.inf
    gap: float = np.inf
    feasible: bool = True
    solver: str = ""

    def pack(self) -> Vector:
        """Decisions as one flat vector, in the order of :func:`layout`."""
        return np.concatenate([getattr(self, name).ravel() for name in _DECIDED])

    @classmethod
    def unpack(cls, vector: Vector, fleet: Fleet) -> Schedule:
        """Schedule of a flat vector as it stands, feasible or not.

        What follows from the decisions is computed: ``power`` by (11a) to (13b), and ``level`` as the smallest one that
        the routing of a class of the service allows, (4a).
        """
        shapes = layout(fleet)
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        vector = check_array("the schedule", vector, (sum(sizes),))
        parts = np.split(vector, np.cumsum(sizes)[:-1])
        fields = {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        level = routed_level(fleet, fields["load"])
        power = planned_power(fleet, fields["reserved"], fields["instances"], fields["load"])
        return cls(**fields, level=level, overdraft=np.zeros_like(power), power=power)  # type: ignore[arg-type]

    def replace(self, **changes: object) -> Schedule:
        """Copy with other fields."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


_DECIDED = ("shares", "carried", "reserved", "load", "instances", "purchase", "charge", "discharge")


def layout(fleet: Fleet) -> dict[str, tuple[int, ...]]:
    """Shapes of the decisions in a packed schedule, in their order."""
    K, D, T, P = len(fleet.classes), fleet.size, fleet.slots, fleet.serving.pairs
    shapes = {"shares": (K, T, D, fleet.reach + 1), "carried": (K, D, T), "reserved": (K, D, T)}
    shapes |= {"load": (P, D, T), "instances": (P, D, T)}
    return shapes | dict.fromkeys(("purchase", "charge", "discharge"), (D, T))


def planned_power(fleet: Fleet, reserved: Vector, instances: Vector, load: Vector) -> Vector:
    """P^DC (D, T) [kW] of reserved GPUs (K, D, T), instances and load (P, D, T): (11a) to (13b)."""
    training = np.tensordot(fleet.gpu_power, reserved, 1)
    return fleet.facility[:, None] * (training + fleet.serving.power(instances, load))


def routed_level(fleet: Fleet, load: Vector) -> Vector:
    """Level Lambda-bar (S, T) [req/s] that load (P, D, T) serves of every class of a service, by (4a)."""
    serving = fleet.serving
    per_class = np.zeros((len(serving.classes), load.shape[-1]))
    np.add.at(per_class, serving.klass, load.sum(1))
    level = np.full((len(serving.services), load.shape[-1]), np.inf)
    np.minimum.at(level, serving.service_of, per_class / serving.share[:, None])
    return level
