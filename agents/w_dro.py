"""W-DRO: train on samples moved to where they hurt most, within a Wasserstein ball that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.errors import UnknownNameError
from ..envs.task import Task, check_count
from ..solvers.base import check_not_negative
from .joint import Joint, check_persistence
from .learner import RobustForecaster
from .trained import Samples


@dataclass(kw_only=True, eq=False)
class WassersteinRobust(RobustForecaster):
    """Trained on moved samples: min_w max_delta mean_i l(x_i + delta_i; w) over mean_i ||delta_i||^2 <= eps^2.

    FWDRO is adversarial training in which samples share one budget, so that those that hurt most are moved most
    (Staib and Jegelka, 2017; 3D-Learning, Section V-B2). Histories and outcomes stay above the smallest outcome that
    makes sense; context and state are not moved.

    Parameters
    ----------
    objective
        See :class:`~shiftgym.agents.learner.RobustForecaster`.
    budget : float
        eps, root mean square over a batch of how far a sample is moved (l2), in training standard deviations. The
        paper's 2 is in units that it does not name.
    moved : {"history", "both"}
        The history in an observation, as in FWDRO, where labels stay; or history and outcome, which are x = (v, c) of
        3D-Learning.
    persistence : float
        How long a disturbance lasts: distances are taken in the coordinates of :class:`~shiftgym.agents.joint.Joint`,
        in which moving a whole stretch of the path is as cheap as moving one slot of it.
    steps : int
        Frank-Wolfe steps toward the worst perturbation of a batch.
    """

    decision_focused = False  # its risk is a worst case, no mean
    budget: float = 0.5
    moved: str = "history"
    persistence: float = 0.0
    steps: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(budget=self.budget)
        if self.moved not in ("history", "both"):
            raise UnknownNameError("moved", self.moved, ("history", "both"))
        check_persistence(self.persistence)
        check_count("steps", self.steps)

    def _training(self, task: Task, samples: Samples) -> Samples:
        self._joint = Joint.of(samples, self.layout_, self.problem_, self.persistence)
        return samples

    def risk(self, samples: Samples) -> Tensor:
        """The mean loss of the moved samples, which are constants to the weights (Danskin)."""

        def loss(delta: Tensor) -> Tensor:
            return self.sample_losses(self._joint.moved(samples, delta)).mean()

        width = self._joint.width if self.moved == "both" else self._joint.history
        start = samples.observations.new_zeros(len(samples), width)
        return loss(frank_wolfe(loss, start, self.budget, self.steps))


def frank_wolfe(gain: Callable[[Tensor], Tensor], start: Tensor, budget: float, steps: int) -> Tensor:
    """Maximise ``gain`` over perturbations (B, n) with mean_i ||delta_i||^2 <= budget^2, from a feasible start.

    Over that ball, the joint gradient G is followed furthest at budget sqrt(B) G / ||G||. Step k goes 2 / (k + 2) of
    the way there, so that every iterate is feasible without projection; the first one goes all the way.
    """
    delta = start
    for k in range(steps):
        with torch.enable_grad():  # held-out data are judged without gradients
            at = delta.detach().requires_grad_()
            (slope,) = torch.autograd.grad(gain(at), at)
        size = slope.norm()
        if size == 0:  # nothing to follow
            break
        furthest = budget * len(delta) ** 0.5 * slope / size
        delta = delta + 2 / (k + 2) * (furthest - delta)
    return delta
