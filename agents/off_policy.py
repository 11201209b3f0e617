"""What another policy would have cost, from logged bandit feedback alone.

======================  ================================
Dudik et al. (2014)     here
======================  ================================
x, a, c                 observation, request, cost
mu(a | x), pi(a | x)    logging policy, policy in question
w = pi / mu             importance weight
q(x, a)                 :class:`CostModel`
======================  ================================
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..data.errors import UnknownNameError
from ..envs.task import Floats
from .behaviour import BanditLog, GaussianAround
from .networks import Standardised, layers
from .threads import single_thread
from .trained import kept_generator

METHODS = ("ips", "snips", "dm", "dr")


class Estimate(NamedTuple):
    """A mean cost, and the standard error of its estimate."""

    value: float
    error: float


class CostModel(nn.Module):
    """q(x, a): the cost of a request, learned from a log.

    Parameters
    ----------
    observations, decisions : tensor, shape (K, size) and (K, d)
        Of the log, for their mean and spread only.
    costs : tensor, shape (K,)
        Likewise.
    hidden : tuple of int
        Widths of the layers.
    """

    def __init__(self, observations: Tensor, decisions: Tensor, costs: Tensor, hidden: tuple[int, ...]) -> None:
        super().__init__()
        inputs = torch.cat((observations, decisions.float()), dim=1)
        self.inputs = Standardised(inputs.mean(0), inputs.std(0))
        self.body = layers(self.inputs.width, hidden, 1)
        self.level, self.scale = costs.mean(), costs.std().clamp_min(1e-12)

    def forward(self, observations: Tensor, decisions: Tensor) -> Tensor:
        """Costs (B,)."""
        inputs = torch.cat((observations, decisions.to(observations.dtype)), dim=-1)
        return self.level + self.scale * self.body(self.inputs(inputs))[..., 0].double()

    @classmethod
    def fit(cls, log: BanditLog, hidden: tuple[int, ...] = (64, 64), epochs: int = 50, seed: int = 0) -> CostModel:
        """Least squares by Adam, over batches of 64."""
        x, z, c = (torch.as_tensor(array) for array in (log.observations, log.decisions, log.costs))
        with kept_generator(x), single_thread():
            torch.manual_seed(seed)
            model = cls(x, z, c, hidden)
            optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
            for _ in range(epochs):
                for batch in torch.randperm(len(c)).split(64):  # type: ignore[no-untyped-call]
                    optimiser.zero_grad()
                    error = (model(x[batch], z[batch]) - c[batch]) / model.scale
                    (error**2).mean().backward()
                    optimiser.step()
        return model.requires_grad_(False)


def weights(log: BanditLog, policy: GaussianAround) -> Floats:
    """Importance weights (K,) of the requests of a log for another policy."""
    ratio: Floats = np.exp(policy.log_density(log.observations, log.decisions) - log.log_propensity)
    return ratio


def off_policy_value(
    log: BanditLog, policy: GaussianAround, method: str = "dr", model: CostModel | None = None, seed: int = 0
) -> Estimate:
    """Estimate the mean cost of a policy from the log of another one.

    Parameters
    ----------
    log : BanditLog
        Requests of the logging policy, whose propensities must reach wherever the policy does.
    policy : GaussianAround
        The policy in question.
    method : {"ips", "snips", "dm", "dr"}
        Inverse propensities, unbiased: mean of w c; self-normalised: mean of w c over mean of w; direct: mean of
        q(x, a) over requests a of the policy; doubly robust: the direct estimate plus the mean of w (c - q), unbiased,
        and with little variance where q is right.
    model : CostModel, optional
        For "dm" and "dr"; fitted on the log by default.
    seed : int
        Of the requests that the direct estimate draws, and of the model's fit.

    Raises
    ------
    UnknownNameError
        For another method.
    """
    if method not in METHODS:
        raise UnknownNameError("off-policy method", method, METHODS)
    ratio = weights(log, policy)
    if method == "ips":
        return _mean(ratio * log.costs)
    if method == "snips":
        value = float((ratio * log.costs).sum() / ratio.sum())
        return Estimate(value, _mean(ratio * (log.costs - value) / ratio.mean()).error)
    model = model or CostModel.fit(log, seed=seed)
    rng = np.random.default_rng(seed)
    x = torch.as_tensor(log.observations)
    with torch.no_grad(), single_thread():
        drawn = [model(x, torch.as_tensor(policy.draw(log.observations, rng)[0])).numpy() for _ in range(20)]
        told = model(x, torch.as_tensor(log.decisions)).numpy()
    direct = np.mean(drawn, axis=0)
    return _mean(direct if method == "dm" else direct + ratio * (log.costs - told))


def _mean(terms: Floats) -> Estimate:
    return Estimate(float(terms.mean()), float(terms.std(ddof=1) / np.sqrt(len(terms))))
