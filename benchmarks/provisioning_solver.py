"""The provisioning solver against cvxpylayers: time per context, objective gap and gradient, in the same run.

    python benchmarks/provisioning_solver.py [--peer-contexts 4]

64 contexts x 50 scenarios x 28 slots in float64, one thread, forward and backward. The constants make the scenario
average concave, where a convex peer can follow; with the paper's constants it is not (see the solver's docstring), and
the last row times our solver there. The peer is cvxpylayers in its slim, DPP form, with its default solver and with
Clarabel (``DIFFCP`` with ``solve_method="Clarabel"`` and ``mode="dense"``).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from cvxpylayers.torch import CvxpyLayer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from shiftgym.solvers import Provisioning
from shiftgym.solvers.layer import decide

CONTEXTS, SCENARIOS, SLOTS = 64, 50, 28
CONCAVE: dict[str, Any] = {"utility": 1.0, "curvature": 4.0, "energy_price": 1 / 1.1}
CONCAVE |= {"active_energy": 1.0, "idle_energy": 0.35, "low": 0.2, "high": 6.0}


def peer(problem: Provisioning) -> CvxpyLayer:
    """Build the same problem for a single context as a cvxpylayers layer: served share r = min(a / c, 1)."""
    low, high = float(problem.low[0]), float(problem.high[0])
    c = cp.Parameter((SCENARIOS, SLOTS), nonneg=True)
    ratio, a = cp.Variable((SCENARIOS, SLOTS)), cp.Variable((1, SLOTS))
    served = cp.multiply(c, ratio)
    utility = problem.utility * cp.sum(cp.multiply(c, cp.log(problem.curvature * ratio + 1)))
    energy = (problem.active_cost - problem.idle_cost) * cp.sum(served) + SCENARIOS * problem.idle_cost * cp.sum(a)
    limits = [ratio <= 1, served <= np.ones((SCENARIOS, 1)) @ a, a >= low, a <= high]
    return CvxpyLayer(cp.Problem(cp.Minimize((energy - utility) / SCENARIOS), limits), parameters=[c], variables=[a])


def timed(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    times, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return median(times), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-contexts", type=int, default=4, help="contexts given to the peer (default 4)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(0)
    base = 1.5 + torch.rand(CONTEXTS, 1, SLOTS, generator=generator, dtype=torch.float64)
    noise = torch.randn(CONTEXTS, SCENARIOS, SLOTS, generator=generator, dtype=torch.float64)
    scenarios = base * torch.exp(0.3 * noise)
    cotangent = torch.randn(CONTEXTS, SLOTS, generator=generator, dtype=torch.float64)
    problem = Provisioning(horizon=SLOTS, **CONCAVE)

    def ours(problem: Provisioning, y: Tensor) -> tuple[Tensor, Tensor]:
        y = y.clone().requires_grad_()
        decision = decide(problem, y)
        (decision * cotangent).sum().backward()
        assert y.grad is not None
        return decision.detach(), y.grad

    ours(problem, scenarios)
    ours_time, (decision, gradient) = timed(lambda: ours(problem, scenarios), 15)
    table = Table(title=f"Forward + backward, {CONTEXTS} contexts x {SCENARIOS} scenarios x {SLOTS} slots, float64")
    for heading in ("solver", "contexts", "total ms", "ms per context", "ours is faster by", "objective gap", "cosine"):
        table.add_column(heading, justify="left" if heading == "solver" else "right")
    table.add_row("shiftgym", str(CONTEXTS), f"{ours_time * 1e3:.1f}", f"{ours_time / CONTEXTS * 1e3:.3f}", "", "", "")
    layer, few = peer(problem), options.peer_contexts
    settings = {
        "cvxpylayers, default": {},
        "cvxpylayers, Clarabel": {"solve_method": "Clarabel", "mode": "lsmr"},
    }
    for name, solver_args in settings.items():

        def theirs(solver_args: dict[str, Any] = solver_args) -> tuple[Tensor, Tensor]:
            y = scenarios[:few].clone().requires_grad_()
            (a,) = layer(y, solver_args=solver_args)
            (a[:, 0] * cotangent[:few]).sum().backward()
            assert y.grad is not None
            return a[:, 0].detach(), y.grad

        time_taken, (their_decision, their_gradient) = timed(theirs, 1)
        value = problem.cost(scenarios[:few], decision[:few, None].expand(-1, SCENARIOS, -1)).mean(1)
        their_decision = problem.project(their_decision)
        their_value = problem.cost(scenarios[:few], their_decision[:, None].expand(-1, SCENARIOS, -1)).mean(1)
        gap = float(((value - their_value) / their_value.abs()).max())
        cosine = torch.cosine_similarity(gradient[:few].flatten(1), their_gradient.flatten(1))
        table.add_row(
            name,
            str(few),
            f"{time_taken * 1e3:.1f}",
            f"{time_taken / few * 1e3:.1f}",
            f"{time_taken / few / (ours_time / CONTEXTS):,.0f}x",
            f"{gap:.1e}",
            f"{float(cosine.min()):.6f} .. {float(cosine.max()):.6f}",
        )
    paper = Provisioning(horizon=SLOTS, high=6.0)
    paper_time, _ = timed(lambda: ours(paper, scenarios), 15)
    wide = torch.where(torch.rand(scenarios.shape, generator=generator) < 0.5, 0.0, scenarios**3)
    wide_time, _ = timed(lambda: ours(paper, wide), 15)
    for name, taken in {
        "shiftgym, paper's constants": paper_time,
        "shiftgym, half of the workloads zero": wide_time,
    }.items():
        table.add_row(name, str(CONTEXTS), f"{taken * 1e3:.1f}", f"{taken / CONTEXTS * 1e3:.3f}", "", "", "")
    Console(width=150).print(table)
    print("objective gap: (ours - theirs) / |theirs|, largest over contexts; negative means ours is better.")
    print("cosine: of the gradients in the scenarios, smallest and largest over contexts; tests/solvers holds ours")
    print("against finite differences.")


if __name__ == "__main__":
    main()
