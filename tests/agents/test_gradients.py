"""Both gradient estimators: sample by sample against differences, and on laws whose gradients are known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shiftgym.agents.diffusion import Diffusion
from shiftgym.agents.generative import score_weights
from shiftgym.agents.learner import scenario_loss
from shiftgym.agents.networks import Encoder
from shiftgym.agents.predictors import Gaussian, Predictor
from shiftgym.envs.task import Layout
from shiftgym.solvers import DecisionProblem, Inventory, Portfolio, PowerScheduling, ProductAllocation

CONTEXT = Layout(lookback=0, columns=1, context=3, previous=0, naive=())
#: Problems with the level and the scale of outcomes that keep decisions off their bounds.
WORLDS: dict[str, tuple[DecisionProblem, float, float]] = {
    "power": (PowerScheduling(hours=6, low=-np.inf), 1.6, 0.3),
    "power, ramps bind": (PowerScheduling(hours=6, ramp=0.05, low=-np.inf), 1.6, 0.3),
    "inventory": (Inventory(), 8.0, 2.0),
    "allocation": (ProductAllocation(products=4), 0.3, 1.0),
    "portfolio": (Portfolio(assets=5, risk_aversion=5.0), 0.1, 0.6),
}
#: 1/2 |z - y|^2 with nothing in the way: the best decision is the mean of the scenarios.
QUADRATIC = PowerScheduling(hours=3, shortage=0.0, excess=0.0, ramp=1e6, low=-np.inf)


# -------------------------------------------------------------------------------- (a) sample by sample, differences
def cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))


def differences(function: Callable[[Tensor], Tensor], at: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """Central differences of a function of rows (R, n) -> (R,) in each entry of ``at`` (n,), and where it is smooth."""
    moves = size * torch.eye(len(at), dtype=at.dtype)
    value, up, down = function(at[None]), function(at + moves), function(at - moves)
    right, left = (up - value) / size, (value - down) / size
    return (right + left) / 2, (right - left).abs() < 1e-3 * (1e-2 + right.abs() + left.abs())


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", range(2))
def test_every_sample_gets_its_own_gradient(world: str, seed: int) -> None:
    """dF/dy_m through ``decide``, entry by entry, for a cost that the scenarios alone do not explain."""
    problem, level, scale = WORLDS[world]
    generator = torch.Generator().manual_seed(seed)
    shape = (12, problem.outcome_dim)
    scenarios = level + scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    outcome = level + scale * torch.randn(shape[1], generator=generator, dtype=torch.float64)

    def cost(rows: Tensor) -> Tensor:
        decisions = problem.solve(rows.view(-1, *shape))
        return problem.cost(outcome.expand(len(rows), -1), decisions)

    found, smooth = differences(cost, scenarios.flatten(), 1e-6)
    assert smooth.double().mean() > 0.9
    leaf = scenarios[None].clone().requires_grad_()
    scenario_loss(problem, leaf, outcome[None], None).backward()
    exact = torch.where(smooth, leaf.grad.flatten(), 0.0).view(shape)
    found = torch.where(smooth, found, 0.0).view(shape)
    assert cosine(exact, found) > 0.9999
    for one, other in zip(exact, found, strict=True):
        assert other.norm() < 1e-6 * found.norm() or cosine(one, other) > 0.999
    torch.testing.assert_close(exact.norm(), found.norm(), rtol=1e-3, atol=1e-9)
    if world != "power":  # not one gradient for all: several samples, and not alike
        assert (exact - exact.mean(0)).norm() > 0.1 * exact.norm()


class NearGaussian(Diffusion):
    """A denoiser near that of standard normal outcomes, so that an untrained chain ends at outcomes."""

    def velocity(self, context: Tensor, noisy: Tensor, step: Tensor) -> Tensor:
        return 0.1 * super().velocity(context, noisy, step)


def make_predictor(kind: str, outcomes: int) -> Predictor:
    torch.manual_seed(0)
    encoder = Encoder(CONTEXT, torch.randn(40, 3))
    if kind == "gaussian":
        return Gaussian(encoder, (6, 5), outcomes).double()
    chain = {"steps": 100, "schedule": "cosine", "sampling_steps": 8, "eta": 1.0 if "noisy" in kind else 0.0}
    return NearGaussian(encoder, (6, 5), outcomes, timesteps=5, **chain).double()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "world"),
    [(kind, world) for kind in ("gaussian", "diffusion") for world in WORLDS] + [("noisy diffusion", "inventory")],
)
def test_the_weights_gradient_is_that_of_the_whole_pipeline(kind: str, world: str) -> None:
    """From the cost of the decision to the weights with the noise held fixed: every weight against differences."""
    problem, level, scale = WORLDS[world]
    predictor = make_predictor(kind, problem.outcome_dim)
    generator = torch.Generator().manual_seed(1)
    contexts = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    outcomes = level + scale * torch.randn(3, problem.outcome_dim, generator=generator, dtype=torch.float64)

    def loss() -> Tensor:
        scenarios = level + scale * predictor.sample(contexts, 6, torch.Generator().manual_seed(7))
        return scenario_loss(problem, scenarios, outcomes, None)

    parameters = list(predictor.parameters())
    exact = torch.cat([part.flatten() for part in torch.autograd.grad(loss(), parameters)])
    flat = nn.utils.parameters_to_vector(parameters).detach()
    chosen = torch.randperm(len(flat), generator=generator)[:24]

    def along(steps: Tensor) -> Tensor:
        values = []
        for row in steps:
            moved = flat.clone()
            moved[chosen] = row
            nn.utils.vector_to_parameters(moved, parameters)
            with torch.no_grad():
                values.append(loss())
        return torch.stack(values)

    found, smooth = differences(along, flat[chosen], 1e-6)
    assert smooth.double().mean() > 0.7
    assert found[smooth].norm() > 1e-6
    assert cosine(exact[chosen][smooth], found[smooth]) > 0.999
    torch.testing.assert_close(exact[chosen][smooth].norm(), found[smooth].norm(), rtol=1e-2, atol=1e-9)


# --------------------------------------------------------------------------------- (b) linear and Gaussian: closed
class LinearGaussian(Predictor):
    """y = A x + sigma eps."""

    sigma = 0.8

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def sample(self, observations: Tensor, count: int, generator: torch.Generator, common: bool = False) -> Tensor:
        mean = (observations @ self.weight.T)[:, None]
        shape = (len(observations), count, len(self.weight))
        return mean + self.sigma * torch.randn(shape, generator=generator, dtype=mean.dtype)

    def log_likelihood(self, observations: Tensor, outcomes: Tensor, generator: torch.Generator) -> Tensor:
        return -((outcomes - (observations @ self.weight.T)[:, None]) ** 2).sum(-1) / (2 * self.sigma**2)

    def fit_loss(self, observations: Tensor, outcomes: Tensor, generator: torch.Generator) -> Tensor:
        raise NotImplementedError


class Draws:
    """Many independent draws of each estimator's gradient in A, at one context x and outcome y*.

    With the decision mean_m y_m and the cost 1/2 |z - y*|^2, F(A) = 1/2 |A x - y*|^2 + D sigma^2 / (2 M), so
    dF/dA = (A x - y*) x'.
    """

    count = 10_000

    def __init__(self, samples: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        weight, self.x, self.outcome = (
            torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3, 2), (1, 2), (1, 3))
        )
        self.model = LinearGaussian(weight)
        self.truth = (self.x @ weight.T - self.outcome).T @ self.x
        with torch.no_grad():
            self.y = self.model.sample(self.x.expand(self.count, -1), samples, generator)
        self.scores = (self.y - self.x @ weight.T) / self.model.sigma**2  # in the mean; times x' in A

    def from_weights(self, weights: Tensor) -> Tensor:
        """Gradients (count, 3, 2) of mean_m w_m log p(y_m)."""
        return (weights[..., None] * self.scores).mean(1)[..., None] * self.x

    def outcomes(self) -> Tensor:
        return self.outcome.expand(self.count, -1)

    def standard_error(self, draws: Tensor) -> Tensor:
        return draws.std(0) / math.sqrt(self.count)


@pytest.mark.parametrize("samples", [2, 5, 25])
@pytest.mark.parametrize("seed", range(2))
def test_the_score_estimator_is_unbiased(samples: int, seed: int) -> None:
    draws = Draws(samples, seed)
    found = draws.from_weights(score_weights(QUADRATIC, draws.y, draws.outcomes(), None))
    error = draws.standard_error(found)
    assert ((found.mean(0) - draws.truth).abs() < 5 * error).all()
    assert error.norm() < 0.1 * draws.truth.norm()  # so that a bias would be seen


def test_the_score_loss_s_gradient_is_the_estimator() -> None:
    """What training does, mean_bm w_bm log p(y_bm | x_b) and backward, adds up to the closed-form average."""
    draws = Draws(5)
    weights = score_weights(QUADRATIC, draws.y, draws.outcomes(), None)
    likelihood = draws.model.log_likelihood(draws.x.expand(draws.count, -1), draws.y, torch.Generator())
    (gradient,) = torch.autograd.grad((weights * likelihood).mean(), draws.model.weight)
    torch.testing.assert_close(gradient, draws.from_weights(weights).mean(0))


@pytest.mark.parametrize("samples", [1, 5, 25])
def test_the_reparameterised_gradient_is_the_truth_on_average(samples: int) -> None:
    draws = Draws(samples)
    x, generator = draws.x.expand(draws.count, -1), torch.Generator().manual_seed(1)
    scenarios = draws.model.sample(x, samples, generator)
    (gradient,) = torch.autograd.grad(scenario_loss(QUADRATIC, scenarios, draws.outcomes(), None), draws.model.weight)
    spread = draws.model.sigma / math.sqrt(samples * draws.count) * draws.x.norm()
    assert (gradient - draws.truth).norm() < 5 * math.sqrt(3) * spread


@pytest.mark.parametrize("samples", [2, 5, 25])
def test_without_the_baseline_a_share_is_missing(samples: int) -> None:
    """A decision is best for its own samples, so their weights sum to nothing and 1/M of the gradient is lost."""
    draws = Draws(samples)
    decisions = QUADRATIC.solve(draws.y)
    raw = QUADRATIC.adjoint(draws.y, decisions, decisions - draws.outcome).score
    found = draws.from_weights(raw)
    error = draws.standard_error(found)
    assert ((found.mean(0) - (1 - 1 / samples) * draws.truth).abs() < 5 * error).all()
    assert ((found.mean(0) - draws.truth).abs() > 5 * error).any()


def test_the_baseline_lowers_the_variance() -> None:
    """At a decision for other samples nothing centres the weights but the baseline; neither estimate is biased."""

    class Elsewhere(PowerScheduling):
        def solve(self, scenarios: Any, weights: Any = None) -> Any:
            return torch.full_like(scenarios[:, 0], 1.5)

    draws, problem = Draws(10), Elsewhere(**QUADRATIC.parameters())
    decisions = problem.solve(draws.y)
    raw = problem.adjoint(draws.y, decisions, decisions - draws.outcome).score
    plain = draws.from_weights(raw)
    reduced = draws.from_weights(score_weights(problem, draws.y, draws.outcomes(), None))
    expected = (1.5 - draws.outcome).T @ draws.x  # d mean_m y_m / dA, pulled back by the cost's slope
    for found in (plain, reduced):
        assert ((found.mean(0) - expected).abs() < 5 * draws.standard_error(found)).all()
    assert reduced.var(0).sum() < 0.8 * plain.var(0).sum()


def test_far_less_variance_than_the_score_of_the_whole_decision() -> None:
    """F(z*) sum_m d log p(y_m) is unbiased too, the cost's mean taken off, but knows nothing of the problem."""
    draws = Draws(25)
    decisions = QUADRATIC.solve(draws.y)
    costs = QUADRATIC.cost(draws.outcomes(), decisions)
    whole = ((costs - costs.mean())[:, None] * draws.scores.sum(1))[..., None] * draws.x
    assert ((whole.mean(0) - draws.truth).abs() < 5 * draws.standard_error(whole)).all()
    found = draws.from_weights(score_weights(QUADRATIC, draws.y, draws.outcomes(), None))
    assert found.var(0).sum() < whole.var(0).sum()


@pytest.mark.parametrize("world", WORLDS)
def test_weights_of_every_problem_sum_to_nothing(world: str) -> None:
    problem, level, scale = WORLDS[world]
    generator = torch.Generator().manual_seed(0)
    y = level + scale * torch.randn(7, 9, problem.outcome_dim, generator=generator, dtype=torch.float64)
    outcomes = level + scale * torch.randn(7, problem.outcome_dim, generator=generator, dtype=torch.float64)
    weights = score_weights(problem, y, outcomes, None)
    assert weights.shape == (7, 9)
    assert weights.abs().max() > 1e-3
    torch.testing.assert_close(weights.sum(1), torch.zeros(7).double(), atol=1e-6 * float(weights.abs().max()), rtol=0)
    single = score_weights(problem, y[:, :1], outcomes, None)  # one sample: nothing to compare it with
    assert torch.isfinite(single).all()


# ------------------------------------------------------------------- (c) the bound's gradient against the true score
class LinearDiffusion(Diffusion):
    """The best denoiser for outcomes from N(A x, v I), whose parameters are A and log v.

    Its chain ends at that law, so the true score is known: (y - A x) x' / v, and (|y - A x|^2 / v - D) / 2.
    """

    def __init__(self, weight: Tensor, variance: float, **parameters: Any) -> None:
        super().__init__(Encoder(CONTEXT, torch.zeros(2, 3)), (4,), len(weight), schedule="cosine", **parameters)
        self.weight_, self.log_variance = nn.Parameter(weight), nn.Parameter(torch.tensor(math.log(variance)))

    def context(self, observations: Tensor) -> Tensor:
        return observations @ self.weight_.T

    def velocity(self, context: Tensor, noisy: Tensor, step: Tensor) -> Tensor:
        signal, variance = self.signal[step][..., None].to(noisy), self.log_variance.exp()
        moved = (1 - variance) * signal.sqrt() * noisy - context
        return (1 - signal).sqrt() * moved / (signal * variance + 1 - signal)


@pytest.mark.parametrize("variance", [0.3, 1.0])
def test_the_bound_s_gradient_is_the_score(variance: float) -> None:
    """Sample by sample. In A with v = 1 the sum over timesteps telescopes to 1 - alpha_bar_T: its size is right too."""
    torch.manual_seed(0)
    model = LinearDiffusion(torch.randn(2, 3), variance, steps=100, sampling_steps=20, eta=0.0, timesteps=100)
    x, generator = torch.randn(1, 3), torch.Generator().manual_seed(1)
    for _ in range(2):
        y = (model.context(x) + math.sqrt(variance) * torch.randn(1, 2)).detach()
        copies = y[None].expand(1, 200, -1)
        estimate = model.eval().log_likelihood(x, copies, generator).mean()
        in_weight, in_variance = torch.autograd.grad(estimate, [model.weight_, model.log_variance])
        rest = (y - model.context(x)).detach()
        truth = rest.T @ x / variance
        assert cosine(in_weight, truth) > 0.995
        assert float(in_weight.norm() / truth.norm()) == pytest.approx(1.0, abs=0.1)
        expected = float((rest**2).sum() / variance - 2) / 2
        assert float(in_variance) == pytest.approx(expected, abs=0.15 * (1 + abs(expected)))


def test_a_diffusion_s_estimators_agree_with_the_truth() -> None:
    """Reparameterised through the chain and by the bound, averaged over many contexts, on the quadratic problem."""
    torch.manual_seed(0)
    model = LinearDiffusion(torch.randn(3, 3), 1.0, steps=1000, sampling_steps=30, eta=0.0, timesteps=10).eval()
    x, generator = torch.randn(1, 3).expand(1500, -1), torch.Generator().manual_seed(1)
    outcomes = torch.randn(1, 3).double().expand(1500, -1)
    truth = ((model.context(x[:1]) - outcomes[:1].float()).T @ x[:1]).detach()
    scenarios = model.sample(x, 10, generator)
    loss = scenario_loss(QUADRATIC, scenarios.double(), outcomes, None)
    (through,) = torch.autograd.grad(loss, model.weight_)
    weights = score_weights(QUADRATIC, scenarios.detach().double(), outcomes, None).float()
    bound = (weights * model.log_likelihood(x, scenarios.detach(), generator)).mean()
    (likelier,) = torch.autograd.grad(bound, model.weight_)
    for gradient, slack in ((through, 0.06), (likelier, 0.15)):
        assert cosine(gradient, truth) > 0.99
        assert float(gradient.norm() / truth.norm()) == pytest.approx(1.0, abs=slack)
