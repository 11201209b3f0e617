"""3D-Learning: its reverse chain and policy gradients against closed forms, its adversary on toys, and the agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shiftgym.agents import load_agent, make_agent
from shiftgym.agents.diffusion import Diffusion
from shiftgym.agents.joint import Joint
from shiftgym.agents.learner import OBJECTIVES
from shiftgym.agents.networks import Standardised
from shiftgym.agents.trained import Samples, kept_generator
from shiftgym.agents.worst_case import GRADIENTS, Adversary, ReverseChain, Trajectories, WorstCase
from shiftgym.data import ShiftgymError
from shiftgym.envs.task import Layout
from tests.worlds import BUDGETS, make

LAYOUT = Layout(lookback=3, columns=1, context=0, previous=0, naive=(2,))
SMALL: dict[str, Any] = {
    "diffusion_steps": 40,
    "sampling_steps": 10,
    "tuned_steps": 4,
    "denoiser": (16,),
    "reference_epochs": 2,
    "inner_epochs": 5,
    "adversary_rate": 3e-3,
}
#: Correlations of a path of four slots, three seen and one to come.
LAW = 0.8 ** (torch.arange(4.0)[:, None] - torch.arange(4.0)).abs()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def toy(count: int = 256, seed: int = 0, batch_size: int = 64, **settings: Any) -> WorstCase:
    """An adversary of Gaussian paths about 5 with standard deviation 2 and correlations 0.8 from slot to slot."""
    x = 5 + 2 * torch.randn((count, 4), generator=seeded()) @ torch.linalg.cholesky(LAW).T
    samples = Samples(x[:, :3], x[:, 3:].double(), None)
    joint = Joint.of(samples, LAYOUT, make("ProductAllocation").unwrapped.task.problem)
    adversary = Adversary(**{**SMALL, **settings})
    adversary.check_adversary()
    with kept_generator(x):
        torch.manual_seed(seed)
        return WorstCase(samples, joint, LAYOUT, adversary, batch_size, seed)


def high_outcome(samples: Samples) -> Tensor:
    return samples.outcomes[:, 0]


class Known(Diffusion):
    """A denoiser whose clean rows (..., width) follow from states (..., width), signals (..., 1) and steps (...)."""

    def __init__(self, width: int, row: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        about = {"steps": 40, "schedule": "cosine", "sampling_steps": 10, "eta": 1.0, "timesteps": 1}
        super().__init__(Standardised(torch.zeros(1), torch.ones(1)), (4,), width, **about)  # type: ignore[arg-type]
        self.row = row
        self.double()

    def context(self, observations: Tensor) -> Tensor:
        return observations

    def velocity(self, context: Tensor, noisy: Tensor, step: Tensor) -> Tensor:
        signal = self.signal[step][..., None]
        return (signal.sqrt() * noisy - self.row(noisy, signal, step)) / (1 - signal).sqrt()


def within(estimates: list[Tensor], truth: Tensor, share: float) -> None:
    """Independent estimates agree with the truth within 4 standard errors, which are a small share of it."""
    found = torch.stack(estimates)
    error = found.std(0) / len(found) ** 0.5
    assert (error < share * truth.abs().max()).all()
    assert ((found.mean(0) - truth).abs() < 4 * error).all(), (found.mean(0), truth, error)


# ---------------------------------------------------------------------- the policy gradient
def test_the_clipped_gradient_is_the_policy_gradient_where_trajectories_were_drawn() -> None:
    slopes = []
    for gradient in GRADIENTS:
        case = toy(gradient=gradient)
        path = case.chain.finish(case.model, case.known, case.begun, seeded())
        log_ratio = case.chain.log_ratio(case.model, case.known, path)
        assert log_ratio.abs().max() < 1e-4
        case.surrogate(log_ratio, torch.randn(len(log_ratio), generator=seeded(1))).mean().backward()  # type: ignore[no-untyped-call]
        parameters = [weight for weight in case.model.parameters() if weight.grad is not None]
        slopes.append(torch.cat([weight.grad.flatten() for weight in parameters if weight.grad is not None]))
    assert slopes[0].norm() > 1e-3
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-4 * float(slopes[0].norm()))


@pytest.mark.parametrize("clip", [0.2, 0.4])
def test_clipping_ends_the_gain_but_not_the_way_back(clip: float) -> None:
    case = toy(clip=clip)
    ratio = torch.tensor([0.5, 1 - clip + 0.01, 1.0, 1 + clip - 0.01, 1.6])
    for advantage, moves in ((2.0, [1, 1, 1, 1, 0]), (-2.0, [0, 1, 1, 1, 1])):
        log_ratio = ratio.log().requires_grad_()
        gain = case.surrogate(log_ratio, torch.full_like(ratio, advantage))
        gain.sum().backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(log_ratio.grad, torch.tensor(moves) * ratio * advantage)
        assert (gain <= ratio * advantage + 1e-6).all()  # a lower bound of what it stands for
    certain = case.surrogate(torch.tensor([1e4, -1e4]), torch.tensor([-1.0, -1.0]))
    assert certain.isfinite().all()


def test_the_policy_gradient_is_that_of_the_expected_loss() -> None:
    """Every step draws towards theta, the last one, without noise, keeps what there is: means are linear in theta."""
    theta = torch.tensor([0.4, -0.7], dtype=torch.float64, requires_grad=True)
    last = Known(2, lambda state, signal, step: state).places()[-1]

    def row(state: Tensor, signal: Tensor, step: Tensor) -> Tensor:
        return torch.where((step == last)[..., None], state / signal.sqrt(), theta.expand(state.shape))

    model, case = Known(2, row), toy(gradient="vanilla")
    chain, generator = ReverseChain(model, 4, 0.1), seeded()
    known = torch.zeros((5000, 1), dtype=torch.float64)
    begun = chain.begin(model, known, 2, generator)

    mean, slope = begun, torch.zeros(2, dtype=torch.float64)
    for step in range(chain.first, len(chain.now)):
        signal, target, posterior = chain.signal[step], chain.target[step], chain.posterior[step]
        keep = ((1 - target - posterior) / (1 - signal)).sqrt()
        pull = target.sqrt() - keep * signal.sqrt()
        mean, slope = pull * theta.detach() + keep * mean, pull + keep * slope
    scale = model.signal[last].rsqrt()  # loss x_1^2 + 3 x_2, of which noise changes the value, not the slope
    truth = torch.stack((2 * scale**2 * mean[:, 0].mean() * slope[0], 3 * scale * slope[1]))

    found = []
    for _ in range(30):
        path = chain.finish(model, known, begun, generator)
        loss = path.rows[:, 0] ** 2 + 3 * path.rows[:, 1]
        gain = case.surrogate(chain.log_ratio(model, known, path), (loss - loss.mean()).detach()).mean()
        found.append(torch.autograd.grad(gain, theta)[0])
    within(found, truth, 0.02)


def test_ratios_are_those_of_gaussian_densities() -> None:
    case = toy()
    other = toy(seed=1).model
    path: Trajectories = case.chain.finish(case.model, case.known, case.begun, seeded())
    expected = torch.zeros(len(case.known))
    with torch.no_grad():
        for index, step in enumerate(range(case.chain.first, len(case.chain.now))):
            at = torch.full((1,), step)
            for sign, model in ((1, other), (-1, case.model)):
                mean = case.chain.mean(model, model.context(case.known), path.before[index], at)
                law = torch.distributions.Normal(mean, case.chain.variance[step].sqrt())
                expected += sign * law.log_prob(path.after[index]).sum(-1)  # type: ignore[no-untyped-call]
        found = case.chain.log_ratio(other, case.known, path)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    some = torch.tensor([5, 3])
    torch.testing.assert_close(case.chain.log_ratio(other, case.known[some], path.pick(some)), found[some])


# ---------------------------------------------------------------------- the divergence
def linear(covariance: Tensor) -> Known:
    """The best denoiser of N(0, covariance): x_0 = sqrt(s) C (s C + (1 - s) I)^-1 x_t."""
    size, axes = torch.linalg.eigh(covariance)

    def row(state: Tensor, signal: Tensor, step: Tensor) -> Tensor:
        return (state @ axes * (signal.sqrt() * size / (signal * size + 1 - signal))) @ axes.T

    return Known(len(covariance), row)


@pytest.mark.parametrize("variance", [0.0, 0.1])
def test_the_divergence_is_that_of_gaussians(variance: float) -> None:
    """As the reference is the best denoiser, sum_t E ||mu_theta(x_t) - mu_ref(x_t)||^2 / (2 sigma_t^2) over x_t."""
    eye, law = torch.eye(4, dtype=torch.float64), LAW.double()
    reference, model = linear(law), linear(0.5 * eye)
    chain, generator = ReverseChain(reference, 5, variance), seeded()
    truth = torch.zeros((), dtype=torch.float64)
    for step in range(chain.first, len(chain.now)):
        signal, at = chain.signal[step], torch.full((4,), step)
        apart = [chain.mean(each, eye[:, :1], eye, at) for each in (model, reference)]
        difference = (apart[0] - apart[1]).T
        spread = signal * law + (1 - signal) * eye
        truth += (difference @ spread @ difference.T).trace() / (2 * chain.variance[step])

    def estimate(of: Diffusion) -> Tensor:
        rows = torch.randn((2000, 4), generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(law).T
        return chain.divergence(of, reference, rows, rows[:, :1], generator)

    within([estimate(model) for _ in range(40)], truth, 0.05)
    assert estimate(reference) == 0


def test_a_chain_ends_with_its_last_steps() -> None:
    model = linear(torch.eye(2, dtype=torch.float64))
    places = model.places()
    for tuned in (1, 4, len(places) - 1):
        chain = ReverseChain(model, tuned, 0.07)
        known = torch.zeros((3, 1), dtype=torch.float64)
        path = chain.finish(model, known, chain.begin(model, known, 2, seeded()), seeded())
        assert path.before.shape == path.after.shape == path.mean.shape == (tuned, 3, 2)
        torch.testing.assert_close(path.before[1:], path.after[:-1])
        assert chain.variance[chain.first :].min() >= 0.07
        torch.testing.assert_close(chain.variance[: chain.first], chain.posterior[: chain.first])
    with pytest.raises(ShiftgymError, match="tuned_steps is 10, but the reverse chain has 9 steps"):
        ReverseChain(model, 10, 0.1)


# ---------------------------------------------------------------------- the reference
@pytest.fixture(scope="module")
def learned() -> WorstCase:
    """A chain of many steps, for one of few loses some of the spread."""
    about = {"denoiser": (64, 64), "reference_epochs": 120, "reference_rate": 3e-3, "variance": 0.0}
    return toy(1000, batch_size=250, **about, diffusion_steps=100, sampling_steps=100)


def test_the_reference_learns_the_law(learned: WorstCase) -> None:
    drawn = learned.draw()
    x = torch.cat((drawn.observations, drawn.outcomes.float()), 1)
    torch.testing.assert_close(x.mean(0), torch.full((4,), 5.0), atol=0.3, rtol=0)
    torch.testing.assert_close(x.std(0), torch.full((4,), 2.0), atol=0.3, rtol=0)
    torch.testing.assert_close(torch.corrcoef(x.T), LAW, atol=0.12, rtol=0)


def test_the_least_variance_adds_up(learned: WorstCase) -> None:
    """At the end of a chain a step hardly takes back what the one before added."""
    rough, smooth = (
        ReverseChain(learned.reference, 4, variance)
        .finish(learned.reference, learned.known, learned.begun, seeded())
        .rows.var(0)
        .mean()
        for variance in (0.1, 0.0)
    )
    assert float(rough - smooth) == pytest.approx(4 * 0.1, abs=0.1)


# ---------------------------------------------------------------------- the maximisation
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_worst_case_hurts_more_the_more_may_be_spent(gradient: str) -> None:
    """Outcomes are high in it: with a price on the divergence by less than for nothing."""
    losses = {}
    for price in (0.0, 30.0):
        case = toy(gradient=gradient, multiplier=price, dual_rate=0.0, inner_epochs=15)
        losses[price] = case.maximise(high_outcome)
        drawn = case.draw()
        assert drawn.outcomes.mean() == pytest.approx(losses[price].loss, abs=0.4)
        assert drawn.observations.shape == (256, 3)
    assert losses[0.0].loss > losses[0.0].reference_loss + 1.5
    assert losses[30.0].loss < losses[0.0].loss - 1.0
    assert losses[30.0].divergence < 0.5 * losses[0.0].divergence


def test_the_losses_may_be_of_any_level_and_scale() -> None:
    draws = []
    for factor, offset in ((1.0, 0.0), (64.0, -256.0)):
        case = toy()
        case.maximise(lambda samples, by=factor, plus=offset: by * high_outcome(samples) + plus)  # type: ignore[misc]
        draws.append(case.draw().outcomes)
    torch.testing.assert_close(*draws, atol=1e-2, rtol=1e-3)


def test_losses_that_are_all_alike_move_nothing_far() -> None:
    case = toy(reference_epochs=20)
    found = case.maximise(lambda samples: torch.ones(len(samples)))
    assert found.loss == found.reference_loss == 1.0
    assert found.divergence < 0.1  # it may explain the samples better than the reference, not worse
    assert case.draw().outcomes.isfinite().all()


def test_the_price_follows_the_divergence() -> None:
    case = toy(inner_epochs=1, dual_rate=0.5, budget=0.2)
    before = case.multiplier
    for _ in range(4):
        found = case.maximise(high_outcome)
        assert found.multiplier == pytest.approx(max(before + 0.5 * (found.divergence - 0.2), 0.0))
        before = found.multiplier


def test_the_price_rises_over_budget_and_falls_below_it_to_nothing() -> None:
    far = toy(adversary_rate=0.0, budget=0.0, dual_rate=0.1)
    with torch.no_grad():
        for weight in far.model.parameters():
            weight.mul_(1.5)
    prices = [far.multiplier] + [far.maximise(high_outcome).multiplier for _ in range(3)]
    assert prices == sorted(prices)
    assert prices[-1] > prices[0]
    near = toy(adversary_rate=0.0, budget=5.0, dual_rate=0.1, inner_epochs=1)
    prices = [near.maximise(high_outcome).multiplier for _ in range(4)]
    assert prices == pytest.approx([0.5, 0.0, 0.0, 0.0])


def test_without_a_maximisation_it_is_the_reference() -> None:
    case = toy(inner_epochs=0)
    case.maximise(high_outcome)
    weights = zip(case.model.parameters(), case.reference.parameters(), strict=True)
    assert all(torch.equal(own, of_reference) for own, of_reference in weights)
    assert case.multiplier == case.settings.multiplier


def test_the_reference_stays_and_so_do_the_states_that_chains_start_from() -> None:
    case = toy()
    kept = [weight.clone() for weight in case.reference.parameters()], case.begun.clone()
    case.maximise(high_outcome)
    assert all(torch.equal(now, then) for now, then in zip(case.reference.parameters(), kept[0], strict=True))
    assert torch.equal(case.begun, kept[1])
    assert any(
        not torch.equal(now, then)
        for now, then in zip(case.model.parameters(), case.reference.parameters(), strict=True)
    )


def test_a_seed_gives_the_same_worst_case() -> None:
    found = []
    for seed in (0, 0, 1):
        case = toy(seed=seed)
        found.append((case.maximise(high_outcome), case.draw().outcomes))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][1], found[2][1])


# ---------------------------------------------------------------------- the agent
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_fit_tells_what_its_adversary_did(objective: str, gradient: str) -> None:
    env = make("Provisioning", lookback=4)
    settings = {**BUDGETS["three-d"], "objective": objective, "gradient": gradient, "epochs": 3, "persistence": 0.5}
    agent: Any = make_agent("three-d", **settings).fit(env)
    assert len(agent.rounds_) == 3
    assert np.isfinite(agent.rounds_).all()
    count = len(env.unwrapped.task.dataset()[0])
    for drawn in (agent.reference_samples_, agent.worst_case_samples_):
        assert len(drawn) == count  # nothing is held out
        assert min(drawn.observations.min(), drawn.outcomes.min()) >= 0
    assert np.isfinite(agent.act(env.unwrapped.task.dataset()[0])).all()
    assert agent.history_ == []


def test_it_is_trained_on_what_its_adversary_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several times as many samples as there are in training, and none of these."""
    env = make("Inventory", lookback=4)
    free = {"multiplier": 0.0, "dual_rate": 0.0, "adversary_rate": 1e-2, "objective": "mse", "passes": 3, "epochs": 6}
    drawn: list[Samples] = []
    draw = WorstCase.draw
    monkeypatch.setattr(WorstCase, "draw", lambda *given: drawn.append(draw(*given)) or drawn[-1])  # type: ignore[func-returns-value]
    agent: Any = make_agent("three-d", **{**BUDGETS["three-d"], **free})
    agent.fit(env)
    count, trained = len(env.unwrapped.task.dataset()[0]), agent._worst_case()
    assert len(trained) == 3 * count
    assert torch.equal(trained.outcomes, torch.cat([each.outcomes for each in drawn[-3:]]))
    assert agent.rounds_[-1].loss > 1.2 * agent.rounds_[-1].reference_loss


def test_held_out_data_choose_the_epoch_where_they_are_asked() -> None:
    agent = make_agent("three-d", **BUDGETS["three-d"], validation=0.3).fit(make("Inventory"))
    assert [epoch.epoch for epoch in agent.history_] == [1, 2]
    assert all(epoch.decision_cost for epoch in agent.history_)


def test_a_saved_agent_decides_alike_and_a_seed_fits_alike(tmp_path: Path) -> None:
    env = make("Inventory", carry=True, lookback=3)
    observations = env.unwrapped.task.dataset()[0]
    first, again, other = (make_agent("three-d", **BUDGETS["three-d"], seed=seed).fit(env) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.act(observations), again.act(observations))
    assert np.abs(first.act(observations) - other.act(observations)).max() > 0
    first.save(tmp_path)
    loaded = load_agent(tmp_path)
    np.testing.assert_array_equal(loaded.act(observations), first.act(observations))
    assert dataclasses.asdict(loaded) == dataclasses.asdict(first)


def test_making_one_draws_nothing_from_the_generator_of_all() -> None:
    before = torch.get_rng_state()
    agents = {make_agent("three-d"), make_agent("three-d")}
    assert torch.equal(torch.get_rng_state(), before)
    assert len(agents) == 2  # two agents are not one, even with the same settings


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"budget": -0.1}, "budget is -0.1"),
        ({"variance": float("nan")}, "variance is nan"),
        ({"dual_rate": -1.0}, "dual_rate is -1.0"),
        ({"multiplier": -1.0}, "multiplier is -1.0"),
        ({"clip": 1.0}, "clip is 1.0: give a number between 0 and 1"),
        ({"gradient": "pp"}, "unknown gradient 'pp'; did you mean 'ppo'"),
        ({"objective": "regre"}, "unknown objective 'regre'; did you mean 'regret'"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"tuned_steps": 0}, "tuned_steps is 0: give a whole number of at least 1"),
        ({"tuned_steps": 2.5}, "tuned_steps is 2.5: give a whole number"),
        ({"tuned_steps": 50}, "tuned_steps is 50, but the reverse chain has 49 steps with noise"),
        ({"sampling_steps": 501}, "sampling_steps is 501: give 1 to 500"),
        ({"inner_epochs": -1}, "inner_epochs is -1"),
        ({"reference_epochs": 0}, "reference_epochs is 0"),
        ({"denoiser": ()}, "layers of the denoiser is 0"),
        ({"passes": 0}, "passes is 0"),
        ({"persistence": 1.0}, "persistence is 1.0"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_bad_settings(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ShiftgymError, match=message):
        make_agent("three-d", **parameters)
