"""Problems written in CVXPY: against closed forms, CVXPY itself and finite differences; and clear errors."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch

from shiftgym.data import UnknownNameError
from shiftgym.solvers import ProblemError
from shiftgym.solvers.convex import ConvexProblem, UnreliableGradientWarning
from shiftgym.solvers.layer import decide


def newsvendor(**keywords: Any) -> ConvexProblem:
    """3 per unit short, 1 per unit left over; the best order is the 3/4 quantile."""

    def cost(y: Any, z: Any) -> Any:
        return 3 * cp.pos(y - z)[:, 0] + cp.pos(z - y)[:, 0]

    return ConvexProblem(cost, outcome_dim=1, decision_dim=1, low=0.0, high=10.0, **keywords)


def tracking(size: int = 3, **keywords: Any) -> ConvexProblem:
    """|z - y|^2 / 2, whose best decision is the projected mean."""

    def cost(y: Any, z: Any) -> Any:
        return cp.sum(cp.square(z - y), axis=1) / 2

    limits: dict[str, Any] = {"low": -10.0, "high": 10.0}
    return ConvexProblem(cost, outcome_dim=size, decision_dim=size, **{**limits, **keywords})


def portfolio(size: int = 4, backend: str = "clarabel-dense") -> ConvexProblem:
    def cost(y: Any, z: Any) -> Any:
        gain = cp.sum(cp.multiply(y, z), axis=1)
        return cp.square(gain) / 2 - gain

    return ConvexProblem(
        cost,
        outcome_dim=size,
        decision_dim=size,
        low=0.0,
        high=1.0,
        constraints=lambda z: [cp.sum(z) == 1],
        backend=backend,
    )


def scalar(cost: Any) -> ConvexProblem:
    return ConvexProblem(cost, outcome_dim=1, decision_dim=1, low=0.0, high=1.0)


@pytest.mark.parametrize("backend", ["clarabel", "clarabel-dense", "scs"])
def test_newsvendor_orders_the_quantile(backend: str) -> None:
    demand = np.random.default_rng(0).random((5, 9, 1)) * 5
    expected = np.sort(demand, axis=1)[:, 6]  # 3/4 of 9 scenarios
    np.testing.assert_allclose(newsvendor(backend=backend).solve(demand), expected, atol=1e-4)


@pytest.mark.parametrize("backend", ["clarabel", "clarabel-dense"])
def test_solution_is_that_of_cvxpy(backend: str) -> None:
    problem = portfolio(backend=backend)
    returns = np.random.default_rng(1).normal(0.1, 1.0, (6, 20, 4))
    decisions = problem.solve(returns)
    for y, z in zip(returns, decisions, strict=True):
        weights = cp.Variable(4)
        objective = cp.sum_squares(y @ weights) / 2 / 20 - cp.sum(y @ weights) / 20
        best = cp.Problem(cp.Minimize(objective), [weights >= 0, cp.sum(weights) == 1]).solve(solver=cp.CLARABEL)
        ours = float((0.5 * (y @ z) ** 2 - y @ z).mean())
        assert ours == pytest.approx(best, rel=1e-6, abs=1e-8)
        assert z.sum() == pytest.approx(1.0, abs=1e-6)
        assert z.min() >= 0.0


def test_gradients_against_finite_differences() -> None:
    problem, rng = portfolio(), np.random.default_rng(2)
    returns, cotangent = rng.normal(0.1, 1.0, (4, 12, 4)), rng.normal(size=(4, 4))
    decisions = problem.solve(returns)
    gradient = problem.adjoint(returns, decisions, cotangent).scenarios
    numeric, step = np.zeros_like(returns), 1e-5
    for place in np.ndindex(12, 4):
        up, down = returns.copy(), returns.copy()
        up[:, *place] += step
        down[:, *place] -= step
        numeric[:, *place] = ((problem.solve(up) - problem.solve(down)) * cotangent).sum(-1) / (2 * step)
    for ours, theirs in zip(gradient.reshape(4, -1), numeric.reshape(4, -1), strict=True):
        assert ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.9999


def test_multiplier_and_score_of_a_quadratic() -> None:
    """For |z - y|^2 / 2 the Hessian is the identity: u is the cotangent, w_m = -u'(z - y_m)."""
    problem, rng = tracking(), np.random.default_rng(3)
    outcomes, cotangent = rng.normal(size=(5, 7, 3)), rng.normal(size=(5, 3))
    decisions = problem.solve(outcomes)
    np.testing.assert_allclose(decisions, outcomes.mean(1), atol=1e-6)
    adjoint = problem.adjoint(outcomes, decisions, cotangent)
    np.testing.assert_allclose(adjoint.multiplier, cotangent, atol=1e-5)
    np.testing.assert_allclose(adjoint.scenarios, np.repeat(cotangent[:, None] / 7, 7, axis=1), atol=1e-5)
    expected = -(cotangent[:, None] * (decisions[:, None] - outcomes)).sum(-1)
    np.testing.assert_allclose(adjoint.score, expected, atol=1e-5)


def test_layer_carries_the_gradient_to_a_network() -> None:
    outcomes = torch.randn(3, 5, 3, dtype=torch.float64, requires_grad=True)
    decide(tracking(), outcomes).sum().backward()  # type: ignore[no-untyped-call]
    assert outcomes.grad is not None
    np.testing.assert_allclose(outcomes.grad.numpy(), 0.2, atol=1e-5)


def test_cost_of_floats_arrays_and_tensors() -> None:
    problem, rng = newsvendor(), np.random.default_rng(4)
    outcomes, decisions = rng.random((6, 1)) * 5, rng.random((6, 1)) * 5
    expected = 3 * np.maximum(outcomes - decisions, 0)[:, 0] + np.maximum(decisions - outcomes, 0)[:, 0]
    np.testing.assert_allclose(problem.cost(outcomes, decisions), expected)
    assert problem.cost(float(outcomes[0, 0]), float(decisions[0, 0])) == pytest.approx(expected[0])
    broadcast = problem.cost(outcomes[:, None], decisions[None])
    assert broadcast.shape == (6, 6)
    np.testing.assert_allclose(np.diag(broadcast), expected)
    assert problem.perfect(2.5) == pytest.approx(2.5, abs=1e-5)
    smooth = tracking()
    y = torch.randn(4, 3, dtype=torch.float64)
    z = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda decision: smooth.cost(y, decision), (z,))
    shared = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    smooth.cost(y, shared).sum().backward()
    np.testing.assert_allclose(shared.grad.numpy(), -y.sum(0, keepdim=True).numpy())


def test_projection_and_violations() -> None:
    problem = portfolio()
    requests = np.array([[0.25, 0.25, 0.25, 0.25], [2.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5]])
    feasible = problem.project(requests)
    np.testing.assert_allclose(feasible, [[0.25] * 4, [1, 0, 0, 0], [0.25] * 4], atol=1e-5)
    found = problem.violations(np.zeros((3, 4)), requests)["constraints"]
    np.testing.assert_allclose(found, [0.0, 1.0, 0.5], atol=1e-4)
    assert newsvendor().project(12.0) == 10.0


def test_a_wrong_gradient_warns() -> None:
    """Two assets with nearly equal means: the best one jumps from vertex to vertex, where no gradient exists."""

    def cost(y: Any, z: Any) -> Any:
        return -cp.sum(cp.multiply(y, z), axis=1)

    problem = ConvexProblem(
        cost, outcome_dim=2, decision_dim=2, low=0.0, high=1.0, constraints=lambda z: [cp.sum(z) == 1], checks=1
    )
    scenarios = np.array([[[1.0, 1.0 + 1e-7]]])
    with pytest.warns(UnreliableGradientWarning, match="in 1 of 1 contexts"):
        problem.adjoint(scenarios, problem.solve(scenarios), np.array([[1.0, -1.0]]))
    problem.adjoint(scenarios, problem.solve(scenarios), np.array([[1.0, -1.0]]))  # checked once, then silent


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: tracking(constraints=lambda z: [cp.sum(z) >= 100]).solve(np.ones((1, 2, 3))), "found no solution"),
        (lambda: scalar(lambda y, z: -cp.square(z - y)[:, 0]), "DCP"),
        (lambda: scalar(lambda y, z: cp.multiply(cp.square(y), cp.square(z))[:, 0]), "DPP"),
        (lambda: scalar(lambda y, z: cp.sum(z)), "one cost per row"),
        (lambda: tracking(low=1.0, high=0.0), "low < high"),
        (lambda: newsvendor().solve(np.full((1, 2, 1), np.nan)), "nan"),
        (lambda: newsvendor().solve(np.ones((1, 2, 1)), np.array([[1.0, 2.0]])), "takes no weights"),
        (lambda: newsvendor().parameters(), "cannot be saved"),
    ],
)
def test_bad_problems_say_what_is_wrong(build: Any, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        build()


def test_unknown_backend() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'clarabel'"):
        newsvendor(backend="clarabell")
