"""Two-stage learning: forecast for accuracy, then decide as if the forecast were true."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .learner import PointForecaster


@dataclass(kw_only=True, eq=False)
class TwoStage(PointForecaster):
    """Predict then optimise: the network minimises the squared error of the forecast."""

    def losses(self, output: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
        """Squared error of the forecast."""
        return self.squared_errors(output, outcomes)
