"""What holds for every decision problem: weights, tensors, float32, chunks, gradients, errors."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from shiftgym.data import ShiftgymError
from shiftgym.solvers import PROBLEMS, DecisionProblem, ProblemError, make_problem
from shiftgym.solvers.layer import decide
from tests.worlds import FLEET


@dataclass
class Case:
    """A problem by its name, scenarios of outcomes for it, and constants that it refuses."""

    name: str
    parameters: dict[str, Any]
    draw: Callable[[np.random.Generator, tuple[int, ...]], Any]
    refused: list[dict[str, Any]]
    #: Where the size of a chunk is kept, and one that cuts nine contexts; None for a problem without chunks.
    chunks: tuple[str, int] | None
    #: Whether decisions can be differentiated.
    smooth: bool = True

    def problem(self) -> DecisionProblem:
        return make_problem(self.name, **self.parameters)

    def scenarios(self, contexts: int = 9, count: int = 12, seed: int = 0) -> Any:
        shape = (contexts, count, self.problem().outcome_dim)
        return self.draw(np.random.default_rng(seed), shape)


def spread(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.uniform(-0.2, 0.8, (shape[0], 1, shape[2])) + 0.8 * rng.standard_normal(shape)


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.lognormal(-1.5, 0.5, shape)


def demand(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return np.where(rng.random(shape) < 0.5, 3.0, 8.0) + 0.5 * rng.standard_normal(shape)


def load(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return 1.7 + 0.4 * rng.standard_normal(shape)


def day(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Amounts of the uncertain columns, by center, service and class, then prices and carbon of four hours."""
    level = np.repeat([300.0, 300.0, 150.0, 700.0, 0.1, 0.1, 0.3, 0.3], 4)
    return level * rng.lognormal(0.0, 0.3, shape)


def hour(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Likewise of one hour, then the uncertain columns as they were an hour ago, and what is left of the day."""
    level = np.array([300.0, 300.0, 150.0, 700.0, 0.1, 0.1, 0.3, 0.3, 300.0, 300.0, 150.0, 700.0, 0.5])
    return level * rng.lognormal(0.0, 0.3, shape)


CASES = [
    Case(
        "Provisioning",
        {"horizon": 3, "low": 0.05, "switching_cost": 0.2},
        positive,
        [{"utility": 0.0}, {"pue": np.nan}, {"low": 0.5, "high": 0.4}, {"low": -1.0}, {"switching_cost": -1.0}],
        ("provisioning", 100),
    ),
    Case(
        "PowerScheduling",
        {"hours": 4, "shortage": 3.0, "ramp": 0.3, "high": 4.0},
        load,
        [{"hours": 1}, {"hours": 2.5}, {"ramp": np.nan}, {"shortage": -1.0}, {"low": 1.0, "high": 1.0}],
        ("power", 250),
    ),
    Case(
        "Portfolio",
        {"assets": 4, "risk_aversion": 2.0, "transaction_cost": 0.01},
        spread,
        [{"assets": 1}, {"assets": 2.5}, {"risk_aversion": 0.0}, {"transaction_cost": -1.0}],
        ("mean_variance", 100),
    ),
    Case(
        "ProductAllocation",
        {"products": 3, "cap": 1.5},
        spread,
        [{"products": 0}, {"products": 1.5}, {"cap": 0.0}, {"cap": np.inf}],
        ("log_mean_exp", 100),
    ),
    Case(
        "Inventory",
        {"order": 2.0, "capacity": 7.0, "carry": True},
        demand,
        [{"order": -1.0}, {"holding_growth": np.nan}, {"capacity": 0.0}, {"carry": 1}],
        ("inventory", 60),
    ),
    Case(
        "DataCenter",
        {"fleet": FLEET, "integer": False, "promise": 0.8},
        day,
        [{"action": "level"}, {"integer": 1}, {"promise": 0.0}, {"fleet": {"windows": [1.5]}}, {"solver": "high"}],
        None,
    ),
    Case(
        "DataCenterHour",
        {"fleet": FLEET, "promise": 0.8},
        hour,
        [{"action": "share"}, {"integer": 1}, {"promise": 1.5}, {"fleet": {"windows": [1.5]}}],
        None,
        smooth=False,
    ),
]
every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_smooth = pytest.mark.parametrize("case", [case for case in CASES if case.smooth], ids=lambda case: case.name)


def test_every_problem_has_its_case() -> None:
    assert set(PROBLEMS) == {case.name for case in CASES}


@every
def test_equal_weights_change_nothing_and_others_count_copies(case: Case) -> None:
    problem, y = case.problem(), case.scenarios()
    np.testing.assert_allclose(problem.solve(y, np.full((9, 12), 3.0)), problem.solve(y), atol=1e-9)
    copies = np.random.default_rng(0).integers(0, 4, 12)
    copies[0] += 1
    repeated = problem.solve(np.repeat(y, copies, axis=1))
    np.testing.assert_allclose(problem.solve(y, np.tile(copies.astype(float), (9, 1))), repeated, atol=1e-9)


@every
def test_tensors_follow_arrays_and_float32_follows_float64(case: Case) -> None:
    problem, y = case.problem(), case.scenarios()
    exact, cotangent = problem.solve(y), np.ones((9, problem.decision_dim))
    assert torch.equal(problem.solve(torch.tensor(y)), torch.tensor(exact))
    if case.smooth:
        tensors = problem.adjoint(*map(torch.tensor, (y, exact, cotangent, np.ones((9, 12)))))
        for ours, theirs in zip(problem.adjoint(y, exact, cotangent), tensors, strict=True):
            np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-10)
    single = problem.solve(y.astype(np.float32))
    assert single.dtype == np.float32
    mean = [problem.cost(y, z[:, None].astype(float)).mean(1) for z in (single, exact)]
    np.testing.assert_allclose(*mean, rtol=1e-5, atol=1e-6)
    assert problem.solve(torch.tensor(y, dtype=torch.float32)).dtype == torch.float32


@every_smooth
def test_read_only_scenarios_and_chunks(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, y = case.problem(), case.scenarios()
    y.setflags(write=False)
    z = problem.solve(y)
    gradient = problem.adjoint(y, z, np.ones_like(z))
    if case.chunks is None:
        assert not hasattr(importlib.import_module(type(problem).__module__), "_CHUNK")
    else:
        module, size = case.chunks
        monkeypatch.setattr(importlib.import_module(f"shiftgym.solvers.{module}"), "_CHUNK", size)
    np.testing.assert_allclose(problem.solve(y), z, atol=1e-9)
    for ours, theirs in zip(gradient, problem.adjoint(y, z, np.ones_like(z)), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-9)


@every_smooth
def test_layer_passes_gradcheck(case: Case) -> None:
    y = torch.tensor(case.scenarios(2, 6, seed=5), requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: decide(case.problem(), s), (y,), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if not case.smooth], ids=lambda case: case.name)
def test_who_gives_no_gradient_says_so(case: Case) -> None:
    problem, y = case.problem(), torch.tensor(case.scenarios(2, 3), requires_grad=True)
    z = decide(problem, y)
    with pytest.raises(ProblemError, match="gives no gradient"):
        z.sum().backward()
    with pytest.raises(ProblemError, match="gives no gradient"):
        problem.cost(y[:, 0], z)


@every
def test_no_contexts_are_no_decisions(case: Case) -> None:
    problem = case.problem()
    assert problem.solve(case.scenarios()[:0]).shape == (0, problem.decision_dim)


@every
def test_bad_scenarios_and_weights(case: Case) -> None:
    problem, y = case.problem(), case.scenarios(2, 3)
    z = problem.solve(y)
    for bad, message in [
        (y * np.nan, r"nan at \[context, scenario, column\] = \[0, 0, 0\]"),
        (y * np.inf, "inf at"),
        (y[..., 0], r"shape \(2, 3\)"),
        (y[:, :0], r"shape \(2, 0, \d+\)"),
        (np.concatenate((y, y), axis=2), r"shape \(2, 3, \d+\)"),
    ]:
        with pytest.raises(ProblemError, match=message):
            problem.solve(bad)
        if case.smooth:
            with pytest.raises(ProblemError, match=message):
                problem.adjoint(bad, z, z)
    for weights, message in [
        (np.ones((2, 2)), r"shape \(2, 2\)"),
        (np.zeros((2, 3)), "positive in sum"),
        (np.full((2, 3), np.inf), "must be finite"),
    ]:
        with pytest.raises(ProblemError, match=message):
            problem.solve(y, weights)


def test_outcomes_below_the_smallest_sensible_one() -> None:
    with pytest.raises(ProblemError, match=r"reach -0\.1, below the smallest sensible outcome 0"):
        make_problem("Provisioning").solve(np.full((2, 3, 1), -0.1))


@every
def test_bad_constants(case: Case) -> None:
    for constants in case.refused:
        wrong = next(iter(constants.get("fleet", constants)))
        with pytest.raises(ShiftgymError, match=wrong):
            make_problem(case.name, **constants)


@every
def test_parameters_build_an_equal_problem(case: Case) -> None:
    parameters = case.problem().parameters()
    assert parameters.items() >= case.parameters.items()
    assert make_problem(case.name, **parameters).parameters() == parameters


def test_an_unknown_problem() -> None:
    with pytest.raises(LookupError, match="did you mean 'Provisioning'"):
        make_problem("Provisionning")
