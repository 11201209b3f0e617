"""Generative forecasters: a distribution of outcomes, trained for likelihood, then for the cost of decisions."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from ..data.errors import ShiftgymError, UnknownNameError
from ..envs.task import Floats, Observations
from ..solvers import DecisionProblem
from .base import ScenarioAgent, check_samples
from .diffusion import Diffusion
from .learner import level_and_spread, scenario_loss
from .networks import make_encoder
from .predictors import Centred, Gaussian, Predictor
from .threads import single_thread
from .trained import Objective, Samples, Trained, kept_generator

#: Numbers of scenarios (decision points x samples x outcomes) that are drawn at once when deciding.
_AT_ONCE = 2**22


@dataclass(kw_only=True, eq=False)
class Generative(Trained, ScenarioAgent):
    """Learns P(y | x), decides by the sample average over draws from it (Diffusion-DFL, Sections 3 to 5).

    Two stages: likelihood, then, for the agents that are decision-focused, the cost of the decision
    z*(x) = argmin_z mean_m f(y_m, z). Its gradient reaches the weights through the samples ("reparameterised", eq. 5)
    or through their likelihood ("score", eq. 9 and 10); both come from one adjoint solve.

    Parameters
    ----------
    hidden, epochs, batch_size, learning_rate, validation
        See :class:`~shiftgym.agents.trained.Trained`; ``epochs`` and ``learning_rate`` are those of the first stage.
    conditional : bool
        Whether the distribution depends on the observation. Without, one set of samples serves every decision point.
    dropout : float
        Share of the units of a Gaussian forecast that are left out, at random, in each step of training.
    averaged : float
        Decay of the running average of the weights that is kept; 0 for none, and a constant learning rate.
    samples : int
        Scenarios of a decision, from the same noise in every context (common random numbers).
    train_samples : int
        M, scenarios per decision point in the second stage.
    focus_epochs, focus_rate
        Epochs and learning rate of the second stage.
    regulariser : float
        Weight of the likelihood in the second stage, relative to the cost; it keeps the samples like outcomes.
    guard : float
        By how much the likelihood loss on held-out data, per outcome, may become worse than after the first stage;
        epochs beyond that are not kept, however cheap their decisions.
    """

    #: "", "reparameterised" or "score": how the second stage follows the cost of decisions.
    estimator: ClassVar[str] = ""

    hidden: tuple[int, ...] = (256, 256)
    epochs: int = 100
    conditional: bool = True
    dropout: float = 0.0
    averaged: float = 0.99
    samples: int = 200
    train_samples: int = 25
    focus_epochs: int = 20
    focus_rate: float = 1e-4
    regulariser: float = 0.1
    guard: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_samples(self.samples)
        for field in ("train_samples", "focus_epochs"):
            if getattr(self, field) < 1:
                raise ShiftgymError(f"{field} is {getattr(self, field)}: give a whole number of at least 1")
        for field in ("focus_rate", "regulariser", "guard"):
            if getattr(self, field) < 0:
                raise ShiftgymError(f"{field} is {getattr(self, field)}: give a number that is not negative")
        for field in ("averaged", "dropout"):
            if not 0 <= getattr(self, field) < 1:
                raise ShiftgymError(f"{field} is {getattr(self, field)}: give a share in [0, 1)")

    @abstractmethod
    def _build(self, observations: Tensor) -> Predictor:
        """The untrained predictor."""

    @property
    def predictor(self) -> Predictor:
        """The trained distribution of standardised outcomes."""
        return cast(Predictor, self.network_)

    def start(self, outcomes: Floats) -> tuple[Floats, Floats]:
        """Outcomes are modelled relative to their mean and spread."""
        return level_and_spread(outcomes)

    # ------------------------------------------------------------------ training
    def _train(self, train: Samples, held: Samples, progress: bool) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)
        self._descend(
            self._likelihood_loss,
            lambda samples: self._repeatable(self._likelihood_loss, samples),
            train,
            held,
            stage="fit",
            decision_cost=False,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            progress=progress,
            averaged=self.averaged,
        )
        if not self.estimator:
            return
        judged = held if len(held) else train
        with torch.no_grad():
            cost = float(self._held_cost(judged))
            before = float(self._repeatable(self._likelihood_loss, judged))
        self._cost_scale = abs(cost) or 1.0
        limit = before + self.guard

        def judge(samples: Samples) -> Tensor:
            worse = self._repeatable(self._likelihood_loss, samples) > limit
            return torch.where(worse, torch.inf, self._held_cost(samples))

        self._descend(
            self._focused_loss,
            judge,
            train,
            held,
            stage="focus",
            decision_cost=True,
            epochs=self.focus_epochs,
            learning_rate=self.focus_rate,
            progress=progress,
            best=cost if len(held) else None,
            averaged=self.averaged,
        )

    def _standard(self, outcomes: Tensor) -> Tensor:
        return ((outcomes - self.level_) / self.scale_).float()

    def _likelihood_loss(self, samples: Samples) -> Tensor:
        x = samples.observations if self.conditional else torch.zeros_like(samples.observations)
        return self.predictor.fit_loss(x, self._standard(samples.outcomes), self._generator)

    def _repeatable(self, loss: Objective, samples: Samples) -> Tensor:
        """A loss on held-out data, from the same noise every time."""
        kept, self._generator = self._generator, torch.Generator().manual_seed(self.seed + 1)
        self.network_.eval()
        value = loss(samples)
        self.network_.train()
        self._generator = kept
        return value

    def _held_cost(self, samples: Samples) -> Tensor:
        """Mean cost of the decisions that the agent takes on held-out data."""
        scenarios = self._draw(samples.observations, self.samples, torch.Generator().manual_seed(self.seed), True)
        return scenario_loss(self.problem_, scenarios, samples.outcomes, samples.state)

    def _focused_loss(self, samples: Samples) -> Tensor:
        """The second stage's objective; its gradient in the weights is that of the cost, its value means nothing."""
        follow = self._through_samples if self.estimator == "reparameterised" else self._through_likelihood
        loss = follow(samples) / self._cost_scale
        if self.regulariser:
            loss = loss + self.regulariser * self._likelihood_loss(samples)
        return loss

    def _through_samples(self, samples: Samples) -> Tensor:
        """Diffusion-DFL, eq. 5: every sample moves the decision, and the weights move every sample."""
        scenarios = self._draw(samples.observations, self.train_samples, self._generator)
        return scenario_loss(self.problem_, scenarios, samples.outcomes, samples.state)

    def _through_likelihood(self, samples: Samples) -> Tensor:
        """Diffusion-DFL, eq. 10: samples are given; the weights make those likelier that lower the cost."""
        contexts = self._contexts(samples.observations)
        with torch.no_grad(), kept_generator(contexts):  # so that dropout takes the same units once more below
            standard = self.predictor.sample(contexts, self.train_samples, self._generator)
        scenarios = self.layout_.told(samples.observations, self._in_units(standard))
        weights = score_weights(self.problem_, scenarios, samples.outcomes, samples.state)
        # of the samples as they were drawn: the limits of the outcome are part of the decision, not of the law
        weights = weights.to(standard) / (len(samples) * self.train_samples)
        return self.predictor.weighted_likelihood(contexts, standard, weights, self._generator)

    # ------------------------------------------------------------------ deciding
    def _contexts(self, observations: Tensor) -> Tensor:
        """What samples are drawn for: the observations (B, size), or one (1, size) that stands for all of them.

        Where the decision depends on a state as well, every decision point needs its own.
        """
        if self.conditional:
            return observations
        return torch.zeros_like(observations if self.problem_.stateful else observations[:1])

    def _draw(self, observations: Tensor, count: int, generator: torch.Generator, common: bool = False) -> Tensor:
        """Scenarios (B or 1, count, D) from the predicted distribution, in the outcome's units."""
        drawn = self._in_units(self.predictor.sample(self._contexts(observations), count, generator, common))
        told: Tensor = self.layout_.told(observations, drawn)
        return told

    def _in_units(self, standard: Tensor) -> Tensor:
        """Standardised outcomes in the outcome's units, not below the smallest outcome that makes sense."""
        scenarios = (self.level_ + self.scale_ * standard).double()
        return scenarios.clamp(min=self.problem_.outcome_low)

    def scenarios(self, observations: Observations) -> Floats:
        """Draws from the predicted distribution, the same noise in every context and every call."""
        x = self._contexts(torch.as_tensor(observations))
        size = max(1, _AT_ONCE // (self.samples * self.problem_.outcome_dim))
        self.network_.eval()
        with torch.no_grad(), single_thread():
            parts = [
                self._draw(part, self.samples, torch.Generator().manual_seed(self.seed), common=True)
                for part in x.split(size)  # type: ignore[no-untyped-call]
            ]
        drawn = torch.cat(parts)
        return drawn.expand(len(observations), *drawn.shape[1:]).numpy()

    def _act(self, observations: Observations) -> Floats:
        if self.conditional or self.problem_.stateful or self.layout_.known:
            return super()._act(observations)
        return super()._act(observations[:1]).repeat(len(observations), axis=0)


def score_weights(problem: DecisionProblem, scenarios: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
    """Weights (B, M) of the score-function estimator: dF/dtheta = mean_bm w_bm d/dtheta log p(y_bm | x_b).

    F is the mean cost over the batch; where one (1, M, D) of scenarios serves all outcomes, the sum over the batch is
    inside the weights (1, M) already. What the other samples of a context weigh on average is taken off each weight.
    At a given decision that lowers the variance and changes no expectation, because the score has mean zero. Here the
    decision is the best for the samples themselves, so their weights sum to zero already, and one share in M of the
    gradient would be missing: taking off the others' mean puts it back.
    """
    given = problem.given(scenarios, state)
    decisions = problem.solve(given).requires_grad_()
    with torch.enable_grad():
        (cotangent,) = torch.autograd.grad(problem.objective(outcomes, decisions, state).sum(), decisions)
    weights: Tensor = problem.adjoint(given, decisions.detach(), cotangent).score
    count = weights.shape[1]
    if count > 1:
        weights = weights - (weights.sum(1, keepdim=True) - weights) / (count - 1)
    return weights


@dataclass(kw_only=True, eq=False)
class GaussianForecaster(Generative):
    """A diagonal Gaussian around a network's forecast."""

    def _build(self, observations: Tensor) -> Gaussian:
        encoder = make_encoder(self.network, self.layout_, observations)
        return Gaussian(encoder, self.hidden, self.problem_.outcome_dim, self.dropout)


@dataclass(kw_only=True, eq=False)
class DiffusionForecaster(Generative):
    """A conditional diffusion model.

    Parameters
    ----------
    around : {"forecast", "mean"}
        What outcomes are modelled around: a Gaussian forecast trained along with it, so that the diffusion has the
        shape to learn, or, as published, the mean and spread of the training outcomes.
    steps : int
        T, steps of the diffusion.
    schedule : {"cosine", "linear"}
        How the signal fades.
    sampling_steps : int
        Steps of a reverse chain, evenly spread over the T.
    eta : float
        Noise of the reverse chain, from 0 (DDIM) to 1 (DDPM).
    timesteps : int
        k, timesteps at which the score estimator looks at the likelihood of a sample.
    importance : bool
        Whether those are drawn by how much they are seen to say, or all alike.
    precision : {"float32", "bfloat16", "int8"}
        In which the denoiser's inner layers are multiplied. "bfloat16" pays on a GPU, or a CPU that multiplies it (AMX,
        AVX-512 BF16); "int8" is the same where a gradient is asked for, and elsewhere multiplies integers of 8 bits on
        a CPU that can (VNNI).
    """

    around: str = "forecast"
    steps: int = 1000
    schedule: str = "cosine"
    sampling_steps: int = 20
    eta: float = 0.0
    timesteps: int = 10
    importance: bool = True
    precision: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.around not in ("forecast", "mean"):
            raise UnknownNameError("around", self.around, ("forecast", "mean"))

    def _build(self, observations: Tensor) -> Predictor:
        outcomes = self.problem_.outcome_dim
        diffusion = Diffusion(
            make_encoder(self.network, self.layout_, observations),
            self.hidden,
            outcomes,
            steps=self.steps,
            schedule=self.schedule,
            sampling_steps=self.sampling_steps,
            eta=self.eta,
            timesteps=self.timesteps,
            importance=self.importance,
            precision=self.precision,
        )
        if self.around == "mean":
            return diffusion
        encoder = make_encoder(self.network, self.layout_, observations)
        forecast = Gaussian(encoder, self.hidden, outcomes, self.dropout)
        return Centred(forecast, diffusion)


@dataclass(kw_only=True, eq=False)
class TwoStageGaussian(GaussianForecaster):
    """Gaussian forecast trained for likelihood, decided by its sample average."""


@dataclass(kw_only=True, eq=False)
class GaussianReparameterised(GaussianForecaster):
    """Gaussian forecast trained for the decision's cost through its samples."""

    estimator = "reparameterised"


@dataclass(kw_only=True, eq=False)
class GaussianScore(GaussianForecaster):
    """Gaussian forecast trained for the decision's cost through the likelihood of its samples."""

    estimator = "score"


@dataclass(kw_only=True, eq=False)
class TwoStageDiffusion(DiffusionForecaster):
    """Diffusion model of the outcome, decided by the sample average of its draws."""


@dataclass(kw_only=True, eq=False)
class DiffusionReparameterised(DiffusionForecaster):
    """Diffusion-DFL with gradients through the whole reverse chain."""

    estimator = "reparameterised"


@dataclass(kw_only=True, eq=False)
class DiffusionScore(DiffusionForecaster):
    """Diffusion-DFL with the weighted evidence lower bound: no gradient through sampling.

    The gradient of a bound at a few timesteps is noisy, so its steps are small by default.
    """

    estimator = "score"
    focus_rate: float = 1e-5
