"""The provisioning problem against its formulas, against CVXPY, a dense grid and finite differences."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shiftgym.solvers import Provisioning

# Constants with a concave scenario average (delta < 0), where CVXPY can follow; the paper's are not concave.
CONCAVE: dict[str, Any] = {
    "utility": 1.0,
    "curvature": 4.0,
    "energy_price": 1 / 1.1,
    "active_energy": 1.0,
    "idle_energy": 0.35,
}


def objective(problem: Provisioning, scenarios: Any, capacity: Any, weights: Any = None) -> Any:
    """Mean net utility (B, N) of capacities (B, N)."""
    net = problem.net_utility(scenarios, capacity[:, None])
    if weights is None:
        return net.mean(1)
    return (net * (weights / weights.sum(1)[:, None])[..., None]).sum(1)


def draw(kind: str, shape: tuple[int, ...], seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    if kind == "narrow":
        return rng.lognormal(-1.5, 0.3, shape)
    if kind == "wide":
        return rng.lognormal(-2.0, 1.5, shape)
    if kind == "silent":
        return np.where(rng.random(shape) < 0.7, 0.0, rng.lognormal(-2.0, 1.0, shape))
    return np.round(rng.random(shape) * 4) / 4  # duplicates, zeros and ones


def test_paper_constants() -> None:
    problem = Provisioning()
    assert problem.clairvoyant_ratio == pytest.approx(0.28422, abs=5e-6)
    assert problem.kink == pytest.approx(0.34 * 1.1 * (1.6 - 0.56) - 0.2 * 20 / 21)


def test_cost_by_hand() -> None:
    problem = Provisioning()
    served = 0.2 * np.log(20 * 0.5 + 1) * 0.4 - 0.34 * 1.1 * 1.6 * 0.2  # half of 0.4 is served
    idle = 0.2 * np.log(21) * 0.1 - 0.34 * 1.1 * (1.6 * 0.1 + 0.56 * 0.3)
    nothing = -0.34 * 1.1 * 0.56 * 0.3
    outcomes, decisions = np.array([[0.4], [0.1], [0.0]]), np.array([[0.2], [0.4], [0.3]])
    np.testing.assert_allclose(problem.cost(outcomes, decisions), [-served, -idle, -nothing], rtol=1e-14)


@pytest.mark.parametrize("switching_cost", [0.0, 0.05])
def test_floats_arrays_and_tensors_agree(switching_cost: float) -> None:
    problem = Provisioning(switching_cost=switching_cost)
    rng = np.random.default_rng(0)
    outcomes, decisions, previous = rng.random((3, 50, 1)) * 1.5
    outcomes[:5], previous[10:15] = 0.0, np.nan
    arrays = (outcomes, decisions, previous)
    tensors = tuple(torch.tensor(array) for array in arrays)
    cost = problem.cost(*arrays)
    np.testing.assert_allclose(problem.cost(*tensors).numpy(), cost, rtol=1e-12)
    floats = [problem.cost(*(float(array[i, 0]) for array in arrays)) for i in range(50)]
    np.testing.assert_allclose(floats, cost, rtol=1e-12)
    perfect = problem.perfect(outcomes, previous)
    np.testing.assert_allclose(problem.perfect(tensors[0], tensors[2]).numpy(), perfect, rtol=1e-12)
    floats = [problem.perfect(float(outcomes[i, 0]), float(previous[i, 0])) for i in range(50)]
    np.testing.assert_allclose(floats, perfect[:, 0], rtol=1e-12)


@pytest.mark.parametrize("switching_cost", [0.0, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("constants", [{}, CONCAVE])
def test_perfect_beats_a_grid(switching_cost: float, constants: dict[str, float]) -> None:
    problem = Provisioning(switching_cost=switching_cost, low=0.01, high=0.9, **constants)
    rng = np.random.default_rng(1)
    outcomes, previous = rng.random((2, 200, 1)) * 1.5
    outcomes[:20], previous[20:40] = 0.0, np.nan
    best = problem.cost(outcomes, problem.perfect(outcomes, previous), previous)
    for share in np.linspace(0.01, 0.9, 400):
        assert np.all(problem.cost(outcomes, np.full_like(outcomes, share), previous) >= best - 1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["narrow", "wide", "silent", "duplicates"])
@pytest.mark.parametrize("constants", [{}, CONCAVE])
def test_solve_beats_a_dense_grid(constants: dict[str, float], kind: str, weighted: bool) -> None:
    problem = Provisioning(horizon=3, low=0.02, **constants)
    scenarios = draw(kind, (20, 40, 3))
    weights = np.random.default_rng(1).random((20, 40)) if weighted else None
    value = objective(problem, scenarios, problem.solve(scenarios, weights), weights)
    # the neighbourhood of every scenario and of its clairvoyant decision belongs to the grid
    for share in np.linspace(0.02, 1.0, 1500):
        rival = objective(problem, scenarios, np.full((20, 3), share), weights)
        assert np.all(rival <= value + 1e-12)


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")  # Clarabel's word when it stops short of 1e-12
def test_solve_agrees_with_cvxpy() -> None:
    """Concave constants: relative objective gap at most 1e-9 against Clarabel on 40 random instances."""
    problem = Provisioning(horizon=2, low=0.05, **CONCAVE)
    count = 30
    c, ratio, a = cp.Parameter((count, 2), nonneg=True), cp.Variable((count, 2)), cp.Variable((1, 2))
    served = cp.multiply(c, ratio)
    utility = cp.sum(cp.multiply(c, cp.log(4.0 * ratio + 1)))
    energy = cp.sum((1 - 0.35) * served) + count * 0.35 * cp.sum(a)
    limits = [ratio <= 1, served <= np.ones((count, 1)) @ a, a >= 0.05, a <= 1.0]
    reference = cp.Problem(cp.Maximize((utility - energy) / count), limits)
    for seed in range(40):
        scenarios = draw(["narrow", "wide"][seed % 2], (1, count, 2), seed)
        c.value = scenarios[0]
        reference.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        theirs = np.clip(np.asarray(a.value), 0.05, 1.0)
        ours = float(objective(problem, scenarios, problem.solve(scenarios)).sum())
        assert ours >= float(objective(problem, scenarios, theirs).sum()) * (1 - 1e-9)
        assert ours == pytest.approx(float(reference.value), rel=1e-7)


@settings(max_examples=40, deadline=None)
@given(
    scenarios=hnp.arrays(
        np.float64, st.tuples(st.integers(1, 4), st.integers(1, 30), st.integers(1, 3)), elements=st.floats(0, 3)
    ),
    constants=st.sampled_from([{}, CONCAVE]),
)
def test_solution_is_feasible_and_no_scenario_decides_better(scenarios: Any, constants: dict[str, float]) -> None:
    problem = Provisioning(horizon=scenarios.shape[2], low=0.1, high=0.8, **constants)
    decision = problem.solve(scenarios)
    value = objective(problem, scenarios, decision)
    assert decision.shape == (len(scenarios), scenarios.shape[2])
    assert np.all((decision >= 0.1) & (decision <= 0.8))
    for ratio in (0.0, problem.clairvoyant_ratio, 1.0):  # scenarios and their clairvoyant decisions as rivals
        for m in range(scenarios.shape[1]):
            rival = objective(problem, scenarios, problem.project(scenarios[:, m] * ratio))
            assert np.all(rival <= value + 1e-12)


@settings(max_examples=40, deadline=None)
@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 100))
def test_problem_is_homogeneous(scale: float, seed: int) -> None:
    """Scaling workloads and bounds together scales the decision."""
    scenarios = draw("wide", (3, 20, 1), seed)
    one = Provisioning(low=0.0, high=10.0).solve(scenarios)
    many = Provisioning(low=0.0, high=10.0 * scale).solve(scenarios * scale)
    np.testing.assert_allclose(many, one * scale, rtol=1e-7)


def test_one_scenario_is_perfect_information() -> None:
    problem = Provisioning(horizon=2)
    outcomes = draw("wide", (50, 2))
    np.testing.assert_allclose(problem.solve(outcomes[:, None]), problem.perfect(outcomes), rtol=1e-12)


@pytest.mark.parametrize("kind", ["narrow", "wide", "silent"])
@pytest.mark.parametrize("constants", [{}, CONCAVE])
def test_scenario_gradient_against_finite_differences(constants: dict[str, float], kind: str) -> None:
    """Cosine above 0.99999 wherever the decision does not jump or change its pinned scenario within the step."""
    problem = Provisioning(horizon=2, low=0.01, **constants)
    scenarios, rng = draw(kind, (30, 12, 2), 3), np.random.default_rng(0)
    decision = problem.solve(scenarios)
    cotangent = rng.standard_normal(decision.shape)
    gradient = problem.adjoint(scenarios, decision, cotangent).scenarios
    step, numeric = 1e-6, np.zeros_like(scenarios)
    steady = np.ones(decision.shape, bool)
    for m in range(scenarios.shape[1]):
        for n in range(2):
            up, down = scenarios.copy(), scenarios.copy()
            up[:, m, n] += step
            down[:, m, n] = np.maximum(down[:, m, n] - step, 0.0)
            ahead, back = problem.solve(up), problem.solve(down)
            width = (up - down)[:, m, n]
            numeric[:, m, n] = ((ahead - back)[:, n] / width) * cotangent[:, n]
            right, left = (ahead - decision)[:, n] / step, (decision - back)[:, n] / np.maximum(width - step, 1e-12)
            smooth = np.isclose(right, left, rtol=1e-3, atol=1e-3) | (scenarios[:, m, n] == 0)
            steady[:, n] &= smooth & (np.abs(ahead - back)[:, n] < 100 * step)
    assert steady.mean() > 0.8
    for n in range(2):
        a, b = gradient[steady[:, n], :, n], numeric[steady[:, n], :, n]
        moving = np.linalg.norm(b, axis=1) > 1e-6
        cosine = (a * b).sum(1)[moving] / np.linalg.norm(a, axis=1)[moving] / np.linalg.norm(b, axis=1)[moving]
        assert cosine.size == 0 or cosine.min() > 0.99999
        np.testing.assert_allclose(a[~moving], 0.0, atol=1e-4)


def test_gradient_at_a_kink_and_at_a_bound() -> None:
    problem = Provisioning(high=0.5, **CONCAVE)
    # the concave kink at 0.3 holds the decision, which moves with the workloads there; 9 pushes it to the bound
    scenarios = np.array([[[0.3], [0.3], [0.3], [0.6], [0.6]], [[9.0], [9.1], [9.2], [9.3], [9.4]]])
    decision = problem.solve(scenarios)
    gradient = problem.adjoint(scenarios, decision, np.ones((2, 1))).scenarios
    np.testing.assert_allclose(decision[:, 0], [0.3, 0.5])
    np.testing.assert_allclose(gradient[0, :, 0], [1 / 3, 1 / 3, 1 / 3, 0.0, 0.0])
    np.testing.assert_array_equal(gradient[1], 0.0)


@pytest.mark.parametrize("constants", [{}, CONCAVE])
def test_score_weights_give_the_gradient_of_the_population(constants: dict[str, float]) -> None:
    """Score-function estimate of da/dtheta for c ~ lognormal(theta, 0.5), against differences of large samples."""
    problem = Provisioning(high=10.0, **constants)
    noise = np.random.default_rng(0).standard_normal((1, 200_000, 1))
    theta, sigma, step = 0.0, 0.5, 0.05
    ahead, back = (problem.solve(np.exp(theta + sign * step + sigma * noise)) for sign in (1, -1))
    truth = float((ahead - back)[0, 0] / (2 * step))
    scenarios = np.exp(theta + sigma * noise)
    decision = problem.solve(scenarios)
    score = problem.adjoint(scenarios, decision, np.ones((1, 1))).score
    estimate = float((score * (noise[..., 0] / sigma)).mean())
    assert estimate == pytest.approx(truth, rel=0.05)


def test_the_torch_path_without_numpy_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on a GPU is the same code on torch's own functions."""
    import shiftgym.solvers.provisioning as module

    scenarios, cotangent = draw("wide", (8, 20, 2)), np.ones((8, 2))
    problem = Provisioning(horizon=2)
    decision = problem.solve(scenarios)
    gradient = problem.adjoint(scenarios, decision, cotangent)
    monkeypatch.setattr(module, "on_numpy", lambda function, *arrays: function(*arrays))
    y = torch.tensor(scenarios)
    weights = torch.full((8, 20), 2.0, dtype=torch.float64)
    for given_weights in (None, weights):
        np.testing.assert_allclose(problem.solve(y, given_weights).numpy(), decision, rtol=1e-9)
    theirs = problem.adjoint(y, torch.tensor(decision), torch.tensor(cotangent))
    for ours, other in zip(gradient, theirs, strict=True):
        np.testing.assert_allclose(other.numpy(), ours, rtol=1e-9, atol=1e-12)


def test_violations() -> None:
    problem = Provisioning(service_ratio=0.2, low=0.1, high=0.5)
    outcomes, requested = np.array([[1.0], [1.0], [0.2]]), np.array([[0.15], [0.7], [0.0]])
    found = problem.violations(outcomes, requested)
    np.testing.assert_allclose(found["bounds"], [0.0, 0.2, 0.1], atol=1e-12)
    np.testing.assert_allclose(found["service"], [0.05, 0.0, 0.0], atol=1e-12)
    assert problem.families == ("bounds", "service")
