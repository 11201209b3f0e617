"""The product allocation solver against cvxpylayers: time per context, objective gap and gradient, in the same run.

    python benchmarks/allocation_solver.py [--peer-contexts 64]

64 contexts x 50 scenarios of 10 products in float64, one thread, forward and backward. The peer is cvxpylayers in its
DPP form, with its default solver and with Clarabel (``DIFFCP`` with ``solve_method="Clarabel"`` and ``mode="dense"``).
"""

from __future__ import annotations

import argparse
import warnings

import cvxpy as cp
import torch
from cvxpylayers.torch import CvxpyLayer
from peer_comparison import Comparison

from shiftgym.solvers import ProductAllocation

CONTEXTS, SCENARIOS, PRODUCTS = 64, 50, 10


def peer(problem: ProductAllocation) -> CvxpyLayer:
    """Build the same problem for a single context as a cvxpylayers layer."""
    y, z = cp.Parameter((SCENARIOS, PRODUCTS)), cp.Variable(PRODUCTS)
    objective = cp.sum(cp.exp(-y @ z)) / SCENARIOS
    limits = [z >= 0, z <= problem.cap]
    return CvxpyLayer(cp.Problem(cp.Minimize(objective), limits), parameters=[y], variables=[z])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-contexts", type=int, default=CONTEXTS, help="contexts given to the peer (default all)")
    few = parser.parse_args().peer_contexts
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(0)
    mean = 0.3 + 0.5 * torch.randn(CONTEXTS, 1, PRODUCTS, generator=generator, dtype=torch.float64)
    noise = torch.randn(CONTEXTS, SCENARIOS, PRODUCTS, generator=generator, dtype=torch.float64)
    cotangent = torch.randn(CONTEXTS, PRODUCTS, generator=generator, dtype=torch.float64)
    problem, y = ProductAllocation(products=PRODUCTS), mean + 0.8 * noise
    title = (
        f"Allocation, forward + backward, {CONTEXTS} contexts x {SCENARIOS} scenarios x {PRODUCTS} products, float64"
    )
    comparison = Comparison(title)
    ours = comparison.ours("shiftgym", problem, y, cotangent)
    comparison.theirs(problem, peer(problem), y[:few], cotangent[:few], ours)
    wide = ProductAllocation(products=50)
    outcomes = 0.3 + torch.randn(CONTEXTS, SCENARIOS, 50, generator=generator, dtype=torch.float64)
    comparison.ours("shiftgym, 50 products", wide, outcomes, outcomes[:, 0])
    comparison.print()


if __name__ == "__main__":
    main()
