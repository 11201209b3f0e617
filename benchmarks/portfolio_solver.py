"""The portfolio solver against cvxpylayers: time per context, objective gap and gradient, in the same run.

    python benchmarks/portfolio_solver.py [--peer-contexts 64]

64 contexts x 50 scenarios of percent returns in float64, one thread, forward and backward, with n = 50 assets for the
peers and up to 500 for ours. The peers are cvxpylayers in its DPP form, with its default solver, with Clarabel
(``DIFFCP`` with ``solve_method="Clarabel"`` and ``mode="dense"``) and with Moreau, and qpth, the last two where they
are installed. Installing qpth may bring older versions of numpy and cvxpy: give it an environment of its own.
"""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import torch
from peer_comparison import Comparison, Peer, clarabel, default, moreau, parser
from torch import Tensor

from shiftgym.solvers import Portfolio

CONTEXTS, SCENARIOS = 64, 50


def peer(problem: Portfolio, zero: Any) -> Peer:
    """Build the same problem for a single context."""
    y, z = cp.Parameter((SCENARIOS, problem.outcome_dim)), cp.Variable(problem.outcome_dim)
    gain = y @ z
    objective = problem.risk_aversion / 2 * cp.sum_squares(gain) / SCENARIOS - cp.sum(gain) / SCENARIOS
    limits = [cp.sum(z) == 1, z + zero >= 0] + ([zero == 0] if isinstance(zero, cp.Variable) else [])
    return Peer(cp.Problem(cp.Minimize(objective), limits), [y], z)


def qpth(problem: Portfolio) -> Any:
    """Build the same problem for a batch of contexts in qpth, or None where that is not installed."""
    try:
        from qpth.qp import QPFunction
    except ImportError:
        return None
    one, n = {"dtype": torch.float64}, problem.outcome_dim
    limits = (-torch.eye(n, **one), torch.zeros(n, **one), torch.ones(1, n, **one), torch.ones(1, **one))

    def solve(y: Tensor) -> Tensor:
        found: Tensor = QPFunction(verbose=-1)(problem.risk_aversion / SCENARIOS * y.mT @ y, -y.mean(1), *limits)
        return found

    return solve


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
    few = parser(__doc__, CONTEXTS).parse_args().peer_contexts
    comparison = Comparison(f"Portfolio, forward + backward, {CONTEXTS} contexts x {SCENARIOS} scenarios, float64")
    for assets in (50, 100, 500):
        for aversion in (0.2, 1.0):
            problem, y = Portfolio(assets=assets, risk_aversion=aversion), returns(assets)
            cotangent = torch.randn(CONTEXTS, assets, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            name = f"shiftgym, n = {assets}, alpha = {aversion}"
            comparison.ours(name, problem, y, cotangent, goal="100 ms" if assets == 500 else "")
            if assets == 50:
                settings = [default(), clarabel(25, "dense"), moreau(8)]
                comparison.theirs(problem, lambda zero, p=problem: peer(p, zero), y, cotangent, few, settings)
                if (other := qpth(problem)) is not None:
                    comparison.against("qpth", problem, other, y, cotangent, few, 5)
                else:
                    comparison.remarks.append("qpth is not installed (it may bring older numpy and cvxpy): left out")
    comparison.print()


if __name__ == "__main__":
    main()
