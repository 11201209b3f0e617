"""Residual SAA: a linear point forecast plus its own out-of-fold errors as scenarios."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.errors import ShiftgymError
from ..envs.task import Floats, Observations, Task
from .base import ScenarioAgent, State, check_samples, some_of


@dataclass(kw_only=True, eq=False)
class ResidualSampleAverage(ScenarioAgent):
    """Ridge regression, and the errors it makes on data it has not seen, added to each forecast.

    No decision-focused training, no network; the baseline that a learned method has to beat (empirical residuals
    SAA of Kannan, Bayraksan and Luedtke, 2025, with out-of-fold residuals so that the errors are not optimistic).

    Parameters
    ----------
    samples : int or None
        Residuals used as scenarios, drawn without replacement; None takes all. All are kept, so that a saved agent
        can be loaded with another number.
    ridge : float
        Penalty on the weights of the standardised features, relative to the number of samples.
    folds : int
        Contiguous folds in time; each residual comes from a fit without its own fold.
    """

    samples: int | None = 200
    ridge: float = 1e-3
    folds: int = 5

    def __post_init__(self) -> None:
        check_samples(self.samples)

    def _fit(self, task: Task, progress: bool, device: str) -> None:
        observations, outcomes = task.dataset()
        if not 2 <= self.folds <= len(outcomes):
            raise ShiftgymError(f"folds is {self.folds}: give 2 to {len(outcomes)}, the number of samples")
        features = observations.astype(np.float64)
        self.weights_ = self._regress(features, outcomes)
        residuals = np.empty_like(outcomes)
        for fold in np.array_split(np.arange(len(outcomes)), self.folds):
            rest = np.setdiff1d(np.arange(len(outcomes)), fold)
            residuals[fold] = outcomes[fold] - _predict(features[fold], self._regress(features[rest], outcomes[rest]))
        self.residuals_ = residuals
        self._choose()

    def _choose(self) -> None:
        """Choose the residuals to decide with, once: every decision has the same."""
        self._chosen = some_of(self.residuals_, self.samples, self.seed)

    def _regress(self, features: Floats, outcomes: Floats) -> Floats:
        """Weights (1 + size, D) on the features as they are, the intercept first."""
        mean, scale = features.mean(0), features.std(0)
        scale = np.where(scale > 1e-12, scale, 1.0)
        standard = (features - mean) / scale
        gram = standard.T @ standard / len(standard) + self.ridge * np.eye(standard.shape[1])
        slopes = np.linalg.solve(gram, standard.T @ (outcomes - outcomes.mean(0)) / len(standard)) / scale[:, None]
        return np.concatenate(((outcomes.mean(0) - mean @ slopes)[None], slopes))

    def scenarios(self, observations: Observations) -> Floats:
        """Forecast plus every chosen residual, clipped to what is possible: (B, M, D)."""
        forecast = _predict(observations.astype(np.float64), self.weights_)
        return np.maximum(forecast[:, None] + self._chosen, self.problem_.outcome_low)

    def state(self) -> State:
        """Regression weights and all residuals."""
        return {"weights": self.weights_, "residuals": self.residuals_}

    def load_state(self, state: State) -> None:
        """Take back weights and residuals."""
        self.weights_, self.residuals_ = state["weights"], state["residuals"]
        self._choose()


def _predict(features: Floats, weights: Floats) -> NDArray[np.float64]:
    return weights[0] + features @ weights[1:]
