"""Every agent in every environment that it is made for: fits, decides, is saved and loaded; none beats the oracle.

Agents whose class names ``problems`` are made for these alone, and refuse the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shiftgym.agents import Agent, agent_class, list_agents, load_agent, make_agent
from shiftgym.data.errors import ShiftgymError
from tests.worlds import BUDGETS, FLEET, demand, make, make_vec

NAMES = [name for name in list_agents() if name != "sb3"]  # which is made of a zip
TASKS: list[tuple[str, dict[str, Any]]] = [
    ("Provisioning", {"horizon": 4, "episode_slots": 8, "switching_cost": 0.05}),
    ("PowerScheduling", {"lookback": 1, "context": ["temperature"]}),
    ("Portfolio", {}),
    ("Portfolio", {"transaction_cost": 0.002, "risk_aversion": 5.0}),
    ("ProductAllocation", {}),
    ("Inventory", {}),
    ("Inventory", {"carry": True}),
    ("DataCenter", {"integer": False}),
    ("DataCenterHourly", {"oracle": False}),
]
#: Agents that follow the gradient of the cost of decisions, which a settled hour has not.
FOLLOW_THE_COST = {
    "dfl",
    "bandit",
    "dfl-gaussian-reparam",
    "dfl-gaussian-score",
    "diffusion-dfl-reparam",
    "diffusion-dfl-score",
    "kl-dro",
    "w-dro",
    "three-d",
    "augment-cutout",
    "augment-gaussian",
    "augment-perlin",
}


def replay(agent: Agent, name: str, keywords: dict[str, Any]) -> dict[str, Any]:
    """Mean of every entry of info over a replay of four rows, the last of which meets the end of the data."""
    vector = make_vec(name, 4, **keywords)
    task = vector.unwrapped.task
    starts = np.array([0, 5, 9, len(task) - 1 - task.points.stride])
    observations, _ = vector.reset(seed=0, options={"start": starts})
    infos = []
    for _ in range(3 if name == "DataCenter" else 10):  # of which each solves linear programs
        seen = vector.unwrapped.foresight() if agent.clairvoyant else observations
        actions = agent.act(seen)
        assert actions.shape == (4, task.problem.decision_dim)
        assert np.isfinite(actions).all()
        observations, *_, info = vector.step(actions)
        infos.append(info)
    return {key: np.mean([info[key] for info in infos]) for key in infos[0]}


@pytest.mark.parametrize("agent_name", NAMES)
@pytest.mark.parametrize(("name", "keywords"), TASKS)
def test_fits_decides_and_survives_a_save(agent_name: str, name: str, keywords: dict[str, Any], tmp_path: Path) -> None:
    budget = BUDGETS.get(agent_name, {})
    made_for = agent_class(agent_name).problems
    if made_for and type(make(name, **keywords).unwrapped.task.problem).__name__ not in made_for:
        with pytest.raises(ShiftgymError, match=f"agent '{agent_name}' is made for {made_for[0]}"):
            make_agent(agent_name, **budget).fit(make(name, **keywords))
        return
    if name == "DataCenterHourly" and agent_name in FOLLOW_THE_COST:
        with pytest.raises(ShiftgymError, match=r"gives no gradient of its cost|do not continue a history"):
            make_agent(agent_name, **budget).fit(make(name, **keywords))
        return
    agent = make_agent(agent_name, **budget).fit(make(name, **keywords))
    scores = replay(agent, name, keywords)
    if not any(scores[f"violation_{family}"] for family in agent.problem_.soft_families):
        assert scores["regret"] >= -1e-9
    if agent.clairvoyant and name != "DataCenterHourly":  # where perfect decisions are myopic
        assert scores["regret"] == pytest.approx(0.0, abs=1e-9)
    if agent_name not in ("random", "bandit"):  # what a solver decides breaks no constraint of its own
        families = agent.problem_.hard_families
        assert sum(scores[f"violation_{family}"] for family in families) == 0
    if made_for or name == "Provisioning":  # the same seed, the same agent: who draws from elsewhere does so anywhere
        agent = make_agent(agent_name, **budget).fit(make(name, **keywords))
    agent.save(tmp_path)
    assert replay(load_agent(tmp_path), name, keywords) == scores


@pytest.mark.parametrize("agent_name", sorted(FOLLOW_THE_COST))
def test_who_follows_the_cost_decides_on_multiples_of_a_forecast(agent_name: str) -> None:
    """Of days whose batteries and waiting work go on."""
    keywords = {"integer": False, "action": "relative", "fleet": {**FLEET, "carry_over": True, "terminal": "free"}}
    agent = make_agent(agent_name, **BUDGETS[agent_name]).fit(make("DataCenter", **keywords))
    scores = replay(agent, "DataCenter", keywords)
    assert np.isfinite(list(scores.values())).all()
    assert scores["violation_bounds"] == 0


@pytest.mark.parametrize(
    ("name", "keywords"), [("PowerScheduling", {}), ("Inventory", {"shortage": 12.0}), ("DataCenter", {})]
)
def test_decision_focused_training_lowers_the_cost_it_trains_on(name: str, keywords: dict[str, Any]) -> None:
    """From the same seed, on the training trace itself, against accuracy alone, where missing costs most."""
    env = make(name, **keywords)
    budget = {"epochs": 60, "hidden": (32, 32), "learning_rate": 3e-3, "validation": 0.0}
    costs = {}
    for agent_name in ("two-stage", "dfl"):
        agent = make_agent(agent_name, **budget).fit(env)
        task = env.unwrapped.task
        observations, outcomes = task.dataset()
        costs[agent_name] = task.problem.objective(outcomes, task.problem.project(agent.act(observations))).mean()
    assert costs["dfl"] < 0.95 * costs["two-stage"]


def test_training_shows_stock() -> None:
    task = make("Inventory", carry=True).unwrapped.task
    stock = task.layout.state(task.dataset()[0])
    assert (stock > 1).mean() > 0.2
    assert (stock == 0).mean() > 0.2


def test_a_bandit_learns_to_use_its_stock() -> None:
    """Its policy is a network of the stock: with plenty it orders next to nothing, with none it orders."""
    env = make("Inventory", carry=True, trace=demand(steps=2000))
    agent = make_agent("bandit", epochs=20, hidden=(32,), learning_rate=5e-3).fit(env)
    observation, _ = env.reset(seed=0)
    orders = []
    for stock in (0.0, 8.0):
        observation[-1] = stock
        orders.append(agent.act(observation[None]).item())
    assert orders[0] > orders[1] + 3


@pytest.mark.parametrize("agent_name", ["saa", "residual-saa", "two-stage", "dfl"])
def test_who_has_stock_orders_less(agent_name: str) -> None:
    budget = BUDGETS.get(agent_name, {})
    env = make("Inventory", carry=True)
    agent = make_agent(agent_name, **budget).fit(env)
    observation, _ = env.reset(seed=0)
    orders = []
    for stock in (0.0, 4.0, 50.0):
        observation[-1] = stock
        orders.append(agent.act(observation[None]).item())
    assert orders[0] > orders[1] > orders[2] == 0.0


def test_the_network_follows_the_task() -> None:
    """An LSTM reads the history of one series, fully connected layers a day."""
    for name, keywords, kind in (
        ("Provisioning", {}, "RecurrentEncoder"),
        ("PowerScheduling", {}, "Encoder"),
        ("Inventory", {"lookback": 1}, "Encoder"),
        ("Inventory", {"lookback": 5}, "RecurrentEncoder"),
    ):
        agent: Any = make_agent("two-stage", epochs=1, hidden=(8, 8)).fit(make(name, **keywords))
        assert type(agent.network_.encoder).__name__ == kind
