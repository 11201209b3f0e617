"""Synthetic stand-ins fitted to the load of power grids: hourly, on the wall clock, with weather or a forecast.

The log of the load has an annual cycle, a daily one whose shape changes with the season, a weekend, autoregressive
terms whose spread changes with the season, and, where the real trace has a temperature, a response to it: a slope
under a heating base and one over a cooling base, as in the degree-day models of load [1]_. The temperature itself
has an annual and a daily cycle and autoregressive terms. A day-ahead forecast is the load times a lognormal error
that is an Ornstein-Uhlenbeck path.

References
----------
.. [1] T. Hong and S. Fan, "Probabilistic electric load forecasting: A tutorial review", International Journal of
   Forecasting 32(3), 2016.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .sampling import Floats, day_and_weekend, drift, share_of_weekdays
from .trace import Provenance, Trace

HOUR = 3600.0
YEAR = 365.2425  # days


def waves(phase: Floats, harmonics: int) -> Floats:
    """Cosine and sine of each harmonic in turn, shape (T, 2 harmonics); ``phase`` counts periods."""
    angle = 2 * np.pi * phase[:, None] * np.arange(1, harmonics + 1)
    both: Floats = np.stack((np.cos(angle), np.sin(angle)), axis=2).reshape(len(phase), -1)
    return both


def annual(time: NDArray[np.datetime64], harmonics: int) -> Floats:
    """Waves of the year, shape (T, 2 harmonics)."""
    return waves((time - np.datetime64("2000-01-01", "ns")) / np.timedelta64(1, "D") / YEAR, harmonics)


@dataclass(frozen=True)
class Signal:
    """A signal with the cycles of the year, the day and the week, and noise.

    Attributes
    ----------
    annual, daily : list of float
        Cosine and sine amplitude of each harmonic in turn.
    seasonal : list of lists
        What the annual waves (rows) change of the first daily amplitudes (columns).
    weekend : list of float
        Change on Saturday and Sunday: of the level, then of the first daily amplitudes.
    sunday : list of float
        Further change of the level on Sunday; empty for none.
    noise : list of triples
        Standard deviation, correlation time in hours and harmonic of the day of each Ornstein-Uhlenbeck term;
        harmonic 0 moves the level, the others move the shape of the day.
    spread : list of float
        Amplitudes of the annual waves of the log standard deviation of the noise.
    """

    annual: list[float]
    daily: list[float]
    seasonal: list[list[float]]
    weekend: list[float]
    sunday: list[float]
    noise: list[list[float]]
    spread: list[float]

    @staticmethod
    def design(time: NDArray[np.datetime64], shape: dict[str, Any]) -> Floats:
        """Regressors of the cycles, shape (T, P), in the order of :meth:`amplitudes`; ``shape`` holds the lists."""
        day, rest = day_and_weekend(time, HOUR)
        year = annual(time, len(shape["annual"]) // 2)
        daily = waves(day, len(shape["daily"]) // 2)
        rows, columns = np.shape(shape["seasonal"])
        product = (year[:, :rows, None] * daily[:, None, :columns]).reshape(len(time), -1)
        calm = np.column_stack((np.ones(len(time)), daily))[:, : len(shape["weekend"])] * rest[:, None]
        sunday = share_of_weekdays(time, 6)[:, None][:, : len(shape["sunday"])]
        return np.column_stack((year, daily, product, calm, sunday))

    def amplitudes(self) -> Floats:
        """All amplitudes of the cycles, shape (P,)."""
        return np.concatenate((self.annual, self.daily, np.ravel(self.seasonal), self.weekend, self.sunday))

    def draw(self, time: NDArray[np.datetime64], rng: np.random.Generator) -> Floats:
        """The signal around zero, shape (T,)."""
        cycles = self.design(time, vars(self)) @ self.amplitudes()
        day, _ = day_and_weekend(time, HOUR)
        noise = np.zeros(len(time))
        for sigma, memory, harmonic in self.noise:
            angle = 2 * np.pi * harmonic * day
            for wave in (np.cos, np.sin) if harmonic else (np.cos,):
                noise += sigma * wave(angle) * drift(len(time), memory, rng)
        signal: Floats = cycles + np.exp(annual(time, len(self.spread) // 2) @ np.array(self.spread)) * noise
        return signal


@dataclass(frozen=True)
class GridModel:
    """All parameters of one synthetic load.

    Attributes
    ----------
    start : str
        First hour, ISO time.
    count : int
        Hours.
    mean : float
        Of the load, GW.
    load : Signal
        Log of the load, but for its response to the temperature.
    temperature : Signal, optional
        Temperature around its mean, deg F.
    climate : float
        Mean temperature, deg F.
    inertia : float
        Hours over which buildings average the temperature (the time constant of an exponential mean).
    heating, cooling : tuple of float
        Averaged temperature under, over which the load rises, deg F, and the slope of the log load per deg F.
    forecast : tuple of float, optional
        Mean, standard deviation and correlation time in hours of the log of load over forecast.
    """

    start: str
    count: int
    mean: float
    load: Signal
    temperature: Signal | None = None
    climate: float = 0.0
    inertia: float = 1.0
    heating: tuple[float, float] = (0.0, 0.0)
    cooling: tuple[float, float] = (0.0, 0.0)
    forecast: tuple[float, float, float] | None = None
    time: NDArray[np.datetime64] = field(init=False)

    def __post_init__(self) -> None:
        hours = np.arange(self.count) * np.timedelta64(1, "h")
        object.__setattr__(self, "time", np.datetime64(self.start, "ns") + hours)

    def draw(self, rng: np.random.Generator) -> tuple[Floats, dict[str, tuple[Floats, str]]]:
        """Load in GW, shape (T,), and context columns of that shape with their units, by name."""
        log = self.load.draw(self.time, rng)
        context = {}
        if self.temperature is not None:
            degrees = self.climate + self.temperature.draw(self.time, rng)
            felt = degree_hours(degrees, self.inertia, self.heating[0], self.cooling[0])
            log += felt @ (self.heating[1], self.cooling[1])
            context["temperature"] = (degrees, "degF")
        load = np.exp(log)
        load *= self.mean / load.mean()
        if self.forecast is not None:
            bias, sigma, memory = self.forecast
            context["forecast"] = (load * np.exp(-bias - sigma * drift(self.count, memory, rng)), "GW")
        return load, context


def degree_hours(degrees: Floats, inertia: float, heating: float, cooling: float) -> Floats:
    """Degrees of the averaged temperature under the heating base and over the cooling base, shape (T, 2)."""
    weights = np.exp(-np.arange(round(6 * inertia) + 1) / inertia)
    felt = np.convolve(degrees, weights)[: len(degrees)] / np.convolve(np.ones(len(degrees)), weights)[: len(degrees)]
    return np.stack((np.maximum(heating - felt, 0), np.maximum(felt - cooling, 0)), axis=1)


def grid_model(table: dict[str, Any]) -> GridModel:
    """Parameters of a load from its TOML table."""
    rest = dict(table)
    for name in ("load", "temperature"):
        if name in rest:
            rest[name] = Signal(**rest[name])
    return GridModel(**rest)


def grid_trace(name: str, table: dict[str, Any], rng: np.random.Generator, provenance: Provenance) -> Trace:
    """Return the stand-in ``synthetic-NAME``."""
    model = grid_model(table)
    load, context = model.draw(rng)
    return Trace(
        name=f"synthetic-{name}",
        time=model.time,
        outcome=load,
        slot=HOUR,
        outcome_names=("load",),
        outcome_units=("GW",),
        outcome_low=0.0,
        context=np.stack([column for column, _ in context.values()], axis=1) if context else np.empty((len(load), 0)),
        context_names=tuple(context),
        context_units=tuple(unit for _, unit in context.values()),
        provenance=provenance,
    )
