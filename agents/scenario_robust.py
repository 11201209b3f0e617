"""ReDRO and CVaR-DJCC: robust to laws near that of past forecast errors, by the mean of the worst cases.

==============================  ==============================================  =================================
paper                           here                                            meaning
==============================  ==============================================  =================================
xi^i(phi)                       forecast + :attr:`ScenarioRobust.errors`        scenarios
w_j                             ``scale``                                       deviation of the training errors
theta                           :data:`RADII`                                   radius of the ball of laws
eta + sum z_i / (eps n) <= 0    :func:`conditional_value_at_risk`               mean of the worst share eps
==============================  ==============================================  =================================

The constraints bound the conditional value at risk of the largest excess, in deviations w, over all rows of a joint
constraint. With levels that are the forecast plus one margin m times w, the excess of scenario i is max_j e_ij / w_j
less m, so that the least margin is CVaR(max_j e_ij / w_j) plus what the radius adds: theta in ReDRO, where every
scenario moves by up to theta, theta / eps in CVaR-DJCC, whose ball is one of Wasserstein distance.

Source: Contextual Robust Optimization for AI Data Center Scheduling, Section VI-A, and the works it cites there; the
programs were reconstructed, the radius is chosen by cross-validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..envs.task import Floats, Observations
from ..solvers.data_center.scenario_program import Scenarios
from .protective import Protective, Region

if TYPE_CHECKING:
    from ..solvers.data_center.second_order import SecondOrder

#: Radii to choose from, in deviations of the errors.
RADII = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
#: Parts of the calibration days, each of which once judges a radius.
FOLDS = 5


def conditional_value_at_risk(values: Floats, epsilon: float) -> Floats:
    """Mean (...) of the largest share ``epsilon`` of values (n, ...); one that straddles it counts in part.

    Equals min over eta of eta + mean_i (v_i - eta)_+ / epsilon (Rockafellar and Uryasev, 2000).
    """
    ranked = np.sort(values, axis=0)[::-1]
    weights = np.clip(epsilon * len(values) - np.arange(len(values)), 0.0, 1.0)
    return np.asarray(np.tensordot(weights, ranked, 1) / (epsilon * len(values)))


@dataclass(kw_only=True, eq=False)
class ScenarioRobust(Protective):
    """Levels that keep the mean of the worst cases among past forecast errors, moved by a radius, within limits.

    Where decisions are schedules, the scenarios themselves are part of the program, whose margins differ from hour to
    hour as it costs least; one radius serves both joint constraints then, the larger one.
    """

    #: Whether the radius counts 1 / epsilon times, as it does in a Wasserstein ball.
    wasserstein: ClassVar[bool]

    @property
    def certified_(self) -> dict[str, bool]:
        """False: the radius is chosen so that held-out days keep the promise, which certifies nothing."""
        return dict.fromkeys(self.promise_, False)

    def _calibrate(
        self, group: str, train: Region, trained: Floats, rest: Region, calibrated: Floats
    ) -> dict[str, Floats]:
        scale, errors = self.spread(group, trained - train[0]), calibrated - rest[0]
        excess = self._excess(group, errors / scale)
        theta = self._choose(group, excess)
        margin = self._margin(group, excess, theta)
        return {"scale": scale, "errors": errors, "theta": np.array([theta]), "margin": margin}

    @staticmethod
    def _excess(group: str, standard: Floats) -> Floats:
        """How far standardised errors (n, series, T) hurt (n, L): each for renewables, the largest for the others."""
        flat = standard.reshape(len(standard), -1)
        return -flat if group == "renewables" else flat.max(1, keepdims=True)

    def _margin(self, group: str, excess: Floats, theta: float) -> Floats:
        """The least margins (L,) in deviations."""
        epsilon = self._rate[group]
        return conditional_value_at_risk(excess, epsilon) + theta * (1 / epsilon if self.wasserstein else 1.0)

    def _choose(self, group: str, excess: Floats) -> float:
        """The least radius that keeps the promise on the parts of the days that are left out in turn."""
        parts = np.array_split(np.random.default_rng(self.seed).permutation(len(excess)), min(FOLDS, len(excess)))
        for theta in RADII:
            broken = [
                excess[part] > self._margin(group, np.delete(excess, part, axis=0), theta)
                for part in parts
                if len(part) < len(excess)
            ]
            if broken and np.concatenate(broken).mean() <= self._rate[group]:
                return theta
        return RADII[-1]

    def _against(self, observations: Observations) -> list[SecondOrder | Scenarios] | None:
        predicted = self._predict(observations)
        requests, arrivals = (
            np.maximum(predicted[group][0][:, None] + self.facts_[f"{group}.errors"], 0.0)
            for group in ("requests", "arrivals")
        )
        return [
            Scenarios(
                requests=requests[row],
                arrivals=arrivals[row],
                kind="cvar-djcc" if self.wasserstein else "re-dro",
                radius=max(self.facts_[f"{group}.theta"].item() for group in ("requests", "arrivals")),
                epsilon_requests=self._rate["requests"],
                epsilon_arrivals=self._rate["arrivals"],
            )
            for row in range(len(observations))
        ]

    def levels(self, observations: Observations) -> dict[str, Floats]:
        """Forecast plus the least margin of every group, for plants minus it."""
        levels = {}
        for group, (mean,) in self._predict(observations).items():
            scale, margin = self.facts_[f"{group}.scale"], self.facts_[f"{group}.margin"]
            reach = margin.reshape(-1, self._series.hours if len(margin) > 1 else 1) * scale
            levels[group] = mean - reach if group == "renewables" else mean + reach
        return levels


@dataclass(kw_only=True, eq=False)
class ResidualRobust(ScenarioRobust):
    """ReDRO: robust to past forecast errors, each of which may be worse by a radius, by the mean of the worst cases."""

    wasserstein = False


@dataclass(kw_only=True, eq=False)
class ConditionalValueRobust(ScenarioRobust):
    """CVaR-DJCC: robust to all laws in a Wasserstein ball around past errors, by the mean of the worst cases."""

    wasserstein = True
