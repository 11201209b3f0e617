"""Every agent behind the protocol: fit, act, save, load, another seed other numbers; and what each one is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from shiftgym.agents import Agent, agent_class, list_agents, load_agent, make_agent, register_agent
from shiftgym.agents.trained import Samples
from shiftgym.data import ShiftgymError, Trace, UnknownNameError
from tests.worlds import BUDGETS, make

BUDGET = BUDGETS
NUMBERS = ["two-stage", "dfl", "bandit"]  # their network answers with numbers
MADE_FOR = {name: agent_class(name).problems for name in list_agents()}
NAMES = [  # those of other environments are tested there, and "sb3" is made of a zip
    name for name, problems in MADE_FOR.items() if name != "sb3" and (not problems or "Provisioning" in problems)
]


LEARNED = [name for name in BUDGETS if name in NAMES]


def make_trace(slots: int = 200, seed: int = 0) -> Trace:
    """A workload with a slow rhythm, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    level = 1.5 + np.sin(np.arange(slots) / 6)
    return Trace(
        name="rhythm",
        time=np.datetime64("2026-01-01", "ns") + np.arange(slots) * np.timedelta64(2, "s"),
        outcome=1e4 * level * rng.lognormal(0.0, 0.1, slots),
        slot=2.0,
        outcome_low=0.0,
    )


def make_env(seed: int = 0, **keywords: Any) -> Any:
    return gymnasium.make("shiftgym/Provisioning-v0", trace=make_trace(seed=seed), **keywords)


def regret(agent: Agent, env: Any) -> float:
    """Normalised regret over every decision point."""
    task = env.unwrapped.task
    observations, outcomes = task.dataset()
    actions = agent.act(outcomes if agent.clairvoyant else observations)
    cost, best = task.problem.cost(outcomes, task.problem.project(actions)).mean(), task.oracle_costs.mean()
    return float((cost - best) / abs(best))


@pytest.fixture(scope="module")
def fitted() -> Callable[[str], Agent]:
    """The agent of a name, fitted when it is asked for first."""
    return cache(lambda name: make_agent(name, **BUDGET.get(name, {})).fit(make_env()))


@pytest.mark.parametrize("name", NAMES)
def test_protocol(name: str, fitted: Callable[[str], Agent], tmp_path: Path) -> None:
    agent, task = fitted(name), make_env(seed=1).unwrapped.task
    inputs = task.dataset()[1 if agent.clairvoyant else 0][:50]
    kept = inputs.copy()
    agent.save(tmp_path / name)
    loaded = load_agent(tmp_path / name)
    if name == "random":  # its generator runs on: compare from a fresh start
        agent = load_agent(tmp_path / name)
    actions = agent.act(inputs)
    assert actions.shape == (50, 1)
    assert actions.dtype == np.float64
    assert np.all((actions >= 0) & (actions <= 1))
    np.testing.assert_array_equal(inputs, kept)
    np.testing.assert_array_equal(loaded.act(inputs), actions)
    if name not in ("random",):
        rows = np.concatenate([agent.act(inputs[i : i + 1]) for i in range(5)])
        np.testing.assert_allclose(rows, actions[:5], rtol=1e-5)


def test_oracle_has_no_regret_and_order_is_sensible(fitted: Callable[[str], Agent]) -> None:
    env = make_env(seed=1)
    assert regret(fitted("oracle"), env) == pytest.approx(0.0, abs=1e-12)
    assert regret(fitted("random"), env) > regret(fitted("saa"), env) > regret(fitted("residual-saa"), env) > 0


@pytest.mark.parametrize("name", NUMBERS)
def test_training_learns(name: str) -> None:
    """With a budget each network beats the best constant decision by far on the rhythm it was trained on."""
    agent = make_agent(name, epochs=30, hidden=(16, 8), network="mlp", learning_rate=5e-3).fit(make_env())
    assert regret(agent, make_env(seed=1)) < 0.4 * regret(make_agent("saa").fit(make_env()), make_env(seed=1))


@pytest.mark.parametrize("name", LEARNED)
def test_another_seed_decides_otherwise_and_a_fit_leaves_the_global_generator_alone(
    name: str, fitted: Callable[[str], Agent]
) -> None:
    inputs = make_env().unwrapped.task.dataset()[0]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    other = make_agent(name, seed=1, **BUDGET[name]).fit(make_env())
    assert torch.equal(torch.rand(3), expected)
    assert np.abs(fitted(name).act(inputs) - other.act(inputs)).max() > 1e-6


def test_vector_environment_trains_the_same(fitted: Callable[[str], Agent]) -> None:
    vector = gymnasium.make_vec("shiftgym/Provisioning-v0", num_envs=3, trace=make_trace())
    inputs = make_env().unwrapped.task.dataset()[0]
    agent = make_agent("dfl", **BUDGET["dfl"]).fit(vector)
    np.testing.assert_array_equal(agent.act(inputs), fitted("dfl").act(inputs))


def test_progress_bar_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    make_agent("dfl", **BUDGET["dfl"]).fit(make_env(), progress=True)
    assert "fit dfl" in capsys.readouterr().out
    make_agent("dfl", **BUDGET["dfl"]).fit(make_env())
    assert capsys.readouterr().out == ""


def test_residuals_are_out_of_fold() -> None:
    """A pattern that a fit can memorise, but not foretell, must stay in the residuals."""
    agent: Any = make_agent("residual-saa", samples=None, ridge=1e-9)
    trace = make_trace(slots=60)
    noise = trace.replace(outcome=np.random.default_rng(0).random(60) * 1e4, observed=None)
    env = gymnasium.make("shiftgym/Provisioning-v0", trace=noise)
    observations, outcomes = env.unwrapped.task.dataset()
    agent.fit(env)
    in_sample = outcomes - (agent.weights_[0] + observations.astype(float) @ agent.weights_[1:])
    assert np.abs(in_sample).mean() < 0.5 * np.abs(agent.residuals_).mean()


def test_scenarios_are_in_the_problem_s_units_and_not_negative(fitted: Callable[[str], Agent]) -> None:
    observations, _ = make_env(seed=1).unwrapped.task.dataset()
    for name in ("persistence", "saa", "residual-saa", "two-stage", "dfl"):
        agent: Any = fitted(name)
        scenarios = agent.scenarios(observations[:7])
        assert scenarios.shape[0] == 7
        assert scenarios.shape[2] == 1
        assert scenarios.min() >= 0
        assert 0.1 < scenarios.mean() < 1.0


def test_validation_keeps_the_best_epoch() -> None:
    agent: Any = make_agent("dfl", epochs=12, hidden=(16, 8), learning_rate=0.05).fit(make_env())
    observations, outcomes = make_env().unwrapped.task.dataset()
    held = int(len(outcomes) * agent.validation)
    with torch.no_grad():
        kept = float(agent.risk(Samples(torch.tensor(observations[-held:]), torch.tensor(outcomes[-held:]), None)))
    assert kept == pytest.approx(min(epoch.loss for epoch in agent.history_), rel=1e-5)
    assert [epoch.epoch for epoch in agent.history_] == list(range(1, 13))
    assert all(epoch.stage == "fit" and epoch.decision_cost for epoch in agent.history_)
    seconds = [epoch.seconds for epoch in agent.history_]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_your_own_agent(tmp_path: Path) -> None:
    @register_agent("always-half")
    @dataclass(kw_only=True, eq=False)
    class AlwaysHalf(Agent):
        share: float = 0.5

        def _fit(self, task: Any, progress: bool, device: str) -> None:
            pass

        def _act(self, observations: Any) -> Any:
            return np.full((len(observations), self.problem_.decision_dim), self.share)

    agent = make_agent("always-half", share=0.25).fit(make_env())
    agent.save(tmp_path)
    assert load_agent(tmp_path).act(make_env().unwrapped.task.dataset()[0][:2]).tolist() == [[0.25], [0.25]]


def test_a_constant_is_the_nearest_feasible_decision() -> None:
    portfolio, stock = make("Portfolio"), make("Inventory")
    weights = make_agent("constant").fit(portfolio).act(portfolio.unwrapped.task.dataset()[0][:3])
    np.testing.assert_allclose(weights, 1 / weights.shape[1], rtol=1e-9)
    orders = make_agent("constant", value=4.5).fit(stock).act(stock.unwrapped.task.dataset()[0][:3])
    np.testing.assert_array_equal(orders, np.full((3, 1), 4.5))


def test_unknown_names_list_the_valid_ones() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'persistence'"):
        make_agent("persistance")
    with pytest.raises(UnknownNameError, match="unknown parameter of agent 'dfl' 'epoch'; did you mean 'epochs'"):
        make_agent("dfl", epoch=3)
    with pytest.raises(UnknownNameError, match="unknown network 'gru'"):
        make_agent("dfl", network="gru", epochs=1).fit(make_env())


@pytest.mark.parametrize(
    ("parameters", "message"), [({"epochs": 0}, "epochs is 0"), ({"validation": 1.0}, "validation is 1.0")]
)
def test_bad_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ShiftgymError, match=message):
        make_agent("dfl", **parameters)


@pytest.mark.parametrize("name", ["saa", "residual-saa"])
@pytest.mark.parametrize("samples", [0, -1, 2.5])
def test_a_number_of_samples_that_is_none(name: str, samples: Any) -> None:
    with pytest.raises(ShiftgymError, match=f"samples is {samples}: give a whole number"):
        make_agent(name, samples=samples)


@pytest.mark.parametrize("name", ["saa", "residual-saa"])
def test_a_saved_agent_decides_with_another_number_of_samples_as_if_fitted_with_it(tmp_path: Path, name: str) -> None:
    env = make_env()
    observations = env.unwrapped.task.dataset()[0][:20]
    make_agent(name, seed=3, samples=7).fit(env).save(tmp_path)
    for samples in (7, 12, None):
        anew: Any = make_agent(name, seed=3, samples=samples).fit(env)
        loaded: Any = load_agent(tmp_path, samples=samples)
        assert np.array_equal(loaded.scenarios(observations), anew.scenarios(observations))
        assert np.array_equal(loaded.act(observations), anew.act(observations))
    assert loaded.scenarios(observations).shape[1] > 12
    with pytest.raises(ShiftgymError, match="samples is 0"):
        load_agent(tmp_path, samples=0)
    with pytest.raises(ShiftgymError, match="did you mean 'samples'"):
        load_agent(tmp_path, sample=3)


def test_bad_use(tmp_path: Path) -> None:
    with pytest.raises(ShiftgymError, match="not fitted"):
        make_agent("persistence").act(np.zeros((1, 28), np.float32))
    with pytest.raises(ShiftgymError, match=r"takes \(batch, 28\)"):
        make_agent("persistence").fit(make_env()).act(np.zeros((1, 27), np.float32))
    with pytest.raises(ShiftgymError, match="holds no saved agent"):
        load_agent(tmp_path)
    (tmp_path / "agent.json").write_text(json.dumps({"agent": "os:system"}))
    with pytest.raises(ShiftgymError):
        load_agent(tmp_path)


def test_a_damaged_save_is_named(tmp_path: Path) -> None:
    agent = make_agent("saa").fit(make_env())
    agent.save(tmp_path)
    about = json.loads((tmp_path / "agent.json").read_text())
    (tmp_path / "agent.json").write_text(json.dumps({"agent": "saa"}))
    with pytest.raises(ShiftgymError, match="damaged"):
        load_agent(tmp_path)
    (tmp_path / "agent.json").write_text(json.dumps(about))
    (tmp_path / "state.safetensors").write_bytes(b"cut")
    with pytest.raises(ShiftgymError, match="damaged"):
        load_agent(tmp_path)


@pytest.mark.parametrize("name", ["persistence", "residual-saa", "two-stage"])
def test_observations_of_any_precision_or_a_list(name: str, fitted: Callable[[str], Agent]) -> None:
    observations = make_env().unwrapped.task.dataset()[0][:3]
    expected = fitted(name).act(observations)
    for form in (observations.astype(np.float64), observations.tolist()):
        np.testing.assert_array_equal(fitted(name).act(form), expected)  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", LEARNED)
def test_training_on_a_gpu(name: str) -> None:
    agent = make_agent(name, **BUDGET[name]).fit(make_env(), device="cuda")
    assert agent.act(make_env().unwrapped.task.dataset()[0]).shape[1] == 1
