"""The diffusion model against closed forms: schedules, chains of Gaussian data, the evidence lower bound."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shiftgym.agents import diffusion
from shiftgym.agents.diffusion import Diffusion, cumulative_signal
from shiftgym.agents.mixed_precision import PRECISIONS
from shiftgym.agents.networks import Encoder
from shiftgym.agents.predictors import Centred, Gaussian
from shiftgym.data import ShiftgymError, UnknownNameError
from shiftgym.envs.task import Layout

CONTEXT = Layout(lookback=0, columns=1, context=2, previous=0, naive=())
PARAMETERS: dict[str, Any] = {
    "steps": 1000,
    "schedule": "cosine",
    "sampling_steps": 20,
    "eta": 0.0,
    "timesteps": 10,
}
MEAN = torch.tensor([0.7, -1.2], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)


def make(outcomes: int = 2, kind: type[Diffusion] = Diffusion, seed: int = 0, **parameters: Any) -> Any:
    """A diffusion with random weights over two features."""
    torch.manual_seed(seed)
    observations = torch.randn(50, CONTEXT.size)
    return kind(Encoder(CONTEXT, observations), (16, 12), outcomes, **{**PARAMETERS, **parameters})


class GaussianData(Diffusion):
    """The best denoiser for outcomes from N(MEAN, COVARIANCE): E[noise | y_t], which is linear in y_t."""

    def velocity(self, context: Tensor, noisy: Tensor, step: Tensor) -> Tensor:
        signal = self.signal[step].to(noisy)
        eye = torch.eye(2, dtype=noisy.dtype)
        spread = signal[..., None, None] * COVARIANCE.to(noisy) + (1 - signal)[..., None, None] * eye
        centred = noisy - signal.sqrt()[..., None] * MEAN.to(noisy)
        found = (1 - signal).sqrt()[..., None] * (torch.linalg.inv(spread) @ centred[..., None])[..., 0]
        return said_of(found, noisy, signal[..., None])


def said_of(noise: Tensor, noisy: Tensor, signal: Tensor) -> Tensor:
    """What a network says that finds this noise in ``noisy``."""
    return (noise - (1 - signal).sqrt() * noisy) / signal.sqrt()


def moments(model: Diffusion, count: int = 20_000) -> tuple[Tensor, Tensor]:
    """Mean and covariance of samples, computed in float64 without gradients."""
    with torch.no_grad():
        y = model.double().sample(torch.zeros(1, 2).double(), count, torch.Generator().manual_seed(0))[0]
    return y.mean(0), y.T.cov()


# ---------------------------------------------------------------------------------------------------- the schedules
@pytest.mark.parametrize("schedule", diffusion.SCHEDULES)
@pytest.mark.parametrize("steps", [10, 100, 1000])
def test_the_signal_fades_from_almost_all_to_almost_none(schedule: str, steps: int) -> None:
    signal = cumulative_signal(schedule, steps)
    assert signal.shape == (steps,)
    assert ((signal > 0) & (signal < 1)).all()
    assert (signal.diff() < 0).all()
    assert signal[0] > (0.99 if steps >= 100 else 0.7)
    assert signal[-1] < 1e-4


def test_linear_schedule_is_that_of_ho() -> None:
    """beta from 1e-4 to 0.02 in a thousand steps: products worked out in NumPy, and the known end."""
    expected = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    np.testing.assert_allclose(cumulative_signal("linear", 1000), expected, rtol=1e-12)
    assert expected[-1] == pytest.approx(4.0358e-5, rel=1e-4)


def test_cosine_schedule_is_that_of_nichol_and_dhariwal() -> None:
    time = np.arange(1001) / 1000
    left = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(cumulative_signal("cosine", 1000)[:990], (left / left[0])[1:991], rtol=1e-9)


def test_forward_marginals() -> None:
    """What the denoiser is shown at step t has mean sqrt(alpha_bar_t) y and variance 1 - alpha_bar_t."""
    model, shown = make(outcomes=1), []
    model.velocity = lambda context, noisy, step: (shown.append(noisy), torch.zeros_like(noisy))[1]
    outcome = torch.full((1, 20_000, 1), 1.7)
    context, generator = model.context(torch.zeros(1, 2)), torch.Generator().manual_seed(0)
    for step in (0, 300, 999):
        steps = torch.full(outcome.shape[:2], step)
        model._squared_error(context[:, None], outcome, steps, torch.randn(outcome.shape, generator=generator))
        signal = float(model.signal[step])
        deviation = math.sqrt(1 - signal)
        assert float(shown[-1].mean()) == pytest.approx(math.sqrt(signal) * 1.7, abs=5 * deviation / math.sqrt(20_000))
        assert float(shown[-1].std()) == pytest.approx(deviation, rel=0.03)


# ------------------------------------------------------------------------------------------------------- the chains
@pytest.mark.parametrize("schedule", diffusion.SCHEDULES)
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("steps", "sampling_steps"), [(100, 100), (1000, 50), (1000, 20)])
def test_chains_reproduce_gaussian_data(schedule: str, eta: float, steps: int, sampling_steps: int) -> None:
    """Full chains and short ones, deterministic (DDIM) and noisy (DDPM), from the best denoiser."""
    model = make(kind=GaussianData, steps=steps, sampling_steps=sampling_steps, eta=eta, schedule=schedule)
    mean, covariance = moments(model)
    torch.testing.assert_close(mean, MEAN, atol=0.04, rtol=0)
    root = torch.linalg.inv(torch.linalg.cholesky(COVARIANCE))
    ratio = torch.linalg.eigvalsh(root @ covariance @ root.T).sqrt()  # deviations relative to those of the data
    assert (ratio - 1).abs().max() < 0.05, ratio


@pytest.mark.parametrize("schedule", diffusion.SCHEDULES)
@pytest.mark.parametrize(("steps", "sampling_steps"), [(1000, 1000), (1000, 20), (1000, 1), (100, 99), (20, 3), (1, 1)])
def test_places_of_a_chain(schedule: str, steps: int, sampling_steps: int) -> None:
    """Down to the first step without repeating one; a chain of all steps leaves none of those with a signal out."""
    model = make(steps=steps, sampling_steps=sampling_steps, schedule=schedule, timesteps=1)
    places = model.places()
    assert (np.diff(places) < 0).all()
    assert places[-1] == 0 or sampling_steps == 1
    start = places[0]
    assert start + 1 == steps or model.signal[start + 1] < 1e-3
    assert len(places) == min(sampling_steps, start + 1)


def test_a_chain_stays_finite_when_the_denoiser_exaggerates() -> None:
    """Every outcome that it believes in is limited, and the noise beside it is what is left, so nothing grows."""
    model = make(sampling_steps=300)
    model.velocity = lambda context, noisy, step: said_of(1.5 * noisy, noisy, model.signal[step][..., None])
    samples = model.sample(torch.zeros(2, 2), 50, torch.Generator().manual_seed(0))
    assert torch.isfinite(samples).all()
    assert samples.abs().max() <= 10


def test_a_context_s_samples_do_not_depend_on_its_batch() -> None:
    """Common random numbers: alone, in a batch, and in another order."""
    for eta in (0.0, 1.0):
        model, contexts = make(eta=eta), torch.randn(5, 2)
        with torch.no_grad():
            together = model.sample(contexts, 7, torch.Generator().manual_seed(3), common=True)
            for rows in ([2], [4, 0], [3, 2, 1]):
                part = model.sample(contexts[rows], 7, torch.Generator().manual_seed(3), common=True)
                torch.testing.assert_close(part, together[rows], rtol=1e-4, atol=1e-5)


def test_seeds_and_noise() -> None:
    """The same seed gives the same samples; without common noise two equal contexts differ, with it they do not."""
    model, twins = make(), torch.zeros(2, 2)
    one, same, other = (model.sample(twins, 5, torch.Generator().manual_seed(seed)).detach() for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])
    common = model.sample(twins, 5, torch.Generator().manual_seed(0), common=True)
    torch.testing.assert_close(common[0], common[1])


# --------------------------------------------------------------------------------------- the evidence lower bound
@pytest.mark.parametrize("schedule", diffusion.SCHEDULES)
def test_weights_of_the_bound(schedule: str) -> None:
    """KL(q(y_{t-1} | y_t, y_0) || p(y_{t-1} | y_t)) from the two Gaussians themselves (Ho et al., 2020, eq. 5 to 8).

    It is quadratic in the error of the denoiser; with sigma_t^2 = beta_t the factor is the weight.
    """
    model = make(schedule=schedule, steps=50, sampling_steps=5)
    signal = cumulative_signal(schedule, 50).numpy()
    for t in (1, 7, 30, 48):
        now, before = signal[t], signal[t - 1]
        beta = 1 - now / before
        y0, noise, error = 0.4, -0.9, 0.3
        yt = math.sqrt(now) * y0 + math.sqrt(1 - now) * noise
        posterior = math.sqrt(before) * beta / (1 - now) * y0 + math.sqrt(now / before) * (1 - before) / (1 - now) * yt
        found = noise + error
        predicted = (yt - beta / math.sqrt(1 - now) * found) / math.sqrt(1 - beta)
        assert float(model.weight[t]) * error**2 == pytest.approx((posterior - predicted) ** 2 / (2 * beta), rel=1e-4)


def skewed(model: Diffusion, seed: int) -> Tensor:
    """Odds far from uniform that give every timestep a chance."""
    odds = torch.rand(model.steps, generator=torch.Generator().manual_seed(seed)) ** 3 + 0.05
    return odds / odds.sum()


def full_sum(model: Diffusion, contexts: Tensor, outcomes: Tensor, draws: int) -> Tensor:
    """Minus the sum over all timesteps of the weighted errors (B, M), averaged over draws of the noise."""
    context, generator = model.context(contexts), torch.Generator().manual_seed(99)
    total = torch.zeros_like(outcomes[..., 0])
    for t in range(model.steps):
        step = torch.full((draws, *outcomes.shape[:2]), t)
        noise = torch.randn(draws, *outcomes.shape, generator=generator)
        total += model._weighted_error(context, outcomes[None].expand_as(noise), step, noise).mean(0)
    return -total


@pytest.mark.parametrize(("seed", "importance"), [(0, True), (1, True), (2, True), (0, False)])
@torch.no_grad()
def test_the_likelihood_is_unbiased(seed: int, importance: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of many estimates is the full sum, within five standard errors: with skewed odds, and with even ones."""
    model = make(steps=12, sampling_steps=3, timesteps=2, seed=seed, importance=importance).eval()
    contexts, outcomes = torch.randn(1, 2), torch.randn(1, 3, 2)
    truth = full_sum(model, contexts, outcomes, 20_000)[0]
    model.visits += 100  # so that there are odds to learn
    if importance:
        monkeypatch.setattr(model, "timestep_odds", lambda: skewed(model, seed))
    many = outcomes.expand(20_000, -1, -1)
    estimates = model.log_likelihood(contexts.expand(20_000, -1), many, torch.Generator().manual_seed(seed))
    error = estimates.std(0) / math.sqrt(len(many))
    assert ((estimates.mean(0) - truth).abs() < 5 * error).all(), (estimates.mean(0), truth, error)
    assert (error < 0.05 * truth.abs()).all()  # so that a bias would be seen


@torch.no_grad()
def test_odds_learned_from_the_terms_lower_the_variance() -> None:
    """After some batches the odds follow the terms, and the same number of timesteps tells more; no bias appears."""
    model = make(steps=30, sampling_steps=3, timesteps=2)
    contexts, outcomes = torch.zeros(20_000, 2), torch.tensor([0.5, -1.0]).expand(20_000, 1, 2)
    assert torch.equal(model.timestep_odds(), torch.full((30,), 1 / 30))
    model.eval()
    uniform = model.log_likelihood(contexts, outcomes, torch.Generator().manual_seed(0))
    model.train()
    for _ in range(3):
        model.log_likelihood(contexts, outcomes, torch.Generator().manual_seed(1))
    model.eval()
    odds = model.timestep_odds()
    assert float(odds.sum()) == pytest.approx(1.0, abs=1e-5)
    assert odds.min() >= 0.01 / 30 * 0.999
    assert odds.max() > 2 / 30
    learned = model.log_likelihood(contexts, outcomes, torch.Generator().manual_seed(2))
    assert learned.var() < 0.7 * uniform.var()
    error = math.sqrt((learned.var() + uniform.var()) / 20_000)
    assert abs(learned.mean() - uniform.mean()) < 5 * error
    model.importance = False
    assert torch.equal(model.timestep_odds(), torch.full((30,), 1 / 30))


def gradients(value: Tensor, model: nn.Module) -> Tensor:
    """Gradients in all weights, one after the other; none of the weights may be left out."""
    return torch.cat([part.flatten() for part in torch.autograd.grad(value, list(model.parameters()))])


@pytest.mark.parametrize("rows", [1, 7, 10, 29, 10**9])
@pytest.mark.parametrize("centred", [False, True])
def test_block_by_block_is_the_weighted_sum(rows: int, centred: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its value and its gradients, whatever goes through the denoiser together; never more than it may."""
    diffusion_model = make(steps=20, sampling_steps=6, timesteps=4)
    forecast = Gaussian(Encoder(CONTEXT, torch.randn(50, 2)), (6, 5), 2)
    model = (Centred(forecast, diffusion_model) if centred else diffusion_model).double()
    contexts, outcomes, weights = torch.randn(3, 2).double(), torch.randn(3, 5, 2).double(), torch.randn(3, 5).double()
    velocity, seen = diffusion_model.velocity, []

    def watched(context: Tensor, noisy: Tensor, step: Tensor) -> Tensor:
        seen.append(step.numel())
        return velocity(context, noisy, step)

    monkeypatch.setattr(diffusion_model, "velocity", watched)
    monkeypatch.setattr(diffusion, "_ROWS", rows)
    value = model.weighted_likelihood(contexts, outcomes, weights, torch.Generator().manual_seed(0))
    assert sum(seen) == 4 * 3 * 5
    assert max(seen) <= max(5, rows)
    assert rows != 29 or seen == [15] * 4
    expected = (weights * model.log_likelihood(contexts, outcomes, torch.Generator().manual_seed(0))).sum()
    torch.testing.assert_close(value, expected)
    # twice the value has twice the gradient, so that what follows it in a loss reaches the weights
    torch.testing.assert_close(gradients(2 * value, model), 2 * gradients(expected, model))


class Kept:
    """A tensor that autograd keeps, counted among the elements alive as long as it does."""

    alive, most = 0, 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        Kept.alive += tensor.numel()
        Kept.most = max(Kept.most, Kept.alive)

    def __del__(self) -> None:
        Kept.alive -= self.tensor.numel()


def test_a_weighted_sum_keeps_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most elements that autograd keeps at a time grow with neither k nor T; those of the plain sum do."""
    monkeypatch.setattr(diffusion, "_ROWS", 100)
    outcomes, weights = torch.randn(2, 50, 2), torch.ones(2, 50)

    def most(blockwise: bool, **parameters: int) -> int:
        model, generator = make(**parameters), torch.Generator().manual_seed(0)
        Kept.most = Kept.alive
        before = Kept.alive
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            if blockwise:
                value = model.weighted_likelihood(torch.zeros(2, 2), outcomes, weights, generator)
            else:
                value = (weights * model.log_likelihood(torch.zeros(2, 2), outcomes, generator)).sum()
        value.backward()
        return Kept.most - before

    few = most(True, timesteps=2)
    assert few == most(True, timesteps=40) == most(True, timesteps=2, steps=100)
    assert most(False, timesteps=40) > 10 * few


def test_recomputing_activations_changes_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(steps=20, sampling_steps=6, timesteps=4, eta=0.5).double()
    contexts = torch.randn(3, 2).double()
    calls: list[int] = []
    recompute = diffusion.checkpoint

    def counted(function: Any, *arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        return recompute(function, *arguments, **keywords)

    def plain(function: Any, *arguments: Any, **_: Any) -> Any:
        return function(*arguments)

    monkeypatch.setattr(diffusion, "_KEPT", 0)
    found = []
    for through in (counted, plain):
        monkeypatch.setattr(diffusion, "checkpoint", through)
        found.append(gradients((model.sample(contexts, 5, torch.Generator().manual_seed(0)) ** 3).sum(), model))
    assert len(calls) == 6
    torch.testing.assert_close(*found)
    assert found[0].abs().max() > 0


def test_a_short_chain_is_not_recomputed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(diffusion, "checkpoint", never)
    model, contexts = make(steps=20, sampling_steps=6), torch.zeros(3, 2)
    model.sample(contexts, 5, torch.Generator())
    monkeypatch.setattr(diffusion, "_KEPT", 3 * 5 * 6 - 1)
    with pytest.raises(AssertionError):
        model.sample(contexts, 5, torch.Generator())


@pytest.mark.parametrize("steps", [20, 150])
def test_a_chain_keeps_little_for_its_backward(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elements kept per sample and step: a few times the outcome's width, not the layers' widths."""
    monkeypatch.setattr(diffusion, "_KEPT", 0)
    model, kept = make(sampling_steps=steps), []

    def pack(saved: Tensor) -> Tensor:
        kept.append(saved.numel() if saved.dim() else 0)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        model.sample(torch.zeros(1, 2), 64, torch.Generator())
    assert sum(kept) < steps * 64 * 2 * 4


def trained(**parameters: Any) -> Any:
    """A diffusion trained for a moment on y | x ~ N(x_1, 0.5^2)."""
    model = make(outcomes=1, steps=100, sampling_steps=20, seed=1, **parameters)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for turn in range(300):
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * (1 - turn / 300)
        contexts = torch.randn(128, 2, generator=generator)
        outcomes = contexts[:, :1] + 0.5 * torch.randn(128, 1, generator=generator)
        optimiser.zero_grad()
        model.fit_loss(contexts, outcomes, generator).backward()
        optimiser.step()
    return model


@pytest.mark.parametrize("precision", PRECISIONS)
def test_learns_a_known_law(precision: str) -> None:
    """It draws the Gaussian that it was trained on (bounds of one short training)."""
    model = trained(precision=precision)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        samples = model.sample(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), 2000, generator)[..., 0]
    assert samples.mean(1).tolist() == pytest.approx([-1.0, 1.0], abs=0.2)
    assert samples.std(1).tolist() == pytest.approx([0.5, 0.5], abs=0.15)


# ------------------------------------------------------------------------------------------------ mixed precision
@pytest.mark.parametrize("lower", PRECISIONS[1:])
def test_lower_precision_is_close(lower: str) -> None:
    """Samples and both estimators' gradients over a batch, against those of the same weights in float32."""
    model = trained()
    contexts, weights = torch.randn(64, 2, generator=torch.Generator().manual_seed(1)), torch.randn(64, 10)
    samples, through, likelier = [], [], []
    for precision in ("float32", lower):
        model.precision = precision
        drawn = model.sample(contexts, 10, torch.Generator().manual_seed(2))
        samples.append(drawn.detach())
        through.append(gradients((drawn**2).mean(), model))
        model.visits.zero_()
        generator = torch.Generator().manual_seed(3)
        likelier.append(gradients(model.weighted_likelihood(contexts, samples[0], weights, generator), model))
    assert not torch.equal(*samples)
    torch.testing.assert_close(*samples, atol=0.03, rtol=0)  # of a spread of 0.5
    for exact, rounded in (through, likelier):
        assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.999
        assert float(rounded.norm() / exact.norm()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("lower", PRECISIONS[1:])
def test_lower_precision_moves_samples_by_a_hundredth_of_their_spread(lower: str) -> None:
    """Where nothing is differentiated, which may be in integers."""
    model = trained()
    contexts, drawn = torch.randn(64, 2, generator=torch.Generator().manual_seed(1)), []
    with torch.no_grad():
        for model.precision in ("float32", lower):
            drawn.append(model.sample(contexts, 100, torch.Generator().manual_seed(2)))
    assert not torch.equal(*drawn)
    assert float((drawn[1] - drawn[0]).square().mean().sqrt()) < 0.005  # of a spread of 0.5


def test_integers_are_differentiated_as_bfloat16() -> None:
    model, slopes = make(), []
    for model.precision in ("bfloat16", "int8"):
        samples = model.sample(torch.ones(64, 2), 10, torch.Generator().manual_seed(2))
        slopes.append(gradients(samples.sum(), model))
    assert torch.equal(*slopes)


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_a_copy_has_the_rounded_weights_of_the_copied_network(precision: str) -> None:
    model = make(precision=precision)
    model.context(torch.zeros(1, 2))  # rounds the weights
    copied = copy.deepcopy(model)
    x = torch.randn(3, 2)
    drawn = [one.sample(x, 4, torch.Generator().manual_seed(0)) for one in (model, copied)]
    assert torch.equal(*drawn)
    assert all(parameter.grad is None for parameter in model.parameters())
    drawn[1].sum().backward()
    assert all(parameter.grad is not None for parameter in copied.body.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("precision", PRECISIONS[1:])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lower_precision_stays_inside(dtype: torch.dtype, precision: str) -> None:
    """Samples, sums and gradients have the precision of the weights."""
    model = make(precision=precision).to(dtype)
    x = torch.randn(3, 2).to(dtype)
    with torch.no_grad():
        assert model.sample(x, 4, torch.Generator().manual_seed(0)).dtype == dtype
    samples = model.sample(x, 4, torch.Generator().manual_seed(0))
    assert samples.dtype == dtype
    assert gradients(samples.sum(), model).dtype == dtype


# ------------------------------------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"steps": 10, "sampling_steps": 11, "timesteps": 1}, "sampling_steps is 11: give 1 to 10"),
        ({"sampling_steps": 0}, "sampling_steps is 0"),
        ({"timesteps": 0}, "timesteps is 0"),
        ({"steps": 20, "timesteps": 21}, "timesteps is 21: give 1 to 20"),
        ({"eta": -0.1}, "eta is -0.1: give a number from 0"),
        ({"eta": 1.5}, "eta is 1.5"),
    ],
)
def test_parameters_out_of_range(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ShiftgymError, match=message):
        make(**parameters)


def test_unknown_precision() -> None:
    with pytest.raises(UnknownNameError, match="unknown precision 'bfloat'; did you mean 'bfloat16'"):
        make(precision="bfloat")


def test_unknown_schedule() -> None:
    with pytest.raises(UnknownNameError, match="unknown schedule 'cosin'; did you mean 'cosine'"):
        make(schedule="cosin")
