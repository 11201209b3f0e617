"""The page of benchmarks: what is fast, against whom, on which machine.

    python benchmarks/run_all.py [NAME ...] [--out docs/benchmarks.md]

Runs the scripts of this folder that measure time against a peer or a control, in sizes that take under a quarter of an
hour on two cores, one after the other, and writes what they print, with the command and the machine. A script that
takes longer than its share is stopped and said to be. All of them take their own peers along, in the same run.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console

from shiftgym.data.files import atomic_write
from shiftgym.evaluation.machine import describe

HERE = Path(__file__).parent
#: Seconds after which a script is stopped.
PATIENCE = 600
RUN = {
    "provisioning_solver": "--peer-contexts 2",
    "power_solver": "--peer-contexts 2",
    "portfolio_solver": "--peer-contexts 8",
    "allocation_solver": "--peer-contexts 16",
    "inventory_solver": "--peer-contexts 2",
    "data_center_solver": "--sizes 3 10 --peer-sizes 3 --scenarios 20",
    "replay_speed": "--seconds 0.7 --rounds 3",
    "data_center_replay": "",
    "sb3_throughput": "--seconds 1 --rounds 5 --frames 4096",
    "three_d_training": "",
    "stream_requests": "--rows 2000000",
    "report_speed": "--rows 200000",
    "pool_scaling": "",
}
LEFT_OUT = {
    "diffusion_dfl_training": "needs a checkout of the authors' code, which takes minutes per iteration",
    "solver_scaling": "measures memory at sizes that take half an hour",
    "agent_costs": "has its table in [agents](agents.md)",
    "gradient_quality": "is about accuracy, not time; its figures are in [Diffusion-DFL](diffusion_dfl.md)",
    "allocation_sets": "is about test sets, not time; see [findings](findings.md)",
    "capacity_of_code": "is about a trace, not time; see [findings](findings.md)",
    "reinforcement_settings": "is about settings, not time; see [reinforcement learning](reinforcement_learning.md)",
    "noise_portfolio": "is about a reshape, not time; see [its page](reshape.md)",
}
HEAD = """# Benchmarks

Made by `python benchmarks/run_all.py` on {date} in {minutes:.0f} minutes, on {cpu} ({cores} cores, of which {usable}
usable, {memory} GB) with Python {python}, NumPy {numpy} and torch {torch}. {load}

Sizes are small so that the page takes minutes to make; each script's own default is larger. Ratios compare with a peer
in the same run; times without a peer are those of this machine.
"""


@dataclass(frozen=True)
class Report:
    """What a script printed, and what became of it."""

    name: str
    arguments: str
    output: str
    trouble: str
    seconds: float
    cpu: float

    def __str__(self) -> str:
        tree = ast.parse((HERE / f"{self.name}.py").read_text(encoding="utf-8"))
        title, *_ = (ast.get_docstring(tree) or "").splitlines()
        command = f"python benchmarks/{self.name}.py {self.arguments}".strip()
        time_taken = f"{self.seconds:.0f} s, {self.cpu:.0f} s of CPU"
        note = f"**{self.trouble}**\n\n" if self.trouble else ""
        text = "\n".join(line.rstrip() for line in self.output.strip().splitlines())
        return f"## {self.name}\n\n{title}\n\n`{command}` ({time_taken})\n\n{note}```text\n{text}\n```\n"


def report(name: str) -> Report:
    """Run a script as a person would."""
    command = [sys.executable, str(HERE / f"{name}.py"), *RUN[name].split()]
    env = {**os.environ, "COLUMNS": "160", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    start, before, trouble = time.perf_counter(), _cpu_of_children(), ""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        output, errors = child.communicate(timeout=PATIENCE)
        if child.returncode:
            trouble = f"Failed: {errors.strip().splitlines()[-1]}"
    except subprocess.TimeoutExpired:
        for process in (*psutil.Process(child.pid).children(recursive=True), child):
            process.kill()
        output, _ = child.communicate()
        trouble = f"Stopped after {PATIENCE} seconds."
    return Report(name, RUN[name], output, trouble, time.perf_counter() - start, _cpu_of_children() - before)


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def page(reports: list[Report], seconds: float, load: float) -> str:
    """The page in Markdown."""
    about = describe()
    machine, versions = about["machine"], about["versions"]
    busy = load > 1.5 * machine["usable_cores"]
    said = f"The load was {load:.1f} on average: " + (
        "the machine had other work to do." if busy else "it was idle else."
    )
    head = HEAD.format(
        date=datetime.now(UTC).date(),
        minutes=seconds / 60,
        cpu=machine["cpu"],
        cores=machine["cores"],
        usable=machine["usable_cores"],
        memory=machine["memory_gb"],
        load=said,
        **{name: versions[name] for name in ("python", "numpy", "torch")},
    )
    left_out = "".join(f"- `{name}` {reason}.\n" for name, reason in LEFT_OUT.items())
    return "\n".join([head, *map(str, reports), f"## Left out\n\n{left_out}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*RUN, []], metavar="NAME", help=", ".join(RUN))
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "benchmarks.md", help="default: %(default)s")
    options = parser.parse_args()
    console, start = Console(), time.perf_counter()
    reports, loads = [], []
    for name in options.names or RUN:
        reports.append(report(name))
        loads.append(psutil.getloadavg()[0])
        console.print(f"{name}: {reports[-1].seconds:.0f} s {reports[-1].trouble}", markup=False)
    with atomic_write(options.out) as file:
        file.write(page(reports, time.perf_counter() - start, sum(loads) / len(loads)))
    console.print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
