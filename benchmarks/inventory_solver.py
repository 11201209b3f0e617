"""The inventory solver against cvxpylayers: time per context, objective gap and gradient, in the same run.

    python benchmarks/inventory_solver.py [--peer-contexts 8]

64 contexts x 50 scenarios in float64, one thread, forward and backward. The peer is cvxpylayers in its slim, DPP form,
with its default solver and with Clarabel (``DIFFCP`` with ``solve_method="Clarabel"``).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import cvxpy as cp
import torch
from cvxpylayers.torch import CvxpyLayer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from shiftgym.solvers import Inventory
from shiftgym.solvers.layer import decide

CONTEXTS, SCENARIOS = 64, 50


def peer(problem: Inventory) -> CvxpyLayer:
    """Build the same problem for a single context as a cvxpylayers layer, with cubes as second-order cones."""
    y, z = cp.Parameter(SCENARIOS), cp.Variable()
    missing, left = cp.Variable(SCENARIOS, nonneg=True), cp.Variable(SCENARIOS, nonneg=True)
    price = problem.order * z + problem.order_growth / 2 * cp.square(z)
    demands = problem.shortage * missing + problem.shortage_growth / 3 * cp.power(missing, 3, approx=True)
    demands += problem.holding * left + problem.holding_growth / 3 * cp.power(left, 3, approx=True)
    limits = [missing >= y - z, left >= z - y, z >= 0, z <= problem.capacity]
    objective = price + cp.sum(demands) / SCENARIOS
    return CvxpyLayer(cp.Problem(cp.Minimize(objective), limits), parameters=[y], variables=[z])


def timed(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    times, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return median(times), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-contexts", type=int, default=8, help="contexts given to the peer (default 8)")
    few = parser.parse_args().peer_contexts
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(0)
    centre = torch.where(torch.rand(CONTEXTS, SCENARIOS, 1, generator=generator) < 0.5, 3.0, 8.0).double()
    scenarios = centre + 0.5 * torch.randn(CONTEXTS, SCENARIOS, 1, generator=generator, dtype=torch.float64)
    cotangent = torch.randn(CONTEXTS, 1, generator=generator, dtype=torch.float64)
    problem = Inventory()

    def ours(y: Tensor) -> tuple[Tensor, Tensor]:
        y = y.clone().requires_grad_()
        decision = decide(problem, y)
        (decision * cotangent).sum().backward()
        assert y.grad is not None
        return decision.detach(), y.grad

    ours(scenarios)
    ours_time, (decision, gradient) = timed(lambda: ours(scenarios), 31)
    table = Table(title=f"Forward + backward, {CONTEXTS} contexts x {SCENARIOS} scenarios, float64")
    for heading in ("solver", "contexts", "total ms", "ms per context", "ours is faster by", "objective gap", "cosine"):
        table.add_column(heading, justify="left" if heading == "solver" else "right")
    table.add_row("shiftgym", str(CONTEXTS), f"{ours_time * 1e3:.2f}", f"{ours_time / CONTEXTS * 1e3:.4f}", "", "", "")
    layer = peer(problem)
    settings: dict[str, dict[str, Any]] = {
        "cvxpylayers, default": {},
        "cvxpylayers, Clarabel": {"solve_method": "Clarabel"},
        "cvxpylayers, Clarabel, lsmr": {"solve_method": "Clarabel", "mode": "lsmr"},
    }
    for name, solver_args in settings.items():

        def theirs(solver_args: dict[str, Any] = solver_args) -> tuple[Tensor, Tensor]:
            y = scenarios[:few].clone().requires_grad_()
            (z,) = layer(y[..., 0], solver_args=solver_args)
            (z * cotangent[:few, 0]).sum().backward()
            assert y.grad is not None
            return z.detach()[:, None], y.grad

        time_taken, (their_decision, their_gradient) = timed(theirs, 1)
        value = problem.cost(scenarios[:few], decision[:few, None]).mean(1)
        their_value = problem.cost(scenarios[:few], problem.project(their_decision)[:, None]).mean(1)
        gap = float(((value - their_value) / their_value.abs()).max())
        cosine = torch.cosine_similarity(gradient[:few].flatten(1), their_gradient.flatten(1))
        table.add_row(
            name,
            str(few),
            f"{time_taken * 1e3:.1f}",
            f"{time_taken / few * 1e3:.2f}",
            f"{time_taken / few / (ours_time / CONTEXTS):,.0f}x",
            f"{gap:.1e}",
            f"{float(cosine.min()):.6f} .. {float(cosine.max()):.6f}",
        )
    many = scenarios[:, :1] + torch.randn(CONTEXTS, 1000, 1, generator=generator, dtype=torch.float64)
    many_time, _ = timed(lambda: ours(many), 5)
    table.add_row(
        "shiftgym, 1000 scenarios", str(CONTEXTS), f"{many_time * 1e3:.2f}", f"{many_time / CONTEXTS * 1e3:.4f}"
    )
    Console(width=150).print(table)
    print("objective gap: (ours - theirs) / |theirs|, largest over contexts; negative means ours is better.")
    print("cosine: of the gradients in the scenarios, smallest and largest over contexts; tests/solvers holds ours")
    print("against finite differences.")


if __name__ == "__main__":
    main()
