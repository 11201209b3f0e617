"""ULRO: robust to sets that are learned from the context of the day and calibrated to hold it.

Source: Contextual Robust Optimization for AI Data Center Scheduling, Algorithm 3 with (26), ULRO-B, or (27), ULRO-E.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.errors import UnknownNameError
from ..envs.task import Floats
from .protective import Region
from .sets import Box, Ellipsoid

SCALES = ("errors", "width")
#: How far the correlation of errors is shrunk towards none.
_SHRINKAGE = 0.1


@dataclass(kw_only=True, eq=False)
class UlroBox(Box):
    """Robust to a box: intervals learned by the interval quantile loss, widened by what calibration days ask for.

    Parameters
    ----------
    scale : {"errors", "width"}
        What the widening is a multiple of: the spread of the training errors of the series at that hour, which is the
        same every day, or the width of the interval.
    """

    learner = "iql"
    scale: str = "errors"

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise UnknownNameError("scale", self.scale, SCALES)
        super().__post_init__()

    def _region(self, group: str, predicted: Region) -> Region:
        low, high, errors = super()._region(group, predicted)
        return [low, high, errors if self.scale == "errors" else np.maximum(high - low, self.least_spread(group))]


@dataclass(kw_only=True, eq=False)
class UlroEllipsoid(Ellipsoid):
    """Robust to an ellipsoid: means and deviations learned in two stages, with the radius of the calibration days.

    Parameters
    ----------
    corr : bool
        Whether the ellipsoid of requests, and that of training work, is turned by the correlation of the training
        errors, shrunk by a tenth; its axes are those of the components otherwise.
    """

    learner = "mvl"
    corr: bool = False

    def _measured(self, group: str, train: Region, trained: Floats) -> dict[str, Floats]:
        if not self.corr or group == "renewables":
            return {}
        mean, deviation = self._region(group, train)
        standard = ((trained - mean) / deviation).reshape(len(trained), -1)
        correlation: Floats = np.asarray(np.corrcoef(standard, rowvar=False))
        return {"correlation": (1 - _SHRINKAGE) * correlation + _SHRINKAGE * np.eye(len(correlation))}

    def _region(self, group: str, predicted: Region) -> Region:
        """Mean, and a deviation that is not next to nothing."""
        mean, deviation = predicted
        return [mean, np.maximum(deviation, self.least_spread(group))]

    def _correlation(self, group: str) -> Floats | None:
        return self.facts_.get(f"{group}.correlation")
