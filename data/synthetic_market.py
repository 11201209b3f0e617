"""Synthetic stand-ins fitted to stock markets: one factor, sectors, clustered volatility, heavy tails, volumes.

The return of a ticker is its mean, its exposure to the market times the market's return, and its own part. The own
parts of a sector have a common share. The log volatility of the market and of every own part is the sum of a slow and
a fast autoregressive path [1]_, and own volatility rises with that of the market. Shocks have Student's
distribution [2]_. The log volume of a ticker reacts to the size of its return and has an autoregressive path, which
is in part common to all.

References
----------
.. [1] S. J. Taylor, Modelling Financial Time Series, Wiley, 1986 (stochastic volatility).
.. [2] R. Cont, "Empirical properties of asset returns: stylized facts and statistical issues", Quantitative Finance
   1(2), 2001.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .exchange import exchange_sessions
from .sampling import Floats
from .trace import Provenance, Trace

LOWEST = -0.9  # no ticker loses more in a session
Scale = tuple[float, float]


@dataclass(frozen=True)
class Shocks:
    """Shocks of unit variance whose volatility clusters.

    Attributes
    ----------
    slow, fast : tuple of float
        Standard deviation of the log volatility and correlation time in sessions of its two paths.
    tail : float
        Degrees of freedom of Student's distribution, over 2.
    """

    slow: Scale
    fast: Scale
    tail: float

    def volatility(self, count: int, columns: int, rng: np.random.Generator) -> Floats:
        """Log volatility, shape (count, columns)."""
        paths = (
            sigma * _standard(autoregressive(count, columns, memory, rng)) for sigma, memory in (self.slow, self.fast)
        )
        return np.asarray(sum(paths))


@dataclass(frozen=True)
class Volumes:
    """Log volumes.

    Attributes
    ----------
    deviation : float
        Standard deviation of the autoregressive path.
    memory : float
        Its correlation time in sessions.
    common : float
        Share of its variance that all tickers have in common.
    reaction : float
        Rise of the log volume per standard deviation of the size of the return.
    tail : float
        Degrees of freedom of Student's distribution of the shocks.
    """

    deviation: float
    memory: float
    common: float
    reaction: float
    tail: float

    def draw(self, returns: Floats, rng: np.random.Generator) -> Floats:
        """Log volumes that go with returns, both of shape (T, N)."""
        count, columns = returns.shape
        size = np.abs(returns / returns.std(axis=0))
        shared = autoregressive(count, 1, self.memory, rng)
        own = autoregressive(count, columns, self.memory, rng, self.tail)
        path = np.sqrt(self.common) * shared + np.sqrt(1 - self.common) * own
        return np.asarray(self.deviation * path + self.reaction * np.minimum(size, 5.0))


@dataclass(frozen=True)
class MarketModel:
    """All parameters of one synthetic market.

    Attributes
    ----------
    first, last : str
        First and last session, ISO dates.
    tickers : int
        Number of columns.
    mean : tuple of float
        Of the mean returns: their mean and standard deviation.
    market : float
        Standard deviation of the market's return.
    exposure : float
        Standard deviation of the exposures, whose mean is 1.
    own : tuple of float
        Of the deviations of the own parts: median and standard deviation of the logarithm.
    affinity : float
        Correlation of exposure and log deviation of the own part.
    sectors : int
        Groups of tickers.
    sector_share : float
        Share of the variance of the own parts that a sector has in common.
    memory : float
        First-order coefficient of all returns.
    contagion : float
        Rise of the log volatility of all own parts with that of the market.
    market_shocks, own_shocks : Shocks
        Of the market and of the own parts.
    volumes : Volumes, optional
        Where the real trace has volumes.
    """

    first: str
    last: str
    tickers: int
    mean: Scale
    market: float
    exposure: float
    own: Scale
    affinity: float
    sectors: int
    sector_share: float
    memory: float
    contagion: float
    market_shocks: Shocks
    own_shocks: Shocks
    volumes: Volumes | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Made-up tickers."""
        return tuple(f"S{number:03}" for number in range(1, self.tickers + 1))

    @property
    def time(self) -> NDArray[np.datetime64]:
        """The sessions, shape (T,)."""
        return exchange_sessions(self.first, self.last)

    def draw(self, rng: np.random.Generator, tickers: int | None = None) -> tuple[Floats, Floats | None]:
        """Returns and log volumes of each session, shape (T, N); another number of tickers if given."""
        count, columns = len(self.time), tickers or self.tickers
        volatility = self.market_shocks.volatility(count, 1, rng)
        market = _shocks(volatility, self.market_shocks.tail, rng)
        # One volatility for a ticker and for what its sector shares with it, or the shared part would lose its tail.
        level = self.own_shocks.volatility(count, columns, rng) + self.contagion * volatility
        sector = _student((count, self.sectors), self.own_shocks.tail, rng)[:, np.arange(columns) % self.sectors]
        alone = _student((count, columns), self.own_shocks.tail, rng)
        share = self.sector_share
        own = _standard(np.exp(level) * (np.sqrt(share) * sector + np.sqrt(1 - share) * alone))
        scores, other = _strata(columns, rng), _strata(columns, rng)
        exposure = np.maximum(1 + self.exposure * scores, 0.1)
        median, spread = self.own
        deviation = median * np.exp(spread * (self.affinity * scores + np.sqrt(1 - self.affinity**2) * other))
        noise = self.market * exposure * market + deviation * own
        noise[1:] += self.memory * noise[:-1]
        returns = np.maximum(self.mean[0] + self.mean[1] * _strata(columns, rng) + noise, LOWEST)
        return returns, None if self.volumes is None else self.volumes.draw(returns, rng)


def market_model(table: dict[str, Any]) -> MarketModel:
    """Parameters of a market from its TOML table."""
    rest = dict(table)
    market, own = (Shocks(**rest.pop(key)) for key in ("market_shocks", "own_shocks"))
    volumes = rest.pop("volumes", None)
    return MarketModel(
        market_shocks=market, own_shocks=own, volumes=None if volumes is None else Volumes(**volumes), **rest
    )


def market_trace(name: str, table: dict[str, Any], rng: np.random.Generator, provenance: Provenance) -> Trace:
    """Return the stand-in of the market ``name`` by its TOML table, with the context that the real one has."""
    model = market_model(table)
    returns, volumes = model.draw(rng)
    first = 1 if volumes is None else 2  # as in the real one, whose changes use up sessions
    changes = None if volumes is None else np.diff(volumes, axis=0)[:-1]
    return Trace(
        name=f"synthetic-{name}",
        time=model.time[first:].astype("datetime64[ns]"),
        outcome=returns[first:],
        slot=86400.0,
        outcome_names=model.names,
        outcome_units=("1",) * model.tickers,
        context=np.empty((0, 0)) if changes is None else changes,
        context_names=() if changes is None else tuple(f"volume:{ticker}" for ticker in model.names),
        context_units=() if changes is None else ("1",) * model.tickers,
        outcome_low=-1.0,
        sessions=True,
        provenance=provenance,
    )


def autoregressive(count: int, columns: int, memory: float, rng: np.random.Generator, tail: float = np.inf) -> Floats:
    """First-order autoregressive paths of unit variance, shape (count, columns), with correlation time ``memory``."""
    decay = np.exp(-1 / memory)
    shocks = _student((count, columns), tail, rng) * np.sqrt(1 - decay**2)
    shocks[0] /= np.sqrt(1 - decay**2)
    for row in range(1, count):
        shocks[row] += decay * shocks[row - 1]
    return shocks


def _student(shape: tuple[int, int], tail: float, rng: np.random.Generator) -> Floats:
    """Draws of unit variance; normal for an infinite ``tail``."""
    if np.isinf(tail):
        return rng.standard_normal(shape)
    return np.asarray(rng.standard_normal(shape) * np.sqrt((tail - 2) / (2 * rng.standard_gamma(tail / 2, shape))))


def _shocks(volatility: Floats, tail: float, rng: np.random.Generator) -> Floats:
    count, columns = volatility.shape
    return _standard(np.exp(volatility) * _student((count, columns), tail, rng))


def _standard(values: Floats) -> Floats:
    """Columns brought to mean 0 and deviation 1, so that every seed has the fitted moments."""
    centred = values - values.mean(axis=0)
    return np.asarray(centred / centred.std(axis=0))


def _strata(count: int, rng: np.random.Generator) -> Floats:
    """Normal scores of equally likely strata, in random order: every seed has the fitted mix of tickers."""
    normal = NormalDist()
    scores = np.array([normal.inv_cdf((place + 0.5) / count) for place in range(count)])
    return np.asarray(rng.permutation(scores))
