"""The power-scheduling solver against cvxpylayers: time per context, objective gap and gradient, in the same run.

    python benchmarks/power_solver.py [--peer-contexts 8]

64 contexts x 50 scenarios x 24 hours in float64, one thread, forward and backward. The loads jump from hour to hour, so
that about half of the ramp limits are active. The peer is cvxpylayers in its slim, DPP form, with its default solver,
with Clarabel (``DIFFCP`` with ``solve_method="Clarabel"``) and, where it is installed, with Moreau.
"""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import torch
from peer_comparison import Comparison, Peer, clarabel, default, moreau, parser
from torch import Tensor

from shiftgym.solvers import PowerScheduling

CONTEXTS, SCENARIOS, HOURS = 64, 50, 24


def peer(problem: PowerScheduling, zero: Any) -> Peer:
    """Build the same problem for a single context: the prices as an epigraph."""
    y, mean = cp.Parameter((SCENARIOS, HOURS)), cp.Parameter(HOURS)
    z, price = cp.Variable(HOURS), cp.Variable((SCENARIOS, HOURS))
    missing = y - np.ones((SCENARIOS, 1)) @ cp.reshape(z, (1, HOURS), order="C")
    limits = [price >= problem.shortage * missing, price >= -problem.excess_price * missing]
    limits += [cp.diff(z) <= problem.ramp, cp.diff(z) >= -problem.ramp, z + zero >= float(problem.low[0])]
    limits += [zero == 0] if isinstance(zero, cp.Variable) else []
    objective = cp.sum(price) / SCENARIOS + cp.sum_squares(z) / 2 - mean @ z
    return Peer(cp.Problem(cp.Minimize(objective), limits), [y, mean], z, lambda s: (s, s.mean(1)))


def draw(generator: torch.Generator) -> Tensor:
    """Loads of a day with a morning and an evening peak, shuffled so hard that the ramps bind."""
    hour = torch.arange(HOURS, dtype=torch.float64)
    day = 1.4 + 0.25 * torch.sin((hour - 9) * torch.pi / 12) + 0.12 * torch.sin((hour - 4) * torch.pi / 6)
    base = day + 0.5 * torch.randn(CONTEXTS, 1, HOURS, generator=generator, dtype=torch.float64)
    return base + 0.4 * torch.randn(CONTEXTS, SCENARIOS, HOURS, generator=generator, dtype=torch.float64)


def main() -> None:
    few = parser(__doc__, 8).parse_args().peer_contexts
    generator = torch.Generator().manual_seed(0)
    scenarios = draw(generator)
    cotangent = torch.randn(CONTEXTS, HOURS, generator=generator, dtype=torch.float64)
    problem = PowerScheduling(HOURS)
    title = f"Power, forward + backward, {CONTEXTS} contexts x {SCENARIOS} scenarios x {HOURS} hours, float64"
    comparison = Comparison(title)
    comparison.ours("shiftgym", problem, scenarios, cotangent)
    settings = [default(100), clarabel(100), clarabel(100, "lsmr"), moreau(60)]
    comparison.theirs(problem, lambda zero: peer(problem, zero), scenarios, cotangent, few, settings)
    calm = scenarios.mean((0, 1)) + 0.1 * torch.randn(scenarios.shape, generator=generator, dtype=torch.float64)
    comparison.ours("shiftgym, no ramp active", problem, calm, cotangent)
    many = scenarios[:, :1] + 0.4 * torch.randn(CONTEXTS, 1000, HOURS, generator=generator, dtype=torch.float64)
    comparison.ours("shiftgym, 1000 scenarios", problem, many, cotangent)
    decision = problem.solve(scenarios)
    active = float(((decision[:, 1:] - decision[:, :-1]).abs() > problem.ramp - 1e-9).double().mean())
    comparison.remarks.append(f"{active:.0%} of the ramp limits are active.")
    comparison.print()


if __name__ == "__main__":
    main()
