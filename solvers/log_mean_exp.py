"""Minimise the log of a mean exponential over a box, and differentiate it: the torch side of product allocation."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .arrays import in_chunks, magnitude, masses, pseudo_solve, times, weighted_sum
from .base import Adjoint

#: Elements of the scenarios worked on at once (8 bytes each), unless a single context has more.
_CHUNK = 2**22
#: Newton steps per row; about ten are typical, and some three for each factor of four in scenarios beyond ten.
_STEPS = 600
#: Most attempts to shorten a step, and the factor of each.
_HALVINGS, _SHRINK = 40, 0.4
#: Exponents in the first stage, and their growth from stage to stage.
_FIRST, _GROWTH = 8.0, 4.0
#: A row is solved when its last full step promised less than this, relative to the log of the mean.
_DECREASE = 1e-11
#: Certified gap, relative to the log of the mean, that a solved row must reach, and what rounding adds to it: shares of
#: scenarios in the mean are as exact as the exponents, and errors in them are multiplied by the outcomes.
_GAP, _ROUNDING = 1e-8, 1e-11
#: Exponent within which an entry counts as next to its bound.
_NEAR = 0.01
#: Ridge of a Newton step relative to the largest diagonal entry of the Hessian.
_DAMPING = 1e-8
#: Ridge of the adjoint relative to the largest diagonal entry of the Hessian.
_RIDGE = 1e-10


def minimise(y: Tensor, weights: Tensor | None, cap: float) -> Tensor:
    """Minimisers z (B, d) of sum_m w_m exp(-y_m'z) over 0 <= z <= cap, for y (B, M, d).

    NaN in rows that do not converge.
    """
    mass = masses(y, weights).expand(len(y), -1)
    size = max(1, _CHUNK // (y.shape[1] * y.shape[2]))
    return cap * in_chunks(partial(_minimise_rows, cap=cap), size, y, mass)


def _minimise_rows(y: Tensor, mass: Tensor, cap: float) -> Tensor:
    """Projected Newton steps (Bertsekas 1982) in the unit box for log sum_m w_m exp(-cap y_m'x).

    Large exponents make a nearly piecewise linear problem of it. They are introduced in stages: a row starts with
    its scenarios divided so that no exponent exceeds _FIRST, and goes on to larger ones near each stage's solution.
    """
    answer = torch.full_like(y[:, 0], torch.nan)
    size = magnitude(y)
    size = torch.where(size > 0, size, torch.ones_like(size))
    y, final = y / size[..., None], size * cap
    stage = final.clamp(max=_FIRST)
    log_mass = mass.log()
    x = torch.where((y != 0).any(1), 0.25, 0.0).to(y)  # a product that earns nothing is left out
    gain = times(y, x)
    rows = torch.arange(len(y), device=y.device)
    for _ in range(_STEPS):
        if not len(rows):
            break
        value, p = _log_sum_exp(log_mass - stage * gain)
        g = -weighted_sum(p, y)  # the gradient of value / stage
        step = _newton_step(y, p, g, x, stage)
        gap = stage * (g * x - g.clamp(max=0)).sum(1, keepdim=True)  # the objective is no lower anywhere than this
        x, gain, promised = _line_search(y, log_mass, stage, value, x, g, step)
        unit = value.abs().clamp(min=1.0)
        solved = (promised <= _DECREASE * unit) & (gap <= _GAP * unit + _ROUNDING * final**2) & (stage == final)
        near = promised < 0.1
        stage = torch.where(near, torch.minimum(stage * _GROWTH, final), stage)
        if bool(solved.any()):
            done, kept = solved[:, 0].nonzero()[:, 0], (~solved[:, 0]).nonzero()[:, 0]
            answer[rows[done]] = x[done]
            state = (rows, y, x, gain, log_mass, stage, final)
            rows, y, x, gain, log_mass, stage, final = (part[kept] for part in state)
    return answer


def _log_sum_exp(exponent: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the sum of exponentials (B, 1), and the share (B, M) of each."""
    top = exponent.amax(1, keepdim=True)
    share = (exponent - top).exp_()
    total = share.sum(1, keepdim=True)
    return top + total.log(), share / total


def _newton_step(y: Tensor, p: Tensor, g: Tensor, x: Tensor, stage: Tensor) -> Tensor:
    """Newton's step (B, d) for the free entries; entries at a bound, or next to one and pushed, go there."""
    residual = (x - (x - g).clamp(0.0, 1.0)).abs().amax(1, keepdim=True)
    bound = (g < 0).to(y)
    pushed = ((x - bound).abs() <= torch.minimum(residual, _NEAR / stage)) & (g != 0)
    free = (~pushed).to(y)
    root = y * p.sqrt()[..., None]
    H = root.mT @ root - g[:, :, None] * g[:, None]  # the covariance: the mean of y is -g
    H *= free[:, :, None] * (stage * free)[:, None]
    diagonal = H.diagonal(dim1=1, dim2=2)
    diagonal.add_(pushed + _DAMPING * diagonal.amax(1, keepdim=True) + 1e-14)
    factor = torch.linalg.cholesky_ex(H)[0]
    newton = -torch.cholesky_solve((g * free)[..., None], factor)[..., 0]
    return torch.where(pushed, bound - x, newton)


def _line_search(
    y: Tensor, log_mass: Tensor, stage: Tensor, value: Tensor, x: Tensor, g: Tensor, step: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Points (B, d) along the projected step that lower the objective, their gains (B, M), and what was promised.

    The full step promises (B, 1) what the objective would fall by if it were linear.
    """
    new = (x + step).clamp(0.0, 1.0)
    gain = times(y, new)
    promised = stage * (g * (x - new)).sum(1, keepdim=True)
    noise = 8 * torch.finfo(y.dtype).eps * (1 + value.abs())
    worse = _rise(log_mass, stage, value, gain) > noise - 1e-4 * promised
    if bool(worse.any()):
        bad = worse[:, 0].nonzero()[:, 0]
        part = (z[bad] for z in (y, log_mass, stage, value, x, g, step, noise))
        new[bad], gain[bad] = _shorter_step(*part)
    return new, gain, promised.abs()


def _shorter_step(
    y: Tensor, log_mass: Tensor, stage: Tensor, value: Tensor, x: Tensor, g: Tensor, step: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Points (B, d), and their gains, for which the full step goes too far."""
    length = torch.full_like(value, _SHRINK)
    for _ in range(_HALVINGS):
        new = (x + length * step).clamp(0.0, 1.0)
        gain = times(y, new)
        change = _rise(log_mass, stage, value, gain)
        worse = change > noise - 1e-4 * stage * (g * (x - new)).sum(1, keepdim=True)
        if not bool(worse.any()):
            break
        length = torch.where(worse, _SHRINK * length, length)
    # with redundant products, where the projection bends the step badly, the step up to the first bound is better
    room = torch.where(step < 0, -x, 1 - x) / torch.where(step == 0, torch.ones_like(step), step)
    room = torch.where((x > 0) & (x < 1) & (step != 0), room, torch.ones_like(room)).amin(1, keepdim=True)
    straight = (x + room.clamp(max=1.0) * step).clamp(0.0, 1.0)
    ahead = times(y, straight)
    better = _rise(log_mass, stage, value, ahead) < change
    return torch.where(better, straight, new), torch.where(better, ahead, gain)


def _rise(log_mass: Tensor, stage: Tensor, value: Tensor, gain: Tensor) -> Tensor:
    """How far (B, 1) the objective lies above ``value`` where scenarios are worth ``gain`` (B, M)."""
    return torch.logsumexp(log_mass - stage * gain, 1, keepdim=True) - value


def adjoint(y: Tensor, z: Tensor, cotangent: Tensor, weights: Tensor | None, free: Tensor) -> Adjoint:
    """Sensitivities at z = minimise(y), of whose entries those in ``free`` (B, d) move; zeros where z is NaN."""
    solved = ~z.isnan().any(1, keepdim=True)
    z, cotangent = (torch.where(solved, x, torch.zeros_like(x)) for x in (z, cotangent))
    mass = masses(y, weights).expand(len(y), -1)
    return in_chunks(
        _adjoint_rows, max(1, _CHUNK // (y.shape[1] * y.shape[2])), y, z, cotangent, mass, (free & solved).to(y)
    )


def _adjoint_rows(y: Tensor, z: Tensor, cotangent: Tensor, mass: Tensor, free: Tensor) -> Adjoint:
    exponent = -times(y, z)
    value = torch.logsumexp(mass.log() + exponent, 1, keepdim=True)
    relative = (exponent - value).exp()  # f(y_m, z) over the mean cost
    size = magnitude(y).clamp(min=1e-100)
    root = y / size[..., None] * (mass * relative).sqrt()[..., None] * free[:, None]
    H = root.mT @ root
    largest = H.diagonal(dim1=1, dim2=2).amax(1, keepdim=True)
    unit = torch.where(largest > 1e-24, largest, torch.ones_like(largest))
    H = H / unit[..., None]
    ridged = H.clone()
    ridged.diagonal(dim1=1, dim2=2).add_(1 - free + _RIDGE)
    factor = torch.linalg.cholesky_ex(ridged)[0]

    def inverse(r: Tensor) -> Tensor:
        return torch.cholesky_solve((r * free)[..., None], factor)[..., 0]

    ridge = torch.full_like(unit, _RIDGE)
    v = pseudo_solve(inverse, partial(times, H), cotangent * free, ridge)[0] / unit / size**2
    along = times(y, v)
    scenarios = (mass * relative)[..., None] * (v[:, None] - along[..., None] * z[:, None])
    return Adjoint(v, scenarios, relative * along)
