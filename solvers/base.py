"""The decision problem: what a decision costs, which is best, and how the best one moves with the scenarios."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.errors import ShiftgymError
from .arrays import Array, beyond, kind, largest, namespace, nothing


class ProblemError(ShiftgymError):
    """A decision problem, or scenarios for it, that cannot be solved as given."""


def check_not_negative(**values: float) -> None:
    """Raise :class:`ProblemError` for a parameter, by its name, that is negative or not finite."""
    for name, value in values.items():
        if not (np.isfinite(value) and value >= 0):
            raise ProblemError(f"{name} is {value}: give a number that is not negative")


class Adjoint(NamedTuple):
    """What one adjoint solve yields for a downstream loss F with gradient g = dF/dz*.

    Attributes
    ----------
    multiplier : array, shape (B, d)
        u, the solution of K' u = g with the KKT matrix K of the scenario problem.
    scenarios : array, shape (B, M, D)
        dF/dy_m, through which reparameterised samples receive their gradient.
    score : array, shape (B, M)
        w_m = -u' df/dz(y_m, z*), the weights of the score-function estimator
        dF/dtheta = d/dtheta mean_m[ stop_gradient(w_m) log p_theta(y_m | x) ].
    """

    multiplier: Array
    scenarios: Array
    score: Array


class Judged(NamedTuple):
    """What a decision came to, shape (...) each: :meth:`DecisionProblem.judge`.

    Attributes
    ----------
    cost : array
        f(y, z).
    measures, shortfall : dict of str to array
        By measure, and by soft family.
    state : array, shape (..., S)
        What is handed on to the next step.
    """

    cost: Array
    measures: dict[str, Array]
    shortfall: dict[str, Array]
    state: Array


class DecisionProblem(ABC):
    """min_z mean_m f(y_m, z) over a feasible set, with f convex or at least exactly solvable.

    Arrays are NumPy or torch, in and out of the same kind; leading axes are batched everywhere.

    | symbol | here |
    |---|---|
    | y | ``outcomes``, shape (..., D) |
    | y_1..y_M | ``scenarios``, shape (B, M, D) |
    | z | ``decisions``, shape (..., d) |
    | f(y, z) | :meth:`cost` |
    | z*(x) | :meth:`solve` |

    Attributes
    ----------
    outcome_dim, decision_dim : int
        D and d.
    low, high : array of float64, shape (d,)
        The box that contains every feasible decision.
    hard_families : tuple of str
        Constraints on the decision alone; a request that breaks one is measured, its projection executed.
    soft_families : tuple of str
        Constraints that an outcome can break after the decision.
    units : dict of str to str
        Unit of the magnitude of each family.
    stateful : bool
        Whether the cost depends on what was done before: on the state that :meth:`carry` hands on.
    state_dim : int
        Width S of that state; the previous decision unless a problem says otherwise.
    measures : tuple of str
        What :meth:`measure` reports of a step besides its cost.
    """

    outcome_dim: int
    decision_dim: int
    #: Smallest outcome that makes sense; scenarios below it are an error.
    outcome_low: float = -np.inf
    #: How many outcomes, the last ones, are known before the decision (prices, say): ``outcome_low`` is not for them.
    known_dim: int = 0
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    hard_families: tuple[str, ...] = ()
    soft_families: tuple[str, ...] = ()
    units: dict[str, str]
    stateful: bool = False
    measures: tuple[str, ...] = ()
    #: Magnitudes below this count as satisfied.
    tolerance: float = 1e-6

    @property
    def state_dim(self) -> int:
        """Width S of the state that a step hands on to the next."""
        return self.decision_dim

    @property
    def families(self) -> tuple[str, ...]:
        """All constraint families, hard ones first."""
        return self.hard_families + self.soft_families

    @abstractmethod
    def cost(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """f(y, z), shape (...), for outcomes (..., D) and feasible decisions (..., d).

        ``previous`` (..., S) is the state that the step before handed on (see :meth:`carry`), NaN where there is none.
        Leading axes broadcast: decisions (n, d) that meet the same outcome may come with one (1, D).
        """

    def objective(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """What training minimises, shape (...): the cost, unless it leaves out what a decision must also do."""
        return self.cost(outcomes, decisions, previous)

    def carry(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """State (..., S) that a step hands on to the next: its decision, unless a problem says otherwise."""
        return decisions

    def given(self, scenarios: Array, previous: Array | None = None) -> Array:
        """Scenarios (B, M, D) as they are for who holds the state ``previous`` (B, S), if any; as given by default.

        ``solve(given(scenarios, previous))`` decides for that state, where a problem can be brought to that form.
        """
        return scenarios

    def measure(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> dict[str, Array]:
        """What a step brought besides its cost, shape (...) each, keys as in ``measures``."""
        return {}

    @abstractmethod
    def perfect(self, outcomes: Array, previous: Array | None = None) -> Array:
        """Perfect-information decisions (..., d) for known outcomes (..., D)."""

    def least_cost(self, outcomes: Array, perfect: Array, previous: Array | None = None) -> Array:
        """What the decision of perfect information costs, shape (...), which regret is measured from.

        A problem whose :meth:`perfect` decision is only nearly the best one may give a lower bound instead.
        """
        return self.cost(outcomes, perfect, previous)

    @abstractmethod
    def solve(self, scenarios: Array, weights: Array | None = None) -> Array:
        """Exact minimisers (B, d) of the weighted scenario average, for scenarios (B, M, D).

        Raises
        ------
        ProblemError
            For NaN or infinite scenarios, or shapes that do not fit.
        """

    @abstractmethod
    def adjoint(self, scenarios: Array, decisions: Array, cotangent: Array, weights: Array | None = None) -> Adjoint:
        """Both gradient estimators at ``decisions = solve(scenarios)``, for ``cotangent`` = dF/dz* (B, d)."""

    def pullback(self, scenarios: Array, decisions: Array, cotangent: Array, weights: Array | None = None) -> Array:
        """dF/dy_m (B, M, D) of :meth:`adjoint`, without the work that only the score-function estimator needs."""
        return self.adjoint(scenarios, decisions, cotangent, weights).scenarios

    @abstractmethod
    def project(self, decisions: Array) -> Array:
        """Nearest feasible decisions; requests that break no limit by more than ``tolerance`` come back unchanged."""

    @abstractmethod
    def excess(self, decisions: Array, feasible: Array) -> dict[str, Array]:
        """Magnitude (...) by which a requested decision breaks each hard family; 0 where satisfied.

        ``feasible`` is its projection, which the caller has at hand; where that is the same object, nothing is broken.
        """

    def shortfall(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> dict[str, Array]:
        """Magnitude (...) by which an executed decision breaks each soft family under the outcome.

        ``previous`` is the state that the decision starts from, as for :meth:`cost`.
        """
        if self.soft_families:
            raise NotImplementedError(f"{type(self).__name__} has soft families {self.soft_families} but no shortfall")
        return {}

    def judge(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Judged:
        """All that a step brings; a problem in which the parts share work does it once here."""
        given = outcomes, decisions, previous
        return Judged(self.cost(*given), self.measure(*given), self.shortfall(*given), self.carry(*given))

    def forget(self) -> None:  # most problems remember nothing
        """Drop solutions that are kept so that none is found twice; whoever times a decision calls it first."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """The constructor's keywords (JSON-able), from which :func:`make_problem` builds an equal problem."""

    def violations(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> dict[str, Array]:
        """Every family's magnitude (...): hard ones of the request, soft ones of its projection."""
        feasible = self.project(decisions)
        return {**self.excess(decisions, feasible), **self.shortfall(outcomes, feasible, previous)}

    def check_scenarios(self, scenarios: Array, weights: Array | None) -> None:
        """Raise :class:`ProblemError` unless scenarios are (B, M, D), finite, and weights (B, M), not negative."""
        name, shape = type(self).__name__, tuple(scenarios.shape)
        if len(shape) != 3 or shape[2] != self.outcome_dim or 0 in shape[1:]:
            raise ProblemError(
                f"scenarios of {name} have shape {shape}; give (contexts, scenarios >= 1, {self.outcome_dim})"
            )
        xp = namespace(scenarios)
        with np.errstate(over="ignore", invalid="ignore"):
            finite = xp.isfinite(scenarios.sum())  # one pass; a sum that overflows is looked into
        if not bool(finite) and not bool(xp.all(finite := xp.isfinite(scenarios))):
            place = [int(axis[0]) for axis in xp.nonzero(~finite)]
            raise ProblemError(
                f"scenarios of {name} are {float(scenarios[tuple(place)])} at [context, scenario, column] = {place}: "
                "remove or repair them before solving"
            )
        uncertain = scenarios[..., : shape[2] - self.known_dim]
        if self.outcome_low > -np.inf and bool(xp.any(uncertain < self.outcome_low)):
            raise ProblemError(
                f"scenarios of {name} reach {float(xp.min(uncertain))}, below the smallest sensible outcome "
                f"{self.outcome_low}: clip them"
            )
        if weights is not None:
            if tuple(weights.shape) != shape[:2]:
                raise ProblemError(f"weights of {name} have shape {tuple(weights.shape)}; give {shape[:2]}")
            total = weights.sum(-1)
            if bool(xp.any(weights < 0)) or not bool(xp.all((total > 0) & xp.isfinite(total))):
                raise ProblemError(f"weights of {name} must be finite, not negative, and positive in sum per context")

    def box(self, like: Array) -> tuple[Array, Array]:
        """``low`` and ``high`` as arrays of the kind, dtype and device of ``like``."""
        if isinstance(like, np.ndarray):
            return self.low, self.high
        xp = namespace(like)
        return xp.asarray(self.low, **kind(like)), xp.asarray(self.high, **kind(like))


class BoxProblem(DecisionProblem):
    """A problem whose decisions have bounds, and no other hard constraint: ``project`` clips to them."""

    hard_families = ("bounds",)

    def excess(self, decisions: Array, feasible: Array) -> dict[str, Array]:
        """``bounds``: the largest distance of an entry outside the box."""
        if feasible is decisions:
            return {"bounds": nothing(decisions)}
        return {"bounds": largest(beyond(abs(decisions - feasible), self.tolerance))}
