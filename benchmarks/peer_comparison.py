"""What the solver benchmarks share: forward and backward through a layer, timed and compared with cvxpylayers."""

from __future__ import annotations

import argparse
import copy
import importlib.util
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import cvxpy as cp
import torch
from cvxpylayers.torch import CvxpyLayer
from printing import figures, show
from torch import Tensor

from shiftgym.solvers import DecisionProblem
from shiftgym.solvers.layer import decide

NOTES = """gap: (ours - theirs) / |theirs| of the objective, largest over contexts; negative means ours is better.
cosine: of the gradients in the scenarios, smallest and largest over contexts; tests/solvers holds ours
against finite differences. The time of ours is the median of rounds before and after each peer's."""
#: Rounds of ours before and after each peer.
ROUNDS = 15
#: A peer that takes longer than this (seconds) runs once.
PATIENCE = 4.0

Step = tuple[Tensor, Tensor]


@dataclass
class Peer:
    """The same problem for a single context in CVXPY.

    Attributes
    ----------
    programme : cvxpy.Problem
        Parametrised and DPP.
    parameters : list of cvxpy.Parameter
        In the order of ``inputs``.
    variable : cvxpy.Variable
        The decision.
    inputs : callable
        Values (B, ...) of the parameters for scenarios (B, M, D).
    """

    programme: cp.Problem
    parameters: list[Any]
    variable: cp.Variable
    inputs: Callable[[Tensor], tuple[Tensor, ...]] = field(default=lambda scenarios: (scenarios,))

    def layer(self, solver: str) -> CvxpyLayer:
        """Build a layer; ``solver`` is always named, since with Moreau installed the default is another."""
        return CvxpyLayer(self.programme, parameters=self.parameters, variables=[self.variable], solver=solver)


@dataclass
class Setting:
    """How cvxpylayers solves, and how many times faster ours is meant to be."""

    name: str
    solver: str = "DIFFCP"
    solver_args: dict[str, Any] = field(default_factory=dict)
    goal: int | None = None


def default(goal: int | None = None) -> Setting:
    """Build the setting that a user gets who sets nothing."""
    return Setting("cvxpylayers, default", goal=goal)


def clarabel(goal: int | None = None, mode: str | None = None) -> Setting:
    """Build the setting with an interior point and, for the backward, ``mode``."""
    extra = {} if mode is None else {"mode": mode}
    name = "cvxpylayers, Clarabel" + (f", {mode}" if mode else "")
    return Setting(name, "DIFFCP", {"solve_method": "Clarabel", **extra}, goal)


def moreau(goal: int | None = None) -> Setting:
    """Build the setting with the batched conic solver, if it is installed."""
    return Setting("cvxpylayers, Moreau", "MOREAU", {}, goal)


def moreau_trouble() -> str | None:
    """Why Moreau cannot be compared with; None if it can.

    Some versions of cvxpylayers drop bounds on single variables on the way to Moreau. The peers here add a variable to
    every bound that another constraint makes zero, which must keep it.
    """
    if importlib.util.find_spec("moreau") is None:
        return "Moreau is not installed (pip install moreau): left out"
    linear, z, zero = cp.Parameter(2), cp.Variable(2), cp.Variable()
    nearest = cp.Problem(cp.Minimize(cp.sum_squares(z) / 2 - linear @ z), [z + zero >= 0, zero == 0])
    layer = CvxpyLayer(nearest, parameters=[linear], variables=[z], solver="MOREAU")
    found = layer(torch.tensor([1.0, -1.0], dtype=torch.float64))[0]
    if not torch.allclose(found, torch.tensor([1.0, 0.0], dtype=torch.float64), atol=1e-4):
        return f"Moreau drops z >= 0 here (a projection comes out as {found.tolist()}, not [1, 0]): left out"
    return None


def timed(function: Callable[[], Any], repeats: int) -> tuple[list[float], Any]:
    times, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return times, result


def step(decide_all: Callable[[Tensor], Tensor], scenarios: Tensor, cotangent: Tensor) -> Step:
    """Decisions and the gradient of their product with the cotangent in the scenarios."""
    y = scenarios.clone().requires_grad_()
    decision = decide_all(y)
    (decision * cotangent).sum().backward()
    assert y.grad is not None
    return decision.detach(), y.grad


def parser(description: str | None, contexts: int) -> argparse.ArgumentParser:
    """Build the options that all solver benchmarks share, and set torch up: one thread, no warnings of the peers."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_text = f"contexts given to the peer (default {contexts})"
    options.add_argument("--peer-contexts", type=int, default=contexts, help=help_text)
    return options


class Comparison:
    """A table of ours and theirs, printed at the end."""

    def __init__(self, title: str) -> None:
        headings = ("solver", "contexts", "total ms", "per context", "ours is faster by", "goal", "gap", "cosine")
        self.table = figures(title, *headings)
        self.remarks: list[str] = []

    def ours(self, name: str, problem: DecisionProblem, y: Tensor, g: Tensor, goal: str = "") -> None:
        """One row of ours alone."""
        forward, _ = timed(lambda: problem.solve(y), ROUNDS)
        rounds, _ = self._rounds(problem, y, g)
        self._row(f"{name} (forward {median(forward) * 1e3:.1f} ms)", len(y), median(rounds), goal=goal)

    def _rounds(self, problem: DecisionProblem, y: Tensor, g: Tensor) -> tuple[list[float], Step]:
        return timed(lambda: step(lambda s: decide(problem, s), y, g), ROUNDS)

    def _row(self, name: str, contexts: int, taken: float, faster: str = "", goal: str = "", *more: str) -> None:
        self.table.add_row(
            name, str(contexts), f"{taken * 1e3:.1f}", f"{taken / contexts * 1e3:.3f}", faster, goal, *more
        )

    def theirs(
        self,
        problem: DecisionProblem,
        peer: Callable[[Any], Peer],
        y: Tensor,
        g: Tensor,
        few: int,
        settings: list[Setting],
    ) -> None:
        """One row per setting, on the first ``few`` contexts.

        ``peer`` takes what is added to bounds on single variables: 0, or a variable to be constrained to zero.
        """
        for setting in settings:
            if setting.solver == "MOREAU" and (trouble := moreau_trouble()):
                self.remarks.append(trouble)
                continue
            form = peer(cp.Variable() if setting.solver == "MOREAU" else 0)
            layer = form.layer(setting.solver)

            def solve(s: Tensor, layer: Any = layer, form: Peer = form, setting: Setting = setting) -> Tensor:
                found: Tensor = layer(*form.inputs(s), solver_args=setting.solver_args)[0]
                return found.reshape(len(s), -1)

            self.against(setting.name, problem, solve, y, g, few, setting.goal)

    def against(
        self,
        name: str,
        problem: DecisionProblem,
        solve: Callable[[Tensor], Tensor],
        y: Tensor,
        g: Tensor,
        few: int,
        goal: int | None = None,
    ) -> None:
        """One row for a solver of the first ``few`` contexts, timed between rounds of ours."""
        self._rounds(problem, y, g)
        before, (decision, gradient) = self._rounds(problem, y, g)
        first, (theirs, slope) = timed(lambda: step(solve, y[:few], g[:few]), 1)
        again, _ = timed(lambda: step(solve, y[:few], g[:few]), 3 if first[0] < PATIENCE else 0)
        after, _ = self._rounds(problem, y, g)
        ours, taken = median(before + after), median(again or first)
        value = problem.cost(y[:few], decision[:few, None]).mean(1)
        strict = copy.copy(problem)
        strict.tolerance = 0.0  # a decision that breaks a limit by a little costs less than the best feasible one
        other = problem.cost(y[:few], strict.project(theirs)[:, None]).mean(1)
        cosine = torch.cosine_similarity(gradient[:few].flatten(1), slope.flatten(1))
        self._row(f"shiftgym, beside {name.removeprefix('cvxpylayers, ')}", len(y), ours)
        faster = f"{taken / few / (ours / len(y)):,.1f}x"
        gap = f"{float(((value - other) / other.abs()).max()):.1e}"
        spread = f"{float(cosine.min()):.6f} .. {float(cosine.max()):.6f}"
        self._row(name, few, taken, faster, "" if goal is None else f"{goal}x", gap, spread)

    def print(self) -> None:
        show(self.table)
        for line in (*dict.fromkeys(self.remarks), NOTES):
            print(line)
