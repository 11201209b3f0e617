"""A conditional denoising diffusion model of P(y | x): Ho et al. (2020), with DDIM sampling (Song et al., 2021)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch.utils.checkpoint import checkpoint

from ..data.errors import ShiftgymError, UnknownNameError
from .linear import Linear
from .mixed_precision import PRECISIONS, Rounded
from .networks import Standardised, layers
from .predictors import Predictor, noise

SCHEDULES = ("cosine", "linear")
EMBEDDING = 16
#: Clean outcomes that a step of the reverse chain may believe in, in units of the training spread.
_REACH = 10.0
#: Share of the variance that must be signal where a reverse chain begins, for its root is lost of the mean.
_FAINT = 4e-4
#: Timesteps per outcome and training step.
_DRAWS = 8
#: Rows (timestep, context, sample) of a likelihood whose activations are kept at once.
_ROWS = 1280
#: Rows (step, context, sample) of a chain up to which activations are kept; longer chains compute theirs again.
_KEPT = 8192


def cumulative_signal(name: str, steps: int) -> Tensor:
    """alpha_bar_1..T (float64): what is left of the signal's variance after t of ``steps`` steps of noise.

    "linear" is the schedule of Ho et al. (2020), beta from 1e-4 to 0.02 over a thousand steps (scaled to other
    numbers of steps), "cosine" that of Nichol and Dhariwal (2021, eq. 17), whose beta is capped at 0.999.
    """
    if name not in SCHEDULES:
        raise UnknownNameError("schedule", name, SCHEDULES)
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    if name == "linear":
        beta = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
    else:
        left = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
        beta = 1 - left[1:] / left[:-1]
    return torch.cumprod(1 - beta.clamp(max=0.999), 0)


class Diffusion(Predictor):
    """Denoising diffusion of outcomes given features (Diffusion-DFL, Section 3.2 and Table 2).

    ==================  ======================================================
    Diffusion-DFL       here
    ==================  ======================================================
    y_0, y_t            ``outcomes``, ``noisy``
    T, t                ``steps``, ``step`` (0 stands for t = 1)
    alpha_bar_t         ``signal``
    eps_theta           :meth:`denoise`
    y_0 given y_t       :meth:`clean`
    ELBO_t              one term of :meth:`log_likelihood`
    p_t                 :meth:`timestep_odds`
    ==================  ======================================================

    The network says :meth:`velocity`, which the other two follow from. Its first layer is linear in [y_t, embedding of
    t, features of x], so the part of x is computed once per context and that of t once per step, whatever the number of
    samples.

    Parameters
    ----------
    encoder : Standardised
        Features of an observation.
    hidden : sequence of int
        Widths of the denoiser's layers.
    outcomes : int
        D.
    steps : int
        T.
    schedule : {"cosine", "linear"}
        How the signal fades.
    sampling_steps : int
        Steps of a reverse chain, spread over the T by :meth:`places`.
    eta : float
        Noise of the reverse chain: 0 is DDIM, deterministic given the first noise, 1 is DDPM.
    timesteps : int
        k, the timesteps at which a likelihood is looked at.
    importance : bool
        Whether those are drawn by how much they are seen to say (:meth:`timestep_odds`), or all alike.
    precision : {"float32", "bfloat16", "int8"}
        Of the denoiser's layers behind the first; everything else is as precise as the weights. "int8" is for what is
        not differentiated; the rest is then in bfloat16.
    """

    signal: Tensor
    embedding: Tensor
    weight: Tensor
    second_moment: Tensor
    visits: Tensor

    def __init__(
        self,
        encoder: Standardised,
        hidden: Sequence[int],
        outcomes: int,
        *,
        steps: int,
        schedule: str,
        sampling_steps: int,
        eta: float,
        timesteps: int,
        importance: bool = True,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        if not 1 <= sampling_steps <= steps:
            raise ShiftgymError(f"sampling_steps is {sampling_steps}: give 1 to {steps}, the steps of the diffusion")
        if not 1 <= timesteps <= steps:
            raise ShiftgymError(f"timesteps is {timesteps}: give 1 to {steps}, the steps of the diffusion")
        if not 0 <= eta <= 1:
            raise ShiftgymError(f"eta is {eta}: give a number from 0 (DDIM) to 1 (DDPM)")
        if precision not in PRECISIONS:
            raise UnknownNameError("precision", precision, PRECISIONS)
        self.steps, self.sampling_steps, self.eta, self.timesteps = steps, sampling_steps, eta, timesteps
        self.importance, self.precision = importance, precision
        self.encoder, self.outcomes = encoder, outcomes
        width = hidden[0]
        self.of_noisy = Linear(outcomes, width, bias=False)
        self.of_context = Linear(encoder.width, width)
        self.of_step = nn.Sequential(nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, width))
        self.body = layers(width, hidden[1:], outcomes)
        signal = cumulative_signal(schedule, steps)
        self.register_buffer("signal", signal.float())
        self.register_buffer("embedding", _embeddings(steps), persistent=False)
        self.register_buffer("weight", _elbo_weights(signal).float())
        self.register_buffer("second_moment", torch.ones(steps))
        self.register_buffer("visits", torch.zeros(steps))

    # ------------------------------------------------------------------ the denoiser
    def context(self, observations: Tensor) -> Tensor:
        """What eps_theta needs of observations (B, size): shape (B, width).

        In lower precision the weights are rounded once for all the steps with these contexts.
        """
        if self.precision != "float32":
            self._rounded = Rounded(self.body, self.precision)
        out: Tensor = self.of_context(self.encoder(observations))
        return out

    def velocity(self, context: Tensor, noisy: Tensor, step: Tensor) -> Tensor:
        """What the network says (..., D) of ``noisy`` (..., D) at steps (...), for contexts (..., width).

        That is v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) y_0 (Salimans and Ho, 2022, Appendix D). Where next to no
        signal is left, noise is all there is to see, and a clean outcome that follows from eps would be its error many
        times over; that which follows from v is not, and short chains need it to be right.
        """
        # what broadcasts is added up first: it is small in a chain, where a step is the same for all
        first = self.of_noisy(noisy).add_(context + self.of_step(self.embedding[step]))
        out: Tensor = self.body(silu(first)) if self.precision == "float32" else self._rounded(first)
        return out

    def denoise(self, context: Tensor, noisy: Tensor, step: Tensor) -> Tensor:
        """Noise eps_theta (..., D) found in ``noisy`` (..., D) at steps (...), for contexts (..., width)."""
        signal = self.signal[step][..., None]
        return (1 - signal).sqrt() * noisy + signal.sqrt() * self.velocity(context, noisy, step)

    def clean(self, context: Tensor, noisy: Tensor, step: Tensor) -> Tensor:
        """Outcomes (..., D) that are left without that noise, within reach of the training outcomes."""
        signal = self.signal[step][..., None]
        found = signal.sqrt() * noisy - (1 - signal).sqrt() * self.velocity(context, noisy, step)
        return found.clamp(-_REACH, _REACH)

    # ------------------------------------------------------------------ sampling
    def sample(self, observations: Tensor, count: int, generator: torch.Generator, common: bool = False) -> Tensor:
        """Run the reverse chain; unless it is short, the backward pass recomputes its steps, so little of it is kept.

        A step combines its clean outcomes with those of the step before, which makes it exact to the second order
        (Lu et al., 2022, "DPM-Solver++", Algorithm 2): DDIM with 20 steps, of the first order, loses 6 % to 30 % of the
        spread of the narrower distributions even from the exact noise.
        """
        context = self.context(observations)[:, None]
        shape = (len(observations), count, self.outcomes)
        y = noise(shape, common, context, generator)
        signal, places = self.signal.tolist(), self.places()
        recompute = torch.is_grad_enabled() and math.prod(shape[:2]) * len(places) > _KEPT
        stride, before = 0.0, y
        for now, following in pairwise(places):
            clean = self._clean(context, y, now, recompute)
            target = signal[following]
            passed, stride = stride, _half_log_ratio(target) - _half_log_ratio(signal[now])
            likely = torch.lerp(before, clean, 1 + stride / (2 * passed)) if passed else clean
            before = clean
            spread = self.eta * math.sqrt((1 - target) / (1 - signal[now]) * (1 - signal[now] / target))
            # the noise that goes with the clean outcome stays, in part: DDIM (Song et al., 2021, eq. 12)
            kept = math.sqrt((1 - target - spread**2) / (1 - signal[now]))
            y = (math.sqrt(target) - kept * math.sqrt(signal[now])) * likely + kept * y
            if self.eta > 0:
                y = y + spread * noise(shape, common, y, generator)
        return self._clean(context, y, places[-1], recompute)

    def places(self) -> list[int]:
        """Steps of a reverse chain, evenly spread over the log of signal to noise, none of them twice.

        The first is the last in which there is some signal: where next to none is left, a small error of the denoiser
        would be an outcome that never was.
        """
        start = max(1, int((self.signal >= _FAINT).sum())) - 1
        count = min(self.sampling_steps, start + 1)
        ratio = torch.tensor([_half_log_ratio(signal) for signal in self.signal.tolist()[: start + 1]])
        wanted = torch.linspace(float(ratio[-1]), float(ratio[0]), count)
        nearest = (ratio - wanted[:, None]).abs().argmin(1).tolist()
        places = [start]
        for index, place in enumerate(nearest[1:], 1):
            places.append(min(places[-1] - 1, max(place, count - 1 - index)))
        return places

    def _clean(self, context: Tensor, y: Tensor, now: int, recompute: bool) -> Tensor:
        """Clean outcomes that go with ``y`` at step ``now``."""
        step = torch.full((1, 1), now, device=y.device)
        if not recompute:
            return self.clean(context, y, step)
        found: Tensor = checkpoint(self.clean, context, y, step, use_reentrant=False, preserve_rng_state=False)
        return found

    # ------------------------------------------------------------------ likelihood
    def log_likelihood(self, observations: Tensor, outcomes: Tensor, generator: torch.Generator) -> Tensor:
        """Unbiased estimate of the evidence lower bound (B, M), up to a constant, at k timesteps per sample.

        Timesteps are drawn with the odds of :meth:`timestep_odds` and weighted with their inverse (Diffusion-DFL,
        Section 5.2; Nichol and Dhariwal, 2021, Section 3.3).
        """
        step, share, drawn = self._timesteps(outcomes, generator)
        terms = self._weighted_error(self.context(observations), outcomes, step, drawn)
        self._remember(step, terms.detach())
        return -(share * terms).sum(0)

    def weighted_likelihood(
        self, observations: Tensor, outcomes: Tensor, weights: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Sum of the weighted estimates (scalar), whose gradient is found block by block, and one block kept at a time.

        So what it needs for the denoiser depends neither on k nor on T, and nothing is computed twice.
        """
        context = self.context(observations)
        step, share, drawn = self._timesteps(outcomes, generator)
        share, seen = -share * weights, torch.empty_like(share)
        # cut off from where they come from, which is differentiated once, after all blocks
        x, y = context.detach().requires_grad_(), outcomes.detach().requires_grad_()

        def terms() -> Iterator[Tensor]:
            for part, rows in self._blocks(*outcomes.shape[:2]):
                of = (part, rows)
                error = self._weighted_error(x[rows], y[rows], step[of], drawn[of])
                seen[of] = error.detach()
                yield (share[of] * error).sum()

        own = tuple(self.parameters())
        total: Tensor = _Accumulated.apply(terms(), (x, y, *own), context, outcomes, *own)  # type: ignore[no-untyped-call]
        self._remember(step, seen)
        return total

    def _timesteps(self, outcomes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw k timesteps (k, B, M), what each counts in the sum over all T (k, B, M), and noise (k, B, M, D)."""
        shape = (self.timesteps, *outcomes.shape[:2])
        odds = self.timestep_odds().cpu()
        step = torch.multinomial(odds, math.prod(shape), replacement=True, generator=generator).view(shape)
        share = (1 / (self.timesteps * odds[step])).to(outcomes)
        drawn = noise((*shape, outcomes.shape[2]), False, outcomes, generator)
        return step.to(outcomes.device), share, drawn

    def _blocks(self, batch: int, count: int) -> Iterator[tuple[slice, slice]]:
        """Timesteps and contexts whose rows go through the denoiser together: :data:`_ROWS`, or all of a context."""
        contexts = max(1, min(batch, _ROWS // count))
        timesteps = max(1, _ROWS // (batch * count))
        for part in range(0, self.timesteps, timesteps):
            for row in range(0, batch, contexts):
                yield slice(part, part + timesteps), slice(row, row + contexts)

    def _weighted_error(self, context: Tensor, outcomes: Tensor, step: Tensor, drawn: Tensor) -> Tensor:
        """Weighted squared errors (..., B, M) of the denoiser at steps (..., B, M): minus ELBO_t."""
        return self.weight[step] * self._squared_error(context[:, None], outcomes, step, drawn)

    def _squared_error(self, context: Tensor, outcomes: Tensor, step: Tensor, drawn: Tensor) -> Tensor:
        signal = self.signal[step][..., None]
        found = self.denoise(context, signal.sqrt() * outcomes + (1 - signal).sqrt() * drawn, step)
        return ((drawn - found) ** 2).sum(-1)

    def timestep_odds(self) -> Tensor:
        """p_t (T,), proportional to the root mean square of what was seen of each timestep, with a share for all.

        Uniform until every timestep has been seen often enough to judge it, and without ``importance``.
        """
        if not self.importance or self.visits.min() < 10:
            return torch.full_like(self.signal, 1 / self.steps)
        root = self.second_moment.sqrt()
        return 0.99 * root / root.sum() + 0.01 / self.steps

    @torch.no_grad()
    def _remember(self, step: Tensor, term: Tensor) -> None:
        """Keep a running second moment of the terms of each timestep, in training."""
        if not self.training:
            return
        flat, squares = step.reshape(-1), term.reshape(-1) ** 2
        count = torch.zeros_like(self.visits).index_add_(0, flat, torch.ones_like(squares))
        mean = torch.zeros_like(self.visits).index_add_(0, flat, squares) / count.clamp(min=1)
        keep = torch.where(count > 0, torch.where(self.visits > 0, 0.9, 0.0), 1.0)
        self.second_moment.mul_(keep).add_((1 - keep) * mean)
        self.visits.add_(count)

    def fit_loss(self, observations: Tensor, outcomes: Tensor, generator: torch.Generator) -> Tensor:
        """Squared error of v, at several timesteps per outcome: the simple loss over alpha_bar.

        The simple loss (Ho et al., 2020, eq. 14) says next to nothing about the steps where all is noise. The timesteps
        of an outcome share the features of its context, so they cost less than as many decision points.
        """
        several = outcomes[:, None].expand(-1, _DRAWS, -1)
        step = torch.randint(self.steps, several.shape[:2], generator=generator).to(outcomes.device)
        drawn = noise(several.shape, False, outcomes, generator)
        error = self._squared_error(self.context(observations)[:, None], several, step, drawn)
        return (error / self.signal[step]).mean() / self.outcomes


class _Accumulated(torch.autograd.Function):
    """The sum of scalar ``terms``; what it is in ``leaves``, which stand for ``inputs``, is found term by term."""

    @staticmethod
    def forward(ctx: Any, terms: Iterator[Tensor], leaves: Sequence[Tensor], *inputs: Tensor) -> Tensor:
        total, ctx.slopes = inputs[0].new_zeros(()), [torch.zeros_like(leaf) for leaf in leaves]
        with torch.enable_grad():
            for term in terms:
                for slope, more in zip(ctx.slopes, torch.autograd.grad(term, leaves, allow_unused=True), strict=True):
                    if more is not None:
                        slope += more
                total += term.detach()
        return total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(slope * inner for inner in ctx.slopes)


def _elbo_weights(signal: Tensor) -> Tensor:
    """Weights (T,) of the squared errors in the evidence lower bound (Ho et al., 2020, eq. 12).

    beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)) with sigma_t^2 = beta_t.
    """
    alpha = signal / torch.cat((torch.ones(1, dtype=signal.dtype), signal[:-1]))
    return (1 - alpha) / (2 * alpha * (1 - signal))


def _half_log_ratio(signal: float) -> float:
    """Half the log of signal to noise."""
    return math.log(signal / (1 - signal)) / 2


def _embeddings(steps: int) -> Tensor:
    """Sinusoidal embeddings (T, 16) of all timesteps, which reach as far as a thousand whatever their number."""
    frequency = torch.exp(-math.log(10000.0) * torch.arange(EMBEDDING // 2) / (EMBEDDING // 2))
    angle = (torch.arange(steps) * (1000.0 / steps))[:, None] * frequency
    return torch.cat((angle.sin(), angle.cos()), dim=-1)
