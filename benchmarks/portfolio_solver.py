"""The portfolio solver against cvxpylayers: time per context, objective gap and gradient, in the same run.

    python benchmarks/portfolio_solver.py [--peer-contexts 64]

64 contexts x 50 scenarios of percent returns in float64, one thread, forward and backward, with n = 50 assets for the
peer and up to 500 for ours. The peer is cvxpylayers in its DPP form, with its default solver and with Clarabel
(``DIFFCP`` with ``solve_method="Clarabel"`` and ``mode="dense"``).
"""

from __future__ import annotations

import argparse
import warnings

import cvxpy as cp
import torch
from cvxpylayers.torch import CvxpyLayer
from peer_comparison import Comparison
from torch import Tensor

from shiftgym.solvers import Portfolio

CONTEXTS, SCENARIOS = 64, 50


def peer(problem: Portfolio) -> CvxpyLayer:
    """Build the same problem for a single context as a cvxpylayers layer."""
    y, z = cp.Parameter((SCENARIOS, problem.outcome_dim)), cp.Variable(problem.outcome_dim)
    gain = y @ z
    objective = problem.risk_aversion / 2 * cp.sum_squares(gain) / SCENARIOS - cp.sum(gain) / SCENARIOS
    return CvxpyLayer(cp.Problem(cp.Minimize(objective), [cp.sum(z) == 1, z >= 0]), parameters=[y], variables=[z])


def returns(assets: int) -> Tensor:
    """Percent returns with five common factors and an expected return that varies by context and asset."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    loads = normal(assets, 5).abs() + 0.2
    mean = 0.1 + 0.08 * normal(CONTEXTS, 1, assets)
    common = normal(CONTEXTS, SCENARIOS, 5) @ loads.T / 5**0.5
    return mean + common + 1.2 * normal(CONTEXTS, SCENARIOS, assets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-contexts", type=int, default=CONTEXTS, help="contexts given to the peer (default all)")
    few = parser.parse_args().peer_contexts
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    comparison = Comparison(f"Portfolio, forward + backward, {CONTEXTS} contexts x {SCENARIOS} scenarios, float64")
    for assets in (50, 100, 500):
        for aversion in (0.2, 1.0):
            problem, y = Portfolio(assets=assets, risk_aversion=aversion), returns(assets)
            cotangent = torch.randn(CONTEXTS, assets, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            ours = comparison.ours(f"shiftgym, n = {assets}, alpha = {aversion}", problem, y, cotangent)
            if assets == 50:
                comparison.theirs(problem, peer(problem), y[:few], cotangent[:few], ours)
    comparison.print()


if __name__ == "__main__":
    main()
