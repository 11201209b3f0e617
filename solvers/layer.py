"""The decision as a differentiable layer: torch autograd through any :class:`DecisionProblem`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import DecisionProblem


class _Decide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, problem: DecisionProblem, scenarios: Tensor, weights: Tensor | None) -> Tensor:
        decisions: Tensor = problem.solve(scenarios, weights)
        ctx.problem, ctx.weights = problem, weights
        ctx.save_for_backward(scenarios, decisions)
        return decisions

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[None, Tensor, None]:
        scenarios, decisions = ctx.saved_tensors
        gradient = ctx.problem.pullback(scenarios, decisions, cotangents[0].contiguous(), ctx.weights)
        return None, gradient, None


def decide(problem: DecisionProblem, scenarios: Tensor, weights: Tensor | None = None) -> Tensor:
    """Scenario decisions (B, d), differentiable in the scenarios (B, M, D) through one adjoint solve.

    This is the reparameterised estimator of Diffusion-DFL (Section 4): dF/dtheta flows through dF/dy_m. The
    solver works in float64 inside, whatever the dtype of the scenarios.
    """
    out: Tensor = _Decide.apply(problem, scenarios.double(), weights)  # type: ignore[no-untyped-call]
    return out.to(scenarios.dtype)
