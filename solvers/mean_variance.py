"""Mean-variance minimisation over scenarios and the simplex, and its derivative: the torch side of the portfolio."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from .arrays import in_chunks, magnitude, masses, pseudo_solve, times, weighted_sum
from .base import Adjoint
from .simplex_qp import TOLERANCE, Support, simplex_qp

#: Elements of the scenarios worked on at once (8 bytes each), unless a single context has more.
_CHUNK = 2**22
#: Assets in the first reduced problem; fewer than twice as many are not worth pricing.
_CANDIDATES = 24
#: Rounds of pricing; two or three are typical.
_ROUNDS = 60


def minimise(y: Tensor, weights: Tensor | None, risk_aversion: float) -> Tensor:
    """Minimisers z (B, n) of sum_m w_m [alpha/2 (y_m'z)^2 - y_m'z] over the simplex, for y (B, M, n).

    Column generation on exact reduced problems; NaN in rows that do not converge.
    """
    mass = masses(y, weights).expand(len(y), -1)
    size = max(1, _CHUNK // (y.shape[1] * y.shape[2]))
    return in_chunks(partial(_minimise_rows, risk_aversion=risk_aversion), size, y, mass)


def _minimise_rows(y: Tensor, mass: Tensor, risk_aversion: float) -> Tensor:
    """Price all assets, solve on the most promising, repeat; the first prices are those of equal weights."""
    contexts, _, n = y.shape
    size, alpha, unit = _scales(y, risk_aversion)
    K = n if n < 2 * _CANDIDATES else _CANDIDATES
    answer = torch.full_like(y[:, 0], torch.nan)
    rows = torch.arange(contexts, device=y.device)
    z = torch.full_like(answer, 1 / n)
    held = torch.zeros_like(z, dtype=torch.bool)  # the candidates of the last round
    for turn in range(_ROUNDS):
        weight = mass * (risk_aversion * times(y, z) - 1) / (unit * size)
        gradient = weighted_sum(weight, y)
        reduced = gradient - (z * gradient).sum(1, keepdim=True)
        likely = reduced <= 0
        if turn:
            # a candidate was left out by an exact solution; rows that are NaN miss nothing and stop here too
            missing = ((reduced < -TOLERANCE) & ~held).any(1)
            answer[rows[~missing]] = z[~missing]
            if not bool(missing.any()):
                break
            rows, y, mass, z = rows[missing], y[missing], mass[missing], z[missing]
            size, alpha, unit, reduced = size[missing], alpha[missing], unit[missing], reduced[missing]
            likely = (z > 0) | (reduced < -TOLERANCE)
            reduced = torch.where(z > 0, torch.full_like(z, -math.inf), reduced)
            if 2 * int((z > 0).sum(1).max()) > K:
                K = min(n, 2 * K)
        chosen = reduced.topk(K, dim=1, largest=False).indices if n > K else None
        likely = likely if chosen is None else likely.gather(1, chosen)
        z = simplex_qp(*_quadratic(_columns(y, chosen) / size[..., None], mass, alpha, unit), likely)
        z = z if chosen is None else torch.zeros_like(reduced).scatter_(1, chosen, z)
        z = torch.where(z.isnan().any(1, keepdim=True), torch.full_like(z, torch.nan), z)
        held = torch.zeros_like(z, dtype=torch.bool)
        held = held.scatter_(1, chosen, True) if chosen is not None else ~held
    return answer


def _quadratic(y: Tensor, mass: Tensor, alpha: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """Q (B, K, K) and p (B, K) of the objective for scaled scenarios (B, M, K)."""
    root = y * (mass * alpha / unit).sqrt()[..., None]
    return root.mT @ root, weighted_sum(mass / unit, y)


def adjoint(y: Tensor, z: Tensor, cotangent: Tensor, weights: Tensor | None, risk_aversion: float) -> Adjoint:
    """Sensitivities at z = minimise(y), for the cotangent (B, n); zeros in rows that are NaN."""
    mass = masses(y, weights).expand(len(y), -1)
    size = max(1, _CHUNK // (y.shape[1] * y.shape[2]))
    return in_chunks(partial(_adjoint_rows, risk_aversion=risk_aversion), size, y, z, cotangent, mass)


def _adjoint_rows(y: Tensor, z: Tensor, cotangent: Tensor, mass: Tensor, risk_aversion: float) -> Adjoint:
    solved = ~z.isnan().any(1, keepdim=True)
    z = torch.where(solved, z, torch.full_like(z, 1 / z.shape[1]))
    cotangent = torch.where(solved, cotangent, torch.zeros_like(cotangent))
    K = max(1, int((z > 0).sum(1).max())) if len(z) else 1
    chosen = z.topk(K, dim=1).indices if z.shape[1] > K else None
    weight, g = (x if chosen is None else x.gather(1, chosen) for x in (z, cotangent))
    part = _columns(y, chosen)
    size, alpha, unit = _scales(part, risk_aversion)
    Q, _ = _quadratic(part / size[..., None], mass, alpha, unit)
    system = Support(Q, weight > 0)

    def inverse(r: Tensor) -> Tensor:
        return system.solve(r)[0]

    v, null = pseudo_solve(inverse, partial(times, Q), system.centred(g), system.ridge)
    if bool((null.abs() > 1e-9 * g.abs().amax(1, keepdim=True)).any()):
        q, _ = pseudo_solve(inverse, partial(times, Q), system.centred(weight), system.ridge)
    else:
        q = torch.zeros_like(null)
    v, q = v / (unit * size), q / (unit * size)  # from the scaled objective to the given one
    if chosen is not None:
        v, null, q = (torch.zeros_like(z).scatter_(1, chosen, x) for x in (v, null, q))
    along = y @ torch.stack((z, v, q), -1)  # (B, M, 3)
    slack = risk_aversion * along[..., 0] - 1
    left = torch.stack((-slack, -risk_aversion * along[..., 1], risk_aversion * along[..., 2]), -1)
    scenarios = (mass[..., None] * left) @ torch.stack((v, z, null), 1)
    return Adjoint(v, scenarios, -slack * along[..., 1])


def _scales(y: Tensor, risk_aversion: float) -> tuple[Tensor, Tensor, Tensor]:
    """Size of the scenarios, risk aversion in units of it, and the unit of the scaled objective; all (B, 1).

    Divided by ``unit * size``, the objective has a Q and p with entries of about one, whatever the inputs' scale.
    """
    size = magnitude(y)
    size = torch.where(size > 0, size, torch.ones_like(size))
    alpha = (risk_aversion * size).clamp(min=1e-30)  # below that, the mean decides to the last digit
    return size, alpha, alpha.clamp(min=1.0)


def _columns(y: Tensor, chosen: Tensor | None) -> Tensor:
    """The assets ``chosen`` (B, K) of scenarios (B, M, n)."""
    if chosen is None:
        return y
    return y.gather(2, chosen[:, None].expand(-1, y.shape[1], -1))
