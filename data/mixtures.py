"""Generated traces: independent draws of a Gaussian mixture whose law is known, so that costs can be exact."""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .catalogue import TraceInfo
from .errors import ShiftgymError, UnknownNameError
from .trace import Trace

HOUR, DAY = 3600.0, 86400.0
LENGTH, LONG = 20_000, 200_000  # draws: windows are independent data sets
START = "2000-01-01"
_DIFFUSION = "Diffusion-DFL, arXiv:2510.11590"


@dataclass(frozen=True)
class GaussianMixture:
    """Law of independent columns, each the same mixture of K Gaussians.

    Attributes
    ----------
    weights, means, deviations : tuple of float, length K
        Of the components; the weights are positive and sum to one, the deviations are standard deviations.
    columns : int
        Independent outcomes per slot.

    Raises
    ------
    ShiftgymError
        If lengths differ, weights are no probabilities or deviations negative.

    Examples
    --------
    >>> law = GaussianMixture((0.9, 0.1), (0.5, -1.5), (0.075, 0.075), columns=10)
    >>> round(law.mean, 12), law.sample(3, np.random.default_rng(0)).shape
    (0.3, (3, 10))
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    columns: int = 1

    def __post_init__(self) -> None:
        if not 0 < len(self.weights) == len(self.means) == len(self.deviations):
            raise ShiftgymError(
                f"a mixture has {len(self.weights)} weights, {len(self.means)} means and {len(self.deviations)} "
                "deviations: give as many of each, at least one"
            )
        if min(self.weights) <= 0 or abs(sum(self.weights) - 1) > 1e-9:
            raise ShiftgymError(f"weights of a mixture are {self.weights}: give positive ones that sum to 1")
        if min(self.deviations) < 0:
            raise ShiftgymError(f"deviations of a mixture are {self.deviations}: give none under 0")

    @property
    def mean(self) -> float:
        """Mean of each column."""
        return float(np.dot(self.weights, self.means))

    @property
    def deviation(self) -> float:
        """Standard deviation of each column."""
        second = np.dot(self.weights, np.square(self.means) + np.square(self.deviations))
        return float(np.sqrt(second - self.mean**2))

    def sample(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw ``count`` independent outcomes, shape (count, columns)."""
        shape = (count, self.columns)
        part = rng.choice(len(self.weights), size=shape, p=np.array(self.weights) / sum(self.weights))
        noise = rng.standard_normal(shape)
        return np.asarray(np.array(self.means)[part] + np.array(self.deviations)[part] * noise)

    def laplace(self, z: ArrayLike) -> NDArray[np.float64]:
        """Laplace transform E exp(-y'z) at points (..., columns): what product allocation costs on average, exactly.

        The columns are independent, so it is a product of sum_k w_k exp(-mean_k z_i + (deviation_k z_i)^2 / 2).
        """
        point = np.asarray(z, dtype=np.float64)[..., None]
        exponents = -point * np.array(self.means) + 0.5 * (point * np.array(self.deviations)) ** 2
        return np.asarray((np.exp(exponents) @ np.array(self.weights)).prod(axis=-1))


def _demand(components: int) -> GaussianMixture:
    """Equal components in the middles of K equal parts of [2, 18].

    The deviations keep modes over five deviations apart and zero over six away: no draw is negative.
    """
    middles = 2 + 16 * (np.arange(components) + 0.5) / components
    return GaussianMixture(
        (1 / components,) * components, tuple(middles.tolist()), (2.8 / (components + 1),) * components
    )


_CODE = GaussianMixture((0.9, 0.1), (0.5, -1.5), (0.075, 0.075), columns=10)
_PAPER = GaussianMixture((0.8, 0.2), (1.0, -3.0), (0.15, 0.15), columns=10)
_LAWS = {
    "allocation": _CODE,
    "allocation-long": _CODE,
    "allocation-paper": _PAPER,
    "allocation-paper-long": _PAPER,
    **{f"inventory-k{components}": _demand(components) for components in (1, 2, 3, 5, 8)},
}
_NOTES = {
    "allocation": "As the authors' public code draws the profits behind Table 1: 0.5 (0.9 N(1, 0.15^2) + "
    "0.1 N(-3, 0.15^2)). Section 6.1 states other parameters: allocation-paper.",
    "allocation-paper": "As section 6.1 states: 0.8 N(1, 0.15^2) + 0.2 N(-3, 0.15^2). The public code behind "
    "Table 1 draws another mixture: allocation.",
}
_DEMAND_NOTES = (
    "The paper states the form of the law, not its parameters: these are equal components in the middles of equal "
    "parts of [2, 18], far enough from zero that no demand is negative."
)


def mixture(name: str) -> GaussianMixture:
    """Return the law that a generated trace is drawn from, for exact population costs.

    Raises
    ------
    UnknownNameError
        If no generated trace has that name.
    """
    if name not in _LAWS:
        raise UnknownNameError("generated trace", name, _LAWS)
    return _LAWS[name]


@functools.cache
def generated() -> dict[str, TraceInfo]:
    """Return the entries of the generated traces by name, in the form of the catalogue."""
    return {name: _info(name) for name in _LAWS}


def _info(name: str) -> TraceInfo:
    allocation = name.startswith("allocation")
    parts = len(_LAWS[name].weights)
    length, slot = _extent(name)
    return TraceInfo(
        name=name,
        title="Product allocation, profits drawn from a Gaussian mixture"
        if allocation
        else f"Inventory, demand drawn from a Gaussian mixture of {parts}",
        kind="generated",
        slot=slot,
        quantity="profit per unit of each product" if allocation else "units of demand",
        columns={f"profit_{i + 1}": "profit per unit of the product" for i in range(10)}
        if allocation
        else {"demand": "units"},
        span=f"{length} independent draws, at nominal times from {START} on",
        licence="Apache-2.0",
        citation=f"{_DIFFUSION}, {'section 6.1 and appendix A.9' if allocation else 'appendix A.12'}",
        notes=_NOTES.get(name.removesuffix("-long"), _DEMAND_NOTES),
        synthetic=True,
    )


def _extent(name: str) -> tuple[int, float]:
    """Draws of a trace, and the seconds from one to the next: as many days as the long ones have no date can count."""
    return (LONG, HOUR) if name.endswith("-long") else (LENGTH, DAY)


def draw_trace(name: str) -> Trace:
    """Return a generated trace: the same numbers for the same name, always.

    Raises
    ------
    UnknownNameError
        If no generated trace has that name.
    """
    law, info = mixture(name), _info(name)
    length, slot = _extent(name)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return Trace(
        name=name,
        time=np.datetime64(START, "ns") + np.arange(length) * np.timedelta64(int(slot), "s"),
        outcome=law.sample(length, rng),
        slot=slot,
        outcome_names=tuple(info.columns),
        outcome_units=("profit/unit",) * law.columns if law.columns > 1 else ("units",),
        outcome_low=-np.inf if law.columns > 1 else 0.0,
        provenance=info.provenance,
    )
