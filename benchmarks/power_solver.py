"""The power-scheduling solver against cvxpylayers: time per context, objective gap and gradient, in the same run.

    python benchmarks/power_solver.py [--peer-contexts 8]

64 contexts x 50 scenarios x 24 hours in float64, one thread, forward and backward. The loads jump from hour to hour,
so that about half of the ramp limits are active. The peer is cvxpylayers in its slim, DPP form, with its default solver
and with Clarabel (``DIFFCP`` with ``solve_method="Clarabel"``).
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

from shiftgym.solvers import PowerScheduling
from shiftgym.solvers.layer import decide

CONTEXTS, SCENARIOS, HOURS = 64, 50, 24


def peer(problem: PowerScheduling) -> CvxpyLayer:
    """Build the same problem for a single context as a cvxpylayers layer: the prices as an epigraph."""
    y, mean = cp.Parameter((SCENARIOS, HOURS)), cp.Parameter(HOURS)
    z, price = cp.Variable(HOURS), cp.Variable((SCENARIOS, HOURS))
    missing = y - np.ones((SCENARIOS, 1)) @ cp.reshape(z, (1, HOURS), order="C")
    limits = [price >= problem.shortage * missing, price >= -problem.excess_price * missing]
    limits += [cp.abs(cp.diff(z)) <= problem.ramp, z >= float(problem.low[0])]
    objective = cp.sum(price) / SCENARIOS + cp.sum_squares(z) / 2 - mean @ z
    return CvxpyLayer(cp.Problem(cp.Minimize(objective), limits), parameters=[y, mean], variables=[z])


def timed(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    times, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return median(times), result


def draw(generator: torch.Generator) -> Tensor:
    """Loads of a day with a morning and an evening peak, shuffled so hard that the ramps bind."""
    hour = torch.arange(HOURS, dtype=torch.float64)
    day = 1.4 + 0.25 * torch.sin((hour - 9) * torch.pi / 12) + 0.12 * torch.sin((hour - 4) * torch.pi / 6)
    base = day + 0.5 * torch.randn(CONTEXTS, 1, HOURS, generator=generator, dtype=torch.float64)
    return base + 0.4 * torch.randn(CONTEXTS, SCENARIOS, HOURS, generator=generator, dtype=torch.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-contexts", type=int, default=8, help="contexts given to the peer (default 8)")
    few = parser.parse_args().peer_contexts
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(0)
    scenarios = draw(generator)
    cotangent = torch.randn(CONTEXTS, HOURS, generator=generator, dtype=torch.float64)
    problem = PowerScheduling(HOURS)

    def ours(y: Tensor) -> tuple[Tensor, Tensor]:
        y = y.clone().requires_grad_()
        decision = decide(problem, y)
        (decision * cotangent).sum().backward()
        assert y.grad is not None
        return decision.detach(), y.grad

    ours(scenarios)
    ours_time, (decision, gradient) = timed(lambda: ours(scenarios), 15)
    active = float(((decision[:, 1:] - decision[:, :-1]).abs() > problem.ramp - 1e-9).double().mean())
    table = Table(title=f"Forward + backward, {CONTEXTS} contexts x {SCENARIOS} scenarios x {HOURS} hours, float64")
    for heading in ("solver", "contexts", "total ms", "ms per context", "ours is faster by", "objective gap", "cosine"):
        table.add_column(heading, justify="left" if heading == "solver" else "right")
    table.add_row("shiftgym", str(CONTEXTS), f"{ours_time * 1e3:.1f}", f"{ours_time / CONTEXTS * 1e3:.3f}", "", "", "")
    layer = peer(problem)
    settings: dict[str, dict[str, Any]] = {
        "cvxpylayers, default": {},
        "cvxpylayers, Clarabel": {"solve_method": "Clarabel"},
        "cvxpylayers, Clarabel, lsmr": {"solve_method": "Clarabel", "mode": "lsmr"},
    }
    for name, solver_args in settings.items():

        def theirs(solver_args: dict[str, Any] = solver_args) -> tuple[Tensor, Tensor]:
            y = scenarios[:few].clone().requires_grad_()
            (z,) = layer(y, y.mean(1), solver_args=solver_args)
            (z * cotangent[:few]).sum().backward()
            assert y.grad is not None
            return z.detach(), y.grad

        time_taken, (their_decision, their_gradient) = timed(theirs, 1)
        value = problem.cost(scenarios[:few], decision[:few, None]).mean(1)
        their_value = problem.cost(scenarios[:few], problem.project(their_decision)[:, None]).mean(1)
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
    calm = scenarios.mean((0, 1)) + 0.1 * torch.randn(scenarios.shape, generator=generator, dtype=torch.float64)
    calm_time, _ = timed(lambda: ours(calm), 15)
    many = scenarios[:, :1] + 0.4 * torch.randn(CONTEXTS, 1000, HOURS, generator=generator, dtype=torch.float64)
    many_time, _ = timed(lambda: ours(many), 3)
    for name, taken in {"shiftgym, no ramp active": calm_time, "shiftgym, 1000 scenarios": many_time}.items():
        table.add_row(name, str(CONTEXTS), f"{taken * 1e3:.1f}", f"{taken / CONTEXTS * 1e3:.3f}", "", "", "")
    Console(width=150).print(table)
    print(f"{active:.0%} of the ramp limits are active.")
    print("objective gap: (ours - theirs) / |theirs|, largest over contexts; negative means ours is better.")
    print("cosine: of the gradients in the scenarios, smallest and largest over contexts; tests/solvers holds ours")
    print("against finite differences.")


if __name__ == "__main__":
    main()
