"""Fit the synthetic loads of power grids; called by ``python -m shiftgym.data.fit_synthetic``.

Cycles and the response to the temperature by least squares; the spread of the noise over the year from the log of
the squared residuals; the Ornstein-Uhlenbeck terms from the autocorrelation of the residuals over the spread.
"""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls

from .sampling import Floats
from .summary import autocorrelation
from .synthetic_grid import Signal, annual, degree_hours
from .trace import Trace

LAGS = np.concatenate((np.arange(1, 49), np.arange(60, 14 * 24, 12), np.arange(14, 60, 2) * 24))  # hours
LONGEST = 24 * 90.0  # hours: correlation time
FELT = ((1.0, 4.0, 8.0, 12.0, 16.0, 24.0), np.arange(46.0, 62.0, 2), np.arange(58.0, 74.0, 2))  # hours, deg F, deg F
WEATHER_UNTIL = "2011-12-30"  # the measured temperature of pjm-duq is right before
Table = dict[str, Any]


def fit_grid(trace: Trace, table: Table) -> Table:
    """Return the parameters of a load; ``table`` says which terms it has."""
    table = copy.deepcopy(table)
    load = trace.outcome[:, 0]
    table |= {"start": str(trace.time[0].astype("datetime64[s]")), "count": len(load), "mean": _short(load.mean())}
    time, log, extra = trace.time, np.log(load), np.empty((len(load), 0))
    if "temperature" in table:
        time = trace.time[: trace.index(WEATHER_UNTIL)]
        degrees, log = trace.context[: len(time), 0], log[: len(time)]
        table["climate"] = _short(degrees.mean())
        table["temperature"] = fit_signal(time, degrees, table["temperature"])[0]
        felt = min(product(*FELT), key=lambda felt: _misfit(time, log, table["load"], degree_hours(degrees, *felt)))
        extra = degree_hours(degrees, *felt)
    table["load"], slopes = fit_signal(time, log, table["load"], extra)
    if "temperature" in table:
        table["inertia"] = felt[0]
        table["heating"], table["cooling"] = ([float(b), _short(s)] for b, s in zip(felt[1:], slopes, strict=True))
    if "forecast" in table:
        error = log - np.log(trace.context[:, 0])
        memory = -1 / np.log(autocorrelation(error, 1))
        table["forecast"] = [_short(error.mean()), _short(error.std()), _short(memory)]
    return table


def fit_signal(
    time: NDArray[np.datetime64], values: Floats, table: Table, extra: Floats | None = None
) -> tuple[Table, Floats]:
    """Return the parameters of a signal, and the slopes of extra regressors, shape (E,)."""
    extra = np.empty((len(values), 0)) if extra is None else extra
    design = np.column_stack((Signal.design(time, table), extra, np.ones(len(values))))
    found = np.linalg.lstsq(design, values, rcond=None)[0].astype(np.float64)
    rest = values - design @ found
    year = annual(time, len(table["spread"]) // 2)
    energy = np.log(rest**2 + 1e-4 * rest.var())
    spread = np.linalg.lstsq(np.column_stack((year, np.ones(len(year)))), energy, rcond=None)[0][:-1] / 2
    even = rest / np.exp(year @ spread)
    fitted: Table = {}
    for name in ("annual", "daily", "seasonal", "weekend", "sunday"):
        size = np.size(table[name])
        fitted[name] = np.reshape([_short(x) for x in found[:size]], np.shape(table[name])).tolist()
        found = found[size:]
    fitted["noise"] = fit_noise(even, table["noise"])
    fitted["spread"] = [_short(x) for x in spread]
    return fitted, found[:-1]


def fit_noise(residual: Floats, terms: list[list[float]]) -> list[list[float]]:
    """Return standard deviation, correlation time and harmonic of each term, by least squares on the memory.

    The search starts at the correlation times of ``terms``, and keeps their harmonics; the shares of the variance
    are the non-negative ones that fit best and add up to nearly one.
    """
    _, start, harmonics = np.array(terms).T
    waves = np.cos(2 * np.pi * harmonics * LAGS[:, None] / 24)
    real = np.array([autocorrelation(residual, int(lag)) for lag in LAGS])
    total = 5.0  # weight of the sum of the shares

    def shares(logs: Floats) -> tuple[Floats, float]:
        curves = waves * np.exp(-LAGS[:, None] / np.exp(logs))
        found: tuple[Floats, float] = nnls(
            np.vstack((curves, np.full(len(logs), total))), np.append(real, total), maxiter=1000
        )
        return found

    options = {"maxfev": 3000, "adaptive": True}
    shortest = np.where(harmonics > 0, 24.0, 1.0)  # the shape of a day lasts a day at least
    begin, bounds = np.log(start.clip(shortest, LONGEST)), [(np.log(least), np.log(LONGEST)) for least in shortest]
    logs = minimize(lambda x: shares(x)[1], begin, method="Nelder-Mead", bounds=bounds, options=options).x
    sigmas = residual.std() * np.sqrt(shares(logs)[0])
    triples = zip(sigmas, np.exp(logs), harmonics, strict=True)
    return [[_short(sigma), _short(memory), int(harmonic)] for sigma, memory, harmonic in triples]


def _misfit(time: NDArray[np.datetime64], log: Floats, table: Table, extra: Floats) -> float:
    rows = slice(None, None, 7)  # every seventh hour meets all hours and days alike
    design = np.column_stack((Signal.design(time[rows], table), extra[rows], np.ones(len(log[rows]))))
    return float(np.linalg.lstsq(design, log[rows], rcond=None)[1][0])


def _short(value: float) -> float:
    return float(f"{value:.4g}")
