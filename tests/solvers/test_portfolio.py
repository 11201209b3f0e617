"""The portfolio problem against Clarabel, the optimality conditions, finite differences and a dense search."""

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

from shiftgym.solvers import Portfolio


def draw(kind: str, shape: tuple[int, ...], seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    y = 0.1 + rng.standard_normal(shape)
    if kind == "duplicates":  # of scenarios and of assets
        y = np.round(y)
        y[: len(y) // 2, :, -1] = y[: len(y) // 2, :, 0]
        y[len(y) // 3 :, 1:] = y[len(y) // 3 :, :1]
    if kind == "silent":
        y[rng.random(shape) < 0.7] = 0.0
        y[: len(y) // 3] = 0.0
    return y


def objective(problem: Portfolio, y: Any, z: Any, weights: Any = None) -> Any:
    cost = problem.cost(y, z[:, None])
    return cost.mean(1) if weights is None else (cost * weights).sum(1) / weights.sum(1)


def certified_gap(problem: Portfolio, y: Any, z: Any, weights: Any = None) -> Any:
    """Upper bound z'g - min_i g_i of the objective gap, over the rounding unit of the gradient g."""
    weights = np.ones(y.shape[:2]) if weights is None else weights
    mass = weights / weights.sum(1, keepdims=True)
    slope = problem.risk_aversion * (y * z[:, None]).sum(-1) - 1
    g = (mass[..., None] * slope[..., None] * y).sum(1)
    size = np.abs(y).max((1, 2))
    return ((z * g).sum(1) - g.min(1)) / np.maximum(size * np.maximum(1, problem.risk_aversion * size), 1e-300)


def strictly(problem: Portfolio) -> Portfolio:
    """The problem without its tolerance: what breaks a limit by a little may cost less than the best feasible."""
    strict = copy.copy(problem)
    strict.tolerance = 0.0
    return strict


def check_against_clarabel(instances: int, seed: int) -> None:
    """Relative objective gap at most 1e-9, on shapes with fewer and with more scenarios than assets."""
    rng = np.random.default_rng(seed)
    for shape in [(20, 8), (6, 12), (30, 4), (12, 60)]:
        risk, z = cp.Parameter(shape), cp.Variable(shape[1])
        mean = cp.Parameter(shape[1])
        reference = cp.Problem(cp.Minimize(cp.sum_squares(risk @ z) - mean @ z), [cp.sum(z) == 1, z >= 0])
        for alpha in (0.1, 1.0, 5.0):
            problem = Portfolio(assets=shape[1], risk_aversion=alpha)
            rows = instances // 12 + 1
            y = rng.uniform(-0.3, 0.6, (rows, 1, 1)) + rng.standard_normal((rows, *shape))
            ours = problem.solve(y)
            for i in range(len(y)):
                risk.value, mean.value = y[i] * np.sqrt(alpha / 2 / shape[0]), y[i].mean(0)
                reference.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
                theirs = strictly(problem).project(np.asarray(z.value))
                mine, other = (objective(problem, y[i : i + 1], x[None])[0] for x in (ours[i], theirs))
                assert mine <= other + 1e-9 * abs(other)
                assert mine == pytest.approx(float(reference.value), rel=1e-7, abs=1e-9)


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
def test_solve_agrees_with_clarabel() -> None:
    check_against_clarabel(60, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
def test_solve_agrees_with_clarabel_on_a_thousand_instances() -> None:
    check_against_clarabel(1000, 1)


@pytest.mark.parametrize("kind", ["general", "duplicates", "silent"])
@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 1e6])
@pytest.mark.parametrize("alpha", [1e-6, 1.0, 1e6])
def test_optimality_at_every_scale(alpha: float, scale: float, kind: str) -> None:
    for count, n in [(1, 2), (1, 5), (5, 3), (5, 20), (50, 20), (10, 60), (3, 150)]:
        problem, y = Portfolio(assets=n, risk_aversion=alpha), scale * draw(kind, (12, count, n))
        z = problem.solve(y)
        assert np.all(z >= 0)
        np.testing.assert_allclose(z.sum(1), 1.0, atol=1e-12)
        assert certified_gap(problem, y, z).max() < 1e-12


@settings(max_examples=40, deadline=None)
@given(
    y=hnp.arrays(
        np.float64, st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(2, 12)), elements=st.floats(-3, 3)
    ),
    seed=st.none() | st.integers(0, 10),
)
def test_any_shape_and_value_is_solved(y: Any, seed: int | None) -> None:
    problem = Portfolio(assets=y.shape[2], risk_aversion=2.0)
    weights = None if seed is None else np.random.default_rng(seed).random(y.shape[:2]) + 0.01
    z = problem.solve(y, weights)
    assert z.shape == (len(y), y.shape[2])
    assert np.all(z >= 0)
    np.testing.assert_allclose(z.sum(1), 1.0, atol=1e-12)
    assert certified_gap(problem, y, z, weights).max() < 1e-11
    gradient = problem.adjoint(y, z, np.ones_like(z), weights)
    assert all(np.isfinite(part).all() for part in gradient)


def test_scale_of_scenarios_and_risk_aversion_cancel() -> None:
    y = draw("general", (8, 20, 10))
    one = Portfolio(assets=10, risk_aversion=2.0).solve(y)
    for scale in (1e-6, 1e-3, 1e3, 1e6):
        np.testing.assert_allclose(Portfolio(assets=10, risk_aversion=2.0 / scale).solve(y * scale), one, atol=1e-9)


def test_least_norm_where_several_portfolios_are_optimal() -> None:
    """Fewer scenarios than assets: 1/alpha is earned in every scenario by many portfolios."""
    problem, y = Portfolio(assets=12, risk_aversion=20.0), draw("general", (60, 3, 12), 4)
    z = problem.solve(y)
    attained = np.isclose((y * z[:, None]).sum(-1), 1 / 20, atol=1e-10).all(1)
    assert attained.sum() > 20
    variable, scenario = cp.Variable(12), cp.Parameter((3, 12))
    limits = [scenario @ variable == 1 / 20, cp.sum(variable) == 1, variable >= 0]
    smallest = cp.Problem(cp.Minimize(cp.sum_squares(variable)), limits)
    for i in np.flatnonzero(attained)[:20]:
        scenario.value = y[i]
        smallest.solve(solver=cp.CLARABEL)
        np.testing.assert_allclose(z[i], variable.value, atol=1e-4)
        inside = z[i] > 0
        system = np.vstack([y[i][:, inside], np.ones(inside.sum())])
        np.testing.assert_allclose(z[i][inside], np.linalg.pinv(system) @ [0.05, 0.05, 0.05, 1.0], atol=1e-5)


def test_equal_assets_get_equal_shares_and_nothing_known_means_equal_weights() -> None:
    problem = Portfolio(assets=4)
    np.testing.assert_allclose(problem.solve(np.zeros((1, 3, 4))), 0.25, atol=1e-12)
    y = np.array([[[1.0, 1.0, 0.0, -1.0], [0.5, 0.5, 0.2, 0.1]]])
    np.testing.assert_allclose(problem.solve(y), [[0.5, 0.5, 0.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(40, 20, 6), (40, 4, 10), (30, 20, 60)])
@pytest.mark.parametrize("alpha", [0.5, 20.0])
def test_scenario_gradient_against_finite_differences(alpha: float, shape: Any, weighted: bool) -> None:
    """Cosine above 0.99999 along random directions, away from changes of the support; singular ones included."""
    problem, rng = Portfolio(assets=shape[2], risk_aversion=alpha), np.random.default_rng(0)
    y = draw("general", shape, 3)
    weights = rng.random(shape[:2]) + 0.1 if weighted else None
    z = problem.solve(y, weights)
    cotangent = rng.standard_normal(z.shape)
    gradient = problem.adjoint(y, z, cotangent, weights).scenarios
    numeric, analytic, steady = [], [], np.ones(len(y), bool)
    # a singular problem is exact to 1e-6 in the directions without curvature: a step large against that
    step = 1e-3 if shape[1] < shape[2] else 1e-5
    for _ in range(6):
        direction = rng.standard_normal(shape)
        ahead, back = (problem.solve(y + sign * step * direction, weights) for sign in (1, -1))
        steady &= ((ahead > 0) == (back > 0)).all(1) & ((ahead > 0) == (z > 0)).all(1)
        numeric.append(((ahead - back) * cotangent).sum(1) / (2 * step))
        analytic.append((gradient * direction).sum((1, 2)))
    a, b = np.array(analytic)[:, steady], np.array(numeric)[:, steady]
    assert steady.sum() >= 4
    moving = np.linalg.norm(b, axis=0) > 1e-6
    cosine = (a * b).sum(0)[moving] / np.linalg.norm(a, axis=0)[moving] / np.linalg.norm(b, axis=0)[moving]
    assert cosine.min() > 0.99999
    np.testing.assert_allclose(a[:, moving], b[:, moving], rtol=0.01, atol=0.01 * np.abs(b).max())
    np.testing.assert_allclose(a[:, ~moving], 0.0, atol=1e-5)


def test_score_weights_give_the_gradient_of_the_population() -> None:
    """Score-function estimate for y ~ N(theta, s^2), against differences of the same large sample."""
    rng, step, sigma = np.random.default_rng(0), 0.02, 1.0
    noise = rng.standard_normal((1, 100_000, 4)) * sigma
    theta, cotangent = np.array([0.5, 0.4, 0.3, 0.2]), np.array([[1.0, -1.0, 0.5, 0.2]])
    problem = Portfolio(assets=4, risk_aversion=1.0)
    z = problem.solve(theta + noise)
    assert np.all(z > 0.05)
    score = problem.adjoint(theta + noise, z, cotangent).score
    estimate = (score[..., None] * noise / sigma**2).mean((0, 1))
    for i in range(4):
        ahead, back = (problem.solve(theta + sign * step * np.eye(4)[i] + noise) for sign in (1, -1))
        assert estimate[i] == pytest.approx(((ahead - back) * cotangent).sum() / (2 * step), abs=0.03)


@pytest.mark.parametrize("cost", [0.0, 0.05, 0.3, 2.0])
@pytest.mark.parametrize("alpha", [0.3, 1.0, 5.0])
def test_perfect_is_the_exact_reply(alpha: float, cost: float) -> None:
    """Against Clarabel, from random, concentrated, unknown and empty previous portfolios."""
    rng = np.random.default_rng(1)
    problem = Portfolio(assets=6, risk_aversion=alpha, transaction_cost=cost)
    y, previous = rng.standard_normal((12, 6)), rng.dirichlet(np.ones(6), 12)
    y[0], previous[1], previous[2], y[3], previous[4] = 0.0, np.eye(6)[2], np.nan, np.round(y[3]), 0.0
    z = problem.perfect(y, previous)
    assert np.all(z >= -1e-15)
    np.testing.assert_allclose(z.sum(1), 1.0, atol=1e-12)
    value = problem.cost(y, z, previous)
    for i in range(12):
        x = cp.Variable(6)
        held = previous[i] if cost and not np.isnan(previous[i, 0]) else None
        trade = 0 if held is None else cost * cp.norm1(x - held)
        risk = alpha / 2 * cp.square(y[i] @ x) - y[i] @ x + trade
        best = cp.Problem(cp.Minimize(risk), [cp.sum(x) == 1, x >= 0]).solve(solver=cp.CLARABEL)
        assert value[i] == pytest.approx(best, abs=1e-6)
    tensors = problem.perfect(torch.tensor(y), torch.tensor(previous))
    np.testing.assert_allclose(tensors.numpy(), z, atol=1e-14)
    one = problem.perfect(y[5], previous[5])
    np.testing.assert_allclose(one, z[5], atol=1e-14)


def test_cost_by_hand() -> None:
    problem = Portfolio(assets=2, risk_aversion=4.0, transaction_cost=0.1)
    y, z = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.5, 0.5], [0.5, 0.5]])
    previous = np.array([[0.2, 0.8], [np.nan, np.nan]])
    np.testing.assert_allclose(problem.cost(y, z, previous), [0.5 - 0.5 + 0.1 * 0.6, 0.0])
    np.testing.assert_allclose(problem.cost(torch.tensor(y), torch.tensor(z), torch.tensor(previous)), [0.06, 0.0])
    assert problem.stateful
    assert not Portfolio().stateful


@settings(max_examples=40, deadline=None)
@given(
    points=hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 8)), elements=st.floats(-1e6, 1e6)),
    seed=st.integers(0, 100),
)
def test_projection_is_the_nearest_portfolio(points: Any, seed: int) -> None:
    problem = strictly(Portfolio(assets=points.shape[1]))
    nearest = problem.project(points)
    assert np.all(nearest >= 0)
    np.testing.assert_allclose(nearest.sum(1), 1.0, atol=1e-9)
    rivals = np.random.default_rng(seed).dirichlet(np.ones(points.shape[1]), 50)
    # no portfolio lies further along the normal of the projection
    inner = ((points - nearest)[:, None] * (rivals - nearest[:, None])).sum(-1)
    assert np.all(inner <= 1e-8 * (1 + np.abs(points).max()))
    np.testing.assert_allclose(problem.project(nearest), nearest, atol=1e-12)
    np.testing.assert_allclose(problem.project(torch.tensor(points)).numpy(), nearest, atol=1e-9)


def test_requests_within_the_tolerance_are_executed_as_they_are() -> None:
    problem = Portfolio(assets=3)
    near = np.float32([1 / 3, 1 / 3, 1 / 3]).astype(float)
    assert problem.project(near) is near
    assert problem.excess(near, near) == {"budget": 0.0, "bounds": 0.0}
    rows = np.array([near, [1.0, -5e-7, 0.0], [1.0, -5e-6, 0.0], [0.5, 0.2, 0.2]])
    projected = problem.project(rows)
    np.testing.assert_array_equal(projected[:2], rows[:2])
    np.testing.assert_allclose(projected[2:], [[1.0, 0.0, 0.0], [1.6 / 3, 0.7 / 3, 0.7 / 3]], atol=1e-5)
    np.testing.assert_array_equal(problem.project(torch.tensor(rows)).numpy(), projected)


def test_measures_by_hand() -> None:
    problem = Portfolio(assets=2)
    y, z = np.array([[0.1, 0.2], [0.1, 0.2]]), np.array([[0.5, 0.5], [1.0, 0.0]])
    found = problem.measure(y, z, np.array([[np.nan, np.nan], [0.25, 0.75]]))
    assert tuple(found) == problem.measures
    np.testing.assert_allclose(found["return"], [0.15, 0.1])
    np.testing.assert_allclose(found["turnover"], [0.0, 0.75])
    np.testing.assert_allclose(problem.measure(y[:1], z)["return"], found["return"])  # one outcome for both
    one = problem.measure(y[1], z[1], np.array([0.25, 0.75]))
    assert one == pytest.approx({"return": 0.1, "turnover": 0.75})
    assert problem.measure(y[1], z[1])["turnover"] == 0


def test_violations() -> None:
    problem = Portfolio(assets=2)
    found = problem.violations(np.zeros((3, 2)), np.array([[0.5, 0.5], [1.2, -0.2], [0.5, 0.3]]))
    np.testing.assert_allclose(found["bounds"], [0.0, 0.2, 0.0], atol=1e-12)
    np.testing.assert_allclose(found["budget"], [0.0, 0.0, 0.2], atol=1e-12)
    assert problem.families == ("budget", "bounds")


def test_a_row_that_does_not_converge_is_nan_and_the_others_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    import shiftgym.solvers.simplex_qp as module

    problem, y = Portfolio(assets=20), draw("general", (40, 30, 20))
    whole = problem.solve(y)
    monkeypatch.setattr(module, "_SCREENINGS", 0)
    monkeypatch.setattr(module, "_PIVOTS", 1)
    monkeypatch.setattr(module, "_WALK", 0)
    with pytest.warns(RuntimeWarning, match=r"Portfolio\.solve: \d+ of 40 contexts did not converge"):
        z = problem.solve(y)
    lost = np.isnan(z).any(1)
    assert 0 < lost.sum() < 40
    np.testing.assert_allclose(z[~lost], whole[~lost], atol=1e-9)
    gradient = problem.adjoint(y, z, np.ones_like(z))
    for part in gradient:
        assert np.isfinite(part).all()
        assert np.all(part[lost] == 0)
