"""KL-DRO: train for the worst reweighting of the samples within a ball of Kullback-Leibler divergence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..envs.shifts.resampling import tilt_weights
from ..solvers.base import check_not_negative
from .learner import RobustForecaster
from .trained import Samples


@dataclass(kw_only=True, eq=False)
class KullbackLeiblerRobust(RobustForecaster):
    """Trained for the worst reweighting of its samples: min_w max_q sum_i q_i l_i(w) over KL(q || uniform) <= eps.

    The l_i are the losses of the samples of a batch (Hu and Hong, 2013; 3D-Learning, Section V-B2). The maximum has a
    dual in one variable,

        min_{alpha > 0} alpha eps + alpha log mean_i exp(l_i / alpha),

    and is reached at q_i ~ exp(l_i / alpha).

    Parameters
    ----------
    objective
        See :class:`~shiftgym.agents.learner.RobustForecaster`.
    budget : float
        eps, in nats. Among B samples no more than log B can be spent: beyond it, the largest loss alone counts.
    """

    decision_focused = False  # its risk is a worst case, no mean
    budget: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(budget=self.budget)

    def risk(self, samples: Samples) -> Tensor:
        """The worst mean loss within the ball."""
        return worst_mean(self.sample_losses(samples), self.budget)


def worst_mean(losses: Tensor, budget: float) -> Tensor:
    """Largest mean of losses (B,) under weights within a KL ball around equal ones, with its gradient.

    The weights are constant here: where they are best, they move the mean by nothing (envelope theorem).
    """
    weights = tilt_weights(losses.detach().cpu().double().numpy(), budget)
    return torch.as_tensor(weights, device=losses.device) @ losses.double()
