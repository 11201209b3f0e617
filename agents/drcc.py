"""DRCC: every constraint by itself holds for all laws of the forecast errors with the same mean and variance.

| paper | here |
|---|---|
| eps_l = eps_m / L_m | Bonferroni's share of each of the L_m rows of a joint constraint |
| kappa_l = sqrt((1 - eps_l) / eps_l) | :func:`kappa` |
| m, Sigma | mean and variance of the errors on calibration days |

Source: Contextual Robust Optimization for AI Data Center Scheduling, Section VI-A; Calafiore and El Ghaoui (2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..envs.task import Floats, Observations
from ..solvers.data_center.second_order import SecondOrder
from .protective import Protective, Region
from .uncertainty import GROUPS

if TYPE_CHECKING:
    from ..solvers.data_center.scenario_program import Scenarios


def kappa(epsilon: float, rows: int = 1) -> float:
    """Standard deviations to keep from a constraint, one of so many rows that hold together at rate 1 - epsilon.

    Examples
    --------
    >>> [round(kappa(0.05, rows), 4) for rows in (1, 48, 216)]
    [4.3589, 30.9677, 65.7191]
    """
    each = epsilon / rows
    return math.sqrt((1 - each) / each)


@dataclass(kw_only=True, eq=False)
class DistributionallyRobust(Protective):
    """Distributionally robust to all laws of the errors with the mean and variance of the calibration days.

    Rows of joint constraints share the promise equally, so that margins grow with the square root of their number.
    """

    conic = True

    @property
    def certified_(self) -> dict[str, bool]:
        """True by the moments, which are taken as known; no day of the calibration is counted."""
        return dict.fromkeys(self.promise_, True)

    def _calibrate(
        self, group: str, train: Region, trained: Floats, rest: Region, calibrated: Floats
    ) -> dict[str, Floats]:
        errors = calibrated - rest[0]
        return {"shift": errors.mean(0), "spread": self.spread(group, errors)}

    def rows(self, group: str) -> int:
        """Rows of the constraint of a group: one per center and hour, per service and hour, or per class as well."""
        hours, sites = self._series.hours, int(self._problem.fleet.allowed.sum())
        return {"renewables": 1, "requests": self._series.requests * hours, "arrivals": sites * hours}[group]

    def moments(self, observations: Observations) -> dict[str, Region]:
        """Mean, and kappa standard deviations, of the series of each group."""
        moments = {}
        for group, (mean,) in self._predict(observations).items():
            margin = kappa(self._rate[group], self.rows(group)) * self.facts_[f"{group}.spread"]
            moments[group] = [mean + self.facts_[f"{group}.shift"], np.broadcast_to(margin, mean.shape)]
        return moments

    def _against(self, observations: Observations) -> list[SecondOrder | Scenarios] | None:
        mean, margin = self.moments(observations)["arrivals"]
        return [SecondOrder(*row) for row in zip(mean, margin, strict=True)]

    def levels(self, observations: Observations) -> dict[str, Floats]:
        """Mean plus margin, for plants minus it: the levels that withstand the worst case of each single series."""
        moments = self.moments(observations)
        sign = {group: -1.0 if group == "renewables" else 1.0 for group in GROUPS}
        return {group: mean + sign[group] * margin for group, (mean, margin) in moments.items()}
