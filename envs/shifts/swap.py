"""Swap: another trace altogether."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...data.trace import Trace
from .mixture import OtherTraceShift
from .registry import register


@register("swap", family="swap", source="3D-Learning, Table I")
@dataclass(frozen=True, kw_only=True)
class Swap(OtherTraceShift):
    """Another service, year, region or market, as it is: its own time, length and context."""

    place = None

    def transform(self, trace: Trace, rng: np.random.Generator) -> Trace:  # noqa: D102
        return self.other(trace)
