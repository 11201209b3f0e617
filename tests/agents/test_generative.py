"""Generative agents: what they draw, what each training stage keeps, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shiftgym.agents import agent_class, list_agents, load_agent, make_agent
from shiftgym.agents.diffusion import Diffusion
from shiftgym.agents.generative import Generative, score_weights
from shiftgym.agents.learner import scenario_loss
from shiftgym.agents.predictors import Gaussian, noise
from shiftgym.agents.trained import Samples
from shiftgym.data import ShiftgymError, UnknownNameError
from shiftgym.solvers import Inventory, PowerScheduling
from tests.worlds import BUDGETS, demand, make

NAMES = [name for name in list_agents() if issubclass(agent_class(name), Generative)]
FOCUSED = [name for name in NAMES if not name.startswith("two-stage")]
FORMS: list[tuple[str, dict[str, Any]]] = [
    ("two-stage-gaussian", {}),
    ("two-stage-diffusion", {"around": "forecast"}),
    ("two-stage-diffusion", {"around": "mean"}),
]


def fitted(name: str, env: Any = None, **parameters: Any) -> Any:
    return make_agent(name, **{**BUDGETS[name], **parameters}).fit(make("Inventory") if env is None else env)


def held_out(agent: Any, env: Any) -> Samples:
    """The decision points that the agent held out, as its training sees them."""
    observations, outcomes = env.unwrapped.task.dataset()
    count = len(outcomes) - int(len(outcomes) * agent.validation)
    x = torch.as_tensor(observations[count:])
    state = agent.layout_.state(x)
    return Samples(x, torch.as_tensor(outcomes[count:]), None if state is None else state.double())


# ------------------------------------------------------------------------------------------------------ calibration
@pytest.mark.parametrize("around", ["forecast", "mean"])
def test_a_diffusion_has_the_modes_that_a_gaussian_has_not(around: str) -> None:
    """Demands near 5.5 and 14.5: after a short training few draws fall between, and half on either side."""
    env = make("Inventory", trace=demand(500), lookback=1)
    budget = {"epochs": 40, "hidden": (48, 48), "learning_rate": 6e-3, "samples": 300, "averaged": 0.95}
    agent = make_agent("two-stage-diffusion", **budget, around=around, steps=100).fit(env)
    gaussian = make_agent("two-stage-gaussian", **{**budget, "epochs": 15}).fit(env)
    observations, outcomes = env.unwrapped.task.dataset()
    drawn, bell = (one.scenarios(observations[:5])[..., 0] for one in (agent, gaussian))
    assert ((bell > 7) & (bell < 13)).mean() > 0.3
    assert ((drawn > 7) & (drawn < 13)).mean() < 0.15
    assert (drawn < 10).mean(1) == pytest.approx((outcomes < 10).mean(), abs=0.15)
    levels = np.array([0.1, 0.25, 0.75, 0.9])
    assert np.quantile(drawn, levels) == pytest.approx(np.quantile(outcomes, levels), abs=1.0)


# ------------------------------------------------------------------------------------------- with and without context
@pytest.mark.parametrize("keywords", [{}, {"carry": True}])
@pytest.mark.parametrize("name", NAMES)
def test_without_a_context_only_a_state_tells_decisions_apart(name: str, keywords: dict[str, Any]) -> None:
    env = make("Inventory", **keywords)
    agent = fitted(name, env, conditional=False)
    observations = env.unwrapped.task.dataset()[0]
    scenarios, decisions = agent.scenarios(observations), agent.act(observations)
    assert scenarios.shape[:2] == (len(observations), agent.samples)
    np.testing.assert_allclose(scenarios, np.broadcast_to(scenarios[:1], scenarios.shape), rtol=1e-6)
    assert (np.ptp(decisions) > 1e-3) == bool(keywords)
    if not keywords:
        np.testing.assert_array_equal(decisions[0], agent.act(observations[:1])[0])


def test_one_set_of_samples_for_all_outcomes_has_the_gradients_of_as_many_sets_that_are_equal() -> None:
    problem = Inventory()
    generator = torch.Generator().manual_seed(0)
    scenarios = 8 + 2 * torch.randn(1, 30, 1, generator=generator, dtype=torch.float64)
    outcomes = 8 + 2 * torch.randn(5, 1, generator=generator, dtype=torch.float64)
    shared, each = scenarios.clone().requires_grad_(), scenarios.clone().requires_grad_()
    once = scenario_loss(problem, shared, outcomes, None)
    often = scenario_loss(problem, each.expand(5, -1, -1), outcomes, None)
    once.backward()
    often.backward()
    torch.testing.assert_close(once, often, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(shared.grad, each.grad, rtol=1e-9, atol=1e-12)
    weights = score_weights(problem, scenarios, outcomes, None)
    single = score_weights(problem, scenarios.expand(5, -1, -1), outcomes, None)
    torch.testing.assert_close(weights[0], single.sum(0), rtol=1e-9, atol=1e-9)


def test_samples_and_their_likelihood_leave_out_the_same_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its own samples a Gaussian finds standard normal noise, with dropout too: they are of one distribution."""
    agent = fitted("dfl-gaussian-score", dropout=0.5, focus_rate=0.0, train_samples=400)
    samples, seen = held_out(agent, make("Inventory")), []
    likelihood = Gaussian.log_likelihood

    def noted(self: Gaussian, observations: Any, outcomes: Any, generator: Any) -> Any:
        with torch.random.fork_rng([]):
            mean, log_sigma = self.parameters_of(observations)
        seen.append((outcomes - mean[:, None]) * torch.exp(-log_sigma)[:, None])
        return likelihood(self, observations, outcomes, generator)

    monkeypatch.setattr(Gaussian, "log_likelihood", noted)
    agent.network_.train()
    agent._through_likelihood(samples)
    assert seen[0].mean(1).abs().max() < 5 / 20
    assert (seen[0].std(1) - 1).abs().max() < 5 / 28


def test_dropout_is_for_training_and_of_the_seed() -> None:
    before = torch.get_rng_state()
    one, two, other, none = (
        fitted("two-stage-gaussian", dropout=share, seed=seed).act(make("Inventory").unwrapped.task.dataset()[0])
        for share, seed in ((0.3, 0), (0.3, 0), (0.3, 1), (0.0, 0))
    )
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 1e-3
    assert np.abs(one - none).max() > 1e-3
    torch.testing.assert_close(torch.get_rng_state(), before)
    agent = fitted("two-stage-gaussian", dropout=0.3)
    observations = make("Inventory").unwrapped.task.dataset()[0]
    np.testing.assert_array_equal(agent.act(observations), agent.act(observations))


# ------------------------------------------------------------------------------------------------ what stages keep
@pytest.mark.parametrize("name", FOCUSED)
def test_a_second_stage_that_learns_nothing_leaves_the_first(name: str) -> None:
    parent = "two-stage-diffusion" if "diffusion" in name else "two-stage-gaussian"
    env = make("Inventory")
    observations = env.unwrapped.task.dataset()[0]
    idle, first = fitted(name, env, focus_rate=0.0), fitted(parent, env)
    np.testing.assert_allclose(idle.act(observations), first.act(observations), rtol=1e-5)


def focus_losses(agent: Any) -> list[float]:
    assert all(epoch.decision_cost == (epoch.stage == "focus") for epoch in agent.history_)
    return [epoch.loss for epoch in agent.history_ if epoch.stage == "focus"]


@pytest.mark.parametrize("name", FOCUSED)
@pytest.mark.parametrize("guard", [0.0, 0.05])
def test_epochs_beyond_the_guard_are_not_kept(name: str, guard: float) -> None:
    """With steps far too large every epoch spoils the likelihood: what is kept respects the limit."""
    env = make("Inventory")
    agent = fitted(name, env, guard=guard, focus_rate=0.3, focus_epochs=3, regulariser=0.0, averaged=0.5)
    first = fitted("two-stage-diffusion" if "diffusion" in name else "two-stage-gaussian", env, averaged=0.5)
    judged = held_out(agent, env)
    before, after = (float(one._repeatable(one._likelihood_loss, judged).detach()) for one in (first, agent))
    assert after <= before + guard * abs(before) + 1e-5
    losses = focus_losses(agent)
    assert len(losses) == 1 + 3  # where the stage began, and its epochs
    assert np.isinf(losses).any()


def test_without_a_guard_the_cheapest_epoch_is_kept() -> None:
    env = make("Inventory")
    agent = fitted("dfl-gaussian-reparam", env, guard=1e9, focus_rate=0.02, focus_epochs=6, averaged=0.5)
    kept = float(agent._held_cost(held_out(agent, env)).detach())
    first = fitted("two-stage-gaussian", env, averaged=0.5)
    before = float(first._held_cost(held_out(first, env)).detach())
    losses = focus_losses(agent)
    assert losses[0] == pytest.approx(before, rel=1e-5)
    assert kept == pytest.approx(min(losses), rel=1e-5)
    assert len(set(losses)) > 2


@pytest.mark.parametrize("name", NAMES)
def test_nothing_held_out_keeps_the_last_epoch(name: str) -> None:
    agent = fitted(name, validation=0.0)
    assert agent.history_ == []
    assert np.isfinite(agent.act(make("Inventory").unwrapped.task.dataset()[0])).all()


@pytest.mark.parametrize("name", ["dfl-gaussian-reparam", "dfl-gaussian-score"])
def test_the_second_stage_lowers_the_cost_that_it_follows(name: str) -> None:
    """From a forecast that is far from trained, on the training trace itself, with dear shortages."""
    env = make("Inventory", shortage=12.0)
    budget = {"epochs": 1, "hidden": (16, 16), "validation": 0.0, "samples": 50, "averaged": 0.0, "learning_rate": 1e-5}
    agents = (
        make_agent("two-stage-gaussian", **budget).fit(env),
        make_agent(name, **budget, focus_epochs=30, focus_rate=3e-3, regulariser=0.0).fit(env),
    )
    task = env.unwrapped.task
    observations, outcomes = task.dataset()
    before, after = (task.problem.cost(outcomes, agent.act(observations)).mean() for agent in agents)
    assert after < before - 1e-3 * abs(before)


# ---------------------------------------------------------------------------------------------- estimators on states
def test_weights_know_the_stock() -> None:
    """With stock s, scenarios and outcome are net demands: the same weights as for the demand y - s without stock."""
    carry, plain = Inventory(carry=True), Inventory()
    generator = torch.Generator().manual_seed(0)
    y = 8 + 2 * torch.randn(6, 12, 1, generator=generator, dtype=torch.float64)
    outcomes = 8 + 2 * torch.randn(6, 1, generator=generator, dtype=torch.float64)
    stock = torch.rand(6, 1, generator=generator, dtype=torch.float64) * 4
    found = score_weights(carry, y, outcomes, stock)
    torch.testing.assert_close(found, score_weights(plain, y - stock[:, None], outcomes - stock, None))
    assert (found - score_weights(carry, y, outcomes, torch.zeros(6, 1).double())).abs().max() > 1e-3


class Half(PowerScheduling):
    """1/2 |z - y|^2 for outcomes that cannot be negative."""

    outcome_low = 0.0


def test_estimators_agree_where_outcomes_are_cut_off() -> None:
    """Half the samples fall below the smallest outcome: the score is that of the sample as it was drawn."""
    agent = fitted("dfl-gaussian-score", train_samples=20)
    agent.problem_ = Half(hours=2, shortage=0.0, excess=0.0, ramp=1e6)
    torch.manual_seed(0)
    encoder = agent.network_.encoder if hasattr(agent.network_, "encoder") else agent.network_.network.encoder
    agent.network_ = Gaussian(encoder, (4,), 2)
    agent.level_, agent.scale_ = torch.zeros(2), torch.ones(2)
    x = torch.zeros(4000, agent.layout_.size)
    samples = Samples(x, torch.tensor([[2.0, 0.5]]).double().expand(4000, -1), None)
    found = []
    for follow in (agent._through_samples, agent._through_likelihood):
        agent._generator = torch.Generator().manual_seed(0)
        (gradient,) = torch.autograd.grad(follow(samples), agent.network_.network.body[-1].bias)
        found.append(gradient)
    cut = agent._draw(x, 20, torch.Generator().manual_seed(0)) == 0
    assert 0.2 < cut.double().mean() < 0.8
    torch.testing.assert_close(found[1][:2], found[0][:2], rtol=0.1, atol=0.02)  # of the means


def test_a_state_reaches_the_loss() -> None:
    """Costs of decisions from a stock: through samples and by the score, in the environment that keeps stock."""
    env = make("Inventory", carry=True)
    for name in ("dfl-gaussian-reparam", "dfl-gaussian-score"):
        agent = fitted(name, env)
        judged = held_out(agent, env)
        agent._generator = torch.Generator().manual_seed(0)
        full = Samples(judged.observations, judged.outcomes, judged.state + 3.0)
        losses = []
        for samples in (judged, full):
            agent._generator = torch.Generator().manual_seed(0)
            losses.append(float(agent._focused_loss(samples).detach()))
        assert losses[0] != losses[1]
    scenarios = torch.full((1, 3, 1), 9.0).double()
    stock = torch.tensor([[4.0]]).double()
    value = scenario_loss(env.unwrapped.task.problem, scenarios, torch.tensor([[9.0]]).double(), stock)
    assert float(value) == pytest.approx(float(Inventory().cost(np.array([5.0]), np.array([5.0]))))


# ----------------------------------------------------------------------------------------------- deciding, afterwards
def test_noise_is_drawn_where_its_generator_lives() -> None:
    """A seed means the same on every device: the noise is drawn on the CPU and moved."""
    like = torch.empty(0, device="meta")
    drawn = noise((2, 3, 4), False, like, torch.Generator().manual_seed(0))
    assert drawn.device == like.device
    common = noise((2, 3, 4), True, torch.empty(0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(common[0], common[1])
    torch.testing.assert_close(common[:1], noise((1, 3, 4), False, torch.empty(0), torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(("name", "parameters"), FORMS)
def test_samples_can_be_changed_after_the_fit(name: str, parameters: dict[str, Any], tmp_path: Path) -> None:
    agent = fitted(name, **parameters)
    observations = make("Inventory").unwrapped.task.dataset()[0][:4]
    for samples in (1, 3, 40):
        agent.samples = samples
        scenarios = agent.scenarios(observations)
        assert scenarios.shape == (4, samples, 1)
        assert np.isfinite(agent.act(observations)).all()
    agent.save(tmp_path)
    loaded: Any = load_agent(tmp_path)
    assert loaded.samples == 40
    np.testing.assert_array_equal(loaded.scenarios(observations), scenarios)
    np.testing.assert_array_equal(loaded.act(observations), agent.act(observations))


@pytest.mark.parametrize(("name", "parameters"), FORMS)
def test_a_context_s_scenarios_do_not_depend_on_its_batch(name: str, parameters: dict[str, Any]) -> None:
    agent = fitted(name, **parameters)
    observations = make("Inventory").unwrapped.task.dataset()[0][:9]
    together = agent.scenarios(observations)
    np.testing.assert_array_equal(together, agent.scenarios(observations))
    np.testing.assert_allclose(agent.scenarios(observations[4:6]), together[4:6], rtol=1e-4)


def test_chains_can_be_shortened_after_the_fit() -> None:
    """The same draws of noise through fewer steps end near the same outcomes."""
    agent = fitted("two-stage-diffusion", steps=200, sampling_steps=100, samples=50, epochs=10, around="mean")
    model = agent.network_
    assert isinstance(model, Diffusion)
    observations = make("Inventory").unwrapped.task.dataset()[0][:3]
    full = agent.scenarios(observations)
    model.sampling_steps = 20
    short = agent.scenarios(observations)
    assert np.abs(short - full).mean() < 0.1 * full.std()
    assert np.abs(short - full).max() > 0


# ---------------------------------------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"train_samples": 0}, "train_samples is 0"),
        ({"focus_epochs": 0}, "focus_epochs is 0"),
        ({"focus_rate": -1e-4}, "focus_rate is -0.0001: give a number that is not negative"),
        ({"regulariser": -1.0}, "regulariser is -1.0"),
        ({"guard": -0.1}, "guard is -0.1"),
        ({"averaged": 1.0}, r"averaged is 1.0: give a share in \[0, 1\)"),
        ({"averaged": -0.1}, "averaged is -0.1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ShiftgymError, match=message):
        make_agent("diffusion-dfl-score", **parameters)


def test_a_diffusion_that_cannot_be_built() -> None:
    with pytest.raises(ShiftgymError, match="sampling_steps is 30: give 1 to 20"):
        fitted("two-stage-diffusion", sampling_steps=30)
    with pytest.raises(UnknownNameError, match="unknown schedule 'sine'"):
        fitted("two-stage-diffusion", schedule="sine")
    with pytest.raises(UnknownNameError, match="unknown around 'median'"):
        make_agent("two-stage-diffusion", around="median")
