"""Two-stage learning: forecast for accuracy, then decide as if the forecast were true."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .learner import PointForecaster


@dataclass(kw_only=True, eq=False)
class TwoStage(PointForecaster):
    """Predict then optimise: the network minimises the squared error of the forecast."""

    def loss(self, output: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
        """Mean squared error in units of the training spread."""
        return (((output - outcomes) / self.scale_) ** 2).mean()
