"""Fit the synthetic stand-ins to the real traces: ``python -m shiftgym.data.fit_synthetic [NAME ...]``.

Rewrites ``synthetic.toml``. Its present content says which parts a model has and where the search starts.

* Length mixtures by expectation maximisation on the logarithm of the tokens.
* The hump, the daily harmonics and the weekend by least squares on the log level.
* Grid loads as in :mod:`shiftgym.data.fit_grid`, markets as in :mod:`shiftgym.data.fit_market`, data centers as in
  :mod:`shiftgym.data.fit_datacenter`.
* All else by the simulated method of moments (:mod:`shiftgym.data.moments`).
"""

from __future__ import annotations

import argparse
import copy
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from .files import atomic_write
from .fit_datacenter import fit_datacenter
from .fit_grid import fit_grid
from .fit_market import fit_market
from .moments import Path_, Table, fit_moments
from .registry import load_requests, load_trace
from .requests import RequestLog
from .sampling import Floats, day_and_weekend
from .summary import summarise
from .synthetic import request_model, series_model
from .trace import Trace

EM_STEPS = 400
SLOT = 2.0  # seconds: slots in which request logs are compared
# Scale of each statistic in the distance: one unit of error. Relative for those that are not shares or correlations.
SCALES = {
    "cv": 0.04, "change": 0.04, "zero": 0.01, "silence": 0.005, "acf1": 0.03, "acf5": 0.03, "acf30": 0.04,
    "p95": 0.06, "p99": 0.06, "max": 0.25,
}  # fmt: skip
RELATIVE = {"cv", "change", "p95", "p99", "max"}
# What the method of moments moves, as paths into the TOML table; all are positive.
REQUESTS_FREE = [("arrivals", part, i) for part in ("slow", "fast") for i in (0, 1)]
GATE_FREE = [("arrivals", "gate", part, i) for part in ("busy", "pause", "silence") for i in (0, 1)]
SERIES_FREE = [(part, i) for part in ("slow", "fast") for i in (0, 1)]
FITS = {"grid": fit_grid, "market": fit_market, "datacenter": fit_datacenter}


def fit_lengths(tokens: Floats, components: int) -> Table:
    """Lognormal mixture of token counts by expectation maximisation, from quantiles as the start."""
    log = np.log(np.maximum(tokens, 1))
    middle = np.quantile(log, (np.arange(components) + 0.5) / components)
    noise = np.random.default_rng(0).normal(0, 0.3, (5, components))
    starts = [middle, *np.sort(middle + noise)]  # EM finds local optima: the best of a few starts
    _, (share, mean, sigma) = max((_expectation_maximisation(log, start) for start in starts), key=lambda x: x[0])
    return {
        "weights": [round(float(x), 3) for x in share],
        "medians": [round(float(x), 1) for x in np.exp(mean)],
        "sigmas": [round(float(x), 3) for x in sigma],
        "low": float(tokens.min()),
        "high": float(tokens.max()),
    }


def _expectation_maximisation(log: Floats, mean: Floats) -> tuple[float, tuple[Floats, Floats, Floats]]:
    share, sigma = np.full(len(mean), 1 / len(mean)), np.full(len(mean), log.std() / len(mean))
    for _ in range(EM_STEPS):
        # a row per component: long rows are summed fast, and there are few of them
        density = np.log(share / sigma)[:, None] - 0.5 * np.square((log - mean[:, None]) / sigma[:, None])
        top = density.max(0)
        part = np.exp(density - top)
        total = part.sum(0)
        part /= total
        weight = part.sum(1) + 1e-9
        share, mean = weight / weight.sum(), part @ log / weight
        # The floor keeps a component from closing in on a spike; clipping makes the spikes that services have.
        sigma = np.sqrt((part * np.square(log - mean[:, None])).sum(1) / weight).clip(0.03)
    return float((top + np.log(total)).mean()), (share, mean, sigma)


def fit_hump(log: RequestLog) -> tuple[float, float]:
    """Amplitude and place of the slow hump, by least squares on the log rate per minute (silent ones left out)."""
    seconds = (log.time - log.time[0]) / np.timedelta64(1, "s")
    counts = np.bincount((seconds // 60).astype(int))[:-1]
    place = 2 * np.pi * (np.arange(len(counts)) + 0.5) * 60 / seconds[-1]
    design = np.stack((np.ones(len(counts)), np.cos(place), np.sin(place)), 1)
    _, cosine, sine = np.linalg.lstsq(design[counts > 0], np.log(counts[counts > 0]), rcond=None)[0]
    return round(float(np.hypot(cosine, sine)), 3), round(float(np.arctan2(sine, cosine) / 2 / np.pi % 1), 3)


def fit_profile(trace: Trace, harmonics: int) -> Table:
    """Daily harmonics and weekend by least squares on the log level of the slots that are not empty."""
    level = trace.outcome[:, 0]
    day, rest = day_and_weekend(trace.time, trace.slot)
    angle = 2 * np.pi * day[:, None] * np.arange(1, harmonics + 1)
    waves = np.stack((np.cos(angle), np.sin(angle)), 2).reshape(len(level), -1)
    dated = trace.time[0] > np.datetime64("1971-01-01")  # nominal dates have no weekend
    work = (level > 0) & ((rest == 0) | ~dated)
    log = np.log(np.maximum(level, 1e-9))
    found = np.linalg.lstsq(np.column_stack((np.ones(len(level)), waves))[work], log[work], rcond=None)[0]
    weekend = [0.0, 1.0]
    if dated:
        off = (level > 0) & (rest == 1)
        design = np.column_stack((np.ones(off.sum()), waves[off] @ found[1:]))
        weekend = np.linalg.lstsq(design, log[off] - found[0], rcond=None)[0].tolist()
    return {
        "daily": [[round(float(x), 3) for x in pair] for pair in found[1:].reshape(-1, 2)],
        "weekend": round(weekend[0], 3),
        "weekend_swing": round(weekend[1], 3),
    }


def fit_requests(name: str, table: Table) -> Table:
    """Parameters of the request log ``name``."""
    log = load_requests(name)
    table = copy.deepcopy(table)
    table["count"], table["rank_correlation"] = len(log), round(float(spearmanr(log.prompt, log.output)[0]), 3)
    for field, tokens in (("prompt", log.prompt), ("output", log.output)):
        table[field] = fit_lengths(tokens, len(table[field]["weights"]))
    free: list[Path_] = [*REQUESTS_FREE]
    if "gate" in table["arrivals"]:
        free += GATE_FREE
    else:
        table["arrivals"]["hump"], table["arrivals"]["peak"] = fit_hump(log)

    def simulate(moved: Table, seed: int) -> dict[str, float]:
        seconds, prompt, output = request_model(moved).draw(np.random.Generator(np.random.PCG64(seed)))
        slots: Floats = np.bincount((seconds // SLOT).astype(int), prompt + output).astype(np.float64)
        return summarise(slots[: int(seconds[-1] // SLOT)])

    return fit_moments(table, free, simulate, summarise(log.slots(SLOT).outcome[:, 0]), SCALES, RELATIVE)


def fit_series(name: str, table: Table) -> Table:
    """Parameters of the series ``name``."""
    trace = load_trace(name)
    outcome = trace.outcome[:, 0]
    table = copy.deepcopy(table) | fit_profile(trace, len(table["daily"]))
    table["mean"] = float(f"{outcome.mean():.6g}")
    episodes = table.get("episodes", [])
    free: list[Path_] = [*SERIES_FREE]
    for i, episode in enumerate(episodes):  # an outage has no size, a flicker of one slot no length
        sized, long = episode["factor"][0] > 0, episode["length"][0] > 1
        free += [("episodes", i, "factor", j) for j in (0, 1) if sized] + [("episodes", i, "length", 0)] * long

    def simulate(moved: Table, seed: int) -> dict[str, float]:
        return summarise(series_model(moved).draw(np.random.Generator(np.random.PCG64(seed))))

    return fit_moments(table, free, simulate, summarise(outcome), SCALES, RELATIVE)


def to_toml(parameters: Table) -> str:
    """Text of the parameter file; ``tomllib`` reads it back."""

    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{ " + ", ".join(f"{key} = {value(inner)}" for key, inner in item.items()) + " }"
        if isinstance(item, list):
            return "[" + ", ".join(map(value, item)) + "]"
        if isinstance(item, bool):
            return str(item).lower()
        return f'"{item}"' if isinstance(item, str) else repr(item)

    def section(heading: str, table: Table) -> list[str]:
        inner = {key: item for key, item in table.items() if key == "columns"}  # one line each: there are many
        rows = (f"{_quoted(key)} = {value(item)}" for key, item in table.items() if key not in inner)
        return ["", f"[{heading}]", *rows, *(line for key in inner for line in section(f"{heading}.{key}", inner[key]))]

    lines = [
        "# Parameters of the synthetic stand-ins; synthetic.py documents each field. Times in seconds unless it says",
        "# slots, lengths in tokens. Fitted to the real traces by `python -m shiftgym.data.fit_synthetic`.",
    ]
    for group in ("requests", "series", *FITS):
        for name, table in parameters[group].items():
            lines += section(f"{group}.{name}", table)
    return "\n".join(lines) + "\n"


def _quoted(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key) else f'"{key}"'


def main(arguments: Sequence[str] | None = None) -> None:
    """Refit the named stand-ins, all by default, and rewrite the parameter file."""
    path = Path(__file__).with_name("synthetic.toml")
    parameters = tomllib.loads(path.read_text(encoding="utf-8"))
    # A release file is too large to fit to: its model is that of the ten-minute series, refined. A stand-in that is
    # longer than what it was fitted to has no trace of its own either.
    fitted = [
        name for group in ("requests", "series", *FITS) for name, t in parameters[group].items() if "like" not in t
    ]
    parser = argparse.ArgumentParser(description="Refit the synthetic stand-ins to the real traces.")
    parser.add_argument(
        "names",
        nargs="*",
        default=fitted,
        metavar="NAME",
    )
    for name in parser.parse_args(arguments).names:
        print(name, flush=True)
        if name in parameters["requests"]:
            parameters["requests"][name] = fit_requests(name, parameters["requests"][name])
        elif group := next((group for group in FITS if name in parameters[group]), None):
            parameters[group][name] = FITS[group](load_trace(name), parameters[group][name])
        else:
            parameters["series"][name] = fit_series(name, parameters["series"][name])
        with atomic_write(path) as handle:
            handle.write(to_toml(parameters))


if __name__ == "__main__":
    main()
