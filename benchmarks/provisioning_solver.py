"""The provisioning solver against cvxpylayers: time per context, objective gap and gradient, in the same run.

    python benchmarks/provisioning_solver.py [--peer-contexts 4]

64 contexts x 50 scenarios x 28 slots in float64, one thread, forward and backward. The constants make the scenario
average concave, where a convex peer can follow; with the paper's constants it is not (see the solver's docstring), and
the last rows time our solver there. The peer is cvxpylayers in its slim, DPP form, with its default solver and with
Clarabel (``DIFFCP`` with ``solve_method="Clarabel"`` and ``mode="lsmr"``).
"""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import torch
from peer_comparison import Comparison, Peer, clarabel, default, parser

from shiftgym.solvers import Provisioning

CONTEXTS, SCENARIOS, SLOTS = 64, 50, 28
CONCAVE: dict[str, Any] = {"utility": 1.0, "curvature": 4.0, "energy_price": 1 / 1.1}
CONCAVE |= {"active_energy": 1.0, "idle_energy": 0.35, "low": 0.2, "high": 6.0}


def peer(problem: Provisioning) -> Peer:
    """Build the same problem for a single context: served share r = min(a / c, 1)."""
    low, high = float(problem.low[0]), float(problem.high[0])
    c = cp.Parameter((SCENARIOS, SLOTS), nonneg=True)
    ratio, a = cp.Variable((SCENARIOS, SLOTS)), cp.Variable((1, SLOTS))
    served = cp.multiply(c, ratio)
    utility = problem.utility * cp.sum(cp.multiply(c, cp.log(problem.curvature * ratio + 1)))
    energy = (problem.active_cost - problem.idle_cost) * cp.sum(served) + SCENARIOS * problem.idle_cost * cp.sum(a)
    limits = [ratio <= 1, served <= np.ones((SCENARIOS, 1)) @ a, a >= low, a <= high]
    return Peer(cp.Problem(cp.Minimize((energy - utility) / SCENARIOS), limits), [c], a)


def main() -> None:
    few = parser(__doc__, 4).parse_args().peer_contexts
    generator = torch.Generator().manual_seed(0)
    base = 1.5 + torch.rand(CONTEXTS, 1, SLOTS, generator=generator, dtype=torch.float64)
    noise = torch.randn(CONTEXTS, SCENARIOS, SLOTS, generator=generator, dtype=torch.float64)
    scenarios = base * torch.exp(0.3 * noise)
    cotangent = torch.randn(CONTEXTS, SLOTS, generator=generator, dtype=torch.float64)
    problem = Provisioning(horizon=SLOTS, **CONCAVE)
    comparison = Comparison(
        f"Provisioning, forward + backward, {CONTEXTS} contexts x {SCENARIOS} scenarios x {SLOTS} slots, float64"
    )
    comparison.ours("shiftgym", problem, scenarios, cotangent)
    comparison.theirs(problem, lambda _: peer(problem), scenarios, cotangent, few, [default(), clarabel(None, "lsmr")])
    paper = Provisioning(horizon=SLOTS, high=6.0)
    comparison.ours("shiftgym, paper's constants", paper, scenarios, cotangent)
    wide = torch.where(torch.rand(scenarios.shape, generator=generator) < 0.5, 0.0, scenarios**3)
    comparison.ours("shiftgym, half of the workloads zero", paper, wide, cotangent)
    comparison.print()


if __name__ == "__main__":
    main()
