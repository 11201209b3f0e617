"""Rivals of 3D-Learning: what their adversaries maximise, and that training against them is what it says."""

from __future__ import annotations

from typing import Any

import cvxpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from shiftgym.agents import make_agent
from shiftgym.agents.kl_dro import worst_mean
from shiftgym.agents.trained import Samples
from shiftgym.agents.w_dro import frank_wolfe
from shiftgym.data import ShiftgymError, UnknownNameError
from tests.worlds import BUDGETS, make

ROBUST = ["kl-dro", "w-dro", "augment-cutout", "augment-gaussian", "augment-perlin"]
AUGMENTED = ROBUST[2:]
BUDGET: dict[str, Any] = {"epochs": 20, "hidden": (16, 16), "network": "mlp", "learning_rate": 3e-3}

some_losses = st.lists(st.floats(-100, 100, width=32, allow_subnormal=False), min_size=2, max_size=20).map(np.array)


def worst(losses: NDArray[np.float64], budget: float) -> tuple[float, NDArray[np.float64]]:
    """The worst mean and its gradient, which is the worst weights."""
    leaf = torch.tensor(losses, requires_grad=True)
    value = worst_mean(leaf, budget)
    value.backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return value.item(), leaf.grad.numpy()


def divergence(weights: NDArray[np.float64]) -> float:
    """KL(q || uniform)."""
    spent = weights[weights > 0]
    return float((spent * np.log(spent * len(weights))).sum())


# ---------------------------------------------------------------------- KL-DRO's adversary
@pytest.mark.parametrize("budget", [0.01, 0.3, 1.0, 1.7, 2.0])  # log 6 = 1.79
@pytest.mark.parametrize("seed", range(3))
def test_the_worst_mean_is_that_of_a_cone_program(seed: int, budget: float) -> None:
    losses = np.random.default_rng(seed).normal(0, 3, 6)
    q = cvxpy.Variable(6)
    ball = [cvxpy.sum(q) == 1, cvxpy.sum(cvxpy.rel_entr(q, np.full(6, 1 / 6))) <= budget]
    problem = cvxpy.Problem(cvxpy.Maximize(losses @ q), ball)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    value, weights = worst(losses, budget)
    assert value == pytest.approx(problem.value, abs=1e-6)
    np.testing.assert_allclose(weights, q.value, atol=1e-4)  # flat about its maximum


@pytest.mark.parametrize("budget", [0.05, 0.5, 2.0])
def test_the_worst_mean_is_the_minimum_of_its_dual(budget: float) -> None:
    losses = np.random.default_rng(1).exponential(5, 40)

    def dual(log_alpha: float) -> float:
        alpha = np.exp(log_alpha)
        scaled = (losses - losses.max()) / alpha
        return float(alpha * budget + losses.max() + alpha * np.log(np.exp(scaled).mean()))

    assert worst(losses, budget)[0] == pytest.approx(minimize_scalar(dual, (-3, 3), tol=1e-10).fun, rel=1e-9)


@given(some_losses, st.floats(0, 4), st.floats(0, 4))
@settings(deadline=None)
def test_the_worst_mean_spends_its_budget_and_grows_with_it(
    losses: NDArray[np.float64], budget: float, other: float
) -> None:
    value, weights = worst(losses, budget)
    assert weights.sum() == pytest.approx(1)
    spent = divergence(weights)
    assert spent <= budget + 1e-8
    if np.ptp(losses) > 1e-6:
        most = np.log(len(losses) / (losses == losses.max()).sum())
        assert spent == pytest.approx(min(budget, most), abs=1e-8)
    assert losses.mean() - 1e-9 <= value <= losses.max() + 1e-9
    assert (value - worst(losses, other)[0]) * (budget - other) >= -1e-9


@given(some_losses, st.floats(0, 4), st.floats(-50, 50), st.floats(0.01, 100))
@settings(deadline=None)
def test_the_worst_mean_moves_and_scales_with_the_losses(
    losses: NDArray[np.float64], budget: float, offset: float, factor: float
) -> None:
    size = factor * (1 + np.abs(losses).max()) + abs(offset)
    moved = worst(factor * losses + offset, budget)[0]
    assert moved == pytest.approx(factor * worst(losses, budget)[0] + offset, abs=1e-7 * size)


def test_the_ends_of_the_budget() -> None:
    losses = np.array([1.0, 4.0, 2.0, 4.0])
    np.testing.assert_allclose(worst(losses, 0.0)[1], 0.25)
    np.testing.assert_allclose(worst(losses, 50.0)[1], [0, 0.5, 0, 0.5])
    np.testing.assert_allclose(worst(np.full(4, 3.0), 1.0)[1], 0.25)


@pytest.mark.parametrize("gap", [0.0, 1e-300, 1e-16, 1e-13, 1e-9])
@pytest.mark.parametrize("short", [0.0, 1e-17, 1e-13, 1e-3])
def test_losses_that_are_all_but_equal(gap: float, short: float) -> None:
    """Where the budget is all but what can be spent, or two losses are all but the same, the dual is ill-posed."""
    for losses in (np.array([0.0, gap, -1.0]), np.array([-gap, 0.0, -gap]), np.array([5.0, 5.0 + gap, 1.0])):
        for most in (np.log(3), np.log(1.5)):
            value, weights = worst(losses, most - short)
            assert weights.sum() == pytest.approx(1)
            assert divergence(weights) <= most - short + 1e-9
            assert losses.mean() - 1e-12 <= value <= losses.max() + 1e-12


# ---------------------------------------------------------------------- W-DRO's adversary
def test_a_linear_gain_is_maximised_in_one_step() -> None:
    """The budget is shared: who gains more is moved more."""
    slope = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    for steps in (1, 7):
        delta = frank_wolfe(lambda at: (slope * at).sum(), torch.zeros(3, 2), 0.5, steps)
        torch.testing.assert_close(delta, 0.5 * 3**0.5 * slope / 5)


@pytest.mark.parametrize("budget", [0.3, 1.0, 10.0])
def test_a_quadratic_gain_is_maximised_as_by_projected_gradients(budget: float) -> None:
    generator = torch.Generator().manual_seed(0)
    curvature = torch.rand((5, 3), generator=generator, dtype=torch.float64) + 0.5
    top = torch.randn((5, 3), generator=generator, dtype=torch.float64)

    def gain(at: torch.Tensor) -> torch.Tensor:
        return -(curvature * (at - top) ** 2).sum()

    best = torch.zeros_like(top)
    for _ in range(2000):
        best = best + 0.3 * 2 * curvature * (top - best)
        best = best * min(1.0, budget * 5**0.5 / float(best.norm()))
    found = frank_wolfe(gain, torch.zeros_like(top), budget, 3000)
    assert float(found.norm()) <= budget * 5**0.5 + 1e-9
    assert float(gain(found)) == pytest.approx(float(gain(best)), abs=1e-3)
    torch.testing.assert_close(found, best, atol=0.02, rtol=0)


def test_nothing_to_gain_moves_nothing() -> None:
    delta = frank_wolfe(lambda at: 0 * at.sum(), torch.zeros(4, 2), 1.0, 3)
    assert not delta.any()


@pytest.mark.parametrize(
    ("name", "keywords"),
    [("PowerScheduling", {"lookback": 1, "context": ["temperature"]}), ("Inventory", {"carry": True, "lookback": 2})],
)
@pytest.mark.parametrize("moved", ["history", "both"])
def test_what_is_moved(name: str, keywords: dict[str, Any], moved: str) -> None:
    """Histories, and outcomes where they are to be, by no more than the budget and to nothing negative."""
    agent: Any = make_agent("w-dro", **BUDGETS["w-dro"], moved=moved, budget=3.0).fit(make(name, **keywords))
    samples, seen = Samples.of(make(name, **keywords).unwrapped.task, "cpu"), []

    def watch(at: Samples, losses: Any = agent.sample_losses) -> torch.Tensor:
        seen.append(at)
        return losses(at)

    agent.sample_losses = watch
    with torch.no_grad():
        agent.risk(samples)
    worst_case, history = seen[-1], agent.layout_.lookback * agent.layout_.columns
    change = (worst_case.observations - samples.observations)[:, :history]
    shift = (worst_case.outcomes - samples.outcomes) / agent.scale_
    assert torch.equal(worst_case.observations[:, history:], samples.observations[:, history:])
    assert change.abs().max() > 0
    assert bool(shift.any()) == (moved == "both")
    low = agent.problem_.outcome_low
    assert worst_case.observations[:, :history].min() >= low
    assert worst_case.outcomes.min() >= low
    moved_by = (change / agent.network_.encoder.scale[:history]) ** 2
    assert (moved_by.sum(1) + (shift**2).sum(1)).mean() <= 3.0**2 * (1 + 1e-2)


@pytest.mark.parametrize("persistence", [0.0, 0.9])
def test_the_budget_is_spent_in_coordinates_where_what_lasts_is_cheap(persistence: float) -> None:
    """The same budget moves a whole stretch further, the more so the longer a disturbance lasts."""
    env = make("Inventory", carry=True, lookback=4)
    budget = {**BUDGETS["w-dro"], "moved": "both", "steps": 10, "budget": 0.7}
    agent: Any = make_agent("w-dro", **budget, persistence=persistence).fit(env)
    samples, joint = Samples.of(env.unwrapped.task, "cpu"), agent._joint

    def gain(delta: torch.Tensor) -> torch.Tensor:
        return joint.moved(samples, delta).outcomes.mean() + joint.moved(samples, delta).observations[:, :4].mean()

    delta = frank_wolfe(gain, torch.zeros(len(samples), joint.width), 0.7, 10)
    moved = joint.moved(samples, delta)
    apart = joint.rows(moved) - joint.rows(samples)
    assert float((apart**2).sum(1).mean()) == pytest.approx(0.7**2, rel=1e-3)
    steepest = joint.mixing.T @ (joint.scale * torch.tensor([0.25, 0.25, 0.25, 0.25, 1.0]))
    torch.testing.assert_close(delta, (0.7 * steepest / steepest.norm()).expand_as(delta), rtol=1e-3, atol=1e-4)
    nudges = delta[0] @ joint.mixing.T  # a stretch moves further than slots one by one
    assert float(nudges.norm()) > 0.7 * (1.5 if persistence else 0.999)


# ---------------------------------------------------------------------- what an agent is trained for
@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("Provisioning", {"horizon": 4, "switching_cost": 0.05}),
        ("PowerScheduling", {}),
        ("Portfolio", {"transaction_cost": 0.002, "risk_aversion": 5.0}),
        ("ProductAllocation", {}),
        ("Inventory", {"carry": True}),
    ],
)
def test_the_regret_is_the_cost_beyond_that_of_perfect_information(name: str, keywords: dict[str, Any]) -> None:
    task = make(name, **keywords).unwrapped.task
    agent: Any = make_agent("kl-dro", **BUDGETS["kl-dro"], objective="regret").fit(make(name, **keywords))
    samples = Samples.of(task, "cpu")
    observations, outcomes = task.dataset()
    state = task.layout.state(observations)
    decisions, best = agent.act(observations), task.problem.perfect(outcomes, state)
    expected = task.problem.cost(outcomes, decisions, state) - task.problem.cost(outcomes, best, state)
    with torch.no_grad():
        found = agent.sample_losses(samples).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert found.min() > -1e-7
    assert found.max() > 0


# ---------------------------------------------------------------------- the training samples, corrupted
def dataset_of(name: str, **keywords: Any) -> Samples:
    return Samples.of(make(name, **keywords).unwrapped.task, "cpu")


@pytest.mark.parametrize("agent_name", AUGMENTED)
@pytest.mark.parametrize(("name", "keywords"), [("Provisioning", {}), ("Inventory", {"carry": True})])
def test_training_samples_come_twice(agent_name: str, name: str, keywords: dict[str, Any]) -> None:
    """Once as they are, once as an environment under the shift shows them; what is held out comes once."""
    agent: Any = make_agent(agent_name, **BUDGETS[agent_name], seed=4, validation=0.25)
    clean, corrupted = dataset_of(name, **keywords), dataset_of(name, **keywords, shift=agent.shift, shift_seed=4)
    caught: dict[str, Samples] = {}
    agent._train = lambda train, held, progress: caught.update(train=train, held=held)
    agent.fit(make(name, **keywords))
    count = len(clean) - len(clean) // 4
    both = clean.pick(slice(count)) + corrupted.pick(slice(count))
    for part, expected in (("train", both), ("held", clean.pick(slice(count, None)))):
        assert torch.equal(caught[part].observations, expected.observations)
        assert torch.equal(caught[part].outcomes, expected.outcomes)
        assert expected.state is None or torch.equal(caught[part].state, expected.state)  # type: ignore[arg-type]
    assert not torch.equal(both.outcomes[:count], both.outcomes[count:])


def test_a_task_under_a_shift_leaves_the_task_alone() -> None:
    task = make("Provisioning", shift="gaussian(scale=0.1)", shift_seed=3).unwrapped.task
    before, report = task.dataset(), task.shift_report
    twin = task.under("scale(factor=2.0)", 5)
    np.testing.assert_allclose(twin.dataset()[1], 2 * before[1])  # on top of its own shift, of the same draws
    for now, then in zip(task.dataset(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert task.shift_report is report
    assert twin.shift_report != report
    assert twin.problem is task.problem


# ---------------------------------------------------------------------- agents
@pytest.mark.parametrize(("objective", "plain"), [("decision", "dfl"), ("mse", "two-stage")])
@pytest.mark.parametrize("name", ["kl-dro", "w-dro"])
def test_without_a_budget_they_are_what_they_make_robust(name: str, objective: str, plain: str) -> None:
    env = make("Provisioning", lookback=4)
    observations = env.unwrapped.task.dataset()[0]
    budget = {"epochs": 2, "hidden": (8, 8)}
    robust = make_agent(name, **budget, budget=0.0, objective=objective).fit(env)
    np.testing.assert_allclose(robust.act(observations), make_agent(plain, **budget).fit(env).act(observations), 1e-4)


@pytest.mark.parametrize("objective", ["decision", "mse"])
@pytest.mark.parametrize(("name", "budget"), [("kl-dro", 1.0), ("w-dro", 0.5)])
def test_training_lowers_the_risk_it_trains_on(name: str, objective: str, budget: float) -> None:
    """From the same seed and on the training trace itself, against the agent without a budget."""
    env = make("Provisioning", lookback=4)
    samples = Samples.of(env.unwrapped.task, "cpu")
    risks = []
    for spent in (budget, 0.0):
        agent: Any = make_agent(name, **BUDGET, budget=spent, objective=objective, validation=0.0).fit(env)
        agent.budget = budget
        with torch.no_grad():
            risks.append(float(agent.risk(samples)))
            assert risks[-1] > float(agent.sample_losses(samples).mean())
    assert risks[0] < risks[1] - 0.01 * abs(risks[1])


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("world", ["Portfolio", "ProductAllocation", "Inventory"])
def test_the_twin_trained_for_accuracy(name: str, world: str) -> None:
    agent = make_agent(name, **BUDGETS[name], objective="mse").fit(make(world))
    assert np.isfinite(agent.act(make(world).unwrapped.task.dataset()[0])).all()
    assert not any(epoch.decision_cost for epoch in agent.history_)


def test_only_a_mean_cost_is_called_one() -> None:
    for name in ROBUST:
        agent = make_agent(name, **BUDGETS[name]).fit(make("Inventory"))
        assert {epoch.decision_cost for epoch in agent.history_} == {name in AUGMENTED}


@pytest.mark.parametrize("name", ROBUST)
def test_an_unknown_objective(name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown objective 'msa'; did you mean 'mse'"):
        make_agent(name, objective="msa")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("kl-dro", {"budget": -1.0}, "budget is -1.0"),
        ("w-dro", {"budget": float("nan")}, "budget is nan"),
        ("w-dro", {"steps": 0}, "steps is 0"),
        ("w-dro", {"moved": "outcome"}, "unknown moved 'outcome'"),
        ("augment-cutout", {"shift": "cutuot(p=0.1)"}, "did you mean 'cutout'"),
    ],
)
def test_bad_parameters(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ShiftgymError, match=message):
        make_agent(name, **parameters)
