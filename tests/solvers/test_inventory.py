"""The inventory problem against CVXPY, a dense grid, its optimality conditions and finite differences."""

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

from shiftgym.solvers import Inventory, inventory

LINEAR: dict[str, Any] = {"order_growth": 0.0, "shortage_growth": 0.0, "holding_growth": 0.0}
STEEP: dict[str, Any] = {"order": 0.2, "shortage": 0.1, "holding": 0.1, "shortage_growth": 2.0, "holding_growth": 1.0}


def draw(kind: str, contexts: int, count: int, seed: int = 0) -> Any:
    """Demands (contexts, count, 1)."""
    rng = np.random.default_rng(seed)
    shape = (contexts, count, 1)
    if kind == "mixture":
        return np.where(rng.random(shape) < 0.5, 3.0, 8.0) + 0.5 * rng.standard_normal(shape)
    if kind == "wide":
        return rng.lognormal(1.0, 1.5, shape)
    if kind == "zero":
        return np.where(rng.random(shape) < 0.7, 0.0, rng.lognormal(1.0, 1.0, shape))
    return np.round(rng.random(shape) * 6)  # duplicates


KINDS = ["mixture", "zero", "duplicates", "wide"]
TAME = KINDS[:3]  # cubes of the wide ones are out of proportion for an interior-point solver


def objective(problem: Inventory, scenarios: Any, decisions: Any, weights: Any = None) -> Any:
    weights = np.ones(scenarios.shape[:2]) if weights is None else weights
    return (problem.cost(scenarios, decisions[:, None]) * weights).sum(1) / weights.sum(1)


def slopes(problem: Inventory, scenarios: Any, z: Any, weights: Any = None) -> Any:
    """One-sided derivatives (B,) of the average at z (B, 1), and the size of their terms."""
    weights = np.ones(scenarios.shape[:2]) if weights is None else weights
    mass, left = weights / weights.sum(1, keepdims=True), z - scenarios[..., 0]
    smooth = np.where(left > 0, problem.holding_growth, -problem.shortage_growth) * left**2
    order = problem.order + problem.order_growth * z[:, 0]
    sides = [
        order + (mass * (smooth + np.where(above, problem.holding, -problem.shortage))).sum(1)
        for above in (left > 0, left >= 0)
    ]
    return (*sides, order + (mass * np.abs(smooth)).sum(1) + problem.holding + problem.shortage)


def strictly(problem: Inventory) -> Inventory:
    """The problem without its tolerance: what breaks a limit by a little may cost less than the best feasible."""
    strict = copy.copy(problem)
    strict.tolerance = 0.0
    return strict


def clarabel(problem: Inventory, scenarios: Any) -> Any:
    """Orders (B, 1) of an interior-point solver, all contexts in one programme."""
    contexts, count, _ = scenarios.shape
    z, over, under = cp.Variable((contexts, 1)), cp.Variable((contexts, count)), cp.Variable((contexts, count))
    surplus = z @ np.ones((1, count)) - scenarios[..., 0]
    price = problem.order * cp.sum(z) + problem.order_growth / 2 * cp.sum_squares(z)
    demands = problem.shortage * under + problem.shortage_growth / 3 * cp.power(under, 3, approx=True)
    demands = demands + problem.holding * over + problem.holding_growth / 3 * cp.power(over, 3, approx=True)
    limits = [over >= 0, under >= 0, over >= surplus, under >= -surplus, z >= 0, z <= problem.capacity]
    programme = cp.Problem(cp.Minimize(price + cp.sum(demands) / count), limits)
    programme.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return strictly(problem).project(np.asarray(z.value))


def test_cost_by_hand() -> None:
    problem = Inventory()
    order = 1.0 * 2 + 0.1 * 2**2 / 2
    short, held = 3.0 * 1.5 + 0.3 * 1.5**3 / 3, 0.5 * 1.2 + 0.2 * 1.2**3 / 3
    cost = problem.cost(np.array([[3.5], [0.8]]), np.array([[2.0], [2.0]]))
    np.testing.assert_allclose(cost, [order + short, order + held], rtol=1e-14)


@pytest.mark.parametrize("constants", [{}, LINEAR, STEEP])
def test_floats_arrays_and_tensors_agree(constants: dict[str, float]) -> None:
    problem = Inventory(**constants)
    outcomes, decisions = np.random.default_rng(0).uniform(-3, 25, (2, 50, 1))
    cost, perfect, nearest = problem.cost(outcomes, decisions), problem.perfect(outcomes), problem.project(decisions)
    y, z = torch.tensor(outcomes), torch.tensor(decisions)
    np.testing.assert_allclose(problem.cost(y, z).numpy(), cost, rtol=1e-12)
    np.testing.assert_allclose(problem.perfect(y).numpy(), perfect, rtol=1e-12)
    np.testing.assert_array_equal(problem.project(z).numpy(), nearest)
    found = problem.violations(outcomes, decisions)["bounds"]
    for i in range(50):
        y_, z_ = float(outcomes[i, 0]), float(decisions[i, 0])
        assert problem.cost(y_, z_) == pytest.approx(cost[i], rel=1e-12)
        assert problem.perfect(y_) == pytest.approx(perfect[i, 0], rel=1e-12)
        assert problem.project(z_) == nearest[i, 0]
        assert problem.violations(y_, z_)["bounds"] == pytest.approx(found[i])


@pytest.mark.parametrize("one", [False, True])
def test_stock_is_carried_over(one: bool) -> None:
    """Three steps by hand: what is left meets the next demand first, at the price of holding it."""
    problem, plain = Inventory(carry=True), Inventory()
    assert problem.stateful
    assert not plain.stateful

    def number(x: float) -> Any:
        return x if one else np.array([[x]])

    stock = number(np.nan)
    for demand, order, missing, left in [(3.0, 5.0, 0.0, 2.0), (1.5, 1.0, 0.0, 1.5), (4.0, 2.0, 0.5, 0.0)]:
        before = 0.0 if np.isnan(stock) else float(np.squeeze(stock))
        y, z = number(demand), number(order)
        net = number(demand - before)
        assert problem.cost(y, z, stock) == pytest.approx(plain.cost(net, z))
        assert problem.measure(y, z, stock) == pytest.approx({"missing": missing, "left": left})
        np.testing.assert_allclose(problem.perfect(y, stock), plain.perfect(net))
        stock = problem.carry(y, z, stock)
        assert np.shape(stock) == np.shape(z)
        assert float(np.squeeze(stock)) == pytest.approx(left)
    assert plain.carry(number(3.0), number(5.0)) == 5.0
    assert plain.measure(number(3.0), number(5.0)) == pytest.approx({"missing": 0.0, "left": 2.0})


def test_scenarios_given_the_stock_lead_to_the_best_order() -> None:
    problem, scenarios = Inventory(carry=True), draw("mixture", 20, 15)
    stock = np.random.default_rng(0).uniform(0, 9, (20, 1))
    stock[0], stock[1] = np.nan, 40.0
    z = problem.solve(problem.given(scenarios, stock))
    assert z[1] == 0  # more than enough
    np.testing.assert_allclose(z[0], Inventory().solve(scenarios)[0])

    def value(order: Any) -> Any:
        return problem.cost(scenarios, order[:, None], stock[:, None]).mean(1)

    for order in np.linspace(0, 20, 400):
        assert np.all(value(z) <= value(np.full_like(z, order)) * (1 + 1e-12))
    tensor = problem.given(torch.tensor(scenarios), torch.tensor(stock))
    np.testing.assert_array_equal(tensor.numpy(), problem.given(scenarios, stock))
    assert problem.given(scenarios) is scenarios


def test_requests_within_the_tolerance_are_executed_as_they_are() -> None:
    problem = Inventory()
    assert problem.project(-5e-7) == -5e-7
    rows = np.array([[-5e-7], [20.0 + 5e-7], [-5e-6], [20.0 + 5e-6]])
    np.testing.assert_array_equal(problem.project(rows), [*rows[:2], [0.0], [20.0]])
    assert np.all(problem.perfect(rows[:1]) >= 0)
    assert np.all(problem.solve(rows[:1, None]) >= 0)


@pytest.mark.parametrize("constants", [{}, LINEAR, STEEP, {"shortage": 0.5}, {"capacity": 2.0}])
def test_one_scenario_is_perfect_information_and_beats_a_grid(constants: dict[str, float]) -> None:
    problem = Inventory(**constants)
    outcomes = np.random.default_rng(1).uniform(-1, 25, (200, 1))
    perfect = problem.perfect(outcomes)
    np.testing.assert_allclose(problem.solve(outcomes[:, None]), perfect, rtol=1e-12, atol=1e-12)
    best = problem.cost(outcomes, perfect)
    for order in np.linspace(0, problem.capacity, 300):
        assert np.all(problem.cost(outcomes, np.full_like(outcomes, order)) >= best - 1e-12 * np.abs(best))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("constants", [{}, LINEAR, STEEP])
def test_solve_beats_a_dense_grid(constants: dict[str, float], kind: str, weighted: bool) -> None:
    problem, scenarios = Inventory(**constants), draw(kind, 30, 25)
    weights = np.random.default_rng(1).random((30, 25)) if weighted else None
    value = objective(problem, scenarios, problem.solve(scenarios, weights), weights)
    for order in np.linspace(0, 20, 500):
        rival = objective(problem, scenarios, np.full((30, 1), order), weights)
        assert np.all(value <= rival * (1 + 1e-12))


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")  # Clarabel's word when it stops short of 1e-12
@pytest.mark.parametrize("kind", TAME)
@pytest.mark.parametrize("constants", [{}, LINEAR, STEEP, {"capacity": 4.0}])
def test_solve_agrees_with_clarabel(constants: dict[str, float], kind: str) -> None:
    """Relative gap at most 1e-9 on 25 instances of each of twelve kinds."""
    problem, scenarios = Inventory(**constants), draw(kind, 25, 10)
    ours, theirs = problem.solve(scenarios), clarabel(problem, scenarios)
    value = objective(problem, scenarios, theirs)
    assert np.all(objective(problem, scenarios, ours) <= value * (1 + 1e-9))
    np.testing.assert_allclose(objective(problem, scenarios, ours), value, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@pytest.mark.parametrize("seed", range(20))
def test_solve_agrees_with_clarabel_on_many_instances(seed: int) -> None:
    """A thousand instances in all: 50 contexts with 50 scenarios at a time."""
    problem = Inventory(*np.random.default_rng(seed).uniform(0.0, 3.0, 6))
    scenarios = draw(TAME[seed % 3], 50, 50, seed)
    value = objective(problem, scenarios, clarabel(problem, scenarios))
    assert np.all(objective(problem, scenarios, problem.solve(scenarios)) <= value * (1 + 1e-9))


@settings(max_examples=50, deadline=None)
@given(
    scenarios=hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(1, 30), st.just(1)),
        elements=st.one_of(st.integers(-1, 4).map(float), st.floats(-2, 30), st.sampled_from([1e-9, 1e4])),
    ),
    constants=st.sampled_from([{}, LINEAR, STEEP, {"order": 0.0, "order_growth": 0.0}, {"shortage": 0.5}]),
    scale=st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6]),
    weighted=st.booleans(),
)
def test_solution_is_feasible_and_stationary(
    scenarios: Any, constants: dict[str, float], scale: float, weighted: bool
) -> None:
    problem, scenarios = Inventory(**constants, capacity=5 * scale), scenarios * scale
    weights = np.arange(1.0, 1 + scenarios[..., 0].size).reshape(scenarios.shape[:2]) if weighted else None
    z = problem.solve(scenarios, weights)
    assert np.all((z >= 0) & (z <= problem.capacity))
    left, right, size = slopes(problem, scenarios, z, weights)
    assert np.all((left <= 1e-12 * size) | (z[:, 0] == 0))
    assert np.all((right >= -1e-12 * size) | (z[:, 0] == problem.capacity))


def test_scaling_everything_scales_the_decision() -> None:
    scenarios = draw("wide", 20, 15)
    one = Inventory().solve(scenarios)
    for k in (1e-6, 1e6):  # cubic prices per cubic unit, quadratic ones per squared unit
        problem = Inventory(1.0, 0.1 / k, 3.0, 0.3 / k**2, 0.5, 0.2 / k**2, 20 * k)
        np.testing.assert_allclose(problem.solve(scenarios * k), one * k, rtol=1e-11)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["mixture", "wide", "zero"])
@pytest.mark.parametrize("constants", [{}, LINEAR, STEEP, {"capacity": 6.0}])
def test_scenario_gradient_against_finite_differences(constants: dict[str, float], kind: str, weighted: bool) -> None:
    problem, scenarios = Inventory(**constants), draw(kind, 40, 9, 3)
    weights = np.random.default_rng(0).random((40, 9)) if weighted else None
    decision = problem.solve(scenarios, weights)
    gradient = problem.adjoint(scenarios, decision, np.full((40, 1), -2.0), weights).scenarios
    step, numeric, steady = 1e-5, np.zeros_like(scenarios), np.ones(40, bool)
    for m in range(9):
        moved = np.zeros_like(scenarios)
        moved[:, m] = step
        ahead, back = (problem.solve(scenarios + sign * moved, weights)[:, 0] for sign in (1, -1))
        numeric[:, m, 0] = -2.0 * (ahead - back) / (2 * step)
        steady &= np.abs(ahead + back - 2 * decision[:, 0]) < 1e-8
    assert steady.mean() > (0.2 if kind == "zero" else 0.9)  # orders at duplicate demands of zero are at the bound
    a, b = gradient[steady, :, 0], numeric[steady, :, 0]
    moving = np.linalg.norm(b, axis=1) > 1e-6
    cosine = (a * b).sum(1)[moving] / np.linalg.norm(a, axis=1)[moving] / np.linalg.norm(b, axis=1)[moving]
    assert moving.any()
    assert cosine.min() > 0.99999
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_gradient_at_a_kink_and_at_a_bound() -> None:
    problem = Inventory(capacity=10.0)
    scenarios = np.array([[[4.0], [5.0], [5.0], [5.0], [7.0]], [[90.0], [91.0], [92.0], [93.0], [94.0]]])
    decision = problem.solve(scenarios)
    np.testing.assert_array_equal(decision[:, 0], [5.0, 10.0])
    gradient = problem.adjoint(scenarios, decision, np.ones((2, 1))).scenarios
    np.testing.assert_allclose(gradient[0, :, 0], [0, 1 / 3, 1 / 3, 1 / 3, 0])  # equal demands share
    np.testing.assert_array_equal(gradient[1], 0.0)


def test_the_smallest_of_several_optimal_orders() -> None:
    """Shortage 3, order 1 and holding 1 make half of the demand the target: any order in [1, 2] is as good."""
    problem = Inventory(order=1.0, holding=1.0, **LINEAR)
    scenarios = np.array([[[2.0], [1.0]]])
    np.testing.assert_array_equal(problem.solve(scenarios), [[1.0]])
    value = objective(problem, scenarios, np.array([[1.0]]))
    np.testing.assert_allclose(objective(problem, scenarios, np.array([[2.0]])), value)


@pytest.mark.parametrize("constants", [{}, LINEAR, STEEP])
def test_score_weights_give_the_gradient_of_the_population(constants: dict[str, float]) -> None:
    """Score-function estimate of dz/dtheta for y ~ N(theta, 1), against differences of large samples."""
    problem, noise = Inventory(**constants), np.random.default_rng(0).standard_normal((1, 200_000, 1))
    ahead, back = (problem.solve(5.0 + sign * 0.05 + noise) for sign in (1, -1))
    truth = float((ahead - back)[0, 0] / 0.1)
    scenarios = 5.0 + noise
    score = problem.adjoint(scenarios, problem.solve(scenarios), np.ones((1, 1))).score
    assert float(score.mean()) == pytest.approx(0.0, abs=1e-3)
    assert float((score * noise[..., 0]).mean()) == pytest.approx(truth, rel=0.05)


@pytest.mark.parametrize("weighted", [False, True])
def test_torch_and_float32_follow_float64(monkeypatch: pytest.MonkeyPatch, weighted: bool) -> None:
    problem, scenarios = Inventory(), draw("wide", 20, 30)
    weights = np.random.default_rng(0).random((20, 30)) if weighted else None
    exact = problem.solve(scenarios, weights)
    gradient = problem.adjoint(scenarios, exact, np.ones((20, 1)), weights)
    coarse = scenarios.astype(np.float32)
    single = problem.solve(coarse, weights)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, problem.solve(coarse.astype(float), weights).astype(np.float32))
    value = objective(problem, scenarios, exact, weights)
    assert np.all(objective(problem, scenarios, single.astype(float), weights) <= value * (1 + 1e-6))
    theirs = problem.adjoint(coarse, single, np.ones((20, 1), np.float32), weights)
    np.testing.assert_allclose(theirs.scenarios, gradient.scenarios, atol=1e-4)
    y, w = torch.tensor(scenarios), None if weights is None else torch.tensor(weights)
    assert torch.equal(problem.solve(y, w), torch.tensor(exact))
    # what runs on a GPU is the same code on torch's own functions
    monkeypatch.setattr(inventory, "on_numpy", lambda function, *arrays: function(*arrays))
    np.testing.assert_allclose(problem.solve(y, w).numpy(), exact, rtol=1e-12)
    for ours, other in zip(gradient, problem.adjoint(y, torch.tensor(exact), torch.ones(20, 1), w), strict=True):
        np.testing.assert_allclose(other.numpy(), ours, rtol=1e-9, atol=1e-12)
