"""Marginal shifts: the distribution of the values changes, their order in time does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import ArrayShift, Scene, Values
from .parameters import ShiftError, parameter
from .registry import register


@register("scale", family="marginal")
@dataclass(frozen=True, kw_only=True)
class Scale(ArrayShift):
    """Values multiplied: more users, longer requests, higher volatility.

    About the mean, only the spread grows: a volatility without the return that it would promise.
    """

    factor: float = parameter(1.3, identity=1.0, low=0.0, doc="what values are multiplied by")
    about: str = parameter(
        "zero", kind="choice", choices=("zero", "mean"), doc="'mean' multiplies the distance from the column's mean"
    )

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        if self.about == "zero":
            return values * self.factor
        mean = scene.reference.mean(axis=0)
        return np.asarray(mean + (values - mean) * self.factor)


@register("offset", family="marginal")
@dataclass(frozen=True, kw_only=True)
class Offset(ArrayShift):
    """A constant added: a new base load, a drop of all returns."""

    amount: float = parameter(0.2, identity=0.0, doc="in multiples of the column's mean magnitude")

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        return np.asarray(values + self.amount * np.abs(scene.reference).mean(axis=0))


@register("stretch", family="marginal")
@dataclass(frozen=True, kw_only=True)
class Stretch(ArrayShift):
    """Values on one side of the median moved away from it, extreme ones most: a heavier tail.

    A value at quantile level q >= 1/2 moves to median + (value - median) (1 + (factor - 1) (2 q - 1)): the
    order of the values stays, those at the median do not move and the largest ends ``factor`` times as far.
    """

    factor: float = parameter(2.0, identity=1.0, low=1.0, doc="what the distance of the largest value grows by")
    tail: str = parameter(
        "high", kind="choice", choices=("high", "low", "both"), doc="side of the median that is stretched"
    )

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        signs = {"high": (1.0,), "low": (-1.0,), "both": (1.0, -1.0)}[self.tail]
        for sign in signs:
            values = sign * _stretched(sign * values, sign * scene.reference, self.factor)
        return values


def _stretched(values: Values, reference: Values, factor: float) -> Values:
    above = values - np.median(reference, axis=0)
    ranks = [np.searchsorted(np.sort(r), v, side="right") for r, v in zip(reference.T, values.T, strict=True)]
    level = np.stack(ranks, axis=1) / len(reference)
    return np.asarray(values + np.maximum(above, 0.0) * (factor - 1.0) * np.maximum(2.0 * level - 1.0, 0.0))


@register("clip", family="marginal")
@dataclass(frozen=True, kw_only=True)
class Clip(ArrayShift):
    """Values cut off above: admission control, a saturated meter, curtailment."""

    quantile: float | None = parameter(
        None, identity=1.0, low=0.0, high=1.0, doc="largest value that stays, as a quantile of the column"
    )
    level: float | None = parameter(
        None, identity=1.0, low=0.0, high=1.0, doc="or as a share of the column's largest value"
    )

    def validate(self) -> None:  # noqa: D102
        if (self.quantile is None) == (self.level is None):
            raise ShiftError(
                f"quantile of shift 'clip' is {self.quantile!r} and level {self.level!r}: give one of the two"
            )

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        if self.quantile is not None:
            cap = np.quantile(scene.reference, self.quantile, axis=0)
        else:
            cap = np.asarray(self.level) * scene.reference.max(axis=0)
        return np.minimum(values, cap)
