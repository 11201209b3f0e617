"""Quadratic programmes over the simplex, in batches: min z'Qz/2 - p'z subject to 1'z = 1, z >= 0.

Block principal pivoting finds the support and is exact; where it cycles, an interior point to a loose tolerance
guesses the support, and a primal active-set method is the last resort. Everything is torch in float64; rows (one
programme each) never mix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arrays import times

#: Ridge relative to the largest diagonal entry: small enough to be refined away, large enough to factor with.
RIDGE = 1e-10
#: What counts as zero for weights and for reduced costs of programmes whose entries are at most one.
TOLERANCE = 1e-13
#: The same while screening.
_ROUGH = 1e-10
#: Relative duality gap at which the interior point hands over.
_LOOSE = 1e-3
#: Steps of screening: what they leave wrong, pivoting mends.
_SCREENINGS = 6
#: Pivoting steps per row; half a dozen is typical, and what takes more is likely to cycle.
_PIVOTS = 15
#: Steps of the walk per entry.
_WALK = 10
#: Where Q is small, p alone decides, and rounding in it (1e-16) must not be divided by less than this.
_LEAST_RIDGE = 1e-12
#: Proximal steps with the same support; each divides the bias of the ridge by the curvature over the ridge.
_PROXIMAL = 3


class Support:
    """KKT systems of the programme restricted to a support: (Q + ridge) x + lambda 1 = r and 1'x = total.

    Parameters
    ----------
    Q : Tensor, shape (B, K, K)
        Positive semidefinite.
    support : Tensor of bool, shape (B, K)
        Entries that may differ from zero; at least one per row.
    least_ridge : float
        Lower bound of the ridge, which else is RIDGE times the largest diagonal entry.
    """

    def __init__(self, Q: Tensor, support: Tensor, least_ridge: float = 0.0) -> None:
        self.inside = support.to(Q.dtype)
        self.ridge = _ridge(Q, least_ridge)
        self._factor = _factor(Q, self.inside, self.ridge)
        self._one = torch.cholesky_solve(self.inside[..., None], self._factor)[..., 0] * self.inside
        self._weight = self._one.sum(1, keepdim=True)

    def __getitem__(self, rows: Tensor) -> Support:
        part = object.__new__(Support)
        for name, value in vars(self).items():
            setattr(part, name, value[rows])
        return part

    def solve(self, r: Tensor, total: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Solution x (B, K), zero off the support, and lambda (B, 1)."""
        x = torch.cholesky_solve((r * self.inside)[..., None], self._factor)[..., 0] * self.inside
        multiplier = (x.sum(1, keepdim=True) - total) / self._weight
        return x - multiplier * self._one, multiplier

    def centred(self, x: Tensor) -> Tensor:
        """Projection of x (B, K) onto the directions along the support: zero elsewhere, and zero in sum."""
        mean = (x * self.inside).sum(1, keepdim=True) / self.inside.sum(1, keepdim=True)
        return (x - mean) * self.inside


def _ridge(Q: Tensor, least: float) -> Tensor:
    diagonal = Q.diagonal(dim1=1, dim2=2).amax(1, keepdim=True)
    return (RIDGE * torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal))).clamp(min=least)


def _factor(Q: Tensor, inside: Tensor, ridge: Tensor) -> Tensor:
    """Cholesky factor of Q + ridge on the support, and of the identity (plus the ridge) elsewhere."""
    H = Q * (inside[:, :, None] * inside[:, None, :])
    H.diagonal(dim1=1, dim2=2).add_(1 - inside + ridge)
    return torch.linalg.cholesky_ex(H)[0]


def interior_point(Q: Tensor, p: Tensor, tolerance: float = _LOOSE, iterations: int = 50) -> tuple[Tensor, Tensor]:
    """Mehrotra's predictor-corrector method: z and reduced costs s, both (B, K) and positive."""
    K = p.shape[1]
    z = torch.full_like(p, 1 / K)
    gradient = times(Q, z) - p
    multiplier = 0.1 - gradient.amin(1, keepdim=True)
    s = gradient + multiplier
    one = torch.ones_like(p)
    for _ in range(iterations):
        gap = (z * s).sum(1, keepdim=True)
        running = gap > tolerance
        if not bool(running.any()):
            break
        H = Q.clone()
        H.diagonal(dim1=1, dim2=2).add_(s / z)
        factor = torch.linalg.cholesky_ex(H)[0]
        residual = gradient + multiplier
        deficit = z.sum(1, keepdim=True) - 1
        x, y = torch.cholesky_solve(torch.stack((-residual, one), -1), factor).unbind(-1)
        weight = y.sum(1, keepdim=True)
        dz = x - y * ((x.sum(1, keepdim=True) + deficit) / weight)
        ds = -s - s / z * dz
        ahead = ((z + _step(z, dz) * dz) * (s + _step(s, ds) * ds)).sum(1, keepdim=True)
        centre = (ahead / gap) ** 3 * gap / K - dz * ds
        x = torch.cholesky_solve((centre / z - residual)[..., None], factor)[..., 0]
        dl = (x.sum(1, keepdim=True) + deficit) / weight
        dz = x - dl * y
        ds = (centre - s * dz) / z - s
        # one step length for both, so that the quadratic term leaves no dual residual
        length = running * torch.minimum(0.995 * torch.minimum(_step(z, dz), _step(s, ds)), torch.ones_like(gap))
        z, s, multiplier = z + length * dz, s + length * ds, multiplier + length * dl
        gradient = times(Q, z) - p
    return z, s


def _step(x: Tensor, dx: Tensor) -> Tensor:
    """Longest step (B, 1), at most 1, that keeps x positive."""
    ratio = torch.where(dx < 0, -x / dx, torch.ones_like(x))
    return ratio.amin(1, keepdim=True).clamp(max=1.0)


def screen(Q: Tensor, p: Tensor, support: Tensor) -> Tensor:
    """Supports (B, K) near those of the minimisers: block principal pivoting without a care for the last digits."""
    found, rows = support.clone(), torch.arange(len(p), device=p.device)
    ridge = _ridge(Q, _LEAST_RIDGE)
    for _ in range(_SCREENINGS if len(p) else 0):
        inside = support.to(Q.dtype)
        factor = _factor(Q, inside, ridge)
        right = torch.stack((p * inside, inside), -1)
        x, one = (torch.cholesky_solve(right, factor) * inside[..., None]).unbind(-1)
        multiplier = (x.sum(1, keepdim=True) - 1) / one.sum(1, keepdim=True)
        z = x - multiplier * one
        wrong = torch.where(support, z, times(Q, z) - p + multiplier) < -_ROUGH
        support = support ^ wrong  # all that are wrong change sides together
        changed = wrong.any(1)
        found[rows] = support
        if not bool(changed.any()):
            break
        if not bool(changed.all()):
            rows, Q, p, support, ridge = rows[changed], Q[changed], p[changed], support[changed], ridge[changed]
    return found


def pivot(Q: Tensor, p: Tensor, support: Tensor) -> Tensor:
    """Exact minimisers (B, K) by block principal pivoting (Kim and Park 2011) from a first guess of the support.

    The programme has a ridge around a centre; once a support fits, the centre moves to the solution (the proximal
    point method), which removes the ridge's bias in one or two steps. Starting from zero, the result is the
    minimiser of least norm on the support. Rows that do not settle are NaN.
    """
    solution = torch.full_like(p, torch.nan)
    rows = torch.arange(len(p), device=p.device)
    centre, multiplier = torch.zeros_like(p), p.amax(1, keepdim=True)
    system: Support | None = None
    for _ in range(_PIVOTS if len(p) else 0):
        system = Support(Q, support, _LEAST_RIDGE) if system is None else system
        start = centre * support
        moment = times(Q, start)
        for _ in range(_PROXIMAL):
            # from the centre and the last multiplier on, so that what is solved for is small and so is its error
            change, shift = system.solve(p - moment - multiplier, 1 - start.sum(1, keepdim=True))
            z, multiplier = start + change, multiplier + shift
            ahead = times(Q, z)
            reduced = ahead + system.ridge * (z - centre) - p + multiplier
            wrong = torch.where(support, z < -TOLERANCE, reduced < -TOLERANCE)
            fits = ~wrong.any(1)
            moved = (z - centre).abs().amax(1)
            centre = torch.where(fits[:, None], z.clamp(min=0), centre)
            finished = fits & (moved * system.ridge[:, 0] < TOLERANCE)  # the reduced cost that the last step leaves
            if bool((finished == fits).all()):
                break
            start, moment = centre * support, torch.where(fits[:, None], ahead, moment)
        support = support ^ wrong  # all that are wrong change sides together
        if bool(wrong.any()):
            system = None
        if bool(finished.any()):
            solution[rows[finished]] = centre[finished] / centre[finished].sum(1, keepdim=True)
            kept = ~finished
            if not bool(kept.any()):
                break
            rows, Q, p, support = rows[kept], Q[kept], p[kept], support[kept]
            centre, multiplier = centre[kept], multiplier[kept]
            system = system[kept] if system is not None else None
    return solution


def walk(Q: Tensor, p: Tensor, z: Tensor) -> Tensor:
    """Supports (B, K) of the minimisers, entry by entry from a feasible z: slower than pivoting, but cannot cycle.

    The primal active-set method (Lawson and Hanson 1974): go towards the minimiser on the support until an entry
    reaches zero and leaves; at the minimiser, the entry with the most negative reduced cost enters.
    """
    support = z > 0
    for _ in range(_WALK * p.shape[1]):
        system = Support(Q, support, _LEAST_RIDGE)
        target, multiplier = system.solve(p, 1.0)
        falling = support & (target <= 0)
        length = torch.where(falling, z / (z - target), torch.full_like(z, torch.inf))
        step = length.amin(1, keepdim=True).clamp(max=1.0)
        leaving = falling & (length <= step)
        z = torch.where(leaving, torch.zeros_like(z), z + step * (target - z)) * support
        reduced = times(Q, z) + system.ridge * z - p + multiplier
        least, entering = torch.where(support, torch.full_like(z, torch.inf), reduced).min(1, keepdim=True)
        enters = ~falling.any(1, keepdim=True) & (least < -TOLERANCE)
        support = (support & ~leaving) | torch.zeros_like(support).scatter_(1, entering, enters)
        if not bool((falling.any(1, keepdim=True) | enters).any()):
            break
    return support


def simplex_qp(Q: Tensor, p: Tensor, likely: Tensor) -> Tensor:
    """Minimisers (B, K) over the simplex, NaN where pivoting did not settle; entries of Q, p at most about one.

    Most rows settle from a ``likely`` support (B, K), not empty. The others pivot again from the support that the
    interior point finds, and walk from there if that fails.
    """
    solution = pivot(Q, p, screen(Q, p, likely))
    lost = solution.isnan().any(1)
    if bool(lost.any()):
        Q, p = Q[lost], p[lost]
        z, s = interior_point(Q, p)
        # strictly complementary at the solution: z stays and s vanishes, or the other way round
        support = z * s.amax(1, keepdim=True) > s * z.amax(1, keepdim=True)
        support |= z == z.amax(1, keepdim=True)
        again = pivot(Q, p, support)
        stuck = again.isnan().any(1)
        if bool(stuck.any()):
            start = (z * support)[stuck]
            again[stuck] = pivot(Q[stuck], p[stuck], walk(Q[stuck], p[stuck], start / start.sum(1, keepdim=True)))
        solution[lost] = again
    return solution
