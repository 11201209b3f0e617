"""Seconds that a report takes, part by part and as a command from start to end, and the size of its page.

    python benchmarks/report_speed.py [--rows 1000000]

The quick suite's agents replay its scenarios on four seeds; their steps are then repeated until all tables of steps
together have that many rows. Both the time on the clock and that of the processor are given, as the machine may be
busy with something else. The command starts Python and imports what it needs; its tables are computed anew.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from rich.table import Table

from shiftgym.evaluation.fast import Fast
from shiftgym.evaluation.html_report import write_html
from shiftgym.evaluation.plots import draw_plots
from shiftgym.evaluation.results import Run
from shiftgym.evaluation.run import execute
from shiftgym.evaluation.scenario import load_suite
from shiftgym.evaluation.tables import all_tables
from shiftgym.evaluation.verdicts import verdicts


def large_run(folder: Path, rows: int) -> int:
    """Make a run with at least so many rows of steps; return how many there are."""
    suite = load_suite("quick")
    cheap = tuple(agent for agent in suite.agents if agent.name in ("oracle", "persistence", "saa", "residual-saa"))
    run = execute(replace(suite, agents=cheap, seeds=(0, 1, 2, 3), fast=Fast()), folder).run
    paths = [run.cell_file(cell["id"]).with_suffix(".parquet") for cell in run.cells]
    times = math.ceil(rows / sum(len(pd.read_parquet(path, columns=["cost"])) for path in paths))
    total = 0
    for path in track(paths, "repeating steps"):
        steps = pd.read_parquet(path)
        clock = steps["step_time"].to_numpy()
        length = 2 * clock[-1] - clock[-2] - clock[0] if len(clock) > 1 else 1.0
        many = pd.concat([steps] * times, ignore_index=True)
        many["step_time"] += np.repeat(np.arange(times) * length, len(steps))
        many.to_parquet(path, index=False, compression="zstd")
        total += len(many)
    return total


def subprocess_seconds(command: list[str]) -> float:
    """Seconds of the processor that a command takes."""
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    view = Table("part", "seconds", "of the processor")
    with tempfile.TemporaryDirectory() as folder:
        total = large_run(Path(folder), options.rows)
        run = Run(Path(folder))
        found: dict[str, Any] = {}
        parts = {
            "tables": lambda: all_tables(run),
            "verdicts": lambda: verdicts(run),
            "page": lambda: write_html(run, Path(folder) / "report.html", found["tables"], found["verdicts"]),
            "pictures": lambda: draw_plots(run),
        }
        for name, make in parts.items():
            clock, work = time.perf_counter(), time.process_time()
            found[name] = make()
            view.add_row(name, f"{time.perf_counter() - clock:.2f}", f"{time.process_time() - work:.2f}")
        clock = time.perf_counter()
        work = subprocess_seconds([sys.executable, "-m", "shiftgym.evaluate", "report", folder])
        view.add_row("whole command", f"{time.perf_counter() - clock:.2f}", f"{work:.2f}")
        size = found["page"].stat().st_size / 1e6
    view.title = f"Report of {total} rows in {len(run.cells)} cells; its page has {size:.2f} MB"
    Console().print(view)


if __name__ == "__main__":
    main()
