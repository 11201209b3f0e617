"""The offline contextual bandit: a policy network trained on the cost of its own decisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..envs.task import Floats, Observations
from .learner import Learner, costs


@dataclass(kw_only=True, eq=False)
class Bandit(Learner):
    """Full-information offline bandit (Diffusion-DFL, Section 6): min_w E[f(y, phi_w(x))].

    The outcome of every training step is known, so the cost of any decision is; no forecast, no solver. The policy
    respects the box [low, high] by a sigmoid and other constraints only through the environment's projection.
    """

    decision_focused = True

    @property
    def outputs(self) -> int:
        """One output per decision."""
        return self.problem_.decision_dim

    def start(self, outcomes: Floats) -> tuple[Floats, Floats]:
        """Start at the best constant decision, as logits of its place in the box."""
        low, high = self.problem_.low, self.problem_.high
        share = (self.problem_.solve(outcomes[None])[0] - low) / (high - low)
        share = np.clip(share, 0.01, 0.99)
        return np.log(share / (1 - share)), np.ones_like(share)

    def link(self, raw: Tensor) -> Tensor:
        """Decisions inside the box."""
        low, high = self.problem_.box(raw)
        return low + (high - low) * torch.sigmoid(super().link(raw))

    def losses(self, output: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
        """Cost of the decisions."""
        return costs(self.problem_, output, outcomes, state)

    def _act(self, observations: Observations) -> Floats:
        return self.predict(observations)
