"""The worst-case diffusion model: the inner maximisation of 3D-Learning (IMAX)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..data.errors import ShiftgymError, UnknownNameError
from ..envs.task import Layout, check_count
from ..solvers.base import check_not_negative
from .diffusion import Diffusion
from .joint import Joint, check_persistence
from .networks import Standardised
from .predictors import noise
from .trained import Samples, batches, descend, kept_generator

GRADIENTS = ("ppo", "vanilla")
#: Log ratios beyond this are as good as certain, and their exponential must stay finite.
_CERTAIN = 20.0
#: Timesteps at which J is looked at per training sample.
_DRAWS = 4


class Round(NamedTuple):
    """What an inner maximisation came to.

    Attributes
    ----------
    multiplier : float
        alpha, the price of the divergence.
    divergence : float
        J(theta) - J(theta_0), in nats; the budget is meant for it.
    loss, reference_loss : float
        Mean loss of the worst-case samples, and of the reference's.
    """

    multiplier: float
    divergence: float
    loss: float
    reference_loss: float


@dataclass(kw_only=True, eq=False)
class Adversary:
    """Settings of :class:`WorstCase`.

    Parameters
    ----------
    persistence : float
        How long a disturbance lasts, see :class:`~shiftgym.agents.joint.Joint`.
    diffusion_steps : int
        T of the DDPM.
    schedule : {"cosine", "linear"}
        See :func:`~shiftgym.agents.diffusion.cumulative_signal`.
    sampling_steps : int
        Steps of the reverse chain, spread over the T.
    denoiser : tuple of int
        Widths of its layers.
    reference_epochs, reference_rate
        Of the reference model's training, by Adam with a cosine decay and a running average of the weights.
    budget : float
        eps: how much worse than the reference the model may explain the training samples, in nats per sample.
    tuned_steps : int
        T', the last steps of the reverse chain, which alone are changed.
    variance : float
        Least variance of the noise in each of these steps, in the coordinates of a Joint (0.05 to 0.1 in the paper).
        The steps of the reference hardly differ from their mean, so without it there is little to find.
    gradient : {"ppo", "vanilla"}
        The clipped ratio (equation 13) or the plain policy gradient (equation 12).
    clip : float
        kappa of the clipped ratio.
    inner_epochs : int
        K: how often trajectories are drawn, and alpha is updated, in a maximisation; 0 leaves the reference as it is.
    adversary_rate, dual_rate : float
        Learning rates of theta and of alpha (eta).
    multiplier : float
        alpha before the first maximisation.
    """

    persistence: float = 0.0
    diffusion_steps: int = 500
    schedule: str = "cosine"
    sampling_steps: int = 50
    denoiser: tuple[int, ...] = (128, 128)
    reference_epochs: int = 100
    reference_rate: float = 1e-3
    budget: float = 0.1
    tuned_steps: int = 10
    variance: float = 0.1
    gradient: str = "ppo"
    clip: float = 0.4
    inner_epochs: int = 5
    adversary_rate: float = 3e-4
    dual_rate: float = 0.1
    multiplier: float = 1.0

    def check_adversary(self) -> None:
        """Raise for a setting that makes no sense, before any work.

        Raises
        ------
        ShiftgymError
            The message names the setting, its value and what to give.
        """
        names = ("budget", "variance", "reference_rate", "adversary_rate", "dual_rate", "multiplier")
        check_not_negative(**{name: getattr(self, name) for name in names})
        if self.gradient not in GRADIENTS:
            raise UnknownNameError("gradient", self.gradient, GRADIENTS)
        if not 0 < self.clip < 1:
            raise ShiftgymError(f"clip is {self.clip}: give a number between 0 and 1")
        for name, least in (("tuned_steps", 1), ("inner_epochs", 0), ("reference_epochs", 1)):
            check_count(name, getattr(self, name), least)
        self.denoiser = tuple(self.denoiser)
        check_count("layers of the denoiser", len(self.denoiser))
        check_persistence(self.persistence)
        with kept_generator(torch.empty(0)):
            ReverseChain(self._model(torch.zeros(2, 1), torch.zeros(2, 1)), self.tuned_steps, self.variance)

    def _model(self, rows: Tensor, known: Tensor) -> Diffusion:
        """An untrained model of rows (B, width), given what is known (B, k) of each."""
        return Diffusion(
            Standardised(known.mean(0), known.std(0)),
            self.denoiser,
            rows.shape[1],
            steps=self.diffusion_steps,
            schedule=self.schedule,
            sampling_steps=self.sampling_steps,
            eta=1.0,
            timesteps=1,
        )

    def fit_reference(self, rows: Tensor, known: Tensor, batch_size: int, generator: torch.Generator) -> Diffusion:
        """The model theta_0, trained on rows (B, width) and what is known (B, k) of each."""
        model = self._model(rows, known).to(rows.device)

        def loss(samples: Samples) -> Tensor:
            return model.fit_loss(samples.observations, samples.outcomes, generator)

        data, epochs, rate = Samples(known, rows, None), self.reference_epochs, self.reference_rate
        *_, fitted = descend(model, loss, data, batch_size, epochs, rate, 0.995, generator)
        return fitted.eval()


def known_of(samples: Samples, layout: Layout) -> Tensor:
    """What the joint law is conditioned on, (B, k): context and state, or a constant where there is neither."""
    rest: Tensor = layout.rest(samples.observations)
    return rest if rest.shape[1] else rest.new_zeros(len(rest), 1)


class Trajectories(NamedTuple):
    """Reverse chains of N rows through the n tuned steps, as a policy meets them.

    Attributes
    ----------
    before, after, mean : tensor, shape (n, N, width)
        State before and after a step, and the mean of what it was drawn from.
    rows : tensor, shape (N, width)
        Where they end.
    """

    before: Tensor
    after: Tensor
    mean: Tensor
    rows: Tensor

    def pick(self, chains: Tensor) -> Trajectories:
        """Some of the chains."""
        return Trajectories(self.before[:, chains], self.after[:, chains], self.mean[:, chains], self.rows[chains])


class ReverseChain:
    """The last steps of a DDPM's reverse chain, each a Gaussian N(mu_theta(x_t, t), sigma_t^2 I) (equation 8).

    After them comes one without noise, to the clean row.

    Parameters
    ----------
    model : Diffusion
        Whose places (see :meth:`Diffusion.places`) the chain visits.
    tuned_steps : int
        How many steps count as the last ones.
    variance : float
        Least sigma_t^2 of those.
    """

    def __init__(self, model: Diffusion, tuned_steps: int, variance: float) -> None:
        places = model.places()
        if tuned_steps > len(places) - 1:
            raise ShiftgymError(
                f"tuned_steps is {tuned_steps}, but the reverse chain has {len(places) - 1} steps with noise: give "
                "fewer, or more sampling_steps"
            )
        device = model.signal.device
        self.now = torch.tensor(places[:-1], device=device)
        self.signal, self.target = model.signal[places[:-1]], model.signal[places[1:]]
        self.posterior = (1 - self.target) / (1 - self.signal) * (1 - self.signal / self.target)
        self.first, self.last = len(self.now) - tuned_steps, places[-1]
        self.variance = self.posterior.clone()
        self.variance[self.first :].clamp_(min=variance)

    def mean(self, model: Diffusion, context: Tensor, state: Tensor, step: Tensor) -> Tensor:
        """mu_theta (..., width) of states (..., width) at steps (...) of the chain, for contexts (..., width')."""
        signal = self.signal[step][..., None]
        row = model.clean(context, state, self.now[step])
        return self.towards(row, (state - signal.sqrt() * row) / (1 - signal).sqrt(), step)

    def towards(self, row: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """Mean of the posterior q(x_{t-1} | x_t, x_0) of a clean row and the noise that x_t has on top of it."""
        target, posterior = self.target[step][..., None], self.posterior[step][..., None]
        return target.sqrt() * row + (1 - target - posterior).clamp(min=0).sqrt() * noise

    @torch.no_grad()
    def begin(self, model: Diffusion, known: Tensor, width: int, generator: torch.Generator) -> Tensor:
        """States (N, width) that the tuned steps start from: all steps before them, from noise."""
        state = noise((len(known), width), False, known, generator)
        return self._run(model, known, state, range(self.first), generator).rows

    @torch.no_grad()
    def finish(self, model: Diffusion, known: Tensor, state: Tensor, generator: torch.Generator) -> Trajectories:
        """The tuned steps, and the clean rows they lead to."""
        path = self._run(model, known, state, range(self.first, len(self.now)), generator)
        place = torch.full((1,), self.last, device=state.device)
        return path._replace(rows=model.clean(model.context(known), path.rows, place))

    def _run(
        self, model: Diffusion, known: Tensor, state: Tensor, steps: range, generator: torch.Generator
    ) -> Trajectories:
        context, states, means = model.context(known), [state], []
        for step in steps:
            means.append(self.mean(model, context, state, torch.full((1,), step, device=state.device)))
            state = means[-1] + self.variance[step].sqrt() * noise(state.shape, False, state, generator)
            states.append(state)
        if not means:
            return Trajectories(state[None, :0], state[None, :0], state[None, :0], state)
        return Trajectories(torch.stack(states[:-1]), torch.stack(states[1:]), torch.stack(means), state)

    def log_ratio(self, model: Diffusion, known: Tensor, path: Trajectories) -> Tensor:
        """Log of P_theta / P_drawn (N,) of trajectories: ln r_theta(x_{0:T'}) of equation 13."""
        steps = torch.arange(self.first, len(self.now), device=known.device)[:, None].expand(path.before.shape[:2])
        mean = self.mean(model, model.context(known), path.before, steps)
        apart = ((path.after - path.mean) ** 2 - (path.after - mean) ** 2).sum(-1)
        return (apart / (2 * self.variance[steps])).sum(0)

    def divergence(
        self, model: Diffusion, reference: Diffusion, rows: Tensor, known: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Unbiased estimate (scalar) of J(theta) - J(theta_0) on rows (B, width), in nats per row.

        J is the denoising score-matching loss (equation 6), weighted such that it is the variational bound on
        -ln P_theta(x): sum_t E ||mu~(x_t, x_0) - mu_theta(x_t, t)||^2 / (2 sigma_t^2) (Ho et al., 2020, equation 8).
        The difference bounds how much further P_theta is from the data than the reference, in
        KL(P_0 || P) (Lemma 1). Both are looked at in the same states, at a few timesteps per row.
        """
        count = len(self.now) - self.first
        step = self.first + torch.randint(count, (_DRAWS, len(rows)), generator=generator).to(rows.device)
        drawn = noise((_DRAWS, *rows.shape), False, rows, generator)
        signal = self.signal[step][..., None]
        state = signal.sqrt() * rows + (1 - signal).sqrt() * drawn
        wanted = self.towards(rows, drawn, step)
        with torch.no_grad():
            base = ((wanted - self.mean(reference, reference.context(known), state, step)) ** 2).sum(-1)
        error = ((wanted - self.mean(model, model.context(known), state, step)) ** 2).sum(-1)
        return count * ((error - base) / (2 * self.variance[step])).mean()


class WorstCase:
    """Algorithm 1 of 3D-Learning: the distribution that hurts most among those that still explain the training samples.

    max_theta E_{P_theta}[f] - alpha (J(theta) - J(theta_0) - eps), with alpha following the constraint.

    =====================  ======================================================
    3D-Learning            here
    =====================  ======================================================
    x = (v, c)             rows of :class:`~shiftgym.agents.joint.Joint`
    theta_0, theta         ``reference``, ``model``
    J(theta, S_0) <= eps   :meth:`ReverseChain.divergence` <= ``budget``
    r_theta(x_{0:T'})      exp of :meth:`ReverseChain.log_ratio`
    alpha, eta, kappa      ``multiplier``, ``dual_rate``, ``clip``
    =====================  ======================================================

    Only the last T' steps of the reverse chain are changed, so the states that they start from are drawn once and
    serve every trajectory. Ratios are taken to the model that drew the trajectories, which is the last iterate, not
    theta_0: to theta_0 the clipped ratio would reach its end within some tenths of a nat, whatever the budget. The
    losses f that the ratio multiplies are centred and scaled, which moves no maximum, tames the gradient's variance
    and makes alpha mean the same for every problem.

    Parameters
    ----------
    samples : Samples
        S_0.
    joint : Joint
        Their coordinates.
    layout : Layout
        Of the observations.
    settings : Adversary
        Of the reference model and of the maximisation.
    batch_size : int
        Of all training here.
    seed : int
        Of everything random but the first weights, which come from torch's own generator.
    """

    def __init__(
        self,
        samples: Samples,
        joint: Joint,
        layout: Layout,
        settings: Adversary,
        batch_size: int,
        seed: int,
    ) -> None:
        self.settings, self.joint, self.batch_size, self.layout = settings, joint, batch_size, layout
        self.generator = torch.Generator().manual_seed(seed)
        self.rows, self.known = joint.rows(samples), known_of(samples, layout)
        self.reference = settings.fit_reference(self.rows, self.known, batch_size, self.generator)
        self.model, self.multiplier = copy.deepcopy(self.reference), settings.multiplier
        self.chain = ReverseChain(self.reference, settings.tuned_steps, settings.variance)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=settings.adversary_rate)
        # one particle per training sample, whose context and state it keeps
        self.samples = samples
        self.begun = self.chain.begin(self.reference, self.known, joint.width, self.generator)

    def draw(self, model: Diffusion | None = None) -> Samples:
        """As many samples as there are in training, from the worst-case model as it is now, or from another one."""
        path = self.chain.finish(model or self.model, self.known, self.begun, self.generator)
        return self.joint.samples(path.rows, self.samples)

    def maximise(self, loss: Callable[[Samples], Tensor]) -> Round:
        """Move theta towards where ``loss``, one per sample (B,), is large on average, and alpha along."""
        found = 0.0
        for _ in range(self.settings.inner_epochs):
            path = self.chain.finish(self.model, self.known, self.begun, self.generator)
            losses = self._losses(loss, self.joint.samples(path.rows, self.samples))
            found = self._ascend(path, (losses - losses.mean()) / losses.std().clamp(min=1e-12))
            self.multiplier = max(self.multiplier + self.settings.dual_rate * (found - self.settings.budget), 0.0)
        hurt, usual = (float(self._losses(loss, self.draw(model)).mean()) for model in (self.model, self.reference))
        return Round(self.multiplier, found, hurt, usual)

    @staticmethod
    @torch.no_grad()
    def _losses(loss: Callable[[Samples], Tensor], samples: Samples) -> Tensor:
        return loss(samples).float()

    def _ascend(self, path: Trajectories, advantage: Tensor) -> float:
        """One pass over trajectories; the mean divergence seen on the way."""
        seen = []
        for batch in batches(len(advantage), self.batch_size, self.generator, advantage.device):
            part = path.pick(batch)
            gain = self.surrogate(self.chain.log_ratio(self.model, self.known[batch], part), advantage[batch]).mean()
            divergence = self.chain.divergence(
                self.model, self.reference, self.rows[batch], self.known[batch], self.generator
            )
            self.optimiser.zero_grad()
            (self.multiplier * divergence - gain).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            seen.append(float(divergence.detach()))
        return sum(seen) / len(seen)

    def surrogate(self, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        """What is maximised per trajectory (B,): equation 13, or equation 12's log likelihood times loss."""
        if self.settings.gradient == "vanilla":
            return log_ratio * advantage
        ratio, clip = log_ratio.clamp(-_CERTAIN, _CERTAIN).exp(), self.settings.clip
        return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
