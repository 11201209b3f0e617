"""What days and hours of a fleet of data centers share as decision problems: parameters, accounts, state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.errors import UnknownNameError
from ..arrays import Array, beyond, in_numpy, largest, masses, nothing
from ..base import Adjoint, DecisionProblem, Judged, ProblemError
from .fleet import Fleet

Values = NDArray[np.float64]


class FleetProblem(DecisionProblem):
    """A decision about a fleet, whose accounts are vectors: cost, measures, soft families, state, in this order.

    A concrete problem says in :meth:`_settled` what a decision comes to, and everything else is read from there.

    Parameters
    ----------
    fleet : Fleet or mapping
        The fleet, or those fields of :class:`~shiftgym.solvers.data_center.fleet.Fleet` in which it differs from the
        default.
    action : str
        What a decision is: one of ``actions``.
    integer : bool
        Whether instances are whole.
    promise : float
        Share of the scenarios that :meth:`solve` prepares for.

    Raises
    ------
    ProblemError
        For a parameter outside its range.
    """

    outcome_low = 0.0
    stateful = True
    actions: tuple[str, ...]

    def __init__(
        self, fleet: Fleet | Mapping[str, Any] | None, action: str, integer: bool, promise: float, **more: Any
    ) -> None:
        if action not in self.actions:
            raise UnknownNameError("action", action, self.actions)
        if not isinstance(integer, bool):
            raise ProblemError(f"integer is {integer!r}: give True for whole instances, or False")
        if not 0 < promise <= 1:
            raise ProblemError(f"promise is {promise}: give a share in (0, 1]")
        given = fleet.to_dict() if isinstance(fleet, Fleet) else dict(fleet or {})
        self.fleet = fleet if isinstance(fleet, Fleet) else Fleet.from_dict(given)
        self._parameters = {"fleet": given, "action": action, "integer": integer, "promise": promise, **more}
        self.action, self.integer, self.promise = action, integer, float(promise)

    def parameters(self) -> dict[str, Any]:
        """The constructor's keywords."""
        return dict(self._parameters)

    def _bound(self, low: Values, high: Values) -> None:
        self.low, self.high, self.decision_dim = low, high, len(low)
        self._inside = low - self.tolerance, high + self.tolerance

    # ------------------------------------------------------------------ the state
    @abstractmethod
    def initial_state(self) -> Values:
        """The state (S,) before the first step."""

    def known_state(self, previous: Array | None, shape: tuple[int, ...] = ()) -> Values:
        """States (..., S) with the initial one in place of those that are NaN or not given."""
        if previous is None:
            start = self.initial_state()
            return np.broadcast_to(start, (*shape, len(start)))
        unknown = np.isnan(previous)
        return np.where(unknown, self.initial_state(), previous) if np.count_nonzero(unknown) else previous

    # ------------------------------------------------------------------ what a decision comes to
    @abstractmethod
    def _settled(self, outcomes: Values, decisions: Values, previous: Values | None) -> Values:
        """Accounts (..., width) of decisions; leading axes broadcast."""

    def _accounts(self, outcomes: Array, decisions: Array, previous: Array | None) -> Array:
        if isinstance(outcomes, np.ndarray):
            return self._settled(outcomes, decisions, previous)
        if outcomes.requires_grad or decisions.requires_grad:
            raise self._no_gradient()
        return in_numpy(self._settled, outcomes, decisions, previous)

    def judge(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Judged:
        """Cost [1000 $], measures, soft families and the next state, from one settlement."""
        accounts = self._accounts(outcomes, decisions, previous)
        soft, state = 1 + len(self.measures), 1 + len(self.measures) + len(self.soft_families)
        columns = accounts[:state].tolist() if accounts.ndim == 1 else [accounts[..., i] for i in range(state)]
        broken = dict(zip(self.soft_families, columns[soft:], strict=True))
        return Judged(columns[0], dict(zip(self.measures, columns[1:soft], strict=True)), broken, accounts[..., state:])

    def cost(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """Settled cost C^set [1000 $], shape (...)."""
        return self._accounts(outcomes, decisions, previous)[..., 0]

    def measure(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> dict[str, Array]:
        """What the step brought; see :class:`~shiftgym.solvers.data_center.DataCenter`."""
        return self.judge(outcomes, decisions, previous).measures

    def shortfall(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> dict[str, Array]:
        """What the step showed the plan to lack."""
        return self.judge(outcomes, decisions, previous).shortfall

    def carry(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """The state after the step."""
        return self.judge(outcomes, decisions, previous).state

    # ------------------------------------------------------------------ constraints
    def project(self, decisions: Array) -> Array:
        """Clip to the bounds what leaves them by more than the tolerance."""
        return in_numpy(self._project, decisions)

    def _project(self, decisions: Values) -> Values:
        inside = (decisions >= self._inside[0]) & (decisions <= self._inside[1])
        if np.count_nonzero(inside) == decisions.size:
            return decisions
        return np.where(inside, decisions, np.clip(decisions, self.low, self.high))

    def excess(self, decisions: Array, feasible: Array) -> dict[str, Array]:
        """``bounds``: the largest distance of an entry outside the box."""
        if feasible is decisions:
            return {"bounds": nothing(decisions)}
        return {"bounds": largest(beyond(abs(decisions - feasible), self.tolerance))}

    # ------------------------------------------------------------------ training
    @property
    def _tail(self) -> float:
        """Share of the scenarios that need not be prepared for; the price of what is undone is divided by it."""
        if self.promise == 1:
            raise ProblemError("promise is 1, which no price of a breach keeps: give a share below 1 to train for")
        return 1 - self.promise

    @staticmethod
    def _mass(scenarios: Values, weights: Values | None) -> Values:
        """Share (B, M) of each scenario."""
        return np.broadcast_to(masses(scenarios, weights), scenarios.shape[:2])

    def adjoint(self, scenarios: Array, decisions: Array, cotangent: Array, weights: Array | None = None) -> Adjoint:
        """Not available: raises :class:`ProblemError`."""
        raise self._no_gradient()

    def _no_gradient(self) -> ProblemError:
        return ProblemError(
            f"{type(self).__name__} gives no gradient of its cost, which is no smooth function of a decision: fit an "
            "agent that needs none, such as persistence, residual-saa or two-stage"
        )
