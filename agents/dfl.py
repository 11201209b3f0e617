"""Decision-focused learning: train the forecast for the cost of the decision it leads to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .learner import PointForecaster


@dataclass(kw_only=True, eq=False)
class DecisionFocused(PointForecaster):
    """Deterministic DFL (3D-Learning, equation 2): min_w E[f(y, z*(h_w(x)))].

    The gradient passes through the decision by the problem's adjoint.
    """

    decision_focused = True

    def losses(self, output: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
        """Cost of the decision that the forecast leads to."""
        return self.decision_losses(output, outcomes, state)
