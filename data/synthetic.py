"""Synthetic stand-ins fitted to the real LLM traces: same length, slot, units and calendar, no download.

A stand-in is a stochastic model with a handful of scalars per trace (``synthetic.toml``), fitted to the
real one by ``python -m shiftgym.data.fit_synthetic``. No number of a real trace is stored.

Request logs (:func:`synthetic_requests`) are Cox processes:

* the log rate is a slow hump over the span plus Ornstein-Uhlenbeck terms, a slow and a fast one;
* a semi-Markov gate opens and closes it (busy periods, short pauses, long silences, all lognormal), as in
  the on/off traffic models of Heffes and Lucantoni [1]_ and Willinger et al. [2]_;
* given the count and the rate, arrivals are a renewal process with gamma gaps in operational time
  (Poisson for shape 1), as ServeGen [3]_ finds for the clients of a service;
* prompt and output lengths are clipped lognormal mixtures, tied by a rank correlation [4]_.

Series (:func:`synthetic_trace`) have a log level with daily and weekly harmonics, autoregressive noise,
bursts and outages.

References
----------
.. [1] H. Heffes and D. Lucantoni, "A Markov modulated characterization of packetized voice and data
   traffic", IEEE JSAC 4(6), 1986.
.. [2] W. Willinger et al., "Self-similarity through high-variability", IEEE/ACM ToN 5(1), 1997.
.. [3] Y. Xiang et al., "ServeGen: Workload characterization and generation of large language model serving
   in production", NSDI 2026, arXiv:2505.09999, Section 3.
.. [4] R. Iman and W. Conover, "A distribution-free approach to inducing rank correlation among input
   variables", Communications in Statistics B 11(3), 1982.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import UnknownNameError
from .requests import RequestLog
from .trace import Provenance

Floats = NDArray[np.float64]

GRID = 0.1  # seconds: the rate of a request log is constant within a cell, far below the shortest slot


@dataclass(frozen=True)
class Lengths:
    """Token lengths: a lognormal mixture, rounded and clipped.

    Attributes
    ----------
    weights, medians, sigmas : list of float
        Of the components; sigmas are those of the logarithm.
    low, high : float
        Smallest and largest length (services cut long prompts).
    """

    weights: list[float]
    medians: list[float]
    sigmas: list[float]
    low: float
    high: float

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        """Draw ``count`` lengths in tokens before rounding and clipping, shape (count,)."""
        part = rng.choice(len(self.weights), size=count, p=np.array(self.weights) / sum(self.weights))
        noise = rng.standard_normal(count)
        return np.array(self.medians)[part] * np.exp(np.array(self.sigmas)[part] * noise)

    def clip(self, tokens: Floats) -> Floats:
        """Round to whole tokens within the limits."""
        return np.clip(np.rint(tokens), self.low, self.high)


@dataclass(frozen=True)
class Gate:
    """Busy periods and the gaps between them, lognormal sojourns in seconds.

    Attributes
    ----------
    busy, pause, silence : tuple of float
        Median and sigma of the logarithm: busy periods, gaps within a session, gaps between sessions.
    pause_share : float
        Share of the gaps that are pauses.
    """

    busy: tuple[float, float]
    pause: tuple[float, float]
    silence: tuple[float, float]
    pause_share: float

    def edges(self, span: float, rng: np.random.Generator) -> Floats:
        """Begin and end of each busy period in seconds, shape (N, 2); the first begins at 0, the last ends at span."""

        def mean(sojourn: tuple[float, float]) -> float:
            return sojourn[0] * float(np.exp(sojourn[1] ** 2 / 2))

        gap = self.pause_share * mean(self.pause) + (1 - self.pause_share) * mean(self.silence)
        count = max(2, round((span + gap) / (mean(self.busy) + gap)))
        pauses = round(self.pause_share * (count - 1))
        busy = stratified_lognormal(*self.busy, count, rng)
        gaps = np.concatenate(
            (
                stratified_lognormal(*self.pause, pauses, rng),
                stratified_lognormal(*self.silence, count - 1 - pauses, rng),
            )
        )
        gaps = np.append(rng.permutation(gaps), 0.0)
        ends = np.cumsum(busy + gaps) - gaps
        return np.stack((ends - busy, ends), axis=1) * (span / ends[-1])


@dataclass(frozen=True)
class Arrivals:
    """Rate of a request log, see the module's description.

    Attributes
    ----------
    hump, peak : float
        Amplitude of the slow hump of the log rate, and where it peaks, as a fraction of the span.
    slow, fast : tuple of float
        Standard deviation of the log rate and correlation time in seconds of the two random terms.
    shape : float
        Shape of the gamma gaps in operational time; 1 is Poisson, more is more regular.
    gate : Gate, optional
        Busy periods; without it the service is always busy.
    batch : tuple of float, optional
        Period of the clock that stamps arrivals, mean and standard deviation of its error, in seconds.
    """

    hump: float
    peak: float
    slow: tuple[float, float]
    fast: tuple[float, float]
    shape: float
    gate: Gate | None = None
    batch: tuple[float, float, float] | None = None

    def draw(self, count: int, span: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Arrival times in seconds and the slow term of the log rate at each, both of shape (count,)."""
        cells = int(np.ceil(span / GRID))
        middle = (np.arange(cells) + 0.5) * GRID
        slow = drift(cells, self.slow[1] / GRID, rng)
        level = self.hump * np.cos(2 * np.pi * (middle / span - self.peak)) + self.slow[0] * slow
        rate = np.exp(level + self.fast[0] * drift(cells, self.fast[1] / GRID, rng))
        edges = np.append(middle - GRID / 2, span)
        if self.gate is not None:
            # Busy seconds up to each cell edge, from the piecewise linear clock that stops in the gaps.
            begin_end = self.gate.edges(span, rng)
            clock = np.append(0.0, np.cumsum(begin_end[:, 1] - begin_end[:, 0]))
            clock = np.stack((clock[:-1], clock[1:]), axis=1)
            rate = rate * np.diff(np.interp(edges, begin_end.ravel(), clock.ravel()))
        work = np.append(0.0, np.cumsum(rate))
        gaps = rng.gamma(self.shape, size=count)
        seconds = np.interp((np.cumsum(gaps) - gaps[0]) / gaps[1:].sum() * work[-1], work, edges)
        if self.batch is not None:
            seconds = stamp(seconds, *self.batch, rng)
        return seconds, np.interp(seconds, middle, slow)


@dataclass(frozen=True)
class RequestModel:
    """All parameters of one synthetic request log.

    Attributes
    ----------
    start : str
        First arrival, ISO time, as in the real log.
    span, count : float, int
        Seconds and requests, as in the real log.
    arrivals, prompt, output : Arrivals, Lengths, Lengths
        The parts of the model.
    rank_correlation : float
        Between prompt and output.
    prompt_drift, output_drift : tuple of float
        Slow change of the log lengths: loading on the slow term of the rate, and on a term of its own.
    """

    start: str
    span: float
    count: int
    arrivals: Arrivals
    prompt: Lengths
    output: Lengths
    rank_correlation: float
    prompt_drift: tuple[float, float]
    output_drift: tuple[float, float]

    def draw(self, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        """Arrival seconds, prompt and output tokens, each of shape (count,)."""
        seconds, slow = self.arrivals.draw(self.count, self.span, rng)
        cells = int(np.ceil(self.span))
        own = np.interp(seconds, np.arange(cells), drift(cells, self.arrivals.slow[1], rng))
        prompt = self.prompt.draw(self.count, rng)
        output = reorder(self.output.draw(self.count, rng), prompt, self.rank_correlation, rng)
        for tokens, (with_rate, alone) in ((prompt, self.prompt_drift), (output, self.output_drift)):
            scale = np.exp(with_rate * slow + alone * own)
            tokens *= scale / scale.mean()
        return seconds, self.prompt.clip(prompt), self.output.clip(output)


def drift(count: int, memory: float, rng: np.random.Generator) -> Floats:
    """Ornstein-Uhlenbeck path of ``count`` steps with correlation time ``memory`` steps, shape (count,).

    Exact by circulant embedding (Davies and Harte, Biometrika 74(1), 1987), then brought to mean 0 and
    standard deviation 1, so that every seed has the fitted variance even when the path is short.
    """
    half = 1 << max(count - 1, 1).bit_length()  # a power of two: prime lengths make the transform ten times slower
    covariance = np.exp(-np.arange(half + 1) / memory)
    spectrum = np.fft.rfft(np.append(covariance, covariance[-2:0:-1])).real.clip(0)
    noise = np.fft.rfft(rng.standard_normal(2 * half))
    path = np.fft.irfft(noise * np.sqrt(spectrum), 2 * half)[:count]
    centred: Floats = path - path.mean()
    return centred / max(float(centred.std()), 1e-12)


def stratified_lognormal(median: float, sigma: float, count: int, rng: np.random.Generator) -> Floats:
    """One lognormal draw from each of ``count`` equally likely strata, in random order, shape (count,).

    A trace of an hour has few long silences; strata give every seed the fitted mix of them.
    """
    places = (rng.permutation(count) + rng.uniform(0.01, 0.99, count)) / max(count, 1)
    normal = NormalDist()
    return median * np.exp(sigma * np.array([normal.inv_cdf(float(place)) for place in places]))


def reorder(values: Floats, partner: Floats, correlation: float, rng: np.random.Generator) -> Floats:
    """Permute ``values`` so that their ranks correlate with those of ``partner`` (Iman and Conover)."""
    ranks = np.argsort(np.argsort(partner, kind="stable"), kind="stable")
    scores = np.sort(rng.standard_normal(len(values)))[ranks]
    mixed = correlation * scores + np.sqrt(1 - correlation**2) * rng.standard_normal(len(values))
    return np.sort(values)[np.argsort(np.argsort(mixed, kind="stable"), kind="stable")]


def stamp(seconds: Floats, period: float, offset: float, jitter: float, rng: np.random.Generator) -> Floats:
    """Stamp each arrival with the last tick of a clock whose ticks are read with a small error, in whole ms."""
    tick = (seconds / period).astype(np.int64)
    error = rng.normal(offset, jitter, tick.max() + 1)
    error[0] = max(error[0], 0.0)
    return np.floor((tick * period + error[tick]) * 1e3) / 1e3


@cache
def _parameters() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("synthetic.toml").read_text(encoding="utf-8"))


def request_model(table: dict[str, Any]) -> RequestModel:
    """Parameters of a request log from its TOML table."""
    rest = dict(table)
    arrivals = dict(rest.pop("arrivals"))
    gate = arrivals.pop("gate", None)
    return RequestModel(
        arrivals=Arrivals(**arrivals, gate=None if gate is None else Gate(**gate)),
        prompt=Lengths(**rest.pop("prompt")),
        output=Lengths(**rest.pop("output")),
        **rest,
    )


def synthetic_requests(name: str, seed: int = 0) -> RequestLog:
    """Synthetic stand-in of the request log ``name``.

    Parameters
    ----------
    name : str
        Name of the real log, such as ``"azure-2023-conv"``.
    seed : int
        Same seed, same log.

    Returns
    -------
    RequestLog
        Named ``synthetic-NAME``, with as many requests over as long a span as the real one.

    Raises
    ------
    UnknownNameError
        If no request-level stand-in has that name.
    """
    logs = _parameters()["requests"]
    if name not in logs:
        raise UnknownNameError("synthetic request log", name, logs)
    model = request_model(logs[name])
    seconds, prompt, output = model.draw(np.random.Generator(np.random.PCG64(seed)))
    time = np.datetime64(model.start, "ns") + np.rint(seconds * 1e9).astype("timedelta64[ns]")
    return RequestLog(f"synthetic-{name}", time, prompt, output, _provenance(name))


def _provenance(name: str) -> Provenance:
    return Provenance(
        source="shiftgym.data.synthetic",
        licence="Apache-2.0",
        synthetic=True,
        notes=f"Generated, not measured: a stochastic model fitted to {name}, for use where the real trace is not.",
    )
