"""What the solver benchmarks share: forward and backward through a layer, timed and compared with cvxpylayers."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from cvxpylayers.torch import CvxpyLayer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from shiftgym.solvers import DecisionProblem
from shiftgym.solvers.layer import decide

#: Settings of cvxpylayers worth comparing with.
PEERS: dict[str, dict[str, Any]] = {
    "cvxpylayers, default": {},
    "cvxpylayers, Clarabel, dense": {"solve_method": "Clarabel", "mode": "dense"},
}
NOTES = """objective gap: (ours - theirs) / |theirs|, largest over contexts; negative means ours is better.
cosine: of the gradients in the scenarios, smallest and largest over contexts; tests/solvers holds ours
against finite differences."""


def timed(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    times, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return median(times), result


def step(decide_all: Callable[[Tensor], Tensor], scenarios: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    """Decisions and the gradient of their product with the cotangent in the scenarios."""
    y = scenarios.clone().requires_grad_()
    decision = decide_all(y)
    (decision * cotangent).sum().backward()
    assert y.grad is not None
    return decision.detach(), y.grad


class Comparison:
    """A table of ours and theirs, printed at the end."""

    def __init__(self, title: str) -> None:
        self.table = Table(title=title)
        for heading in ("solver", "contexts", "total ms", "ms per context", "ours is faster by", "gap", "cosine"):
            self.table.add_column(heading, justify="left" if heading == "solver" else "right")

    def ours(self, name: str, problem: DecisionProblem, y: Tensor, g: Tensor) -> tuple[float, Tensor, Tensor]:
        step(lambda s: decide(problem, s), y, g)
        taken, (decision, gradient) = timed(lambda: step(lambda s: decide(problem, s), y, g), 15)
        forward, _ = timed(lambda: problem.solve(y), 15)
        self.table.add_row(
            f"{name} (forward {forward * 1e3:.1f} ms)",
            str(len(y)),
            f"{taken * 1e3:.1f}",
            f"{taken / len(y) * 1e3:.3f}",
        )
        return taken / len(y), decision, gradient

    def theirs(
        self, problem: DecisionProblem, layer: CvxpyLayer, y: Tensor, g: Tensor, ours: tuple[float, Tensor, Tensor]
    ) -> None:
        """One row per setting of the peer, on the contexts y that it is given."""
        each, decision, gradient = ours
        few = len(y)
        for name, settings in PEERS.items():
            taken, (their_decision, their_gradient) = timed(
                lambda settings=settings: step(lambda s: layer(s, solver_args=settings)[0], y, g), 1
            )
            value = problem.cost(y, decision[:few, None]).mean(1)
            their_value = problem.cost(y, problem.project(their_decision)[:, None]).mean(1)
            cosine = torch.cosine_similarity(gradient[:few].flatten(1), their_gradient.flatten(1))
            self.table.add_row(
                name,
                str(few),
                f"{taken * 1e3:.0f}",
                f"{taken / few * 1e3:.1f}",
                f"{taken / few / each:,.0f}x",
                f"{float(((value - their_value) / their_value.abs()).max()):.1e}",
                f"{float(cosine.min()):.6f} .. {float(cosine.max()):.6f}",
            )

    def print(self) -> None:
        Console(width=150).print(self.table)
        print(NOTES)
