"""Every suite that comes with shiftgym: it is built on stand-ins, replayed by one agent, and tests on nothing seen."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator

import numpy as np
import pytest

from shiftgym.data import load_trace
from shiftgym.data.catalogue import catalogue
from shiftgym.data.spec import parse_spec
from shiftgym.evaluation.agent_spec import AgentSpec
from shiftgym.evaluation.rollout import TestBench, make_training_env, rollout
from shiftgym.evaluation.scenario import Scenario, Suite, list_suites, load_suite

#: Rows of a shortened window, by environment: enough for what is fitted on them and for the longest block of a shift.
ROWS = {
    "Provisioning": 300,
    "PowerScheduling": 24 * 28,
    "Portfolio": 150,
    "ProductAllocation": 60,
    "Inventory": 60,
    "DataCenter": 24 * 4,
    "DataCenterHourly": 24 * 4,
}
REAL = re.compile(r"(?<![\w-])(" + "|".join(sorted(map(re.escape, catalogue()), key=len, reverse=True)) + r")(?![\w-])")


def on_stand_ins(scenario: Scenario) -> Scenario:
    """Return the scenario with synthetic traces, in windows that begin where its own do."""
    scenario = scenario.for_seed(0)
    rows = ROWS[scenario.env.removeprefix("shiftgym/").removesuffix("-v0")]

    def shortened(spec: str) -> str:
        place = parse_spec(REAL.sub(r"synthetic-\1", spec))
        whole = dataclasses.replace(place, start=None, stop=None)
        start = 0 if place.start is None else load_trace(str(whole)).index(place.start)
        return str(dataclasses.replace(whole, start=start, stop=min(start + rows, len(load_trace(str(whole))))))

    return dataclasses.replace(
        scenario,
        train=shortened(scenario.train),
        test=shortened(scenario.test),
        shift=REAL.sub(r"synthetic-\1", scenario.shift),
    )


@functools.cache
def fitted(env: str, train: str, env_kwargs: str, agent: str):
    return AgentSpec.parse(agent).make(0).fit(make_training_env(env, train, dict(eval(env_kwargs))))


def replays(suite: Suite, agent: str) -> Iterator[tuple[Scenario, object]]:
    for scenario in map(on_stand_ins, suite.scenarios):
        who = fitted(scenario.env, scenario.train, repr(dict(scenario.env_kwargs)), agent)
        yield scenario, rollout(who, TestBench.make(scenario, seed=0))


@pytest.mark.parametrize("name", list_suites())
def test_a_suite_is_replayed_on_stand_ins(name, monkeypatch):
    monkeypatch.setattr("shiftgym.evaluation.rollout._LATENCY_CALLS", 1)  # how long a decision takes is not asked here
    for scenario, replay in replays(load_suite(name), "saa(samples=20)"):
        assert len(replay.cost) >= 2, scenario.name
        assert np.isfinite(replay.cost).all(), scenario.name
        assert (replay.regret > -1e-6 * (1 + np.abs(replay.cost))).all(), scenario.name


@pytest.mark.parametrize("name", list_suites())
def test_nothing_is_decided_in_test_that_was_in_training(name):
    # the full windows without a shift: a tilt keeps its dates, a swap has others
    bare = [
        dataclasses.replace(scenario.for_seed(0), name="", sweep="", severity=None, shift="")
        for scenario in load_suite(name).scenarios
    ]
    for scenario in {str(case): case for case in bare}.values():
        train, test = (parse_spec(REAL.sub(r"synthetic-\1", spec)) for spec in (scenario.train, scenario.test))
        if train.name == test.name:
            known = load_trace(str(train)).time[-1].astype(np.int64) / 1e9
            bench = TestBench.make(dataclasses.replace(scenario, train=str(train), test=str(test)), seed=0)
            assert bench.env.task.points.time[0] > known, f"{scenario.train} and {scenario.test}"


def test_suites_that_decide_by_days_lead_with_the_cost_and_replay_every_day():
    for name in ("power/published", "power/shifts", "allocation/table1"):
        suite = load_suite(name)
        assert suite.score == "cost"
        assert all(scenario.env_kwargs["episode_steps"] == 1 for scenario in suite.scenarios)
