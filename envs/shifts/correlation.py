"""Correlation: the columns move together, or each on its own, while each keeps its mean and deviation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import ArrayShift, Scene, Values
from .parameters import ShiftError, parameter
from .registry import register

_TINY = 1e-10


@register("correlation", family="correlation")
@dataclass(frozen=True, kw_only=True)
class Correlation(ArrayShift):
    """Correlations of the columns moved toward one (a crisis: all fall together) or toward zero.

    Every correlation c becomes (1 - share) c + share * target. Each slot is multiplied by the matrix that does
    this while it moves the standardised values as little as it can [1]_ [2]_: toward one it ends in the mean of the
    columns, toward zero in the uncorrelated columns nearest to these. Means, deviations and correlations are those
    of the whole trace before the shift, where they hold exactly (with an onset, nearly). A slot depends on itself
    and on these constants only, so crashes stay on their days and volatility on its clusters. Nothing is drawn.

    References
    ----------
    .. [1] M. Knott and C. S. Smith, On the optimal mapping of distributions, JOTA 43(1), 1984.
    .. [2] A. Kessy, A. Lewin and K. Strimmer, Optimal whitening and decorrelation, The American Statistician
       72(4), 2018.
    """

    share: float = parameter(
        0.5, identity=0.0, low=0.0, high=1.0, doc="share of the way from each correlation to its target"
    )
    toward: str = parameter("one", kind="choice", choices=("one", "zero"), doc="the target of every correlation")

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        if values.shape[1] < 2:
            raise ShiftError(
                f"shift {self.name!r} needs two columns at least, but trace {scene.trace.name!r} has "
                f"{values.shape[1]} in its {self.channel}"
            )
        mean, deviation = scene.reference.mean(axis=0), scene.reference.std(axis=0)
        moving = deviation > _TINY * np.maximum(np.abs(mean), 1e-300)  # a constant column correlates with nothing
        scale = np.where(moving, deviation, 1.0)
        standard = np.where(moving, (scene.reference - mean) / scale, 0.0)
        before = standard.T @ standard / len(standard) + np.diag(np.where(moving, 0.0, 1.0))
        target = np.ones_like(before) if self.toward == "one" else np.eye(len(before))
        matrix = self._map(before, (1 - self.share) * before + self.share * target, scene.trace.name)
        moved = np.where(moving, (values - mean) / scale, 0.0) @ matrix.T
        return np.where(moving, mean + scale * moved, values)

    def _map(self, before: Values, after: Values, name: str) -> Values:
        """Return the matrix A with A C A' = C', the nearest to the identity for data of correlation C."""
        levels, axes = np.linalg.eigh(before)
        solid = levels > _TINY * len(before)
        if self.toward == "zero" and not solid.all():
            raise ShiftError(
                f"toward of shift {self.name!r} is 'zero', but the columns of trace {name!r} determine each other: "
                "give more slots than columns, and no column twice"
            )
        root = np.sqrt(np.where(solid, levels, 0.0))
        inverse = np.divide(1.0, root, out=np.zeros_like(root), where=solid)
        half, back = (axes * root) @ axes.T, (axes * inverse) @ axes.T
        inner, turn = np.linalg.eigh(half @ after @ half)
        matrix = back @ ((turn * np.sqrt(np.maximum(inner, 0.0))) @ turn.T) @ back
        variance = np.einsum("ij,jk,ik->i", matrix, before, matrix, optimize=True)
        if variance.min() < _TINY:
            raise ShiftError(f"the columns of trace {name!r} cancel out: correlation(share=1) has nothing to follow")
        return np.asarray(matrix / np.sqrt(variance)[:, None])  # 1 already, unless columns determine each other
