"""Adversarial shifts: what they find, what they may spend, and that any agent can be attacked from a run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from shiftgym.agents import make_agent
from shiftgym.data import Trace
from shiftgym.envs.shifts import ShiftError, parse_shift
from shiftgym.envs.shifts.adversarial import furthest, separable_signs, within_reach
from shiftgym.evaluation.agent_spec import AgentSpec
from shiftgym.evaluation.red_team import AgentUnderTest
from shiftgym.evaluation.rollout import TestBench, make_training_env, rollout
from shiftgym.evaluation.run import execute
from shiftgym.evaluation.scenario import Scenario, Suite
from tests.worlds import SMALL

START = np.datetime64("2026-01-01", "ns")


def walk(slots: int = 90, columns: int = 2, low: float = -np.inf, **changes) -> Trace:
    names = tuple(f"y{column}" for column in range(columns))
    return Trace(
        **{
            "name": "walk",
            "time": START + np.arange(slots) * np.timedelta64(1, "h"),
            "outcome": np.random.default_rng(0).gamma(2.0, [1.0, 50.0][:columns], (slots, columns)),
            "slot": 3600.0,
            "outcome_names": names,
            "outcome_units": ("",) * columns,
            "outcome_low": low,
            **changes,
        }
    )


class Linear:
    """Loses a weighted sum of what was seen ``lag`` slots before and of what comes."""

    def __init__(self, weights: np.ndarray, lag: int = 3) -> None:
        self.weights, self.lag, self.looks = weights, lag, 0

    def losses(self, traces, toward):
        self.looks += len(traces)
        worth = np.stack([(trace.outcome * self.weights).sum(axis=1) for trace in traces])
        losses = worth / 2
        losses[:, self.lag :] += worth[:, : -self.lag] / 2  # half of it is lost when it is seen
        return losses

    def reach(self, trace):
        return 0, self.lag

    def worst_blocks(self, blocks, losses, budget, rounds, seed):
        return blocks[np.argsort(losses(blocks))[[-1] * len(blocks)]]


def moves(before: Trace, after: Trace) -> np.ndarray:
    return (after.outcome - before.outcome) / before.outcome.std(axis=0)


# ---------------------------------------------------------------------- the ball
def test_a_linear_loss_is_raised_as_far_as_the_ball_allows():
    trace = walk()
    weights = np.random.default_rng(1).normal(size=trace.outcome.shape) / [1.0, 50.0]
    weights[-3:] = 0  # what is seen of these is lost after the end
    shift = parse_shift("wasserstein-ball(budget=0.4, steps=1)").against(Linear(weights))
    found = moves(trace, shift.apply(trace, np.random.default_rng(0)))
    slope = weights * trace.outcome.std(axis=0)
    best = 0.4 * len(trace) ** 0.5 * slope / np.linalg.norm(slope)
    np.testing.assert_allclose(found, best, atol=1e-9)  # as many moves as a reach has values separate them exactly


def test_few_directions_find_most_of_it():
    trace = walk()
    weights = np.random.default_rng(1).normal(size=trace.outcome.shape) / [1.0, 50.0]
    weights[-3:] = 0
    shift = parse_shift("wasserstein-ball(budget=0.4, steps=1, directions=4)").against(Linear(weights))
    found = moves(trace, shift.apply(trace, np.random.default_rng(0)))
    slope = weights * trace.outcome.std(axis=0)
    reached = (found * slope).sum() / (0.4 * len(trace) ** 0.5 * np.linalg.norm(slope))
    blind = np.random.default_rng(2).normal(size=slope.shape)
    assert 0.6 < reached < 1
    assert reached > 3 * abs((blind * slope).sum()) / np.linalg.norm(blind) / np.linalg.norm(slope)


@pytest.mark.parametrize("text", ["onset=0.5", "severity=2.0", "directions=2", "toward=cost"])
def test_the_budget_is_spent_and_kept(text):
    trace = walk()
    opponent = Linear(np.ones(trace.outcome.shape))
    shift = parse_shift(f"wasserstein-ball(budget=0.3, {text})").against(opponent)
    shifted = shift.apply(trace, np.random.default_rng(0))
    first = int(np.argmax(shifted.shifted))
    assert first == (45 if "onset" in text else 0)
    assert np.array_equal(shifted.outcome[:first], trace.outcome[:first])
    size = (((shifted.outcome - trace.outcome) / trace.outcome[first:].std(axis=0)) ** 2).sum(axis=1)[first:].mean()
    assert size**0.5 == pytest.approx(0.6 if "severity" in text else 0.3)
    assert np.array_equal(shifted.observed, shifted.outcome)
    assert shifted.provenance.history[-1] == str(shift)


def test_the_budget_is_not_wasted_under_the_least_outcome():
    trace = walk(columns=1, low=0.0)
    slope = -np.ones(trace.outcome.shape)  # less is worse, but there is no less than zero
    spread = trace.outcome.std()
    shifted = parse_shift("wasserstein-ball(budget=0.8)").against(Linear(slope)).apply(trace, np.random.default_rng(0))
    assert shifted.outcome.min() == 0
    assert (shifted.outcome == 0).sum() > 5
    assert (((shifted.outcome - trace.outcome) / spread) ** 2).mean() ** 0.5 == pytest.approx(0.8)


def test_readings_move_with_outcomes_and_keep_their_fault():
    trace = walk()
    faulty = trace.replace(observed=trace.outcome + 7.0)
    opponent = Linear(np.ones(trace.outcome.shape))
    shifted = parse_shift("wasserstein-ball").against(opponent).apply(faulty, np.random.default_rng(0))
    np.testing.assert_allclose(shifted.observed - shifted.outcome, 7.0)


def test_a_column_that_never_changes_is_left_alone():
    trace = walk()
    still = trace.replace(outcome=trace.outcome * [1.0, 0.0], observed=None)
    opponent = Linear(np.ones(trace.outcome.shape))
    shifted = parse_shift("wasserstein-ball").against(opponent).apply(still, np.random.default_rng(0))
    assert not shifted.outcome[:, 1].any()
    assert (shifted.outcome[:, 0] != still.outcome[:, 0]).any()


def test_what_cannot_be_made_worse_stays():
    trace = walk()

    class Contented(Linear):
        """Loses where anything moves at all: less than nothing."""

        def losses(self, traces, toward):
            return np.stack([-((each.outcome - trace.outcome) ** 2).sum(axis=1) for each in traces])

    opponent = Contented(np.ones(trace.outcome.shape))
    shifted = parse_shift("wasserstein-ball").against(opponent).apply(trace, np.random.default_rng(0))
    assert np.array_equal(shifted.outcome, trace.outcome)


@pytest.mark.parametrize(("slots", "columns", "count"), [(4, 1, 99), (3, 2, 99), (29, 1, 99), (8, 2, 5)])
def test_signs_are_orthogonal_within_a_reach(slots, columns, count):
    signs = separable_signs((50, columns), slots, count, np.random.default_rng(0))
    assert len(signs) == min(count, 1 << (slots * columns - 1).bit_length())
    assert set(np.unique(signs)) == {-1.0, 1.0}
    if count == 99:
        for begin in (0, 13, 50 - slots):
            within = signs[:, begin : begin + slots].reshape(len(signs), -1)
            assert np.array_equal(within.T @ within, len(signs) * np.eye(slots * columns))


def test_losses_within_reach():
    losses = np.array([[1.0, 2.0, 4.0, 8.0]])
    assert within_reach(losses, (0, 1)).tolist() == [[3, 6, 12, 8]]
    assert within_reach(losses, (1, 2)).tolist() == [[7, 15, 14, 12]]


def test_the_furthest_point_of_a_ball_cut_by_bounds():
    rng = np.random.default_rng(0)
    for radius in (0.1, 1.0, 4.0):
        slope, low = rng.normal(size=(6, 1)), -rng.uniform(0, 1, (6, 1))
        found = furthest(slope, radius, low)
        assert np.linalg.norm(found) <= radius + 1e-12
        assert (found >= low).all()
        trial = np.maximum(rng.normal(size=(200_000, 6, 1)), low)
        trial *= np.minimum(1, radius / np.linalg.norm(trial, axis=1, keepdims=True))
        assert (trial * slope).sum(axis=(1, 2)).max() <= (found * slope).sum() + 1e-12
    assert furthest(-np.ones((3, 1)), 10.0, -np.ones((3, 1))).tolist() == [[-1], [-1], [-1]]


# ---------------------------------------------------------------------- the diffusion
def test_drawn_blocks_take_the_places_of_the_old_ones():
    trace = walk(slots=65)
    opponent = Linear(np.ones(trace.outcome.shape))
    shift = parse_shift("worst-case-diffusion(block=10, onset=5)").against(opponent)
    shifted = shift.apply(trace, np.random.default_rng(0))
    assert np.array_equal(shifted.outcome[:5], trace.outcome[:5])
    blocks, before = (each.outcome[:60].reshape(6, 10, 2) for each in (shifted, trace))
    assert (blocks[1:] == blocks[1]).all()
    assert any(np.array_equal(blocks[1], block) for block in before)
    assert np.array_equal(shifted.outcome[60:], trace.outcome[60:])  # no whole block
    with pytest.raises(ShiftError, match="give 32 or fewer"):
        parse_shift("worst-case-diffusion(block=33)").against(opponent).apply(trace, np.random.default_rng(0))


def test_the_worst_model_hurts_more_and_stays_within_its_budget(monkeypatch):
    from shiftgym.agents import worst_blocks

    monkeypatch.setattr(worst_blocks, "_STEPS", 30)
    monkeypatch.setattr(worst_blocks, "_SEARCH", {**worst_blocks._SEARCH, "denoiser": (32, 32), "adversary_rate": 0.02})
    blocks = np.random.default_rng(0).gamma(2.0, 50.0, (60, 4, 1))

    def draw(rounds, seed=0):
        return worst_blocks.draw_worst(blocks, lambda x: x.sum((1, 2)), budget=1.0, rounds=rounds, seed=seed)

    kept, spent = [], worst_blocks._spent
    monkeypatch.setattr(worst_blocks, "_spent", lambda adversary: kept.append(spent(adversary)) or kept[-1])
    much = draw(8)
    assert much.shape == blocks.shape
    assert min(kept) < 0.5 < max(kept)
    assert np.array_equal(much, draw(8))
    monkeypatch.setattr(worst_blocks, "_spent", lambda adversary: 1.01)  # no model met is within the budget
    usual = draw(1)
    assert np.array_equal(usual, draw(2))
    assert not np.array_equal(usual, draw(2, seed=1))
    assert much.sum() > 1.2 * usual.sum()


# ---------------------------------------------------------------------- against agents
@pytest.fixture(scope="module")
def attacked(scenario) -> Scenario:
    return dataclasses.replace(scenario, shift="wasserstein-ball(budget=0.4, steps=1)")


def fitted(name, scenario, **kwargs):
    return make_agent(name, **kwargs).fit(make_training_env(scenario.env, scenario.train, scenario.env_kwargs))


def lost(agent, scenario, seed=0) -> float:
    return float(rollout(agent, TestBench.make(scenario, seed, agent)).regret.mean())


@pytest.mark.parametrize("name", ["persistence", "random"])
def test_an_attack_hurts_more_than_noise_of_the_same_size(name, scenario, attacked):
    agent = fitted(name, scenario)
    trace = TestBench.make(attacked, 0, agent).env.task.trace
    calm = TestBench.make(scenario, 0).env.task.trace
    share = (((trace.outcome - calm.outcome) / calm.outcome.std()) ** 2).mean() ** 0.5
    assert share == pytest.approx(0.4)
    noise = dataclasses.replace(scenario, shift=f"gaussian(scale={0.4 * calm.outcome.std() / calm.outcome.max()})")
    blind = max(lost(fitted(name, scenario), noise, seed) for seed in range(5))
    hurt = lost(fitted(name, scenario), attacked)
    assert hurt > blind
    assert hurt > lost(fitted(name, scenario), scenario)


def test_the_search_sees_what_the_replay_then_shows(scenario):
    """An agent that draws at random is looked at with the draws of the replay, and does not notice that it is."""
    agent = fitted("random", scenario)
    bench = TestBench.make(scenario, 0)
    opponent = AgentUnderTest(agent, lambda _: bench)
    foreseen = opponent.losses([bench.env.task.trace], "cost")
    replay = rollout(agent, bench)
    times = bench.env.task.trace.time.astype(np.int64) / 1e9
    slots = np.searchsorted(times, replay.time)
    np.testing.assert_allclose(foreseen[0, slots], replay.cost)
    assert foreseen[0, np.setdiff1d(np.arange(len(times)), slots)].tolist() == [0] * (len(times) - len(slots))


def test_candidates_replayed_side_by_side_are_strangers(scenario, monkeypatch):
    agent = fitted("persistence", scenario)
    bench = TestBench.make(scenario, 0)
    trace = bench.env.task.trace
    traces = [parse_shift(f"scale(factor={f})").apply(trace, np.random.default_rng(0)) for f in (0.5, 1, 2)]
    opponent = AgentUnderTest(agent, lambda _: bench)
    together = opponent.losses(traces, "regret")
    np.testing.assert_allclose(together, [opponent.losses([one], "regret")[0] for one in traces])
    monkeypatch.setattr("shiftgym.evaluation.red_team._NUMBERS", 1)
    np.testing.assert_allclose(together, opponent.losses(traces, "regret"))


def test_an_attack_depends_on_the_seed_the_agent_and_what_counts(scenario, attacked):
    one = dataclasses.replace(attacked, shift="wasserstein-ball(budget=0.4, steps=1, directions=4)")
    cost = dataclasses.replace(attacked, shift="wasserstein-ball(budget=0.4, steps=1, toward=cost)")

    def trace(scenario, name="persistence", seed=0):
        return TestBench.make(scenario, seed, fitted(name, scenario)).env.task.trace.outcome

    assert np.array_equal(trace(one), trace(one))
    assert not np.array_equal(trace(one), trace(one, seed=1))
    assert not np.array_equal(trace(attacked), trace(attacked, "saa"))
    assert not np.array_equal(trace(attacked), trace(cost))


@pytest.mark.parametrize("name", ["PowerScheduling", "Portfolio", "ProductAllocation", "Inventory"])
def test_every_environment_can_be_attacked(name):
    keywords = {**SMALL.get(name, {}), **({"carry": True} if name == "Inventory" else {})}
    calm = Scenario("x", f"shiftgym/{name}-v0", f"small-{name}", f"small-{name}", env_kwargs=keywords)
    agent = fitted("persistence", calm)
    shift = "wasserstein-ball(budget=0.2, steps=1, directions=8)"
    hurt = lost(agent, dataclasses.replace(calm, shift=shift))
    assert hurt > lost(agent, dataclasses.replace(calm, shift="wasserstein-ball(budget=0.0)")) == lost(agent, calm)


def test_a_longer_or_shorter_trace_before_the_attack(scenario):
    """A shift before the adversary may change the length; the adversary meets the agent on what it is given."""
    cut = f'splice(trace="{scenario.test}", at=0.25) | wasserstein-ball(budget=0.2, steps=1, directions=4)'
    agent = fitted("persistence", scenario)
    half = dataclasses.replace(scenario, test=scenario.test.replace("[0.5:]", "[0.2:]"), shift=cut)
    assert lost(agent, half) > 0


# ---------------------------------------------------------------------- from a run
def test_a_run_attacks_every_agent_on_its_own(scenario, tmp_path):
    shifts = {
        "calm": "",
        "ball": "wasserstein-ball(budget=0.4, steps=1, directions=8)",
        "twice": "scale(factor=1.2) | wasserstein-ball(budget=0.4, steps=1, directions=8)",
    }
    scenarios = tuple(dataclasses.replace(scenario, name=name, shift=shift) for name, shift in shifts.items())
    network = {"epochs": 1, "hidden": (8, 8)}
    agents = (AgentSpec("oracle"), AgentSpec("persistence"), AgentSpec("bandit", network), AgentSpec("dfl", network))
    run = execute(Suite("attacked", scenarios, agents, seeds=(0,)), tmp_path).run
    regret = run.results.pivot(index="agent", columns="scenario", values="regret")
    assert regret.loc["oracle"].abs().max() < 1e-9
    assert (regret["ball"] > regret["calm"])[["persistence", "bandit", "dfl"]].all()
    assert (regret["twice"] > 0)[["persistence", "bandit", "dfl"]].all()
    moved = run.results.pivot(index="agent", columns="scenario", values="wasserstein")
    assert moved["ball"].nunique() == 4  # everyone is attacked in their own way, the oracle not at all
    assert moved["calm"].nunique() == 1
    assert moved.loc["oracle", "ball"] == moved.loc["oracle", "calm"]


def test_a_sweep_of_the_budget_hurts_more_and_more(scenario):
    agent = fitted("persistence", scenario)
    text = "wasserstein-ball(budget=0.4, steps=1, severity={})"
    found = [lost(agent, dataclasses.replace(scenario, shift=text.format(level))) for level in (0.0, 0.5, 1.0, 2.0)]
    assert found[0] == lost(agent, scenario)
    assert found == sorted(found)


def test_the_diffusion_attacks_from_a_scenario(scenario, monkeypatch):
    monkeypatch.setattr("shiftgym.agents.worst_blocks._STEPS", 20)
    agent = fitted("persistence", scenario)
    drawn = dataclasses.replace(scenario, shift="worst-case-diffusion(block=14, rounds=1)")
    trace = TestBench.make(drawn, 0, agent).env.task.trace
    again = TestBench.make(drawn, 0, agent).env.task.trace
    calm = TestBench.make(drawn, 0).env.task.trace
    whole = len(trace) // 14 * 14
    assert np.array_equal(trace.outcome, again.outcome)
    assert (trace.outcome[:whole] != calm.outcome[:whole]).any(axis=1).mean() > 0.9
    assert np.array_equal(trace.outcome[whole:], calm.outcome[whole:])
    assert trace.outcome.min() >= 0


@pytest.mark.parametrize("name", ["wasserstein-ball", "worst-case-diffusion"])
def test_without_an_agent_an_attack_says_what_it_needs(name, scenario):
    import gymnasium

    with pytest.raises(ShiftError, match=f"'{name}' needs an agent .* shiftgym run"):
        gymnasium.make(scenario.env, trace=scenario.test, shift=f"gaussian(scale=0.1) | {name}")
    calm = TestBench.make(dataclasses.replace(scenario, shift=name), 0).env.task.trace  # set up, for a first look
    assert np.array_equal(calm.outcome, TestBench.make(scenario, 0).env.task.trace.outcome)
