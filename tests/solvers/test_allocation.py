"""Product allocation against Clarabel, the optimality conditions and finite differences."""

from __future__ import annotations

import copy
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shiftgym.solvers import ProductAllocation


def draw(kind: str, shape: tuple[int, ...], seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    if kind == "paper":  # Diffusion-DFL, A.1
        return np.where(rng.random(shape) < 0.8, rng.normal(1, 0.15, shape), rng.normal(-3, 0.15, shape))
    y = rng.uniform(-0.2, 0.8, (shape[0], 1, shape[2])) + 0.8 * rng.standard_normal(shape)
    if kind == "duplicates":  # of scenarios and of products
        y = np.round(y)
        y[: len(y) // 2, :, -1] = y[: len(y) // 2, :, 0]
        y[len(y) // 3 :, 1:] = y[len(y) // 3 :, :1]
    if kind == "silent":
        y[rng.random(shape) < 0.7] = 0.0
        y[: len(y) // 3] = 0.0
    return y


def log_mean(y: Any, z: Any, weights: Any = None) -> Any:
    """Log of the mean cost (B,)."""
    weights = np.ones(y.shape[:2]) if weights is None else weights
    exponent = -(y * z[:, None]).sum(-1)
    top = exponent.max(1)
    return top + np.log((weights * np.exp(exponent - top[:, None])).sum(1) / weights.sum(1))


def certified_gap(problem: ProductAllocation, y: Any, z: Any, weights: Any = None) -> Any:
    """Upper bound of how much the log of the mean cost lies above its minimum: its convexity's."""
    exponent = -(y * z[:, None]).sum(-1)
    p = np.exp(exponent - exponent.max(1, keepdims=True)) * (1 if weights is None else weights)
    g = -((p / p.sum(1, keepdims=True))[..., None] * y).sum(1)
    return (g * z - np.minimum(g, 0) * problem.cap).sum(1)


def strictly(problem: ProductAllocation) -> ProductAllocation:
    """The problem without its tolerance: what breaks a limit by a little may cost less than the best feasible."""
    strict = copy.copy(problem)
    strict.tolerance = 0.0
    return strict


def check_against_clarabel(instances: int, seed: int) -> None:
    for kind, shape in [("general", (30, 6)), ("general", (5, 8)), ("paper", (50, 10))]:
        problem = ProductAllocation(products=shape[1])
        scenario, z = cp.Parameter(shape), cp.Variable(shape[1])
        objective = cp.log_sum_exp(-scenario @ z) - np.log(shape[0])
        reference = cp.Problem(cp.Minimize(objective), [z >= 0, z <= 2])
        y = draw(kind, (instances // 3 + 1, *shape), seed)
        ours = problem.solve(y)
        for i in range(len(y)):
            scenario.value = y[i]
            reference.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
            theirs = strictly(problem).project(np.asarray(z.value))
            mine, other = (log_mean(y[i : i + 1], x[None])[0] for x in (ours[i], theirs))
            assert mine <= other + 1e-9  # relative, of the cost itself
            assert mine == pytest.approx(float(reference.value), rel=1e-6, abs=1e-6)


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
def test_solve_agrees_with_clarabel() -> None:
    check_against_clarabel(60, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
def test_solve_agrees_with_clarabel_on_a_thousand_instances() -> None:
    check_against_clarabel(1000, 1)


@pytest.mark.parametrize("kind", ["general", "duplicates", "silent", "paper"])
@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 10.0])
def test_optimality(scale: float, kind: str) -> None:
    for count, d in [(1, 1), (1, 5), (5, 3), (5, 12), (50, 10), (3, 30)]:
        problem, y = ProductAllocation(products=d), scale * draw(kind, (12, count, d))
        z = problem.solve(y)
        assert np.all((z >= 0) & (z <= 2))
        assert np.all(certified_gap(problem, y, z) <= 1e-7 * np.maximum(1, np.abs(log_mean(y, z))))
        assert np.all(np.isfinite(problem.adjoint(y, z, np.ones_like(z)).scenarios))


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_large_outcomes_neither_overflow_nor_lose_the_worst_case(scale: float) -> None:
    """There the log of the mean is the worst case but for log M, and a linear programme finds that."""
    problem, y = ProductAllocation(products=6), scale * draw("general", (12, 20, 6))
    value = log_mean(y, problem.solve(y))
    z, top, scenario = cp.Variable(6), cp.Variable(), cp.Parameter((20, 6))
    worst = cp.Problem(cp.Minimize(top), [-scenario @ z <= top, z >= 0, z <= 2])
    for i in range(12):
        scenario.value = y[i] / scale
        least = scale * float(worst.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11))
        assert value[i] <= least + 1e-8 * scale
        assert value[i] >= least - np.log(20) - 1e-8 * scale


@settings(max_examples=40, deadline=None)
@given(
    y=hnp.arrays(
        np.float64, st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 8)), elements=st.floats(-3, 3)
    ),
    seed=st.none() | st.integers(0, 10),
)
def test_any_shape_and_value_is_solved(y: Any, seed: int | None) -> None:
    problem = ProductAllocation(products=y.shape[2], cap=1.5)
    weights = None if seed is None else np.random.default_rng(seed).random(y.shape[:2]) + 0.01
    z = problem.solve(y, weights)
    assert z.shape == (len(y), y.shape[2])
    assert np.all((z >= 0) & (z <= 1.5))
    assert certified_gap(problem, y, z, weights).max() < 1e-6
    assert all(np.isfinite(part).all() for part in problem.adjoint(y, z, np.ones_like(z), weights))


def test_one_scenario_is_perfect_information_and_worthless_products_are_left_out() -> None:
    problem, y = ProductAllocation(products=5), draw("silent", (30, 1, 5))
    np.testing.assert_array_equal(problem.solve(y), problem.perfect(y[:, 0]))
    np.testing.assert_array_equal(problem.perfect(np.array([[1.0, 0.0, -1.0, 2.0, 0.1]])), [[2.0, 0.0, 0.0, 2.0, 2.0]])
    np.testing.assert_array_equal(problem.solve(np.zeros((2, 3, 5))), 0.0)
    copies = problem.solve(np.repeat(draw("general", (10, 20, 1)), 5, axis=2))
    np.testing.assert_allclose(copies, copies[:, :1] + 0 * copies, atol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(40, 20, 6), (40, 5, 8)])
@pytest.mark.parametrize("cap", [0.7, 2.0])
def test_scenario_gradient_against_finite_differences(cap: float, shape: Any, weighted: bool) -> None:
    """Cosine above 0.99999 along random directions wherever no product meets or leaves a bound."""
    problem, rng = ProductAllocation(products=shape[2], cap=cap), np.random.default_rng(0)
    y = draw("general", shape, 3)
    weights = rng.random(shape[:2]) + 0.1 if weighted else None
    z = problem.solve(y, weights)
    cotangent = rng.standard_normal(z.shape)
    gradient = problem.adjoint(y, z, cotangent, weights).scenarios
    numeric, analytic, steady, step = [], [], np.ones(len(y), bool), 1e-6
    for _ in range(8):
        direction = rng.standard_normal(shape)
        ahead, back = (problem.solve(y + sign * step * direction, weights) for sign in (1, -1))
        for moved in (ahead, back):
            steady &= ((moved > 0) == (z > 0)).all(1) & ((moved < cap) == (z < cap)).all(1)
        numeric.append(((ahead - back) * cotangent).sum(1) / (2 * step))
        analytic.append((gradient * direction).sum((1, 2)))
    a, b = np.array(analytic)[:, steady], np.array(numeric)[:, steady]
    assert steady.mean() > 0.8
    moving = np.linalg.norm(b, axis=0) > 1e-6
    assert moving.sum() > 5
    cosine = (a * b).sum(0)[moving] / np.linalg.norm(a, axis=0)[moving] / np.linalg.norm(b, axis=0)[moving]
    assert cosine.min() > 0.99999
    np.testing.assert_allclose(a[:, moving], b[:, moving], rtol=0.01, atol=1e-3 * np.abs(b).max())
    np.testing.assert_allclose(a[:, ~moving], 0.0, atol=1e-6)


def test_score_weights_give_the_gradient_of_the_population() -> None:
    """Score-function estimate for y ~ N(theta, s^2), whose optimum theta / s^2 is known."""
    rng, sigma = np.random.default_rng(0), 0.8
    theta, cotangent = np.array([0.5, 0.3, 0.2]), np.array([[1.0, -1.0, 0.5]])
    noise = sigma * rng.standard_normal((1, 200_000, 3))
    problem = ProductAllocation(products=3)
    z = problem.solve(theta + noise)
    np.testing.assert_allclose(z[0], theta / sigma**2, atol=0.03)
    score = problem.adjoint(theta + noise, z, cotangent).score
    estimate = (score[..., None] * noise / sigma**2).mean((0, 1))
    np.testing.assert_allclose(estimate, cotangent[0] / sigma**2, atol=0.06)


def test_cost_by_hand_and_overflow() -> None:
    problem = ProductAllocation(products=2)
    y, z = np.array([[1.0, -2.0], [-1e6, 0.0]]), np.array([[0.5, 1.0], [2.0, 0.0]])
    np.testing.assert_allclose(problem.cost(y, z), [np.exp(1.5), np.inf])
    np.testing.assert_allclose(problem.cost(torch.tensor(y), torch.tensor(z)), [np.exp(1.5), np.inf])
    np.testing.assert_allclose(problem.perfect(torch.tensor(y)), problem.perfect(y))


def test_a_float32_decision_at_the_cap_does_not_move() -> None:
    problem = ProductAllocation(products=1, cap=0.1)
    y = np.ones((1, 3, 1), np.float32)
    z = problem.solve(y)
    np.testing.assert_array_equal(problem.adjoint(y, z, np.ones_like(z)).scenarios, 0.0)


def test_a_row_that_does_not_converge_is_nan_and_the_others_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    import shiftgym.solvers.log_mean_exp as module

    problem, y = ProductAllocation(products=6), draw("general", (40, 20, 6))
    whole = problem.solve(y)
    monkeypatch.setattr(module, "_STEPS", 6)
    with pytest.warns(RuntimeWarning, match=r"ProductAllocation\.solve: \d+ of 40 contexts did not converge"):
        z = problem.solve(y)
    lost = np.isnan(z).any(1)
    assert 0 < lost.sum() < 40
    np.testing.assert_allclose(z[~lost], whole[~lost], atol=1e-12)
    for part in problem.adjoint(y, z, np.ones_like(z)):
        assert np.isfinite(part).all()
        assert np.all(part[lost] == 0)


def test_floats_stand_for_one_product() -> None:
    """A replay of one product passes floats."""
    problem = ProductAllocation(products=1)
    outcomes, requested = np.random.default_rng(0).uniform(-3, 3, (2, 50, 1))
    decisions = problem.project(requested)
    cost, found = problem.cost(outcomes, decisions), problem.violations(outcomes, requested)["bounds"]
    for i, (y, z) in enumerate(zip(outcomes[:, 0].tolist(), requested[:, 0].tolist(), strict=True)):
        assert problem.project(z) == decisions[i, 0]
        assert problem.cost(y, problem.project(z)) == pytest.approx(cost[i], rel=1e-14)
        assert problem.violations(y, z)["bounds"] == found[i]
        assert problem.perfect(y) == problem.perfect(outcomes[i])[0]
    assert problem.cost(-1e6, 2.0) == np.inf


def test_requests_within_the_tolerance_are_executed_as_they_are() -> None:
    problem = ProductAllocation(products=2, cap=0.1)
    request = np.float32([0.1, 0.0]).astype(float)
    assert request[0] > problem.cap
    assert problem.project(request) is request
    rows = np.array([[0.1 + 5e-7, -5e-7], [0.1 + 5e-6, -5e-7]])
    np.testing.assert_array_equal(problem.project(rows), [rows[0], [0.1, -5e-7]])


def test_violations() -> None:
    problem = ProductAllocation(products=2)
    found = problem.violations(np.zeros((3, 2)), np.array([[0.5, 2.0], [2.5, -0.2], [0.5, -0.3]]))
    np.testing.assert_allclose(found["bounds"], [0.0, 0.5, 0.3], atol=1e-12)
    assert problem.families == ("bounds",)
