"""Synthetic stand-ins fitted to the real traces: same length, slot, units and calendar, no download.

A stand-in is a stochastic model with a handful of scalars per trace (``synthetic.toml``), fitted to the
real one by ``python -m shiftgym.data.fit_synthetic``. No number of a real trace is stored.

Request logs (:func:`synthetic_requests`) are Cox processes:

* the log rate is a slow hump over the span plus Ornstein-Uhlenbeck terms, a slow and a fast one;
* a semi-Markov gate opens and closes it (busy periods, short pauses, long silences, all lognormal), as in
  the on/off traffic models of Heffes and Lucantoni [1]_ and Willinger et al. [2]_;
* given the count and the rate, arrivals are a renewal process with gamma gaps in operational time
  (Poisson for shape 1), as ServeGen [3]_ finds for the clients of a service;
* prompt and output lengths are clipped lognormal mixtures, tied by a rank correlation [4]_.

Series (:func:`synthetic_trace`) have a log level with daily harmonics, a weekend level and two
autoregressive terms, multiplied in episodes (bursts, outages) and brought to the fitted mean. The release
files, a week of requests, are such a series at ten minutes, refined to any shorter slot as a compound
Poisson process, again with an Ornstein-Uhlenbeck log rate. Grid loads, markets and data centers have modules of
their own.

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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import UnknownNameError
from .requests import RequestLog
from .sampling import Floats, day_and_weekend, drift, orthogonal, reorder, stamp, stratified_lognormal
from .synthetic_datacenter import datacenter_trace
from .synthetic_grid import grid_trace
from .synthetic_market import market_trace
from .trace import Provenance, Trace, format_duration, parse_duration

SYNTHETIC_NAMES = (
    "azure-2023-conv",
    "azure-2023-code",
    "mooncake-conversation",
    "azure-2024-conv",
    "azure-2024-code",
    "azure-2024-conv-10min",
    "azure-2024-code-10min",
    "azure-2024-conv-hourly",
    "servegen-m-large",
    "servegen-m-mid",
    "servegen-m-small",
    "servegen-deepseek-r1",
    "servegen-mm-image",
    "burstgpt-hourly",
    "pjm-duq",
    "pjm-duq-long",
    "pjm-east",
    "pjm-aep",
    "caiso",
    "germany",
    "sp500",
    "sp500-20",
    "datacenter-2021",
    "datacenter-2021-prices-2022",
    "datacenter-ca-nl",
)
LONG = {"datacenter": "datacenter-2021"}  # stand-ins longer than any real trace, and what they are fitted to
DEFAULT_SLOT = 2.0

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
        edges: Floats = np.stack((ends - busy, ends), axis=1) * (span / ends[-1])
        return edges


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

    def draw(self, count: int, span: float, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        """Arrival seconds; at each the slow term of the log rate and one that has nothing to do with the rate."""
        cells = int(np.ceil(span / GRID))
        middle = (np.arange(cells) + 0.5) * GRID
        angle = 2 * np.pi * (middle / span - self.peak)
        wave = (np.cos(angle), np.sin(angle))
        slow = orthogonal(drift(cells, self.slow[1] / GRID, rng), *wave)
        own = orthogonal(drift(cells, self.slow[1] / GRID, rng), *wave, slow)
        level = self.hump * wave[0] + self.slow[0] * slow
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
        return seconds, np.interp(seconds, middle, slow), np.interp(seconds, middle, own)


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
        seconds, slow, own = self.arrivals.draw(self.count, self.span, rng)
        prompt = self.prompt.draw(self.count, rng)
        output = reorder(self.output.draw(self.count, rng), prompt, self.rank_correlation, rng)
        for tokens, (with_rate, alone) in ((prompt, self.prompt_drift), (output, self.output_drift)):
            scale = np.exp(with_rate * slow + alone * own)
            tokens *= scale / scale.mean()
        return seconds, self.prompt.clip(prompt), self.output.clip(output)


@dataclass(frozen=True)
class Episodes:
    """Stretches of a series with another level: bursts (factor over 1) or outages (factor 0).

    Attributes
    ----------
    count : int
        Episodes in the series.
    length, factor : tuple of float
        Median and sigma of the logarithm, of the length in slots and of what multiplies the level.
    """

    count: int
    length: tuple[float, float]
    factor: tuple[float, float]

    def apply(self, level: Floats, rng: np.random.Generator) -> Floats:
        """Multiply the level, shape (T,), in the episodes."""
        begin = (np.arange(self.count) + rng.random(self.count)) / self.count * len(level)
        length = np.maximum(np.rint(stratified_lognormal(*self.length, self.count, rng)), 1)
        factor = stratified_lognormal(*self.factor, self.count, rng)
        changed = level.copy()
        for first, slots, times in zip(begin.astype(int), length.astype(int), factor, strict=True):
            changed[first : first + slots] = level[first : first + slots] * times  # the later one where two meet
        return changed


@dataclass(frozen=True)
class Requests:
    """What refines a series to short slots.

    Attributes
    ----------
    rate : float
        Mean requests per second.
    size_cv : float
        Coefficient of variation of the tokens of one request.
    fast : tuple of float
        Standard deviation of the log rate and correlation time in seconds, within the slots of the series.
    """

    rate: float
    size_cv: float
    fast: tuple[float, float]

    def refine(self, series: Floats, slot: float, short: float, rng: np.random.Generator) -> Floats:
        """Tokens in slots of ``short`` seconds, from tokens in slots of ``slot`` seconds."""
        places = (np.arange(round(len(series) * slot / short)) + 0.5) * short / slot - 0.5
        level = np.interp(places, np.arange(len(series)), series) / series.mean()
        sigma, memory = self.fast
        ratio = short / memory
        sigma *= np.sqrt(2 * (ratio - 1 + np.exp(-ratio))) / ratio  # of the mean over one slot
        level *= np.exp(sigma * drift(len(level), memory / short, rng) - sigma**2 / 2)
        number = rng.poisson(level * self.rate * short)
        tokens = rng.gamma(np.maximum(number, 1) / self.size_cv**2) * (number > 0)
        refined: Floats = tokens * (series.mean() * short / slot / tokens.mean())
        return refined


@dataclass(frozen=True)
class SeriesModel:
    """All parameters of one synthetic series.

    Attributes
    ----------
    start : str
        First slot, ISO time.
    slot, count : float, int
        Seconds per slot and number of slots.
    outcome, unit : str
        Name and unit of the outcome.
    mean : float
        Of the outcome.
    daily : list of pairs
        Cosine and sine amplitude of the log level, one pair per harmonic of the day.
    weekend, weekend_swing : float
        Change of the log level on Saturday and Sunday; what multiplies the daily harmonics then.
    slow, fast : tuple of float
        Standard deviation of the log level and correlation time in slots of the two random terms.
    episodes : list of Episodes
        Bursts and outages.
    counts : bool
        Whether the outcome is a Poisson count.
    requests : Requests, optional
        Of a release file, whose slots may be shorter.
    """

    start: str
    slot: float
    count: int
    outcome: str
    unit: str
    mean: float
    daily: list[list[float]]
    weekend: float
    weekend_swing: float
    slow: tuple[float, float]
    fast: tuple[float, float]
    episodes: list[Episodes]
    counts: bool = False
    requests: Requests | None = None

    @property
    def time(self) -> NDArray[np.datetime64]:
        """Start of each slot, shape (count,)."""
        step = np.timedelta64(round(self.slot * 1e9), "ns")
        return np.datetime64(self.start, "ns") + np.arange(self.count) * step

    def draw(self, rng: np.random.Generator) -> Floats:
        """Outcome of each slot, shape (count,)."""
        day, rest = day_and_weekend(self.time, self.slot)
        waves = [
            wave @ np.stack((np.cos(2 * np.pi * k * day), np.sin(2 * np.pi * k * day)))
            for k, wave in enumerate(np.array(self.daily), 1)
        ]
        log = sum(waves) * (1 + (self.weekend_swing - 1) * rest) + self.weekend * rest
        for sigma, memory in (self.slow, self.fast):
            log = log + sigma * drift(self.count, memory, rng)
        level: Floats = np.exp(log)
        for episodes in self.episodes:
            level = episodes.apply(level, rng)
        level *= self.mean / level.mean()
        return rng.poisson(level).astype(np.float64) if self.counts else level


@cache
def _parameters() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("synthetic.toml").read_text(encoding="utf-8"))


def _table(group: str, name: str) -> dict[str, Any]:
    """Parameters of a model; ``like`` names the one that it shares all else with."""
    table = dict(_parameters()[group][name])
    return table if "like" not in table else _parameters()[group][table.pop("like")] | table


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


def series_model(table: dict[str, Any]) -> SeriesModel:
    """Parameters of a series from its TOML table."""
    rest = dict(table)
    requests = rest.pop("requests", None)
    episodes = [Episodes(**episode) for episode in rest.pop("episodes", [])]
    return SeriesModel(episodes=episodes, requests=None if requests is None else Requests(**requests), **rest)


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


def synthetic_trace(name: str, seed: int = 0, slot: str | float | None = None) -> Trace:
    """Synthetic stand-in of the trace ``name``, in slots.

    Parameters
    ----------
    name : str
        Name of the real trace, one of :data:`SYNTHETIC_NAMES`, or of :data:`LONG`.
    seed : int
        Same seed, same trace.
    slot : str or float, optional
        Slot length: any for a request log, from fractions of a second to 10 minutes for a release file (both
        2 s by default), a multiple of the native one for a series (which is the default).

    Returns
    -------
    Trace
        Named ``synthetic-NAME``, of the length, units and dates of the real one.

    Raises
    ------
    UnknownNameError
        If no stand-in has that name.
    TraceError
        If the slot does not fit.
    """
    if name not in (names := (*SYNTHETIC_NAMES, *LONG)):
        raise UnknownNameError("synthetic trace", name, names)
    if name in _parameters()["requests"]:
        return synthetic_requests(name, seed).slots(DEFAULT_SLOT if slot is None else slot)
    rng = np.random.Generator(np.random.PCG64(seed))
    for group, make in (("grid", grid_trace), ("market", market_trace), ("datacenter", datacenter_trace)):
        if name in _parameters()[group]:
            trace = make(name, _table(group, name), rng, _provenance(name))
            return trace if slot is None else trace.coarsen(slot)
    model = series_model(_table("series", name))
    trace = _trace(name, model, model.draw(rng), model.slot)
    seconds = DEFAULT_SLOT if slot is None else parse_duration(slot)
    if model.requests is not None and seconds < model.slot:
        return _trace(name, model, model.requests.refine(trace.outcome[:, 0], model.slot, seconds, rng), seconds)
    return trace if slot is None else trace.coarsen(slot)


def _trace(name: str, model: SeriesModel, outcome: Floats, slot: float) -> Trace:
    step = np.timedelta64(round(slot * 1e9), "ns")
    return Trace(
        name=f"synthetic-{name}",
        time=np.datetime64(model.start, "ns") + np.arange(len(outcome)) * step,
        outcome=outcome,
        slot=slot,
        outcome_names=(model.outcome,),
        outcome_units=(f"{model.unit}/{format_duration(slot)}",),
        outcome_low=0.0,
        provenance=_provenance(name),
    )


def _provenance(name: str) -> Provenance:
    fitted = LONG.get(name, name)
    return Provenance(
        source="shiftgym.data.synthetic",
        licence="Apache-2.0",
        synthetic=True,
        notes=f"Generated, not measured: a stochastic model fitted to {fitted}, for use where the real trace is not.",
    )
