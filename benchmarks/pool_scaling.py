"""How a run scales: cells per second in one process, two processes and Ray, against what the hardware gives.

    python benchmarks/pool_scaling.py [--cells 200] [--work 0.1] [--jobs 2] [--rounds 3]

All cells of the run do the same work, a loop of ``--work`` CPU seconds in the first decision of the agent. Workers are
warm: starting them is timed apart. The control is that loop alone, as often, in bare processes of ``multiprocessing``:
two threads of one core do not give twice the speed to anybody. Backends and control take turns, and the fastest of
the rounds counts, as with ``timeit``: what else the machine does can only slow a run down. The overhead of a cell is
the CPU time of a run in one process whose agents do not think, less fit and replays: checking the scenario, reading
agent and trace, setting the bench up, scores with their intervals, writing, and its share of the tables. That of the
pool alone is the wall time of tasks that do nothing; that of the process which hands the tasks out is its CPU time.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from printing import figures, show

from shiftgym.agents import Agent, register_agent
from shiftgym.data import Trace, register_trace
from shiftgym.evaluation import tasks
from shiftgym.evaluation.agent_spec import AgentSpec
from shiftgym.evaluation.pool import Pool, make_pool
from shiftgym.evaluation.run import execute
from shiftgym.evaluation.scenario import Scenario, Suite

ENV = "shiftgym/Provisioning-v0"


def loop(turns: int) -> None:
    for _ in range(turns):
        pass


@register_agent("busy")
@dataclasses.dataclass(kw_only=True, eq=False)
class Busy(Agent):
    """Holds half the capacity after a long thought."""

    turns: int = 0

    def _fit(self, task: Any, progress: bool, device: str) -> None:
        pass

    def _act(self, observations: Any) -> Any:
        if self.turns:
            loop(self.turns)
            self.turns = 0
        return np.full((len(observations), self.problem_.decision_dim), 0.5)


def fortnight() -> Trace:
    time = np.datetime64("2026-01-05", "ns") + np.arange(336) * np.timedelta64(1, "h")
    return Trace("fortnight", time, 2.0 + np.sin(np.arange(336) * np.pi / 12), 3600.0, outcome_low=0.0)


register_trace("fortnight", fortnight)


def calibrate(seconds: float) -> int:
    """Turns of the loop that take so many CPU seconds."""
    turns = 1_000_000
    times = []
    for _ in range(5):
        start = time.process_time()
        loop(turns)
        times.append(time.process_time() - start)
    return round(turns * seconds / median(times))


def suite(cells: int, turns: int) -> Suite:
    scenarios = tuple(
        Scenario(f"cell {i}", ENV, train="fortnight[:0.5]", test="fortnight[0.5:]", shift=f"offset(amount={i / 1e4})")
        for i in range(cells)
    )
    return Suite("scaling", scenarios, (AgentSpec("busy", {"turns": turns}),), seeds=(0,))


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class Took(NamedTuple):
    """Seconds of a run on the clock, and of CPU in this process."""

    wall: float
    cpu: float


def run(pool: Pool, cells: int, turns: int) -> Took:
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        tally = execute(suite(cells, turns), Path(folder), pool=pool)
        took = Took(time.perf_counter() - wall, time.process_time() - cpu)
    assert tally.computed == cells, tally.failed
    return took


def work_of_empty_cells(pool: Pool, cells: int) -> tuple[float, float]:
    """CPU seconds per cell of a run in this process, and those of them that are fit and replay."""
    spent = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            nonlocal spent
            start = time.process_time()
            result = function(*arguments, **keywords)
            spent += time.process_time() - start
            return result

        return call

    with mock.patch.object(tasks, "rollout", timed(tasks.rollout)), mock.patch.object(Busy, "fit", timed(Busy.fit)):
        whole = run(pool, cells, 0).cpu
    return whole / cells, spent / cells


def idle(task: int) -> int:
    return task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=200, help="of the run (default 200)")
    parser.add_argument("--work", type=float, default=0.1, help="CPU seconds of each cell (default 0.1)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="turns that each backend takes (default 3)")
    options = parser.parse_args()
    cells, jobs, turns = options.cells, options.jobs, calibrate(options.work)
    pools = {"in process": make_pool("local", 1), "local": make_pool("local", jobs)}
    if importlib.util.find_spec("ray"):
        pools["ray"] = make_pool("ray", jobs)
    starting = {name: run(pool, 2 * jobs, 0).wall for name, pool in pools.items()}
    walls: dict[str, list[float]] = {name: [] for name in (*pools, "control 1", "control")}
    handing_out: dict[str, list[float]] = {name: [] for name in pools}
    empty = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as one, context.Pool(jobs) as many:
        for bare in (one, many):
            bare.map(loop, [0] * 4 * jobs, chunksize=1)
        for _ in range(options.rounds):
            for name, bare in (("control 1", one), ("control", many)):
                walls[name].append(seconds(lambda bare=bare: bare.map(loop, [turns] * cells, chunksize=1)))
            for name, pool in pools.items():
                took = run(pool, cells, turns)
                walls[name].append(took.wall)
                handing_out[name].append(took.cpu)
            empty.append(work_of_empty_cells(pools["in process"], cells))
    hand_over = {name: seconds(lambda pool=pool: list(pool.run(idle, range(1000)))) for name, pool in pools.items()}
    for pool in pools.values():
        pool.close()

    wall = {name: min(times) for name, times in walls.items()}
    hardware = wall["control 1"] / wall["control"]
    table = figures(
        f"{cells} cells of {options.work} CPU s, {jobs} jobs, fastest of {options.rounds} rounds",
        "backend",
        "start s",
        "wall s",
        "times one process",
        "share of the hardware's",
        "ms per empty task",
        "CPU s of this process",
    )
    for name, key, times in (("1 process", "control 1", 1.0), (f"{jobs} processes", "control", hardware)):
        table.add_row(f"loop alone, {name}", "", f"{wall[key]:.1f}", f"{times:.2f}", "", "", "")
    for name in pools:
        times = wall["in process"] / wall[name]
        table.add_row(
            name,
            f"{starting[name]:.1f}",
            f"{wall[name]:.1f}",
            f"{times:.2f}",
            f"{times / hardware:.0%}" if name != "in process" else "",
            f"{hand_over[name]:.2f}",
            f"{min(handing_out[name]):.1f}",
        )
    show(table)
    whole, work = (value * 1e3 for value in min(empty))
    print(f"CPU of a cell that does not think: {whole:.1f} ms, of which {work:.1f} ms are its fit and its replay")
    print(f"overhead of a cell: {whole - work:.1f} ms of CPU (goal: below 20)")
    if "ray" in pools:
        print(
            f"Ray takes {wall['ray'] / wall['local']:.2f} times the wall time of local processes (goal: at most 1.10)"
        )


if __name__ == "__main__":
    main()
