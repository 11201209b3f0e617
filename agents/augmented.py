"""Data augmentation: train on the training samples and on corrupted copies of them."""

from __future__ import annotations

from dataclasses import dataclass

from ..envs.shifts import parse_shift
from ..envs.task import Task
from .learner import RobustForecaster
from .trained import Samples


@dataclass(kw_only=True, eq=False)
class Augmented(RobustForecaster):
    """The training samples, and once more as they are under a shift of the training trace (3D-Learning, V-C1).

    Held-out data are not corrupted.

    Parameters
    ----------
    objective
        See :class:`~shiftgym.agents.learner.RobustForecaster`.
    shift : str
        Text of the shift, one that leaves slots where they are. It corrupts observations and outcomes alike; with
        ``channel=observed`` observations only.
    """

    shift: str

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_shift(self.shift)

    def _training(self, task: Task, samples: Samples) -> Samples:
        corrupted = Samples.of(task.under(self.shift, self.seed), samples.observations.device)
        return samples + corrupted.pick(slice(len(samples)))


@dataclass(kw_only=True, eq=False)
class CutoutAugmented(Augmented):
    """Trained on copies as well in which values are masked to zero, as in an outage."""

    shift: str = "cutout(p=0.05)"


@dataclass(kw_only=True, eq=False)
class GaussianAugmented(Augmented):
    """Trained on copies with white noise as well."""

    shift: str = "gaussian(scale=0.05)"


@dataclass(kw_only=True, eq=False)
class PerlinAugmented(Augmented):
    """Trained on copies with smooth noise, slow waves, as well."""

    shift: str = "perlin(scale=0.05)"
