from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from shiftgym.evaluation.aggregates import holm
from shiftgym.evaluation.results import Run
from shiftgym.evaluation.statistics import paired
from shiftgym.evaluation.verdicts import compare, verdicts


def made_up(costs, same_steps=True):
    """A run of these costs by scenario and agent, each of shape (seeds, steps)."""
    rows = [
        {"scenario": s, "agent": a, "cost": np.mean(steps)}
        for s, agents in costs.items()
        for a, steps in agents.items()
    ]
    return SimpleNamespace(
        contestants=pd.DataFrame(rows),
        seeds=lambda scenario, agent: list(range(len(costs[scenario][agent]))),
        core=lambda scenario, agent, seed: {"cost": costs[scenario][agent][seed]},
        same_steps=lambda scenario: same_steps,
    )


def noise(mean, rng, seeds=3):
    return mean + rng.standard_normal((seeds, 400))


def test_a_difference_is_called_noise_when_it_is():
    rng = np.random.default_rng(0)
    common = noise(5, rng, 1)
    clear = {"good": common, "close": common + 0.1 * noise(0, rng), "bad": common + 1}
    sure, same = verdicts(made_up({"clear": clear, "same": {"one": noise(0, rng), "other": noise(0, rng)}}))
    assert (sure.best, sure.noise) in (("good", ["close"]), ("close", ["good"]))
    assert sure.line.startswith(f"clear: {sure.best} costs least, and less than 1 other beyond chance; its lead over")
    assert sure.line.endswith(f"{sure.noise[0]} is within the noise.")
    assert same.line.startswith("same: noise.")
    assert sure.count == 4


def test_who_wins_everywhere_wins_beyond_chance():
    rng = np.random.default_rng(1)
    (verdict,) = verdicts(made_up({"home": {"bad": noise(3, rng), "good": noise(0, rng), "worse": noise(9, rng)}}))
    assert verdict.line == "home: good costs least, and less than all 2 others beyond chance."
    assert [other.agent for other in verdict.others] == ["bad", "worse"]


def test_among_many_equals_the_best_is_rarely_called_better():
    rng = np.random.default_rng(2)
    tables = [{"s": {f"agent {i}": noise(0, rng, 2)[:, :100] for i in range(8)}} for _ in range(60)]
    said = [verdicts(made_up(table))[0] for table in tables]
    assert sum(len(verdict.noise) < 7 for verdict in said) <= 6  # 5% of 60 are 3
    assert sum(any(other.found.p_value < 0.05 for other in verdict.others) for verdict in said) > 10  # uncorrected


def test_p_values_are_corrected_over_all_scenarios():
    rng = np.random.default_rng(3)
    costs = {s: {a: noise(0.1 * i, rng) for i, a in enumerate("abc")} for s in ("x", "y")}
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    raw = {(s, *pair): paired(*(costs[s][a] for a in pair)).p_value for s in costs for pair in pairs}
    corrected = dict(zip(raw, holm(list(raw.values())), strict=True))
    for verdict in verdicts(made_up(costs)):
        for other in verdict.others:
            key = (verdict.scenario, *sorted((verdict.best, other.agent)))
            assert other.p_value == pytest.approx(corrected[key])


def test_agents_that_share_no_steps_are_not_compared(finished):
    assert compare(finished, "home", "saa", "random").difference == pytest.approx(
        finished.results.query("scenario == 'home'")
        .groupby("agent")["cost"]
        .mean()
        .loc[["saa", "random"]]
        .diff()
        .iloc[1]
        * -1
    )
    for cell in finished.cells:
        if cell["keys"]["agent"] == "saa" and cell["keys"]["scenario"] == "home":
            finished.cell_file(cell["id"]).unlink()
    half = Run(finished.folder)
    assert compare(half, "home", "saa", "random") is None
    assert [verdict.scenario for verdict in verdicts(half)] == ["grown", "noise x0", "noise x1"]
    assert verdicts(replace(half)) == verdicts(half)
