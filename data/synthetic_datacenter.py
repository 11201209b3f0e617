"""Synthetic stand-ins fitted to the traces of data centers: plants, services, training, prices, carbon, weather.

Every column is a link function of a latent signal with the cycles of the year, the day and the week
(:class:`~shiftgym.data.synthetic_grid.Signal`) and Ornstein-Uhlenbeck noise whose spread changes with the season. The
innovations of all columns are tied by a few common factors, so that wind lowers prices and carbon and a day-ahead
forecast knows most of what it forecasts. The links make the noise of the columns themselves heteroscedastic: that of
services and training grows with their level, that of a plant is largest in the middle of its range, by day.

    log       exp(s)
    logistic  ceiling / (1 + exp(-s))                           0 to the ceiling: wind power
    solar     ceiling sun(t) / (1 + exp(-s)), at most high      sun: sine of the elevation, 0 at night; also as means
                                                                over some hours, as forecasts have them
    sinh      ceiling sinh(s)                                   of either sign, with heavy tails: prices
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .sampling import Floats, coloured, noise_length
from .synthetic_grid import Signal, annual
from .trace import Provenance, Trace

SLOT = 3600.0
KNOWN = ("price", "carbon", "forecast")  # first parts of the names of columns that are known before the day
SIGNAL = ("annual", "daily", "seasonal", "weekend", "sunday", "noise", "spread")


def sun(time: NDArray[np.datetime64], latitude: float, longitude: float) -> Floats:
    """Sine of the sun's elevation in the middle of each hour (UTC), 0 at night, shape (T,); degrees, east positive."""
    middle = time + np.timedelta64(30, "m")
    days = (middle - np.datetime64("2000-03-20", "ns")) / np.timedelta64(1, "D")
    declination = np.radians(23.44) * np.sin(2 * np.pi * days / 365.2425)
    angle = 2 * np.pi * (days % 1 - 0.5 + longitude / 360)
    height = np.radians(latitude)
    elevation = np.sin(height) * np.sin(declination) + np.cos(height) * np.cos(declination) * np.cos(angle)
    return np.asarray(elevation.clip(0.0))


def stepped(values: Floats, hours: int) -> Floats:
    """Mean over each so many hours, in all of them, shape (T,)."""
    return np.asarray(values.reshape(-1, hours).mean(axis=1).repeat(hours))


@dataclass(frozen=True)
class Column:
    """One column of a trace.

    Attributes
    ----------
    unit : str
        Of the values.
    link : {"log", "logistic", "solar", "sinh"}
        See the module's description.
    centre : float
        Mean of the latent signal.
    signal : Signal
        The latent signal around it; all harmonics of its noise are 0.
    loadings : list of float
        On each factor: what its innovations have in common with those of the other columns.
    ceiling : float
        Scale of the link.
    low, high : float
        Limits of the values.
    site : list of float
        Latitude and longitude of a solar plant, degrees.
    hours : int
        Over which values are averaged, by day.
    """

    unit: str
    link: str
    centre: float
    signal: Signal
    loadings: list[float]
    ceiling: float = 1.0
    low: float = 0.0
    high: float = np.inf
    site: tuple[float, float] = (0.0, 0.0)
    hours: int = 1

    def latent(self, time: NDArray[np.datetime64], innovations: Floats) -> Floats:
        """Latent signal, shape (T,), from white noise of shape (terms, N), with N enough for T."""
        noise = np.zeros(len(time))
        for (sigma, memory, _), white in zip(self.signal.noise, innovations, strict=True):
            noise += sigma * coloured(white, len(time), memory)
        spread = np.exp(annual(time, len(self.signal.spread) // 2) @ np.array(self.signal.spread))
        cycles = Signal.design(time, vars(self.signal)) @ self.signal.amplitudes()
        return np.asarray(self.centre + cycles + spread * noise)

    def values(self, time: NDArray[np.datetime64], latent: Floats) -> Floats:
        """Values of a latent signal, shape (T,)."""
        if self.link == "log":
            found = np.exp(latent)
        elif self.link == "sinh":
            found = self.ceiling * np.sinh(latent)
        else:
            found = self.ceiling / (1 + np.exp(-latent))
            if self.link == "solar":
                found = stepped(found * sun(time, *self.site), self.hours)
        return np.asarray(found.clip(self.low, self.high))


@dataclass(frozen=True)
class DataCenterModel:
    """All parameters of one synthetic trace of data centers.

    Attributes
    ----------
    start : str
        First hour, ISO time, UTC.
    count : int
        Hours.
    columns : mapping of str to Column
        In the order of the trace, outcomes before context; all have as many noise terms and loadings.
    """

    start: str
    count: int
    columns: Mapping[str, Column]

    @property
    def time(self) -> NDArray[np.datetime64]:
        """Start of each hour, shape (T,)."""
        return np.datetime64(self.start, "ns") + np.arange(self.count) * np.timedelta64(1, "h")

    def draw(self, rng: np.random.Generator) -> Floats:
        """All columns, shape (T, C)."""
        columns, time = list(self.columns.values()), self.time
        loadings = np.array([column.loadings for column in columns])
        own = np.sqrt(1 - np.square(loadings).sum(axis=1))
        terms, length = len(columns[0].signal.noise), noise_length(self.count)
        factors = rng.standard_normal((terms, loadings.shape[1], length))
        made = np.empty((len(time), len(columns)))
        for i, column in enumerate(columns):
            white = loadings[i] @ factors + own[i] * rng.standard_normal((terms, length))
            made[:, i] = column.values(time, column.latent(time, white))
        return made


def datacenter_model(table: dict[str, Any]) -> DataCenterModel:
    """Parameters of a trace of data centers from its TOML table."""
    rest = dict(table)
    columns = {}
    for name, fields in rest.pop("columns").items():
        signal = Signal(**{key: fields[key] for key in SIGNAL})
        columns[name] = Column(signal=signal, **{key: value for key, value in fields.items() if key not in SIGNAL})
    return DataCenterModel(columns=columns, **rest)


def datacenter_trace(name: str, table: dict[str, Any], rng: np.random.Generator, provenance: Provenance) -> Trace:
    """Return the stand-in ``synthetic-NAME``."""
    model = datacenter_model(table)
    values, names = model.draw(rng), list(model.columns)
    split = sum(column.partition(":")[0] not in KNOWN for column in names)
    units = tuple(column.unit for column in model.columns.values())
    return Trace(
        name=f"synthetic-{name}",
        time=model.time,
        outcome=values[:, :split],
        slot=SLOT,
        outcome_names=tuple(names[:split]),
        outcome_units=units[:split],
        outcome_low=0.0,
        context=values[:, split:],
        context_names=tuple(names[split:]),
        context_units=units[split:],
        provenance=provenance,
    )
