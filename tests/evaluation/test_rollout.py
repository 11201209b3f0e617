import gymnasium
import numpy as np
import pytest

from shiftgym.agents import make_agent
from shiftgym.data import load_trace
from shiftgym.data.errors import ShiftgymError
from shiftgym.evaluation import rollout as module
from shiftgym.evaluation.rollout import TestBench, make_training_env, rollout
from shiftgym.evaluation.scenario import Scenario


def fitted(name, scenario, **kwargs):
    env = make_training_env(scenario.env, scenario.train, scenario.env_kwargs)
    return make_agent(name, **kwargs).fit(env)


def test_a_batched_replay_equals_one_episode_after_the_other(scenario):
    agent = fitted("saa", scenario)
    replay = rollout(agent, TestBench.make(scenario, seed=0))
    env = gymnasium.make(scenario.env, trace=scenario.test, reference=scenario.train)
    step = 0
    for episode in range(replay.episodes):
        observation, _ = env.reset(options={"start": 28 * episode})
        done = False
        while not done:
            observation, reward, terminated, truncated, info = env.step(agent.act(observation[None])[0])
            done = terminated or truncated
            assert replay.cost[step] == pytest.approx(-reward, abs=1e-12)
            assert replay.regret[step] == pytest.approx(info["regret"], abs=1e-12)
            assert replay.time[step] == info["step_time"]
            assert replay.violated[step] == bool(info["violation"])
            assert replay.outcomes[step] == pytest.approx(env.unwrapped.last_outcome)
            step += 1
    assert step == len(replay.cost) == 28 * replay.episodes
    assert (np.diff(replay.time) > 0).all()


def test_every_full_window_of_the_test_trace_is_replayed(scenario):
    bench = TestBench.make(scenario, seed=0)
    assert len(bench.starts) == (len(load_trace(scenario.test)) - 28) // 28  # the first history takes 28 slots
    assert bench.steps == 28


def test_the_oracle_has_no_regret_and_everyone_else_no_negative_one(scenario):
    for name in ("oracle", "random", "saa", "persistence"):
        replay = rollout(fitted(name, scenario), TestBench.make(scenario, seed=0))
        assert replay.regret.min() >= -1e-9
        assert (name == "oracle") == bool(np.allclose(replay.regret, 0, atol=1e-9))
        assert (replay.forecast is not None) == (name in ("saa", "persistence"))


def test_one_shot_and_endless_episodes(scenario):
    one_shot = Scenario(**{**vars(scenario), "env_kwargs": {"horizon": 28}})
    replay = rollout(fitted("saa", one_shot), TestBench.make(one_shot, seed=0))
    assert replay.decisions.shape == (replay.episodes, 28)
    endless = Scenario(**{**vars(scenario), "env_kwargs": {"episode_slots": None}})
    replay = rollout(fitted("saa", endless), TestBench.make(endless, seed=0))
    assert (replay.episodes, len(replay.cost)) == (1, len(load_trace(scenario.test)) - 28)


def test_scores_agree_with_the_steps(scenario):
    replay = rollout(fitted("persistence", scenario), TestBench.make(scenario, seed=0))
    scores, table = replay.scores(), replay.columns()
    assert {len(column) for column in table.values()} == {len(replay.cost)}
    assert scores["regret"] == pytest.approx(scores["cost"] - scores["oracle_cost"])
    assert scores["normalised_regret"] == pytest.approx(scores["regret"] / abs(scores["oracle_cost"]))
    assert scores["violation_rate"] == np.mean(table["violation"])
    assert scores["violation_rate_service"] == np.mean(table["violation_service"] > 0)
    assert scores["violation_max_service"] == table["violation_service"].max()
    for name in ("cost", "normalised_regret", "violation_rate"):
        assert scores[f"{name}_low"] < scores[name] < scores[f"{name}_high"]
    assert 0 < scores["latency_p50_ms"] <= scores["latency_p99_ms"]


def test_the_seed_of_a_scenario_draws_its_shift(scenario):
    noisy = Scenario(**{**vars(scenario), "shift": "gaussian(scale=0.2, onset=0.5)"})
    agent = fitted("saa", scenario)
    first, again, other = (rollout(agent, TestBench.make(noisy, seed=s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.outcomes, again.outcomes)
    assert not np.array_equal(first.outcomes, other.outcomes)
    assert 0 < first.shifted.mean() < 1
    assert np.array_equal(first.outcomes[~first.shifted], other.outcomes[~other.shifted])
    assert TestBench.make(noisy, seed=0).shift_report.wasserstein > 0


def test_long_forecasts_are_scored_in_bounded_memory(scenario, monkeypatch):
    agent = fitted("saa", scenario)
    monkeypatch.setattr(module, "_FORECAST_NUMBERS", 1)
    asked = []
    scenarios = agent.scenarios
    monkeypatch.setattr(type(agent), "scenarios", lambda self, o: asked.append(len(o)) or scenarios(o))
    assert rollout(agent, TestBench.make(scenario, seed=0)).forecast is not None
    assert max(asked) == 50


@pytest.mark.parametrize(
    ("env", "keyword", "message"),
    [
        ("CartPole-v1", {}, "'CartPole-v1' cannot be made"),
        ("shiftgym/Provisioning-v0", {"capacity": "x"}, "'shiftgym/Provisioning-v0' cannot be made"),
        ("shiftgym/Provisioning-v0", {"lokback": 3}, "'lokback'; did you mean 'lookback'"),
    ],
)
def test_environments_and_keywords_that_do_not_fit_are_refused(scenario, env, keyword, message):
    wrong = Scenario(**{**vars(scenario), "env": env, "env_kwargs": keyword})
    with pytest.raises(ShiftgymError, match=message):
        TestBench.make(wrong, seed=0)
    with pytest.raises(ShiftgymError, match=message):
        make_training_env(env, wrong.train, keyword)


def test_wide_decisions_are_not_written_with_the_steps(scenario, monkeypatch):
    replay = rollout(fitted("saa", scenario), TestBench.make(scenario, seed=0))
    assert "decision_0" in replay.columns()
    monkeypatch.setattr(module, "_WIDEST", 0)
    columns = replay.columns()
    assert not [name for name in columns if name.startswith(("decision_", "oracle_decision_", "outcome_"))]
    assert "shown_decision_0" in columns
