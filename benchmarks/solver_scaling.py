"""How time and memory of the solvers grow with contexts and scenarios, forward and backward in float64 on one thread.

    python benchmarks/solver_scaling.py [PROBLEM ...] [--largest 4096 1000]

Every cell runs in a process of its own, whose peak of resident memory is taken before and after. A gradient is as large
as the scenarios, and joining its chunks takes it twice: what a problem needs beside that must not grow with either.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from printing import figures, show

from shiftgym.solvers import DecisionProblem, Inventory, Portfolio, PowerScheduling, ProductAllocation, Provisioning

Floats = NDArray[np.float64]
#: Problem, and its scenarios from standard normal ones.
PROBLEMS: dict[str, tuple[DecisionProblem, Callable[[Floats], Floats]]] = {
    "PowerScheduling": (PowerScheduling(hours=24), lambda x: 1.5 + 0.4 * x + 0.5 * x[:, :1]),
    "Portfolio": (Portfolio(assets=20), lambda x: 0.1 + x),
    "ProductAllocation": (ProductAllocation(products=10), lambda x: 0.3 + 0.8 * x),
    "Inventory": (Inventory(), lambda x: 6.0 + 2.0 * x),
    "Provisioning": (Provisioning(horizon=4), lambda x: np.exp(0.5 * x) / 2),
}


def peak() -> float:
    """Peak of this process's resident memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, contexts: int, scenarios: int) -> dict[str, float]:
    """Seconds and MB of one cell; a small call first loads what a problem loads."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    problem, shape = PROBLEMS[name]
    rng = np.random.default_rng(0)
    small = shape(rng.standard_normal((2, 5, problem.outcome_dim)))
    decision = problem.solve(small)
    problem.adjoint(small, decision, decision)
    y = np.empty((contexts, scenarios, problem.outcome_dim))
    for i in range(0, contexts, 16):  # without temporary arrays as large as the whole
        y[i : i + 16] = shape(rng.standard_normal(y[i : i + 16].shape))
    before = peak()
    start = time.perf_counter()
    decision = problem.solve(y)
    forward = time.perf_counter() - start
    solved = peak()
    problem.adjoint(y, decision, decision)
    taken = time.perf_counter() - start
    assert np.isfinite(decision).all()
    return {
        "forward": forward,
        "total": taken,
        "scenarios": y.nbytes / 2**20,
        "solve": solved - before,
        "adjoint": peak() - before,
    }


def run(name: str, contexts: int, scenarios: int) -> Any:
    """Measure a cell in a process of its own."""
    command = [sys.executable, __file__, "--cell", name, str(contexts), str(scenarios)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", default=list(PROBLEMS), metavar="PROBLEM", help=", ".join(PROBLEMS))
    parser.add_argument("--largest", nargs=2, type=int, default=(4096, 1000), metavar=("CONTEXTS", "SCENARIOS"))
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        name, *size = options.cell
        print(json.dumps(measure(name, *map(int, size))))
        return
    most, many = options.largest
    cells = [(most // 16, many), (most // 4, many), (most, many), (most, many // 4), (most, many // 16)]
    headings = ("contexts", "scenarios", "forward s", "total s", "us per scenario", "scenarios MB", "solve MB")
    more = ("solve + adjoint MB", "beside two gradients MB")
    table = figures("Solve and adjoint, float64, one thread", "problem", *headings, *more)
    for name in options.problems:
        for contexts, scenarios in cells:
            found = run(name, contexts, scenarios)
            own = found["adjoint"] - 2 * found["scenarios"]
            each = found["total"] / contexts / scenarios * 1e6
            times = (f"{found['forward']:.2f}", f"{found['total']:.2f}", f"{each:.2f}")
            sizes = (f"{found[key]:,.0f}" for key in ("scenarios", "solve", "adjoint"))
            table.add_row(name, f"{contexts:,}", f"{scenarios:,}", *times, *sizes, f"{max(own, 0):,.0f}")
        table.add_section()
    show(table)


if __name__ == "__main__":
    main()
