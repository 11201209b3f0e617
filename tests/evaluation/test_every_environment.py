"""A run in every environment, from trace to report, led by the score that suits it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from shiftgym.data.errors import UnknownNameError
from shiftgym.evaluation.agent_spec import AgentSpec
from shiftgym.evaluation.plots_of_training import learning_curves
from shiftgym.evaluation.report import report
from shiftgym.evaluation.results import Run
from shiftgym.evaluation.run import execute
from shiftgym.evaluation.scenario import Published, Scenario, Suite, parse_suite
from shiftgym.evaluation.scores import sharpe_ratio
from shiftgym.evaluation.tables import all_tables
from tests.worlds import BUDGETS, SMALL

AGENTS = tuple(map(AgentSpec, ("oracle", "persistence", "residual-saa")))


def run_in(name: str, folder: Path, score: str = "", **keywords: Any) -> Run:
    home = {"env": f"shiftgym/{name}-v0", "train": f"small-{name}[:0.5]", "test": f"small-{name}[0.5:]"}
    keywords = {**SMALL.get(name, {}), **keywords}
    scenarios = (
        Scenario("home", **home, env_kwargs=keywords),
        Scenario("scaled", **home, shift="scale(factor=1.1, onset=0.5)", env_kwargs=keywords),
    )
    return execute(Suite(name, scenarios, AGENTS, seeds=(0,), score=score), folder).run


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize(
    ("name", "keywords", "score"),
    [
        ("PowerScheduling", {}, "regret"),  # the oracle costs nothing, so there is nothing to relate a regret to
        ("Portfolio", {}, "normalised_regret"),
        ("ProductAllocation", {}, "regret"),  # exp of minus a lot
        ("Inventory", {"carry": True}, "normalised_regret"),
        ("DataCenter", {}, "normalised_regret"),
    ],
)
def test_a_run_ends_in_a_report(name: str, keywords: dict[str, Any], score: str, tmp_path: Path) -> None:
    run = run_in(name, tmp_path, **keywords)
    assert run.score == score
    oracle = run.results.query("agent == 'oracle'")
    assert oracle["regret"].abs().max() < 1e-9
    if name != "DataCenter":  # who leaves work undone saves its cost, and is reported for it
        assert (run.results["regret"] > -1e-9).all()
    markdown = report(run, Console(quiet=True)).with_suffix(".md").read_text()
    assert "plots/replay.svg" in markdown
    assert ("plots/day.svg" in markdown) == (name == "DataCenter")


def test_who_follows_a_gradient_is_trained_and_scored_in_a_data_center(tmp_path: Path) -> None:
    home = {"env": "shiftgym/DataCenter-v0", "train": "small-DataCenter[:0.5]", "test": "small-DataCenter[0.5:]"}
    names = ("dfl", "diffusion-dfl-score")
    agents = tuple(AgentSpec(name, BUDGETS[name]) for name in names)
    scenario = Scenario("home", **home, env_kwargs={**SMALL["DataCenter"], "action": "relative"})
    run = execute(Suite("small", (scenario,), agents, seeds=(0,)), tmp_path).run
    results = run.results.set_index("agent")
    assert np.isfinite(results[["cost", "violation_rate_inference"]].to_numpy()).all()
    assert set(learning_curves(run)["agent"]) == set(results.index)  # by the cost of decisions


def test_the_suite_chooses_what_leads(tmp_path: Path) -> None:
    run = run_in("Portfolio", tmp_path, score="cost", transaction_cost=0.001)
    table = next(iter(all_tables(run)))
    assert table.title.startswith("Mean cost")
    assert Run.open(tmp_path).suite.score == "cost"
    cost = run.results.set_index(["agent", "scenario"]).loc[("residual-saa", "home"), "cost"]
    shown = next(row for row in table.rows if row[0].text == "residual-saa")[1].text
    assert float(shown.split()[0]) == pytest.approx(cost, rel=5e-3)  # three digits, however small
    with pytest.raises(UnknownNameError, match="unknown score of suite 'x': 'costs'; did you mean 'cost'"):
        replace(run.suite, name="x", score="costs")
    with pytest.raises(UnknownNameError):
        parse_suite({"agents": ["saa"], "seeds": [0], "score": "best", "scenarios": []}, "y")


def test_what_a_problem_measures_is_scored(tmp_path: Path) -> None:
    run = run_in("Portfolio", tmp_path)
    row = run.results.query("agent == 'residual-saa' and scenario == 'home'").iloc[0]
    steps = run.steps("home", "residual-saa", 0)
    assert row["mean_return"] == pytest.approx(steps["return"].mean())
    assert row["sharpe_ratio"] == pytest.approx(sharpe_ratio(steps["return"], steps["step_time"]))
    shares = steps[[column for column in steps if column.startswith("decision_")]].to_numpy()
    turned = np.abs(np.diff(shares, axis=0)).sum(1) / 2
    turned[steps["episode"].diff().iloc[1:].to_numpy() > 0] = 0.0  # an episode starts from nothing
    assert row["mean_turnover"] == pytest.approx(turned.sum() / len(steps))
    assert row["mean_turnover"] > 0
    brought, others = all_tables(run)[1:3]
    assert {"return", "turnover"} <= set(brought.columns)
    assert "Sharpe ratio" in others.columns


def test_sharpe_ratio_by_hand() -> None:
    days = np.arange(5) * 86400.0
    returns = np.array([0.01, 0.02, 0.0, 0.03, 0.01])
    expected = returns.mean() / returns.std(ddof=1) * np.sqrt(365.25)
    assert sharpe_ratio(returns, days) == pytest.approx(expected)
    assert np.isnan(sharpe_ratio(np.ones(5), days))
    assert np.isnan(sharpe_ratio([0.1], [0.0]))


def test_a_suite_may_ask_for_tables_of_measures(tmp_path: Path) -> None:
    home = {"env": "shiftgym/Inventory-v0", "train": "small-Inventory", "test": "small-Inventory"}
    published = Published("a paper", {}, {"left": {"DFL": {"home": 0.5}}})
    agents = (AgentSpec("saa"), AgentSpec("persistence"))
    suite = Suite("small", (Scenario("home", **home),), agents, (0,), measures=("left",), published=published)
    assert Suite.from_dict(suite.to_dict()) == suite
    run = execute(suite, tmp_path).run
    table = next(table for table in all_tables(run) if table.title == "Mean left per step")
    shown = {row[0].text: row[1].text for row in table.rows}
    expected = run.results.set_index("agent")["mean_left"]
    assert list(shown) == ["saa", "persistence", "[published] DFL"]
    assert float(shown["saa"]) == pytest.approx(expected["saa"], abs=5e-3)
    assert float(shown["[published] DFL"]) == 0.5
