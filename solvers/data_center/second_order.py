"""Training rows (15b) for an ellipsoid of arrivals: second-order cones over the shares x.

| symbol | here |
|---|---|
| mu_kt, sqrt(r) sigma_kt | ``mean``, ``deviation`` of :class:`SecondOrder` [GPU h] |
| Gamma_kk | ``correlation`` |

    sum_t x_ktdtau mu_kt + || Gamma_kk^(1/2) (sqrt(r) sigma_kt x_ktdtau)_t ||_2 <= C_kdtau      for all k, d, tau
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..base import ProblemError
from ..programs import load
from ..sparse import Vector
from .fleet import Fleet
from .schedule import Day, Given, check_array
from .share_program import ShareProgram, share_program


@dataclass(frozen=True, eq=False)
class SecondOrder:
    """Ellipsoid of training arrivals, seen by rows that each concern one class.

    Attributes
    ----------
    mean : array, shape (K, T)
        Its center [GPU h].
    deviation : array, shape (K, T)
        sqrt(r) sigma: the half-widths [GPU h].
    correlation : array, shape (K, T, T), optional
        Correlation between the slots of a class; none by default.
    """

    mean: Vector
    deviation: Vector
    correlation: Vector | None = None

    def checked(self, fleet: Fleet) -> SecondOrder:
        """Arrays of the fleet's shape, the center and the half-widths not negative."""
        shape = (len(fleet.classes), fleet.slots)
        mean = check_array("training.mean", self.mean, shape)
        deviation = check_array("training.deviation", self.deviation, shape)
        if (deviation < 0).any():
            raise ProblemError(f"training.deviation is {deviation.min()}: give half-widths that are not negative")
        correlation = self.correlation
        if correlation is not None:
            correlation = check_array("training.correlation", correlation, (*shape, fleet.slots))
        return SecondOrder(np.maximum(mean, 0.0), deviation, correlation)

    def factor(self, k: int) -> Vector:
        """Square root (T, T) of the correlation of a class: ``|factor @ v|^2 = v' Gamma v``."""
        if self.correlation is None:
            return np.eye(self.mean.shape[1])
        values, vectors = np.linalg.eigh(self.correlation[k])
        if values[0] < -1e-8 * values[-1]:
            raise ProblemError(f"training.correlation[{k}] has the eigenvalue {values[0]}: give a positive one")
        return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T

    def worst_case(self, shares: Vector, slots: int) -> Vector:
        """Most work (K, D, T) [GPU h] that shares (K, T, D, W) meet over the ellipsoid: the left-hand side above."""
        K, T, D, width = shares.shape
        work = np.zeros((K, D, slots))
        for k in range(K):
            factor = self.factor(k)
            for tau in range(slots):
                arrivals = np.arange(max(0, tau - width + 1), min(tau, T - 1) + 1)
                x = shares[k, arrivals, :, tau - arrivals]  # (arrivals, D)
                spread = factor[:, arrivals] @ (self.deviation[k, arrivals, None] * x)
                work[k, :, tau] = self.mean[k, arrivals] @ x + np.linalg.norm(spread, axis=0)
        return work


def robust_shares(fleet: Fleet, training: SecondOrder, solver: str, day: Day, inference: Vector) -> Given:
    """Best training for an ellipsoid of arrivals; ``reserved`` is the least that holds (15b) for its shares.

    ``inference`` (T,) is the power of the GPUs that serve [kW], over all centers.
    """
    model = share_program(fleet, training.mean + training.deviation)
    _add_cones(model, training)
    program, backend = load(model.program, solver)
    point = program.solve(model.vectors(day, inference))
    shares, carried = model.read(point.x, day.backlog)
    reserved = training.worst_case(shares, fleet.slots + fleet.tail) + carried
    return Given(shares, carried, reserved, point.value, str(backend))


def _add_cones(model: ShareProgram, training: SecondOrder) -> None:
    """Append the cones (15b), one per class, center and slot of execution."""
    fleet, program = model.fleet, model.program
    horizon = fleet.slots + fleet.tail
    amount, reserved = program.columns["amount"], program.columns["reserved"]
    for k, window in enumerate(fleet.windows):
        rows = program.cone(f"robust {k}", fleet.size * horizon, window + 2).reshape(fleet.size, horizon, window + 2)
        program.add(rows[..., 0], reserved[k])
        if fleet.tail:
            program.add(rows[..., 0], program.columns["carried"][k], -1.0)
        mine = np.flatnonzero(model.k == k)
        t, d, offset, tau = model.t[mine], model.d[mine], model.offset[mine], model.tau[mine]
        program.add(rows[d, tau, 0], amount[mine], -training.mean[k, t] * model.unit[mine])
        width = training.deviation[k, t] * model.unit[mine]
        if training.correlation is None:
            program.add(rows[d, tau, 1 + offset], amount[mine], width)
        else:
            factors = _window_factors(training.correlation[k], window, horizon)[tau, :, offset]  # (N, window + 1)
            program.add(rows[d, tau, 1:], amount[mine, None], factors * width[:, None])


def _window_factors(correlation: Vector, window: int, horizon: int) -> Vector:
    """Square roots F (horizon, W, W) of the correlation of arrivals that can run in a slot: ``|F v|^2 = v' Gamma v``.

    Entry v_o belongs to the arrival o slots earlier; where there is none, its row is that of an independent one.
    """
    slots = len(correlation)
    arrival = np.arange(horizon)[:, None] - np.arange(window + 1)
    known = (arrival >= 0) & (arrival < slots)
    index = np.where(known, arrival, 0)
    pairs = known[:, :, None] & known[:, None]
    gamma = np.where(pairs, correlation[index[:, :, None], index[:, None]], np.eye(window + 1))
    values, vectors = np.linalg.eigh(gamma)
    return np.sqrt(np.maximum(values, 0.0))[..., None] * vectors.swapaxes(1, 2)
