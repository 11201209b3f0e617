"""A fleet of AI data centers: sites, their limits and batteries, and the training classes that they run.

| symbol | field | unit | | symbol | field | unit |
|---|---|---|---|---|---|---|
| PUE_d | ``pue`` | 1 | | P-bar^g_d | ``grid_limit`` | kW |
| gamma_d | ``it_factor`` | 1 | | R-bar_d | ``renewable_limit`` | kW |
| P-bar^tr_k | ``training_power`` | kW/GPU | | E-bar_d | ``battery`` | kWh |
| u-bar_k | ``utilisation`` | 1 | | s-under, s-over | ``charge_range`` | 1 |
| C-bar_d | ``training_capacity`` | GPU | | P-bar^ch, P-bar^dis | ``charge_power``, ``discharge_power`` | kW |
| G-bar_d | ``inference_capacity`` | GPU | | eta^ch, eta^dis | ``charge_efficiency``, ``discharge_efficiency`` | 1 |
| Delta_k, D_k | ``windows``, ``sites`` | h | | E^0_d | ``initial_charge`` (of ``battery``) | 1 |
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.errors import UnknownNameError
from ..base import ProblemError
from .serving import QUEUES, SERVICES, Serving, serving

_PER_CENTER = (
    "pue",
    "it_factor",
    "training_capacity",
    "inference_capacity",
    "grid_limit",
    "renewable_limit",
    "battery",
    "charge_power",
    "discharge_power",
    "charge_efficiency",
    "discharge_efficiency",
    "initial_charge",
)
_PER_CLASS = ("training_power", "utilisation", "windows")
TERMINALS = ("cyclic", "free")


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Sites and training classes; the defaults are Table I of the source, where its symbols could be restored.

    The utilisation 0.8, the state of charge between 0.1 and 0.9 and its start at 0.5 are assumptions; so is that the
    triple 1470, 1550, 1580 kW limits both the imports and the plants on site.

    Parameters
    ----------
    centers, classes, services : tuple of str
        Names of the D centers, K training classes and S services (see :mod:`shiftgym.solvers.data_center.serving`).
    windows : tuple of int
        Delta_k: hours by which work of a class may be put off.
    sites : tuple of tuples of int, optional
        D_k: centers that may run each class; all of them by default.
    carbon_price : float
        c [$/kg CO2].
    slack, queue : float, str
        Allowance on the time to first token [s] and form of the queue, as in
        :func:`shiftgym.solvers.data_center.serving.serving`.
    terminal : {"cyclic", "free"}
        Whether a day must end with the charge that it began with, (14g).
    carry_over : bool
        Whether training windows reach into the next day; otherwise they end with it.
    slots : int
        T, the hours of a schedule.

    Raises
    ------
    ProblemError
        For a field of the wrong length, sign or range, by its name.
    """

    centers: tuple[str, ...] = ("CA", "NL", "DE")
    classes: tuple[str, ...] = ("V100", "T4", "P100")
    services: tuple[str, ...] = SERVICES
    pue: tuple[float, ...] = (1.2, 1.25, 1.3)
    it_factor: tuple[float, ...] = (1.53, 1.53, 1.53)
    training_power: tuple[float, ...] = (0.25, 0.07, 0.25)
    utilisation: tuple[float, ...] = (0.8, 0.8, 0.8)
    training_capacity: tuple[float, ...] = (5000.0, 5000.0, 5000.0)
    inference_capacity: tuple[float, ...] = (5500.0, 4600.0, 4700.0)
    windows: tuple[int, ...] = (2, 4, 7)
    sites: tuple[tuple[int, ...], ...] | None = None
    grid_limit: tuple[float, ...] = (1470.0, 1550.0, 1580.0)
    renewable_limit: tuple[float, ...] = (1470.0, 1550.0, 1580.0)
    battery: tuple[float, ...] = (400.0, 400.0, 400.0)
    charge_range: tuple[float, float] = (0.1, 0.9)
    charge_power: tuple[float, ...] = (80.0, 80.0, 80.0)
    discharge_power: tuple[float, ...] = (80.0, 80.0, 80.0)
    charge_efficiency: tuple[float, ...] = (0.95, 0.95, 0.95)
    discharge_efficiency: tuple[float, ...] = (0.95, 0.95, 0.95)
    initial_charge: tuple[float, ...] = (0.5, 0.5, 0.5)
    carbon_price: float = 0.1
    slack: float = 0.0
    queue: str = "mm1_wait"
    terminal: str = "cyclic"
    carry_over: bool = False
    slots: int = 24

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # lists, as JSON brings them, become tuples: a fleet can be a key
            if isinstance(value := getattr(self, field.name), list):
                value = tuple(tuple(item) if isinstance(item, list) else item for item in value)
                object.__setattr__(self, field.name, value)
        for names, size in ((_PER_CENTER, len(self.centers)), (_PER_CLASS, len(self.classes))):
            for name in names:
                self._check_numbers(name, size)
        low, high = self.charge_range
        if not 0 <= low <= high <= 1:
            raise ProblemError(f"charge_range is {self.charge_range}: give fractions 0 <= low <= high <= 1")
        for name in ("charge_efficiency", "discharge_efficiency", "initial_charge"):
            if max(getattr(self, name)) > 1 or (name != "initial_charge" and min(getattr(self, name)) == 0):
                raise ProblemError(f"{name} is {getattr(self, name)}: give fractions of at most 1")
        for name, valid in (("queue", QUEUES), ("terminal", TERMINALS)):
            if getattr(self, name) not in valid:
                raise UnknownNameError(name, getattr(self, name), valid)
        if any(window != int(window) for window in self.windows) or self.slots < 1:
            raise ProblemError(f"windows {self.windows} and slots {self.slots} count hours: give whole numbers")
        self._check_sites()

    def _check_numbers(self, name: str, size: int) -> None:
        values = getattr(self, name)
        if len(values) != size:
            raise ProblemError(f"{name} has {len(values)} entries: give {size}, one per center or class")
        if not all(math.isfinite(value) and value >= 0 for value in values):
            raise ProblemError(f"{name} is {values}: give finite numbers that are not negative")

    def _check_sites(self) -> None:
        sites = self.sites if self.sites is not None else (tuple(range(self.size)),) * len(self.classes)
        valid = set(range(self.size))
        if len(sites) != len(self.classes) or any(not chosen or not set(chosen) <= valid for chosen in sites):
            raise ProblemError(f"sites is {sites}: give for each training class some of the centers 0..{self.size - 1}")
        object.__setattr__(self, "sites", sites)

    @classmethod
    def of_size(cls, size: int, seed: int = 0, **fields: Any) -> Fleet:
        """Heterogeneous copies of the default centers, for studies of scale.

        Center d starts as default center d mod 3. Its capacities, limits and battery are scaled by one factor between
        0.7 and 1.3, and its PUE is drawn between 1.1 and 1.4.
        """
        base = cls()
        rng = np.random.default_rng(seed)
        factor, pue = rng.uniform(0.7, 1.3, size), rng.uniform(1.1, 1.4, size)
        origin = np.arange(size) % base.size
        columns: dict[str, Any] = {name: np.asarray(getattr(base, name))[origin] for name in _PER_CENTER}
        for name in ("training_capacity", "inference_capacity", "grid_limit", "renewable_limit", "battery"):
            columns[name] = columns[name] * factor
        for name in ("charge_power", "discharge_power"):
            columns[name] = columns[name] * factor
        columns["pue"] = pue
        names = tuple(f"{base.centers[place]}-{d}" for d, place in enumerate(origin))
        return cls(**{"centers": names, **{name: tuple(map(float, v)) for name, v in columns.items()}, **fields})

    @property
    def size(self) -> int:
        """D, the number of centers."""
        return len(self.centers)

    @property
    def reach(self) -> int:
        """Longest window Delta_k in hours."""
        return int(max(self.windows))

    @property
    def tail(self) -> int:
        """Hours of the next day into which work may be put off: 0 unless ``carry_over``."""
        return self.reach if self.carry_over else 0

    @property
    def facility(self) -> NDArray[np.float64]:
        """PUE_d gamma_d (D,): facility power per power of the GPUs, (11a) and (11b)."""
        return np.array(self.pue) * np.array(self.it_factor)

    @property
    def gpu_power(self) -> NDArray[np.float64]:
        """Power (K,) of a reserved training GPU [kW], (12)."""
        return np.array(self.training_power) * np.array(self.utilisation)

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Whether a center may run a training class, (K, D)."""
        assert self.sites is not None
        allowed = np.zeros((len(self.classes), self.size), bool)
        for k, chosen in enumerate(self.sites):
            allowed[k, list(chosen)] = True
        return allowed

    @property
    def serving(self) -> Serving:
        """What instances can do under this fleet's slack and queue."""
        return serving(self.slack, self.queue, self.services)

    def initial(self) -> NDArray[np.float64]:
        """Charge (D,) of the batteries [kWh] at the start, E^0_d."""
        return np.array(self.initial_charge) * np.array(self.battery)

    def to_dict(self) -> dict[str, Any]:
        """All fields, JSON-able."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Fleet:
        """Build the fleet of :meth:`to_dict`, or one that differs from the default in some fields.

        With ``size``, what it differs from are that many copies of the default centers, see :meth:`of_size`.
        """
        names = {"size", *(field.name for field in dataclasses.fields(cls))}
        for name in fields:
            if name not in names:
                raise UnknownNameError("field of a fleet", name, names)
        if "size" in fields:
            return cls.of_size(**fields)
        return cls(**fields)
