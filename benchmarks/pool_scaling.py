"""How a run scales: cells per second in one process, two processes and Ray, against what the hardware gives.

    python benchmarks/pool_scaling.py [--cells 200] [--work 0.1] [--jobs 2] [--rounds 3]

All cells of the run do the same work, a loop of ``--work`` CPU seconds in the first decision of the agent. Workers are
warm: starting them is timed apart. The control is that loop alone, as often, in bare processes of ``multiprocessing``:
two threads of one core, or a busy machine, do not give twice the speed to anybody. Backends and control take turns, so
that a change of the machine's speed hits all alike; ratios are medians over the rounds. The overhead of a cell is what
it costs besides the loop, in CPU seconds of a run in one process: reading the agent and the trace, replaying, scoring,
writing. That of the pool alone is the wall time of tasks that do nothing.
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
from typing import Any

import numpy as np
from printing import figures, show

from shiftgym.agents import Agent, register_agent
from shiftgym.data import Trace, register_trace
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


def seconds(function: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    function()
    return clock() - start


def run(pool: Pool, cells: int, turns: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tally = execute(suite(cells, turns), Path(folder), pool=pool)
    assert tally.computed == cells, tally.failed


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
    starting = {name: seconds(lambda pool=pool: run(pool, 2 * jobs, 0)) for name, pool in pools.items()}
    walls: dict[str, list[float]] = {name: [] for name in (*pools, "control 1", "control")}
    overheads = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as one, context.Pool(jobs) as many:
        for bare in (one, many):
            bare.map(loop, [0] * 4 * jobs, chunksize=1)
        for _ in range(options.rounds):
            for name, bare in (("control 1", one), ("control", many)):
                walls[name].append(seconds(lambda bare=bare: bare.map(loop, [turns] * cells, chunksize=1)))
            for name, pool in pools.items():
                walls[name].append(seconds(lambda pool=pool: run(pool, cells, turns)))
            bare_run = seconds(lambda: run(pools["in process"], cells, 0), time.process_time)
            overheads.append(bare_run / cells)
    hand_over = {name: seconds(lambda pool=pool: list(pool.run(idle, range(1000)))) for name, pool in pools.items()}
    for pool in pools.values():
        pool.close()

    hardware = [a / b for a, b in zip(walls["control 1"], walls["control"], strict=True)]
    table = figures(
        f"{cells} cells of {options.work} CPU s, {jobs} jobs, median of {options.rounds} rounds",
        "backend",
        "start s",
        "wall s",
        "times one process",
        "share of the hardware's",
        "ms per empty task",
    )
    table.add_row("loop alone, 1 process", "", f"{median(walls['control 1']):.1f}", "1.00", "", "")
    table.add_row(
        f"loop alone, {jobs} processes", "", f"{median(walls['control']):.1f}", f"{median(hardware):.2f}", "", ""
    )
    for name in pools:
        ratio = [a / b for a, b in zip(walls["in process"], walls[name], strict=True)]
        share = [a / b for a, b in zip(ratio, hardware, strict=True)]
        table.add_row(
            name,
            f"{starting[name]:.1f}",
            f"{median(walls[name]):.1f}",
            f"{median(ratio):.2f}",
            f"{median(share):.0%}" if name != "in process" else "",
            f"{hand_over[name]:.2f}",
        )
    show(table)
    print(f"overhead of a cell besides its work: {median(overheads) * 1e3:.1f} ms of CPU (goal: below 20)")
    if "ray" in pools:
        ratio = median(a / b for a, b in zip(walls["ray"], walls["local"], strict=True))
        print(f"Ray takes {ratio:.2f} times the wall time of local processes (goal: at most 1.10)")


if __name__ == "__main__":
    main()
