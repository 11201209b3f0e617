"""3D-Learning: train a forecast for the worst distribution that a diffusion model of the training samples can reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import no_grad

from ..envs.task import check_count
from .base import State
from .joint import Joint
from .learner import RobustForecaster
from .trained import Samples
from .worst_case import Adversary, Round, WorstCase

#: Paths of a model that a picture shows.
_SHOWN = 60


@dataclass(kw_only=True, eq=False)
class DiffusionRobust(RobustForecaster, Adversary):
    """Algorithm 2 of 3D-Learning: in every epoch the worst case is found anew, and trained on.

    min_w max_theta E_{P_theta}[f(z*(h_w(v)), c)] over J(theta, S_0) <= eps (equation 9), where P_theta is the output of
    a diffusion model of x = (v, c): histories and outcomes.

    ================  ======================================================
    3D-Learning       here
    ================  ======================================================
    h_w, w            ``network_``
    IMAX, theta       :class:`~shiftgym.agents.worst_case.WorstCase`
    S_theta           :meth:`_worst_case`
    E                 ``epochs``
    ================  ======================================================

    The epoch that held-out data like best is not the most robust one, so nothing is held out and the last one is kept,
    as in the paper; with a share of ``validation``, the one with the lowest loss there.

    Parameters
    ----------
    objective
        Loss f of the forecast and of the adversary, see :class:`~shiftgym.agents.learner.RobustForecaster`.
    passes : int
        How often the predictor sees the worst-case samples of an epoch.
    persistence, diffusion_steps, schedule, sampling_steps, denoiser, reference_epochs, reference_rate, budget, \
    tuned_steps, variance, gradient, clip, inner_epochs, adversary_rate, dual_rate, multiplier
        See :class:`~shiftgym.agents.worst_case.Adversary`.

    Attributes
    ----------
    rounds_ : list of Round
        alpha, J and the adversarial loss of every epoch; like ``history_`` not saved.
    reference_samples_, worst_case_samples_ : Samples
        Drawn from theta_0 and from the last theta, as many as there are in training; not saved.
    """

    persistence: float = 0.9
    epochs: int = 15
    validation: float = 0.0
    passes: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_adversary()
        check_count("passes", self.passes)

    def _each_epoch(self, train: Samples) -> Callable[[], Samples]:
        joint = Joint.of(train, self.layout_, self.problem_, self.persistence)
        self._adversary = WorstCase(train, joint, self.layout_, self, self.batch_size, self.seed)
        self.rounds_: list[Round] = []
        return self._worst_case

    def _train(self, train: Samples, held: Samples, progress: bool) -> None:
        super()._train(train, held, progress)
        with no_grad():
            self.reference_samples_ = self._adversary.draw(self._adversary.reference)
            self.worst_case_samples_ = self._adversary.draw()
        self.exhibits_ = self._exhibits()

    def _exhibits(self) -> State:
        """What a picture of the adversary shows: its rounds, and some paths of both models with the same beginning."""
        rounds = dict(zip(Round._fields, np.array(self.rounds_).T, strict=True))
        both = {"reference_paths": self.reference_samples_, "worst_case_paths": self.worst_case_samples_}
        some = np.linspace(0, len(self.reference_samples_) - 1, _SHOWN).astype(int)
        paths = {name: self._adversary.joint.paths(samples).cpu().numpy()[some] for name, samples in both.items()}
        return {**rounds, **paths, "budget": np.array(self.budget), "history": np.array(self._adversary.joint.history)}

    def _worst_case(self) -> Samples:
        """S_theta, for the predictor as it is now."""
        self.rounds_.append(self._adversary.maximise(self.sample_losses))
        drawn = [self._adversary.draw() for _ in range(self.passes)]
        return sum(drawn[1:], start=drawn[0])
