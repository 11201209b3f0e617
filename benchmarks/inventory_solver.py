"""The inventory solver against cvxpylayers: time per context, objective gap and gradient, in the same run.

    python benchmarks/inventory_solver.py [--peer-contexts 8]

64 contexts x 50 scenarios in float64, one thread, forward and backward. The peer is cvxpylayers in its slim, DPP form,
with its default solver, with Clarabel (``DIFFCP`` with ``solve_method="Clarabel"``) and, where it is installed, with
Moreau.
"""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import torch
from peer_comparison import Comparison, Peer, clarabel, default, moreau, parser

from shiftgym.solvers import Inventory

CONTEXTS, SCENARIOS = 64, 50


def peer(problem: Inventory, zero: Any) -> Peer:
    """Build the same problem for a single context, with cubes as second-order cones."""
    y, z = cp.Parameter(SCENARIOS), cp.Variable()
    missing, left = cp.Variable(SCENARIOS), cp.Variable(SCENARIOS)
    price = problem.order * z + problem.order_growth / 2 * cp.square(z)
    demands = problem.shortage * missing + problem.shortage_growth / 3 * cp.power(missing, 3, approx=True)
    demands += problem.holding * left + problem.holding_growth / 3 * cp.power(left, 3, approx=True)
    limits = [missing >= y - z, left >= z - y, z + zero >= 0, z + zero <= problem.capacity]
    limits += [missing + zero >= 0, left + zero >= 0] + ([zero == 0] if isinstance(zero, cp.Variable) else [])
    programme = cp.Problem(cp.Minimize(price + cp.sum(demands) / SCENARIOS), limits)
    return Peer(programme, [y], z, lambda scenarios: (scenarios[..., 0],))


def main() -> None:
    few = parser(__doc__, 8).parse_args().peer_contexts
    generator = torch.Generator().manual_seed(0)
    centre = torch.where(torch.rand(CONTEXTS, SCENARIOS, 1, generator=generator) < 0.5, 3.0, 8.0).double()
    scenarios = centre + 0.5 * torch.randn(CONTEXTS, SCENARIOS, 1, generator=generator, dtype=torch.float64)
    cotangent = torch.randn(CONTEXTS, 1, generator=generator, dtype=torch.float64)
    problem = Inventory()
    comparison = Comparison(f"Inventory, forward + backward, {CONTEXTS} contexts x {SCENARIOS} scenarios, float64")
    comparison.ours("shiftgym", problem, scenarios, cotangent)
    settings = [default(300), clarabel(), clarabel(None, "lsmr"), moreau()]
    comparison.theirs(problem, lambda zero: peer(problem, zero), scenarios, cotangent, few, settings)
    many = scenarios[:, :1] + torch.randn(CONTEXTS, 1000, 1, generator=generator, dtype=torch.float64)
    comparison.ours("shiftgym, 1000 scenarios", problem, many, cotangent)
    comparison.print()


if __name__ == "__main__":
    main()
