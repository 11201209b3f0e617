"""What a generative agent asks of a model of P(y | x), and the simplest one: a diagonal Gaussian.

Outcomes are standardised here: the agent takes off the level and the scale of the training outcomes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .networks import Encoder, Regressor

#: Bounds of the logarithm of a standard deviation, in units of the training spread; reached smoothly.
_LOG_SIGMA = (-6.0, 2.0)


class Predictor(nn.Module):
    """A conditional distribution of D outcomes that can be sampled and whose likelihood can be followed uphill."""

    @abstractmethod
    def sample(self, observations: Tensor, count: int, generator: torch.Generator, common: bool = False) -> Tensor:
        """Samples (B, count, D), differentiable in the weights: the reparameterisation of ``generator``'s noise.

        With ``common`` every context gets the same noise (common random numbers), so that what is decided for it
        does not depend on who else is in the batch.
        """

    @abstractmethod
    def log_likelihood(self, observations: Tensor, outcomes: Tensor, generator: torch.Generator) -> Tensor:
        """Estimate log p(y | x) (B, M), up to a constant, for outcomes (B, M, D); differentiable in the weights."""

    def weighted_likelihood(
        self, observations: Tensor, outcomes: Tensor, weights: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Sum (scalar) of the log likelihoods, each times its weight (B, M): what the score estimator descends."""
        return (weights * self.log_likelihood(observations, outcomes, generator)).sum()

    @abstractmethod
    def fit_loss(self, observations: Tensor, outcomes: Tensor, generator: torch.Generator) -> Tensor:
        """Loss (scalar) whose minimum is the distribution of the outcomes (B, D)."""


def noise(shape: Sequence[int], common: bool, like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise (B, M, D), the same in every context when ``common``."""
    drawn = (1, *shape[1:]) if common else tuple(shape)
    # drawn where the generator lives, so that a seed gives the same numbers on every device
    return torch.randn(drawn, generator=generator, dtype=like.dtype).to(like.device).expand(*shape)


class Gaussian(Predictor):
    """N(mu(x), diag sigma(x)^2) from one network (Diffusion-DFL, Table 2).

    =============  =============================================
    Diffusion-DFL  here
    =============  =============================================
    mu, sigma      :meth:`parameters_of`, each (B, D)
    R(eps, theta)  :meth:`sample`: mu + sigma eps
    =============  =============================================
    """

    def __init__(self, encoder: Encoder, hidden: Sequence[int], outcomes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.network = Regressor(encoder, hidden, 2 * outcomes, dropout)

    def parameters_of(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log standard deviations, each (B, D)."""
        mean, raw = self.network(observations).chunk(2, dim=-1)
        low, high = _LOG_SIGMA
        middle, half = (high + low) / 2, (high - low) / 2
        start = math.atanh(-middle / half)  # an untrained network has the training spread
        return mean, middle + half * torch.tanh(raw / half + start)

    def sample(self, observations: Tensor, count: int, generator: torch.Generator, common: bool = False) -> Tensor:
        """Mean plus scaled noise."""
        mean, log_sigma = self.parameters_of(observations)
        drawn = noise((len(mean), count, mean.shape[1]), common, mean, generator)
        return mean[:, None] + log_sigma.exp()[:, None] * drawn

    def log_likelihood(self, observations: Tensor, outcomes: Tensor, generator: torch.Generator) -> Tensor:
        """Exact, up to the constant."""
        mean, log_sigma = self.parameters_of(observations)
        standard = (outcomes - mean[:, None]) * torch.exp(-log_sigma)[:, None]
        return -(0.5 * standard**2 + log_sigma[:, None]).sum(-1)

    def fit_loss(self, observations: Tensor, outcomes: Tensor, generator: torch.Generator) -> Tensor:
        """Negative log likelihood per outcome."""
        return -self.log_likelihood(observations, outcomes[:, None], generator).mean() / outcomes.shape[1]


class Centred(Predictor):
    """A distribution around a Gaussian forecast: y = mu(x) + sigma(x) u, where u | x is what ``inner`` models.

    The forecast says where and how wide, so that the inner model has only the shape to learn, on one scale in every
    context (as Han, Zheng and Zhou, 2022, do with the mean).
    """

    def __init__(self, forecast: Gaussian, inner: Predictor) -> None:
        super().__init__()
        self.forecast, self.inner = forecast, inner

    def sample(self, observations: Tensor, count: int, generator: torch.Generator, common: bool = False) -> Tensor:
        """The inner model's samples, scaled and moved."""
        mean, log_sigma = self.forecast.parameters_of(observations)
        shape = self.inner.sample(observations, count, generator, common)
        return mean[:, None] + log_sigma.exp()[:, None] * shape

    def log_likelihood(self, observations: Tensor, outcomes: Tensor, generator: torch.Generator) -> Tensor:
        """That of u, and how much the forecast stretches it."""
        shape, stretch = self._shape(observations, outcomes)
        return self.inner.log_likelihood(observations, shape, generator) - stretch

    def weighted_likelihood(
        self, observations: Tensor, outcomes: Tensor, weights: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Likewise, by the inner model's own way to the sum."""
        shape, stretch = self._shape(observations, outcomes)
        return self.inner.weighted_likelihood(observations, shape, weights, generator) - (weights * stretch).sum()

    def _shape(self, observations: Tensor, outcomes: Tensor) -> tuple[Tensor, Tensor]:
        """The u (B, M, D) of outcomes (B, M, D), and the log of the volume (B, 1) that the forecast makes of a unit."""
        mean, log_sigma = self.forecast.parameters_of(observations)
        return (outcomes - mean[:, None]) * torch.exp(-log_sigma)[:, None], log_sigma.sum(-1, keepdim=True)

    def fit_loss(self, observations: Tensor, outcomes: Tensor, generator: torch.Generator) -> Tensor:
        """Both losses; the inner one takes the forecast as it is, and as it will be used: without dropout."""
        own = self.forecast.fit_loss(observations, outcomes, generator)
        self.forecast.eval()
        with torch.no_grad():
            mean, log_sigma = self.forecast.parameters_of(observations)
        self.forecast.train(self.training)
        shape = (outcomes - mean) * torch.exp(-log_sigma)
        return own + self.inner.fit_loss(observations, shape, generator)
