"""The product allocation solver against cvxpylayers: time per context, objective gap and gradient, in the same run.

    python benchmarks/allocation_solver.py [--peer-contexts 64]

64 contexts x 50 scenarios of 10 products in float64, one thread, forward and backward. The peer is cvxpylayers in its
DPP form, with its default solver, with Clarabel (``DIFFCP`` with ``solve_method="Clarabel"`` and ``mode="dense"``) and,
where it is installed, with Moreau.
"""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import torch
from peer_comparison import Comparison, Peer, clarabel, default, moreau, parser

from shiftgym.solvers import ProductAllocation

CONTEXTS, SCENARIOS, PRODUCTS = 64, 50, 10


def peer(problem: ProductAllocation, zero: Any) -> Peer:
    """Build the same problem for a single context."""
    y, z = cp.Parameter((SCENARIOS, PRODUCTS)), cp.Variable(PRODUCTS)
    objective = cp.sum(cp.exp(-y @ z)) / SCENARIOS
    limits = [z + zero >= 0, z + zero <= problem.cap] + ([zero == 0] if isinstance(zero, cp.Variable) else [])
    return Peer(cp.Problem(cp.Minimize(objective), limits), [y], z)


def main() -> None:
    few = parser(__doc__, CONTEXTS).parse_args().peer_contexts
    generator = torch.Generator().manual_seed(0)
    mean = 0.3 + 0.5 * torch.randn(CONTEXTS, 1, PRODUCTS, generator=generator, dtype=torch.float64)
    noise = torch.randn(CONTEXTS, SCENARIOS, PRODUCTS, generator=generator, dtype=torch.float64)
    cotangent = torch.randn(CONTEXTS, PRODUCTS, generator=generator, dtype=torch.float64)
    problem, y = ProductAllocation(products=PRODUCTS), mean + 0.8 * noise
    title = (
        f"Allocation, forward + backward, {CONTEXTS} contexts x {SCENARIOS} scenarios x {PRODUCTS} products, float64"
    )
    comparison = Comparison(title)
    comparison.ours("shiftgym", problem, y, cotangent)
    settings = [default(150), clarabel(None, "dense"), moreau()]
    comparison.theirs(problem, lambda zero: peer(problem, zero), y, cotangent, few, settings)
    wide = ProductAllocation(products=50)
    outcomes = 0.3 + torch.randn(CONTEXTS, SCENARIOS, 50, generator=generator, dtype=torch.float64)
    comparison.ours("shiftgym, 50 products", wide, outcomes, outcomes[:, 0])
    comparison.print()


if __name__ == "__main__":
    main()
