"""Protective levels of data centers: how they move with scenarios, and what training is to make of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import norm

from shiftgym.solvers import DataCenter, ProblemError
from shiftgym.solvers.data_center.level_loss import level_loss, level_prices
from shiftgym.solvers.data_center.level_sensitivity import levels_influence
from shiftgym.solvers.data_center.protective_levels import protective_levels
from tests.worlds import FLEET

PROMISE = 0.8
#: Renewables of two centers, requests and arrivals, by the hour; prices and carbon of two centers.
LEVEL = np.repeat([300.0, 300.0, 150.0, 700.0, 0.1, 0.1, 0.3, 0.3], 4)
UNCERTAIN = 16


def make(action: str = "levels", **keywords: Any) -> DataCenter:
    return DataCenter(fleet=FLEET, integer=False, action=action, **{"promise": PROMISE, **keywords})


def draw(problem: DataCenter, contexts: int, count: int, seed: int = 0) -> Any:
    """Scenarios (B, M, D) that share what is known; a common factor makes components depend on each other."""
    rng = np.random.default_rng(seed)
    level = LEVEL if problem.action == "levels" else np.concatenate((LEVEL, LEVEL[:UNCERTAIN]))
    shape = (contexts, count, len(level))
    y = level * np.exp(0.15 * rng.standard_normal((*shape[:2], 1)) + 0.2 * rng.standard_normal(shape))
    y[:, :, UNCERTAIN:] = y[:, :1, UNCERTAIN:]
    return y


# ------------------------------------------------------------------------------------------------------ sensitivities
@pytest.mark.parametrize("action", ["levels", "relative"])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_scenario_moves_the_levels_as_differences_say(action: str, weighted: bool) -> None:
    problem, rng = make(action), np.random.default_rng(1)
    y = draw(problem, 2, 12)
    weights = rng.uniform(0.5, 1.5, y.shape[:2]) if weighted else None
    z = problem.solve(y, weights)
    cotangent = rng.standard_normal(z.shape)
    found = problem.pullback(y, z, cotangent, weights)
    np.testing.assert_array_equal(problem.adjoint(y, z, cotangent, weights).scenarios, found)
    assert not found[..., UNCERTAIN:].any()  # known, not predicted
    expected = np.zeros_like(found)
    for m, j in np.ndindex(12, UNCERTAIN):
        size = 1e-5 * y[:, m, j]
        values = []
        for sign in (1, -1):
            moved = y.copy()
            moved[:, m, j] += sign * size
            values.append((cotangent * problem.solve(moved, weights)).sum(-1))
        expected[:, m, j] = (values[0] - values[1]) / (2 * size)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=1e-7 * scale)
    for family in (slice(8), slice(8, 12), slice(12, UNCERTAIN)):  # each has its share in it
        assert np.abs(found[..., family]).max() > 1e-3 * scale


def test_what_is_at_a_bound_or_alike_does_not_move_or_moves_with_all() -> None:
    problem = make("relative")
    y = draw(problem, 1, 10)
    y[..., 8] *= 100  # requests of the first hour beyond four times the forecast
    y[..., 12] = 700.0  # work of the first hour known as it were
    z = problem.solve(y)
    assert z[0, 8] == 4.0
    gradient = problem.pullback(y, z, np.eye(UNCERTAIN)[8:9])
    assert not gradient.any()
    gradient = problem.pullback(y, z, np.eye(UNCERTAIN)[12:13])
    np.testing.assert_allclose(gradient[0, :, 12], 0.1 / problem.forecast(y[0, 0])[12])
    single = make()  # of one scenario, the levels are the scenario
    y = draw(single, 3, 1)
    cotangent = np.random.default_rng(0).standard_normal((3, UNCERTAIN))
    np.testing.assert_allclose(single.pullback(y, single.solve(y), cotangent)[:, 0, :UNCERTAIN], cotangent)


def test_score_weights_are_the_gradient_of_a_gaussian_in_closed_form() -> None:
    """With mean mu and deviations sigma, whatever the correlation, a level is mu + q sigma for a q of its own."""
    contexts, count, rng = 40, 2000, np.random.default_rng(3)
    sizes = [2, 3, 3]
    correlation = 0.4 * np.ones((8, 8)) + 0.6 * np.eye(8)
    mean, deviation, pull = rng.uniform(5, 9, 8), rng.uniform(0.5, 2, 8), rng.standard_normal(8)
    u = rng.standard_normal((contexts, count, 8)) @ np.linalg.cholesky(correlation).T
    y, mass = mean + deviation * u, np.full((contexts, count), 1 / count)
    weight = levels_influence(y, mass, PROMISE, sizes, np.tile(pull, (contexts, 1)))
    assert np.abs(weight.mean(1)).max() < 1e-9
    back = u @ np.linalg.inv(correlation)
    scores = np.stack((back / deviation, (u * back - 1) / deviation))  # d log p / d mu, d sigma
    found = (weight[..., None] * scores).mean(2)  # (2, contexts, 8)
    margin = (protective_levels(u, mass, PROMISE, sizes)).mean(0)
    assert margin[:2] == pytest.approx(-norm.ppf(PROMISE), abs=0.02)
    expected = np.stack((pull, pull * margin))
    error = found.std(1) / np.sqrt(contexts)
    assert (np.abs(found.mean(1) - expected) < 4.5 * error + 0.02).all()
    assert error.max() < 0.1


@pytest.mark.parametrize("action", ["levels", "relative"])
def test_score_weights_say_what_likelier_scenarios_do(action: str) -> None:
    """A smooth tilt of the weights of a large sample moves the levels as the weights say."""
    problem, rng = make(action), np.random.default_rng(4)
    y = draw(problem, 4, 6000)
    z, cotangent = problem.solve(y), rng.standard_normal((4, UNCERTAIN)) / LEVEL[:UNCERTAIN]
    if action == "relative":
        cotangent *= problem.forecast(y[:, 0])
    weight = problem.adjoint(y, z, cotangent).score
    found, expected = [], []
    for _ in range(12):
        tilt = np.tanh(np.log(y[..., :UNCERTAIN] / LEVEL[:UNCERTAIN]) @ rng.standard_normal(UNCERTAIN))
        found.append((tilt * weight).mean(1))
        up, down = (problem.solve(y, 1 + size * tilt) for size in (0.2, -0.2))
        expected.append((cotangent * (up - down)).sum(-1) / 0.4)
    found, expected = np.ravel(found), np.ravel(expected)
    assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 0.99
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(expected), rel=0.05)


# ---------------------------------------------------------------------------------------------------------- objective
def test_the_best_levels_keep_the_promise_together_and_share_its_risk() -> None:
    """The sample problem min_l mean F is linear; its solution is an exact quantile of each family."""
    rng, promise, count = np.random.default_rng(0), 0.9, 400
    y = rng.lognormal(0, 0.4, (count, 3)) * [1.0, 3.0, 2.0]
    price = np.array([0.5, 0.2, 1.0])
    # min price l + N / (1 - p) mean t   subject to t_m >= price_j (y_mj - l_j), t >= 0
    rows = -np.concatenate((np.tile(np.diag(price), (count, 1)), np.kron(np.eye(count), np.ones((3, 1)))), axis=1)
    cost = np.concatenate((price, np.full(count, 3 / (1 - promise) / count)))
    best = linprog(cost, rows, -(price * y).ravel(), bounds=[(None, None)] * 3 + [(0, None)] * count)
    levels = best.x[:3]
    broken = price * (y - levels) > 1e-9
    assert abs(broken.any(1).mean() - (1 - promise)) <= 3 / count  # up to the scenarios that are levels
    worst = np.bincount((price * (y - levels))[broken.any(1)].argmax(1), minlength=3)
    assert np.abs(worst / count - (1 - promise) / 3).max() <= 1.01 / count

    def mean(levels: Any) -> float:
        return float(level_loss(y, np.broadcast_to(levels, y.shape), price, 1 - promise, (0, 3)).mean())

    assert mean(levels) == pytest.approx(best.fun)
    # along a margin in units of 1 / price, the promise is the joint quantile to the letter
    margins = np.linspace(1, 5, 4001)
    found = margins[np.argmin([mean(margin / price) for margin in margins])]
    assert found == pytest.approx(np.quantile((price * y).max(1), promise, method="inverted_cdf"), abs=1e-3)


def test_a_kilowatt_promised_saves_its_price_and_one_that_does_not_come_costs_more() -> None:
    y, price = np.random.default_rng(1).uniform(0, 1, (1000, 1)), np.array([2.0])
    levels = np.linspace(0, 1, 1001)
    mean = [level_loss(y, np.full_like(y, level), price, 1 - PROMISE, (1,)).mean() for level in levels]
    assert levels[np.argmin(mean)] == pytest.approx(np.quantile(y, 1 - PROMISE, method="inverted_cdf"), abs=1e-3)
    one = level_loss(np.array([3.0]), np.array([5.0]), price, 1 - PROMISE, (1,))
    assert one == pytest.approx(-2 * 5 + 2 * 2 / (1 - PROMISE))


def test_prices_are_positive_and_those_of_the_power_that_is_bought() -> None:
    fleet = make().fleet
    rate = np.array([[0.1, -0.3, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1]])
    price = 1000 * level_prices(fleet, rate)
    assert price[0] == pytest.approx([0.1, 0.025, 0.2, 0.4])  # at least a tenth of the mean magnitude of the day
    bought = price[:2].T @ fleet.facility / 2
    assert price[3] == pytest.approx(bought * 0.25 * 0.8)  # of a GPU hour
    assert (price > 0).all()


@pytest.mark.parametrize("action", ["levels", "relative"])
def test_the_objective_is_differentiable_and_the_same_for_tensors(action: str) -> None:
    problem = make(action)
    y = draw(problem, 5, 1)[:, 0]
    z = problem.solve(draw(problem, 5, 12, seed=1))
    value = problem.objective(y, z)
    outcomes, decisions = (torch.tensor(array, requires_grad=True) for array in (y, z))
    np.testing.assert_allclose(problem.objective(outcomes, decisions).detach(), value)
    assert torch.autograd.gradcheck(problem.objective, (outcomes.detach(), decisions))
    problem.objective(outcomes, decisions).sum().backward()
    assert outcomes.grad is not None
    assert outcomes.grad[:, :UNCERTAIN].abs().sum() > 0
    # the levels of a distribution are its minimiser: much more, or much less, costs more
    y, z = draw(problem, 1, 4000, seed=2)[0], problem.solve(draw(problem, 1, 4000, seed=2))
    more, less = (np.concatenate((z[:, :8] / by, z[:, 8:] * by), axis=1) for by in (2, 0.5))
    mean = [float(problem.objective(y, problem.project(decision)).mean()) for decision in (z, more, less)]
    assert mean[0] < min(mean[1:])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_of_a_gpu_come_back_to_it() -> None:
    problem, y = make(), draw(make(), 2, 12)
    here = problem.adjoint(y, problem.solve(y), np.ones((2, UNCERTAIN)))
    there = torch.tensor(y, device="cuda")
    adjoint = problem.adjoint(there, problem.solve(there), torch.ones((2, UNCERTAIN), device="cuda").double())
    for ours, theirs in zip(here, adjoint, strict=True):
        assert theirs.is_cuda
        np.testing.assert_allclose(theirs.cpu(), ours, atol=1e-9)
    assert problem.objective(there[:, 0], problem.solve(there)).is_cuda


def test_who_promises_everything_or_schedules_has_no_objective_to_train_for() -> None:
    problem = make(promise=1.0)
    with pytest.raises(ProblemError, match="promise is 1"):
        problem.objective(draw(problem, 1, 1)[0], problem.low)
    problem = make("schedule")
    y = torch.tensor(draw(make(), 1, 1)[0], requires_grad=True)
    with pytest.raises(ProblemError, match="gives no gradient"):
        problem.objective(y, torch.zeros(1, problem.decision_dim))
    with pytest.raises(ProblemError, match="gives no gradient"):
        problem.adjoint(y[None], torch.zeros(1, problem.decision_dim), torch.zeros(1, problem.decision_dim))
