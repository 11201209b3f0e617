"""Power scheduling against CVXPY, its own optimality conditions and finite differences."""

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

from shiftgym.solvers import PowerScheduling, power, ramp_projection, ramps


def draw(shape: tuple[int, ...], seed: int = 0, noise: float = 0.4) -> Any:
    """Loads whose hours differ by more than the ramp limit."""
    rng = np.random.default_rng(seed)
    return 1.5 + 0.5 * rng.standard_normal((shape[0], 1, shape[2])) + noise * rng.standard_normal(shape)


def objective(problem: PowerScheduling, scenarios: Any, decisions: Any, weights: Any = None) -> Any:
    weights = np.ones(scenarios.shape[:2]) if weights is None else weights
    return (problem.cost(scenarios, decisions[:, None]) * weights).sum(1) / weights.sum(1)


def strictly(problem: PowerScheduling) -> PowerScheduling:
    """The problem without its tolerance: what breaks a limit by a little may cost less than the best feasible."""
    strict = copy.copy(problem)
    strict.tolerance = 0.0
    return strict


def clarabel(problem: PowerScheduling, scenarios: Any, weights: Any = None) -> Any:
    """Decisions (B, n) of an interior-point solver, all contexts in one programme, made feasible."""
    contexts, count, hours = scenarios.shape
    weights = np.ones((contexts, count)) if weights is None else weights
    mass = weights / weights.sum(1, keepdims=True)
    z, above = cp.Variable((contexts, hours)), cp.Variable((contexts * count, hours))
    of = np.repeat(np.eye(contexts), count, axis=0)
    mean = (mass[..., None] * scenarios).sum(1)
    missing = scenarios.reshape(-1, hours) - of @ z
    price = cp.sum(cp.multiply(mass.reshape(-1, 1) @ np.ones((1, hours)), above))
    limits = [above >= problem.shortage * missing, above >= -problem.excess_price * missing]
    limits += [cp.abs(z[:, 1:] - z[:, :-1]) <= problem.ramp]
    if np.isfinite(problem.low[0]):
        limits.append(z >= problem.low[0])
    if np.isfinite(problem.high[0]):
        limits.append(z <= problem.high[0])
    programme = cp.Problem(cp.Minimize(price + cp.sum_squares(z) / 2 - cp.sum(cp.multiply(mean, z))), limits)
    programme.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return strictly(problem).project(np.asarray(z.value))


def stationarity(problem: PowerScheduling, scenarios: Any, z: Any, weights: Any = None) -> Any:
    """By how much (B,) the optimality conditions fail, relative to the prices.

    The running sum of the hourly subgradients is a multiplier: zero where the ramp is free, not negative where it
    holds a rise, not positive where it holds a fall. An interval of its possible values is carried along.
    """
    weights = np.ones(scenarios.shape[:2]) if weights is None else weights
    mass = (weights / weights.sum(1, keepdims=True))[..., None]
    size = np.maximum(np.abs(scenarios).max((1, 2)), np.abs(z).max(1))[:, None, None] + problem.ramp
    surplus, met = z[:, None] - scenarios, np.abs(z[:, None] - scenarios) <= 1e-13 * size
    prices = np.where(surplus > 0, problem.excess_price, -problem.shortage)
    least = (mass * (surplus + np.where(met, -problem.shortage, prices))).sum(1)
    most = (mass * (surplus + np.where(met, problem.excess_price, prices))).sum(1)
    slack = 1e-13 * size[:, 0]
    least = np.where(z <= problem.low + slack, -np.inf, least)
    most = np.where(z >= problem.high - slack, np.inf, most)
    bottom, top, worst = np.zeros(len(z)), np.zeros(len(z)), np.zeros(len(z))
    for hour in range(problem.hours):
        bottom, top = bottom + least[:, hour], top + most[:, hour]
        change = z[:, hour + 1] - z[:, hour] if hour + 1 < problem.hours else np.zeros(len(z))
        held = np.abs(change) >= problem.ramp - slack[:, 0]
        held &= hour + 1 < problem.hours
        floor = np.where(held & (change <= 0), -np.inf, 0.0)
        ceiling = np.where(held & (change >= 0), np.inf, 0.0)
        worst = np.maximum(worst, np.maximum(floor - top, bottom - ceiling))
        bottom, top = np.clip(bottom, floor, ceiling), np.clip(top, floor, ceiling)
    return worst / np.maximum(problem.shortage + problem.excess_price + size[:, 0, 0], np.finfo(float).tiny)


def feasible(problem: PowerScheduling, z: Any, within: float = 1e-9) -> bool:
    inside = np.all((z >= problem.low) & (z <= problem.high))
    return bool(inside and np.all(np.abs(np.diff(z, axis=-1)) <= problem.ramp + within))


def test_cost_by_hand() -> None:
    problem = PowerScheduling(hours=2)
    outcomes, decisions = np.array([[1.0, 2.0]]), np.array([[1.5, 1.8]])
    np.testing.assert_allclose(problem.cost(outcomes, decisions), [0.5 * 0.5 + 0.125 + 50 * 0.2 + 0.02], rtol=1e-14)


BOXES = [(-np.inf, np.inf), (0.0, np.inf), (1.0, 1.8), (2.5, 9.0)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("box", BOXES)
def test_solve_agrees_with_clarabel(box: tuple[float, float], weighted: bool) -> None:
    """Relative gap at most 1e-9 on 40 instances for each of eight kinds."""
    problem = PowerScheduling(hours=6, low=box[0], high=box[1])
    scenarios = draw((40, 8, 6), seed=int(weighted))
    weights = np.random.default_rng(1).random((40, 8)) if weighted else None
    ours, theirs = problem.solve(scenarios, weights), clarabel(problem, scenarios, weights)
    assert feasible(problem, ours)
    value = objective(problem, scenarios, theirs, weights)
    assert np.all(objective(problem, scenarios, ours, weights) <= value * (1 + 1e-9))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")  # Clarabel's word when it stops short of 1e-12
@pytest.mark.parametrize("seed", range(20))
def test_solve_agrees_with_clarabel_on_many_days(seed: int) -> None:
    """A thousand instances in all: 50 days of 24 hours with 50 scenarios at a time."""
    rng = np.random.default_rng(seed)
    problem = PowerScheduling(shortage=10.0 ** rng.uniform(-1, 2), excess=10.0 ** rng.uniform(-1, 1), low=-np.inf)
    scenarios = draw((50, 50, 24), seed, noise=rng.uniform(0.05, 0.6))
    ours = problem.solve(scenarios)
    assert feasible(problem, ours)
    value = objective(problem, scenarios, clarabel(problem, scenarios))
    assert np.all(objective(problem, scenarios, ours) <= value * (1 + 1e-9))


@settings(max_examples=50, deadline=None)
@given(
    scenarios=hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(2, 6)),
        elements=st.one_of(st.integers(0, 4).map(float), st.floats(0, 4)),  # duplicates, zeros, coincidences
    ),
    ramp=st.sampled_from([0.0, 0.25, 0.4, 1.0, 10.0]),
    box=st.sampled_from(BOXES),
    prices=st.sampled_from([(50.0, 0.5), (1.0, 1.0), (0.0, 3.0), (0.0, 0.0)]),
    scale=st.sampled_from([1e-6, 1e-3, 1.0, 1e6]),
    weighted=st.booleans(),
)
def test_solution_is_feasible_and_stationary(
    scenarios: Any, ramp: float, box: tuple[float, float], prices: tuple[float, float], scale: float, weighted: bool
) -> None:
    problem = PowerScheduling(scenarios.shape[2], *prices, ramp * scale, box[0] * scale, box[1] * scale)
    weights = np.arange(1.0, 1 + scenarios[..., 0].size).reshape(scenarios.shape[:2]) if weighted else None
    decision = problem.solve(scenarios * scale, weights)
    assert feasible(problem, decision)
    assert stationarity(problem, scenarios * scale, decision, weights).max() <= 1e-12


@pytest.mark.parametrize("prices", [(0.2, 0.3), (0.0, 0.0), (3.0, 1.0), (50.0, 0.5)])
@pytest.mark.parametrize("count", [1, 3, 50])
@pytest.mark.parametrize("days", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_many_days_are_feasible_and_stationary(prices: tuple[float, float], count: int, days: int) -> None:
    """Where the prices are low, the quadratic part holds most hours between two scenarios."""
    for seed, noise in enumerate((0.1, 0.5, 1.0)):
        problem, scenarios = PowerScheduling(24, *prices, low=-np.inf), draw((days, count, 24), seed, noise)
        decision = problem.solve(scenarios)
        assert feasible(problem, decision)
        assert stationarity(problem, scenarios, decision).max() <= 1e-12


def test_stationarity_notices_a_wrong_decision() -> None:
    problem, scenarios = PowerScheduling(hours=6), draw((20, 15, 6))
    decision = problem.solve(scenarios)
    assert np.all(stationarity(problem, scenarios, decision + 0.01) > 1e-4)
    separate = PowerScheduling(hours=6, ramp=1e3).solve(scenarios)
    assert not feasible(problem, separate)
    clipped = separate.copy()
    for hour in range(1, 6):
        clipped[:, hour] = np.clip(clipped[:, hour], clipped[:, hour - 1] - 0.4, clipped[:, hour - 1] + 0.4)
    assert stationarity(problem, scenarios, clipped).max() > 1e-4


@pytest.mark.parametrize("groups", [1, 2, 5, 100_000])
def test_grouping_of_many_scenarios_keeps_the_answer(monkeypatch: pytest.MonkeyPatch, groups: int) -> None:
    problem, scenarios = PowerScheduling(hours=12, shortage=4.0), draw((10, 300, 12))
    whole = problem.solve(scenarios)
    assert stationarity(problem, scenarios, whole).max() <= 1e-12
    monkeypatch.setattr(ramps, "_GROUPS", groups)
    np.testing.assert_allclose(problem.solve(scenarios), whole, rtol=1e-12)


def test_scaling_everything_scales_the_decision() -> None:
    scenarios = draw((5, 20, 8))
    one = PowerScheduling(hours=8).solve(scenarios)
    for scale in (1e-6, 1e6):
        many = PowerScheduling(8, 50.0 * scale, 0.5 * scale, 0.4 * scale).solve(scenarios * scale)
        np.testing.assert_allclose(many, one * scale, rtol=1e-11)


def test_one_scenario_is_perfect_information() -> None:
    problem, outcomes = PowerScheduling(hours=5), draw((1, 30, 5))[0]
    perfect = problem.perfect(outcomes)
    np.testing.assert_allclose(problem.solve(outcomes[:, None]), perfect, rtol=1e-14)
    np.testing.assert_allclose(problem.perfect(outcomes[3]), perfect[3], rtol=1e-14)
    smooth = np.linspace(1.0, 2.0, 5)
    np.testing.assert_array_equal(problem.perfect(smooth), smooth)


@pytest.mark.parametrize("box", [(-np.inf, np.inf), (1.0, 2.2)])
def test_projection_is_the_nearest_feasible_decision(box: tuple[float, float]) -> None:
    problem = PowerScheduling(hours=7, low=box[0], high=box[1])
    requested = 1.5 + np.random.default_rng(0).standard_normal((40, 7))
    ours = problem.project(requested)
    assert feasible(problem, ours)
    z = cp.Variable(requested.shape)
    limits = [cp.abs(z[:, 1:] - z[:, :-1]) <= 0.4] + ([z >= 1.0, z <= 2.2] if np.isfinite(box[0]) else [])
    nearest = cp.Problem(cp.Minimize(cp.sum_squares(z - requested)), limits)
    nearest.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    np.testing.assert_allclose(ours, z.value, atol=1e-5)
    assert ((ours - requested) ** 2).sum() == pytest.approx(nearest.value, rel=1e-9)
    assert problem.project(ours) is ours  # a feasible request is executed as it is
    np.testing.assert_allclose(problem.project(requested[0]), ours[0], rtol=1e-14)
    assert problem.project(np.float32(ours[0]).astype(float)).tolist() == np.float32(ours[0]).tolist()
    np.testing.assert_allclose(problem.project(torch.tensor(requested)).numpy(), ours, rtol=1e-12)
    single = problem.project(requested.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, ours, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    wanted=hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 12), st.integers(2, 24)),
        elements=st.one_of(st.integers(-1, 4).map(float), st.floats(-1, 4)),
    ),
    ramp=st.sampled_from([0.0, 0.25, 0.4, 1.0, 10.0]),
    box=st.sampled_from([*BOXES, (0.0, 0.3)]),
    scale=st.sampled_from([1e-3, 1.0, 1e6]),
)
def test_projection_keeps_the_limits_and_their_multipliers_have_the_right_signs(
    wanted: Any, ramp: float, box: tuple[float, float], scale: float
) -> None:
    """Without prices, the cost of a single scenario is half the squared distance."""
    problem = PowerScheduling(wanted.shape[1], 0.0, 0.0, ramp * scale, box[0] * scale, box[1] * scale)
    z = ramp_projection.nearest(wanted * scale, *problem._bounds, problem.ramp)
    assert feasible(problem, z)
    assert stationarity(problem, wanted[:, None] * scale, z).max() <= 1e-12


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("noise", [0.2, 1.0, 5.0])
def test_projection_of_a_row_does_not_depend_on_the_others(
    monkeypatch: pytest.MonkeyPatch, noise: float, box: tuple[float, float]
) -> None:
    """One by one, all at once, and some left over by a pivoting that is cut short."""
    problem = PowerScheduling(low=box[0], high=box[1])
    requested = 1.5 + noise * np.random.default_rng(0).standard_normal((120, 24))
    requested[::7] = np.clip(1.4, *box)  # feasible ones stay
    together = problem.project(requested)
    np.testing.assert_array_equal(together[::7], requested[::7])
    free = PowerScheduling(24, 0.0, 0.0, low=box[0], high=box[1])
    assert stationarity(free, requested[:, None], together).max() <= 1e-12
    alone = np.array([problem.project(row) for row in requested])
    np.testing.assert_allclose(together, alone, rtol=1e-11, atol=1e-12)
    monkeypatch.setattr(ramp_projection, "_PIVOTS", 2)
    np.testing.assert_allclose(problem.project(requested), alone, rtol=1e-11, atol=1e-12)
    day = problem.project(requested.reshape(12, 10, 24))
    np.testing.assert_allclose(day.reshape(120, 24), alone, rtol=1e-11, atol=1e-12)


def test_requests_within_the_tolerance_are_executed_as_they_are() -> None:
    problem = PowerScheduling(hours=3, high=2.0)
    request = np.array([-8e-7, 0.4, 0.8 + 8e-7])
    assert problem.project(request) is request
    assert problem.excess(request, request) == {"ramp": 0.0, "bounds": 0.0}
    for broken in (request * (1 + 2e-6), request - 1e-6, np.array([2.0, 2.0, 2.0 + 2e-6])):
        assert not np.array_equal(problem.project(broken), broken)
        assert max(problem.violations(broken, broken).values()) > 1e-6


@pytest.mark.parametrize(
    ("prices", "box"), [((50.0, 0.5), (0.0, np.inf)), ((0.7, 0.5), (1.2, 1.9)), ((0.0, 0.0), (0, 9))]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_scenario_gradient_against_finite_differences(
    prices: tuple[float, float], box: tuple[float, float], weighted: bool
) -> None:
    """Cosine above 0.99999 for pinned and free blocks, wherever both one-sided differences agree."""
    problem = PowerScheduling(5, *prices, 0.4, *box)
    scenarios, rng = draw((40, 7, 5), 3), np.random.default_rng(0)
    weights = rng.random((40, 7)) if weighted else None
    decision = problem.solve(scenarios, weights)
    cotangent = rng.standard_normal(decision.shape)
    gradient = problem.adjoint(scenarios, decision, cotangent, weights).scenarios
    np.testing.assert_array_equal(problem.pullback(scenarios, decision, cotangent, weights), gradient)
    step, numeric, steady = 1e-6, np.zeros_like(scenarios), np.ones(len(scenarios), bool)
    for m, i in np.ndindex(scenarios.shape[1:]):
        moved = np.zeros_like(scenarios)
        moved[:, m, i] = step
        ahead, back = (problem.solve(scenarios + sign * moved, weights) for sign in (1, -1))
        numeric[:, m, i] = ((ahead - back) * cotangent).sum(1) / (2 * step)
        steady &= np.abs(ahead + back - 2 * decision).max(1) < 1e-10
    assert steady.mean() > 0.9
    a, b = gradient[steady].reshape(steady.sum(), -1), numeric[steady].reshape(steady.sum(), -1)
    moving = np.linalg.norm(b, axis=1) > 1e-6
    cosine = (a * b).sum(1)[moving] / np.linalg.norm(a, axis=1)[moving] / np.linalg.norm(b, axis=1)[moving]
    assert moving.any()
    assert cosine.min() > 0.99999
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_gradient_of_duplicates_of_a_bound_and_of_a_block() -> None:
    problem = PowerScheduling(hours=3, ramp=0.4, high=2.0)
    # the third hour holds the block at its only sample 1.9, which the others follow at the ramp limit
    scenarios = np.array([[[0.0, 0.0, 1.9]] * 2, [[1.0, 1.0, 1.0], [1.0, 1.2, 1.1]], [[5.0] * 3] * 2])
    decision = problem.solve(scenarios)
    np.testing.assert_allclose(decision, [[1.1, 1.5, 1.9], [1.0, 1.2, 1.1], [2.0] * 3])
    gradient = problem.adjoint(scenarios, decision, np.ones((3, 3))).scenarios
    np.testing.assert_allclose(gradient[0], [[0, 0, 1.5], [0, 0, 1.5]], atol=1e-12)  # two equal ones share
    np.testing.assert_allclose(gradient[1], [[0.5, 0, 0], [0.5, 1, 1]], atol=1e-12)
    np.testing.assert_array_equal(gradient[2], 0.0)
    # moving the duplicates together is what the finite difference sees
    both = np.zeros_like(scenarios)
    both[0, :, 2] = 1e-6
    moved = (problem.solve(scenarios + both) - problem.solve(scenarios - both)) / 2e-6
    np.testing.assert_allclose(moved[0], [1.0, 1.0, 1.0], atol=1e-8)


@pytest.mark.parametrize("ramp", [0.3, 5.0])  # the first ties the first two hours
def test_score_weights_give_the_gradient_of_the_population(ramp: float) -> None:
    """Score-function estimate of the derivative for y ~ N(mean + theta, 0.5), against large samples."""
    problem = PowerScheduling(hours=3, shortage=5.0, excess=2.0, ramp=ramp, low=-np.inf)
    noise = np.random.default_rng(0).standard_normal((1, 100_000, 3))
    mean, sigma, step, cotangent = np.array([1.0, 1.5, 1.2]), 0.5, 0.05, np.array([[1.0, -0.5, 2.0]])
    scenarios = mean + sigma * noise
    decision = problem.solve(scenarios)
    score = problem.adjoint(scenarios, decision, cotangent).score
    for hour in range(3):
        shift = np.eye(3)[hour] * step
        ahead, back = problem.solve(scenarios + shift), problem.solve(scenarios - shift)
        truth = float(((ahead - back) * cotangent).sum() / (2 * step))
        estimate = float((score * noise[..., hour] / sigma).mean())
        assert estimate == pytest.approx(truth, rel=0.05, abs=0.03)


@pytest.mark.parametrize("weighted", [False, True])
def test_torch_and_float32_follow_float64(monkeypatch: pytest.MonkeyPatch, weighted: bool) -> None:
    problem, scenarios = PowerScheduling(hours=6), draw((20, 30, 6))
    weights = np.random.default_rng(0).random((20, 30)) if weighted else None
    exact = problem.solve(scenarios, weights)
    gradient = problem.adjoint(scenarios, exact, np.ones((20, 6)), weights)
    coarse = scenarios.astype(np.float32)
    single = problem.solve(coarse, weights)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, problem.solve(coarse.astype(float), weights).astype(np.float32))
    value = objective(problem, scenarios, exact, weights)
    assert np.all(objective(problem, scenarios, single.astype(float), weights) <= value * (1 + 1e-6) + 1e-6)
    theirs = problem.adjoint(coarse, single, np.ones((20, 6), np.float32), weights)
    np.testing.assert_allclose(theirs.scenarios, gradient.scenarios, atol=1e-5)
    assert theirs.score.dtype == np.float32
    y, w = torch.tensor(scenarios), None if weights is None else torch.tensor(weights)
    assert torch.equal(problem.solve(y, w), torch.tensor(exact))
    # what runs on a GPU is the same code on torch's own functions
    monkeypatch.setattr(power, "on_numpy", lambda function, *arrays: function(*arrays))
    np.testing.assert_allclose(problem.solve(y, w).numpy(), exact, rtol=1e-12)
    np.testing.assert_allclose(problem.project(y[0]).numpy(), problem.project(scenarios[0]), rtol=1e-12)
    for ours, other in zip(gradient, problem.adjoint(y, torch.tensor(exact), torch.ones_like(y[:, 0]), w), strict=True):
        np.testing.assert_allclose(other.numpy(), ours, rtol=1e-9, atol=1e-12)


def test_chunks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, scenarios = PowerScheduling(hours=4), draw((9, 25, 4))
    weights = np.random.default_rng(0).random((9, 25))
    whole, nearest = problem.solve(scenarios, weights), problem.project(scenarios[:, 0])
    gradient = problem.adjoint(scenarios, whole, np.ones((9, 4)), weights)
    monkeypatch.setattr(power, "_CHUNK", 250)
    np.testing.assert_array_equal(problem.solve(scenarios, weights), whole)
    np.testing.assert_array_equal(problem.project(scenarios[:, 0]), nearest)
    for a, b in zip(problem.adjoint(scenarios, whole, np.ones((9, 4)), weights), gradient, strict=True):
        np.testing.assert_array_equal(a, b)


def test_violations() -> None:
    problem = PowerScheduling(hours=3, high=2.0)
    found = problem.violations(np.ones((3, 3)), np.array([[1.0, 1.4, 1.0], [0.0, 1.0, 1.1], [1.9, 2.3, -0.1]]))
    np.testing.assert_allclose(found["ramp"], [0.0, 0.6, 2.0], atol=1e-12)
    np.testing.assert_allclose(found["bounds"], [0.0, 0.0, 0.3], atol=1e-12)
    assert problem.families == ("ramp", "bounds")
    assert PowerScheduling(low=-np.inf).families == ("ramp",)
