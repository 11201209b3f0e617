"""ARO: robust to sets of one size and shape, around a point forecast, whatever the context.

Source: Contextual Robust Optimization for AI Data Center Scheduling, Section VI-A. There the rank of the threshold is
ceil(n (1 - epsilon)); here it is that of Algorithm 1, so that static and contextual sets promise the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..envs.task import Floats
from .protective import Region
from .sets import Box, Ellipsoid


@dataclass(kw_only=True, eq=False)
class AroBox(Box):
    """Robust to a static box: a point forecast, and the same margin every day, in training deviations of its errors."""

    learner = "mse"


@dataclass(kw_only=True, eq=False)
class AroEllipsoid(Ellipsoid):
    """Robust to a static ellipsoid: a point forecast, training deviations of its errors, and a calibrated radius."""

    learner = "mse"

    def _measured(self, group: str, train: Region, trained: Floats) -> dict[str, Floats]:
        return {"scale": self.spread(group, trained - train[0])}

    def _region(self, group: str, predicted: Region) -> Region:
        """The forecast, and the deviation of its training errors."""
        (mean,) = predicted
        return [mean, np.broadcast_to(self.facts_[f"{group}.scale"], mean.shape)]
