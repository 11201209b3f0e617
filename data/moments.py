"""The simulated method of moments (McFadden, Econometrica 57(5), 1989).

Nelder-Mead on the distance between the real statistics and their mean over a few seeds, with the same seeds at
every step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize

from .sampling import Floats

REACH = float(np.log(5))  # a refit moves a parameter by this factor at most: some are weakly identified
Table = dict[str, Any]
Path_ = tuple[str | int, ...]


def fit_moments(
    table: Table,
    free: Sequence[Path_],
    simulate: Callable[[Table, int], dict[str, float]],
    real: dict[str, float],
    scales: dict[str, float],
    relative: Collection[str],
    seeds: Collection[int] = range(8),
    steps: int = 400,
) -> Table:
    """Move the free parameters, all positive, until the simulated statistics match the real ones.

    Parameters
    ----------
    table : dict
        TOML table of a model.
    free : sequence of paths
        What moves, as paths into the table.
    simulate : callable
        Takes a table and a seed, and returns statistics by name.
    real : dict of str to float
        The same statistics of the real trace.
    scales : dict of str to float
        One unit of error of each statistic that counts.
    relative : collection of str
        Those whose unit is a share of the real value.
    seeds : collection of int
        Over which the simulated statistics are averaged.
    steps : int
        Evaluations of the distance.
    """

    def distance(logs: Floats) -> float:
        moved = _moved(table, free, np.exp(logs))
        draws = [simulate(moved, seed) for seed in seeds]
        total = 0.0
        for key, scale in scales.items():
            unit = scale * max(abs(real[key]), 0.05) if key in relative else scale
            total += float(((np.mean([draw[key] for draw in draws]) - real[key]) / unit) ** 2)
        return total

    start = np.log([_get(table, path) for path in free])
    simplex = np.vstack((start, start + 0.2 * np.eye(len(start))))
    options = {"maxfev": steps, "initial_simplex": simplex, "adaptive": True}
    bounds = [(x - REACH, x + REACH) for x in start]
    found = minimize(distance, start, method="Nelder-Mead", bounds=bounds, options=options)
    print(f"    distance {distance(start):.1f} -> {found.fun:.1f}", flush=True)
    return _moved(table, free, np.exp(found.x))


def _get(table: Any, path: Path_) -> float:
    for key in path:
        table = table[key]
    return float(table)


def _moved(table: Table, free: Sequence[Path_], values: Floats) -> Table:
    table = copy.deepcopy(table)
    for path, value in zip(free, values, strict=True):
        inner: Any = table
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = float(f"{value:.4g}")
    return table
