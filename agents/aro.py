"""ARO: robust to sets of one size and shape, around a point forecast, whatever the context.

Source: Contextual Robust Optimization for AI Data Center Scheduling, Section VI-A.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.errors import UnknownNameError
from ..envs.task import Floats
from .calibration import exact
from .protective import Calibrated, Region
from .sets import Box, Ellipsoid

COVERAGES = ("next", "calibration")


@dataclass(kw_only=True, eq=False)
class Static(Calibrated):
    """A point forecast, around which the set is the same every day.

    Parameters
    ----------
    coverage : {"next", "calibration"}
        Which outcomes the set holds at the promised rate: the next one, with the k-th score for
        k = ceil((n + 1) (1 - epsilon)), so that static and contextual sets promise the same; or those of the
        calibration days, with k = ceil(n (1 - epsilon)) as in the paper, which is a little less.
    """

    learner = "mse"
    coverage: str = "next"

    def __post_init__(self) -> None:
        if self.coverage not in COVERAGES:
            raise UnknownNameError("coverage", self.coverage, COVERAGES)
        super().__post_init__()

    def _target(self, group: str, count: int) -> float:
        epsilon = super()._target(group, count)
        # of n + 1 outcomes as many are missed as of n
        return epsilon if self.coverage == "next" else float(1 - count * (1 - exact(epsilon)) / (count + 1))


@dataclass(kw_only=True, eq=False)
class AroBox(Static, Box):
    """Robust to a static box: a point forecast, and the same margin every day, in training deviations of its errors."""


@dataclass(kw_only=True, eq=False)
class AroEllipsoid(Static, Ellipsoid):
    """Robust to a static ellipsoid: a point forecast, training deviations of its errors, and a calibrated radius."""

    def _measured(self, group: str, train: Region, trained: Floats) -> dict[str, Floats]:
        return {"scale": self.spread(group, trained - train[0])}

    def _region(self, group: str, predicted: Region) -> Region:
        """The forecast, and the deviation of its training errors."""
        (mean,) = predicted
        return [mean, np.broadcast_to(self.facts_[f"{group}.scale"], mean.shape)]
