"""Boxes and ellipsoids around a forecast of the next day of a data center, calibrated to hold it.

=====================  ===============================================  ======================================
paper                  here                                             meaning
=====================  ===============================================  ======================================
U^B, e_i               :class:`Box`, its scores                         equation 26, Algorithm 1
U^E, e_i               :class:`Ellipsoid`, its scores                   equation 27, Algorithm 2
s_j                    ``scale``                                        spread of the training errors
=====================  ===============================================  ======================================

Source: Contextual Robust Optimization for AI Data Center Scheduling, Sections IV and V. Whether a set is contextual
(ULRO) or static (ARO) is only a matter of what is learned: :mod:`shiftgym.agents.ulro`, :mod:`shiftgym.agents.aro`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..envs.task import Floats, Observations
from ..solvers.data_center.second_order import SecondOrder
from .calibration import box_scores, ellipsoid_scores
from .protective import Calibrated, Region

if TYPE_CHECKING:
    from ..solvers.data_center.scenario_program import Scenarios


@dataclass(kw_only=True, eq=False)
class Box(Calibrated):
    """Levels at the edge of a box: an interval of every series and hour, widened by a multiple of its spread."""

    def _measured(self, group: str, train: Region, trained: Floats) -> dict[str, Floats]:
        middle = (train[0] + train[-1]) / 2
        return {"scale": self.spread(group, trained - middle)}

    def _region(self, group: str, predicted: Region) -> Region:
        """Lower and upper bound, and the scale; a point forecast is an interval without width."""
        low, high = predicted[0], predicted[-1]
        return [low, high, np.broadcast_to(self.facts_[f"{group}.scale"], low.shape)]

    def _scores(self, group: str, outcomes: Floats, region: Region) -> Floats:
        low, high, scale = region
        scores = box_scores(outcomes, low, high, scale, self._side(group)).reshape(len(outcomes), -1)
        return scores if group == "renewables" else scores.max(1, keepdims=True)

    def _edge(self, group: str, region: Region, threshold: Floats) -> Floats:
        low, high, scale = region
        return low - threshold * scale if group == "renewables" else high + threshold * scale


@dataclass(kw_only=True, eq=False)
class Ellipsoid(Calibrated):
    """Levels at the edge of an ellipsoid: mean and deviation of every series and hour, and a joint radius.

    Levels are those of the smallest box around the ellipsoid, its hull. For renewables and requests that is exact, as a
    constraint has one of them only; for training work it is conservative, as a constraint has up to eight. Where
    decisions are schedules, training work meets the ellipsoid itself, by second-order cones.
    """

    conic = True

    def _correlation(self, group: str) -> Floats | None:
        """Correlation (L, L) of the standardised errors of a group, if any."""
        return None

    def _scores(self, group: str, outcomes: Floats, region: Region) -> Floats:
        mean, deviation = region
        rows = (-1, 1) if group == "renewables" else (len(outcomes), -1)  # every component is a set of its own, or none
        outcome, middle, width = (part.reshape(rows) for part in (outcomes, mean, deviation))
        scores = ellipsoid_scores(outcome, middle, width, self._correlation(group), self._side(group))
        return scores.reshape(len(outcomes), -1)

    def _edge(self, group: str, region: Region, threshold: Floats) -> Floats:
        mean, reach = region[0], self._reach(region, threshold)
        return mean - reach if group == "renewables" else mean + reach

    @staticmethod
    def _reach(region: Region, threshold: Floats) -> Floats:
        """Half-widths sqrt(r) sigma of the hull."""
        return np.sqrt(np.maximum(threshold, 0.0)) * region[1]

    def _against(self, observations: Observations) -> list[SecondOrder | Scenarios] | None:
        region, threshold = self._pending["arrivals"], self.threshold("arrivals")
        if not np.isfinite(threshold).all():
            return None
        correlation = self._correlation("arrivals")
        if correlation is not None:  # a constraint concerns one class
            hours, classes = self._series.hours, range(self._series.arrivals)
            blocks = correlation.reshape(len(classes), hours, len(classes), hours)
            correlation = np.stack([blocks[k, :, k] for k in classes])
        pairs = zip(region[0], self._reach(region, threshold), strict=True)
        return [SecondOrder(mean, reach, correlation) for mean, reach in pairs]
