"""Corruption: values masked or made noisy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .base import ArrayShift, Scene, Values
from .parameters import parameter
from .registry import register

_SOURCE = "3D-Learning, sections V-C1 and V-C2"


@register("cutout", family="corruption", source=_SOURCE)
@dataclass(frozen=True, kw_only=True)
class Cutout(ArrayShift):
    """Values masked to zero, each on its own: outages."""

    p: float = parameter(0.005, identity=0.0, low=0.0, high=1.0, doc="probability that a value is masked")

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        return np.where(scene.rng.random(values.shape) < self.p, 0.0, values)


@register("gaussian", family="corruption", source=_SOURCE)
@dataclass(frozen=True, kw_only=True)
class Gaussian(ArrayShift):
    """White Gaussian noise added: fluctuation without memory."""

    scale: float = parameter(
        0.1, identity=0.0, low=0.0, doc="standard deviation, as a share of the column's largest magnitude"
    )

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        return values + self.scale * scene.maximum * scene.rng.standard_normal(values.shape)


@register("perlin", family="corruption", source=_SOURCE)
@dataclass(frozen=True, kw_only=True)
class Perlin(ArrayShift):
    """Smooth gradient noise added: slow waves that no calendar explains."""

    scale: float = parameter(
        0.05, identity=0.0, low=0.0, doc="largest magnitude, as a share of the column's largest magnitude"
    )
    period: float = parameter(28.0, low=1.0, doc="distance of the random gradients, in slots")

    def distort(self, values: Values, scene: Scene) -> Values:  # noqa: D102
        noise = perlin_noise(len(values), values.shape[1], self.period, scene.rng)
        return values + self.scale * scene.maximum * noise


def perlin_noise(length: int, columns: int, period: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """One-dimensional gradient noise with values in [-1, 1].

    Random gradients g in [-1, 1] stand ``period`` slots apart. At offset u in [0, 1] between two of them the
    noise is 2 lerp(g_0 u, g_1 (u - 1); fade(u)) with fade(u) = u^3 (6 u^2 - 15 u + 10), whose first two
    derivatives vanish at both ends; it is zero at the gradients, and 1 at most, half-way between a rising and
    a falling one.

    Parameters
    ----------
    length, columns : int
        Slots, and series that are independent of each other.
    period : float
        Distance of the gradients in slots.
    rng : numpy.random.Generator
        Draws the gradients and the place of the first one.

    Returns
    -------
    array, shape (length, columns)

    References
    ----------
    K. Perlin, Improving noise, SIGGRAPH 2002.
    """
    place = (np.arange(length)[:, None] + period * rng.random(columns)) / period
    cell = place.astype(np.int64)
    gradients = rng.uniform(-1.0, 1.0, (int(cell.max()) + 2, columns))
    column = np.arange(columns)
    offset = place - cell
    fade = offset**3 * (6 * offset**2 - 15 * offset + 10)
    left, right = gradients[cell, column] * offset, gradients[cell + 1, column] * (offset - 1)
    return np.asarray(2 * (left + fade * (right - left)))
