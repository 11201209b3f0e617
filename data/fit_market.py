"""Fit the stand-ins of stock markets: moments that can be measured directly, then those of clustered volatility."""

from __future__ import annotations

import copy
from typing import Protocol

import numpy as np

from .moments import Table, fit_moments
from .sampling import Floats
from .summary import autocorrelation, summarise_returns
from .synthetic_market import market_model
from .trace import Trace

TICKERS = 40  # of a simulated market while volatility is fitted
ROUNDS = 6  # of the corrections that bring the deviations and correlations of the whole market home
SCALES = {
    "kurtosis": 0.1, "market_kurtosis": 0.15, "own_kurtosis": 0.1, "own_together": 0.02,
    "square1": 0.03, "square5": 0.03, "square20": 0.03,
    **{f"{part}_size{lag}": 0.03 for part in ("market", "own") for lag in (1, 5, 20, 60)},
}  # fmt: skip
RELATIVE = {"kurtosis", "market_kurtosis", "own_kurtosis"}
FREE = [
    *((f"{part}_shocks", path, i) for part in ("market", "own") for path in ("slow", "fast") for i in (0, 1)),
    ("market_shocks", "tail"),
    ("own_shocks", "tail"),
    ("contagion",),
]
SEEDS = range(2)
STEPS = 160


class Simulator(Protocol):
    """Statistics of a simulated market; the whole of it without a number of tickers."""

    def __call__(self, table: Table, seed: int, tickers: int | None = ..., /) -> dict[str, float]: ...  # noqa: D102


def fit_market(trace: Trace, table: Table) -> Table:
    """Parameters of a market; ``table`` says how many sectors there are and where the search starts."""
    table, returns = copy.deepcopy(table), trace.outcome
    table["tickers"] = returns.shape[1]
    table |= measure(returns)
    if trace.context_names:
        table["volumes"] |= measure_volumes(trace)
    real = summarise_returns(returns)

    def simulate(moved: Table, seed: int, tickers: int | None = min(TICKERS, returns.shape[1])) -> dict[str, float]:
        rng = np.random.Generator(np.random.PCG64(seed))
        without = {key: value for key, value in moved.items() if key != "volumes"}
        return summarise_returns(market_model(without).draw(rng, tickers)[0])

    table = corrected(table, real, simulate)
    table = fit_moments(table, FREE, simulate, real, SCALES, RELATIVE, SEEDS, STEPS)
    return corrected(table, real, simulate)


def measure(returns: Floats) -> Table:
    """Parameters that the returns, shape (T, N), show directly."""
    centred = returns - returns.mean(axis=0)
    market = centred.mean(axis=1)
    exposure = market @ centred / (market @ market)
    own = (centred - np.outer(market, exposure)).std(axis=0)
    first = np.median([autocorrelation(column, 1) for column in centred.T])
    found = {
        "mean": [returns.mean(), returns.mean(axis=0).std()],
        "market": market.std(),
        "exposure": exposure.std(),
        "own": [np.median(own), np.log(own).std()],
        "affinity": np.corrcoef(exposure, np.log(own))[0, 1],
        "memory": first,
    }
    return {key: [_short(x) for x in v] if isinstance(v, list) else _short(v) for key, v in found.items()}


def measure_volumes(trace: Trace) -> Table:
    """Parameters of the log volumes, from their changes; a path of memory m has autocorrelation -(1 - m) / 2 there."""
    changes = trace.context[1:]
    sizes = np.diff(np.abs(trace.outcome / trace.outcome.std(axis=0)).clip(max=5.0), axis=0)
    centred, size = changes - changes.mean(axis=0), sizes - sizes.mean(axis=0)
    # the context of a row is the change that the session before brought: row t + 1 goes with the size of row t
    rows, same = centred[1:], size[:-1]
    reaction = float(np.median((rows * same).sum(axis=0) / np.square(same).sum(axis=0)))
    rest = rows - reaction * same
    decay = max(1 + 2 * float(np.median([autocorrelation(column, 1) for column in rest.T])), 0.05)
    pairs = np.triu_indices(rest.shape[1], 1)
    return {
        "deviation": _short(float(np.median(rest.std(axis=0))) / np.sqrt(2 * (1 - decay))),
        "memory": _short(-1 / np.log(decay)),
        "common": _short(np.corrcoef(rest.T)[pairs].mean()),
        "reaction": _short(reaction),
    }


def corrected(table: Table, real: dict[str, float], simulate: Simulator) -> Table:
    """Bring the deviations and correlations of the simulated market home, by the ratio to the real ones."""
    table = copy.deepcopy(table)
    measured = table["exposure"]  # the errors of the measurement add to it: it cannot be more
    for _ in range(ROUNDS):
        draws = [simulate(table, seed, None) for seed in SEEDS]
        ratio = {key: real[key] / np.mean([draw[key] for draw in draws]) for key in real}
        table["market"] = _short(table["market"] * ratio["market_deviation"])
        table["own"][0] = _short(table["own"][0] * ratio["deviation"])
        table["own"][1] = _short(table["own"][1] * ratio["deviation_spread"])
        table["exposure"] = _short(min(table["exposure"] * ratio["correlation_spread"], measured))
        table["sector_share"] = _short(min(table["sector_share"] * ratio["sectors"] ** 0.5, 0.9))
        table["memory"] = _short(table["memory"] + 0.5 * table["memory"] * (ratio["acf1"] - 1))
    return table


def _short(value: float) -> float:
    return float(f"{value:.4g}")
