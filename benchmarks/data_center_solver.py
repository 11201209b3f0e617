"""The day-ahead scheduling of data centers against CVXPY with HiGHS, on the same days, in the same run.

    python benchmarks/data_center_solver.py [--sizes 3 10 50 100] [--peer-sizes 3 10] [--scenarios 100]

Days of 24 hours, 3 training classes and 54 pairs of request class and tensor parallelism, for fleets of D centers whose
arrivals grow with D: ``first`` is building the program, solving, rounding to whole instances and solving again,
``next`` the median of four more days with other prices and levels, or one such day of a large fleet. The gap is to the
certified bound on schedules of whole instances. The peer solves the linear relaxation of the model as it is written
(`solvers/data_center/day_ahead_reference.py`), without whole instances; its time is compiling and solving. CPU seconds
stand beside wall seconds, since a machine may be busy. ``--sizes 1000 --peer-sizes --scenarios 0`` takes some minutes.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

from shiftgym.solvers.data_center.day_ahead import DayAhead, Levels, Schedule
from shiftgym.solvers.data_center.day_ahead_reference import reference
from shiftgym.solvers.data_center.fleet import Fleet
from shiftgym.solvers.data_center.scenario_program import KINDS, Scenarios
from shiftgym.solvers.data_center.second_order import SecondOrder

NEXT_DAYS, LARGE = 4, 300


def fleet(size: int) -> Fleet:
    return Fleet() if size == 3 else Fleet.of_size(size)


def day(size: int, seed: int) -> tuple[np.ndarray, Levels]:
    """Prices and levels of a made-up weekday: two solar sites nine hours apart and a windy one, over and over."""
    rng, hour, site = np.random.default_rng(seed), np.arange(24), np.arange(size)[:, None] % 3
    wave = np.sin((hour - 13) / 24 * 4 * np.pi)
    energy = np.array([0.07, 0.10, 0.09])[site] * (1 + 0.35 * wave) + 0.01 * rng.normal(size=(size, 24))
    carbon = 0.1 * np.array([0.2, 0.35, 0.35])[site]
    noon = np.array([20, 12, 12])[site]
    sun = np.clip(np.cos((hour - noon) / 12 * np.pi), 0, None)
    renewables = 900 * rng.uniform(0.5, 1.2, (size, 1)) * np.where(site < 2, sun, 0.35)
    shape = 1 + np.array([0.8, 0.3])[:, None] * np.sin((hour - 11) / 24 * 2 * np.pi)
    requests = np.array([278.0, 451.0])[:, None] * shape * np.exp(0.05 * rng.normal(size=(2, 24))) * size / 3
    work = np.array([900.0, 500.0, 700.0])[:, None] * (1 + 0.3 * np.sin((hour - 9) / 24 * 2 * np.pi))
    arrivals = work * np.exp(0.1 * rng.normal(size=(3, 24))) * size / 3
    return energy + carbon, Levels(renewables, requests, arrivals)


def scenarios(levels: Levels, count: int, kind: str) -> Scenarios:
    rng = np.random.default_rng(0)

    def draws(values: np.ndarray) -> np.ndarray:
        steps = rng.normal(size=(count, *values.shape))
        for hour in range(1, values.shape[-1]):
            steps[..., hour] = 0.7 * (steps[..., hour - 1] + steps[..., hour])
        return values * np.exp(0.12 * steps + 0.08 * rng.normal(size=(count, 1, 1)))

    return Scenarios(requests=draws(levels.requests), arrivals=draws(levels.arrivals), kind=kind, radius=0.02)


class Clock:
    """Wall and CPU seconds of a block."""

    def __enter__(self) -> Clock:
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu

    def __str__(self) -> str:
        return f"{self.wall:.3f} ({self.cpu:.3f})"


def box(size: int, peer: bool) -> list[str]:
    """Row of the table for one fleet."""
    prices, levels = day(size, 0)
    with Clock() as first:
        planner = DayAhead(fleet(size))
        found = planner.plan(prices, levels)
    gap, later = found.gap, []
    days = NEXT_DAYS if size <= LARGE else 1
    for seed in range(1, 1 + days):
        with Clock() as clock:
            gap = max(gap, planner.plan(*day(size, seed)).gap)
        later.append(clock)
    later.sort(key=lambda clock: clock.cpu)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    row = [f"{size}", f"{found.cost:.2f}", f"{100 * gap:.3f}", f"{first}", f"{later[days // 2]}", f"{memory:.2f}"]
    if not peer:
        return [*row, "", "", "", found.solver.split(":")[0]]
    relaxed = DayAhead(fleet(size), integer=False).plan(prices, levels).cost
    with Clock() as clock:
        value, _ = reference(fleet(size), prices, levels, integer=False, solver="highs")
    return [*row, f"{relaxed:.4f}", f"{value:.4f}", f"{clock}", found.solver.split(":")[0]]


def boxes(sizes: Iterable[int], peers: set[int], console: Console) -> None:
    heads = ("D", "cost $", "gap %", "first s (CPU)", "next s (CPU)", "GB", "relaxed $", "peer $", "peer s (CPU)")
    table = Table(*heads, "solver")
    for size in sizes:
        table.add_row(*box(size, size in peers))
    console.print("Box: levels are withstood, instances are whole; gap: the largest of the days", table)


def robust(count: int, console: Console) -> None:
    table = Table("D = 3", "cost $", "gap %", "s (CPU)", "solver")
    planner = DayAhead(fleet(3))
    prices, levels = day(3, 0)
    decay = np.array([0.6 ** np.abs(np.arange(24)[:, None] - np.arange(24))] * 3)
    half = 0.5 * levels.arrivals

    def add(name: str, work: Callable[[], Schedule]) -> None:
        with Clock() as clock:
            found = work()
        table.add_row(name, f"{found.cost:.2f}", f"{100 * found.gap:.3f}", f"{clock}", found.solver.split(":")[0])

    for name, matrix in (("ellipsoid", None), ("ellipsoid, correlated", decay)):
        add(name, partial(planner.plan, prices, levels, training=SecondOrder(levels.arrivals, half, matrix)))
    for kind in KINDS:
        drawn = scenarios(levels, count, kind)
        add(f"{kind}, n = {count}", partial(planner.plan_scenarios, prices, levels.renewables, drawn))
    console.print("Ellipsoids of arrivals, and scenarios", table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[3, 10, 50, 100])
    parser.add_argument("--peer-sizes", type=int, nargs="*", default=[3, 10])
    parser.add_argument("--scenarios", type=int, default=100)
    arguments = parser.parse_args()
    console = Console(width=140)
    DayAhead(Fleet()).plan(*day(3, 99))  # what is imported and started once is not timed
    boxes(arguments.sizes, set(arguments.peer_sizes), console)
    if arguments.scenarios:
        robust(arguments.scenarios, console)


if __name__ == "__main__":
    main()
