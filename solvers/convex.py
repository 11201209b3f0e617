"""Any convex problem written in CVXPY as a decision problem, through cvxpylayers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import cvxpy as cp
import diffcp
import numpy as np
import torch
from cvxpylayers.torch import CvxpyLayer
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..data.errors import UnknownNameError
from .arrays import Array, beyond
from .base import Adjoint, DecisionProblem, ProblemError


class Backend(NamedTuple):
    """The solver that cvxpylayers is built with, its settings, and those of a solve that will be differentiated."""

    solver: str
    settings: dict[str, Any]
    backward: dict[str, Any]


#: One thread: diffcp leaves the pools of several threads open.
_FORWARD, _BACKWARD = {"n_jobs_forward": 1}, {"n_jobs_backward": 1}
#: Decisions are as accurate as the root of the gap, so the gap is closed further than Clarabel's 1e-8.
_CLARABEL = {"solve_method": "Clarabel", "tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-10, **_FORWARD}
#: Backends by name. The default backward pass of cvxpylayers (LSQR) stops early and is wrong on degenerate problems,
#: hence none uses it.
BACKENDS: dict[str, Backend] = {
    "clarabel": Backend("DIFFCP", _CLARABEL, {"mode": "lsmr", **_BACKWARD}),
    "clarabel-dense": Backend("DIFFCP", _CLARABEL, {"mode": "dense", **_BACKWARD}),
    "scs": Backend(
        "DIFFCP",
        {"solve_method": "SCS", "eps": 1e-9, "max_iters": 100_000, **_FORWARD},
        {"mode": "lsmr", **_BACKWARD},
    ),
    "moreau": Backend("MOREAU", {}, {}),
}
#: Relative disagreement with finite differences from which a gradient counts as unreliable.
_DISAGREEMENT = 0.1


class UnreliableGradientWarning(UserWarning):
    """The backend's gradient disagrees with finite differences: the active set is probably degenerate."""


class ConvexProblem(DecisionProblem):
    """A user's own problem min_z mean_m f(y_m, z) over a convex set, both written in CVXPY.

    The generic path: any disciplined parametrised (DPP) problem works and needs no solver of its own, at the speed of
    a conic solver per context. It is also the reference that the fast solvers of this package are tested against.

    Parameters
    ----------
    cost : callable
        ``cost(y, z)`` returns the CVXPY expression of the costs, one per row, shape (n,), for outcomes y (n, D), a
        parameter, and decisions z (n, d). It must be convex in z.
    outcome_dim, decision_dim : int
        D and d.
    low, high : array_like
        Box of the decision, scalars or shape (d,).
    constraints : callable, optional
        ``constraints(z)`` returns further CVXPY constraints on one decision z (d,).
    outcome_low : float
        Smallest outcome that makes sense.
    backend : {"clarabel", "clarabel-dense", "scs", "moreau"}
        How cvxpylayers solves and differentiates. ``clarabel-dense`` is the most reliable for small problems;
        ``moreau`` needs the package of that name.
    checks : int
        The first so many gradients are compared with finite differences along a random direction; a mismatch
        warns (:class:`UnreliableGradientWarning`). Each check costs two more solves.

    Raises
    ------
    ProblemError
        If the problem is not convex or not DPP, and later if a solve fails (infeasible, unbounded).

    Examples
    --------
    The newsvendor, whose best order is the 3/4 quantile of the demand:

    >>> problem = ConvexProblem(
    ...     lambda y, z: 3 * cp.pos(y - z)[:, 0] + cp.pos(z - y)[:, 0], outcome_dim=1, decision_dim=1, low=0, high=10)
    >>> demand = np.arange(1.0, 6.0).reshape(1, 5, 1)
    >>> problem.solve(demand).round(4).tolist()
    [[4.0]]
    """

    hard_families = ("constraints",)

    def __init__(
        self,
        cost: Callable[[Any, Any], cp.Expression],
        *,
        outcome_dim: int,
        decision_dim: int,
        low: ArrayLike,
        high: ArrayLike,
        constraints: Callable[[cp.Variable], Sequence[cp.Constraint]] | None = None,
        outcome_low: float = -np.inf,
        backend: str = "clarabel",
        checks: int = 1,
    ) -> None:
        if backend not in BACKENDS:
            raise UnknownNameError("backend", backend, BACKENDS)
        self.outcome_dim, self.decision_dim, self.outcome_low = outcome_dim, decision_dim, outcome_low
        self.low = np.broadcast_to(np.asarray(low, np.float64), (decision_dim,)).copy()
        self.high = np.broadcast_to(np.asarray(high, np.float64), (decision_dim,)).copy()
        if not np.all(self.low < self.high):
            raise ProblemError(f"low, high are {self.low}, {self.high}: give low < high for every column")
        self.units = {"constraints": "distance to the feasible set"}
        self.backend, self.checks = backend, checks
        self._expression, self._constraints = cost, constraints
        self._layer = lru_cache(maxsize=8)(self._build)
        self._layer(1)  # says now, not later, what is wrong with the formulation

    # ------------------------------------------------------------------ formulation
    def _costs(self, outcomes: Any, decisions: Any) -> cp.Expression:
        """The user's costs as a vector (n,) for outcomes (n, D) and decisions (n, d)."""
        costs = self._expression(outcomes, decisions)
        rows = decisions.shape[0]
        if costs.shape not in ((rows,), (rows, 1)):
            raise ProblemError(
                f"cost(y, z) has shape {costs.shape} for {rows} rows: return one cost per row, ({rows},)"
            )
        return cp.reshape(costs, (rows,), order="C")

    def _feasible(self, decision: cp.Variable) -> list[cp.Constraint]:
        bounded_below, bounded_above = np.isfinite(self.low), np.isfinite(self.high)
        limits = [decision[bounded_below] >= self.low[bounded_below]] if bounded_below.any() else []
        limits += [decision[bounded_above] <= self.high[bounded_above]] if bounded_above.any() else []
        return [*limits, *(self._constraints(decision) if self._constraints else [])]

    def _build(self, count: int) -> CvxpyLayer:
        """The layer that solves for ``count`` scenarios; its linear term p'z makes the multiplier u observable."""
        scenarios, linear = cp.Parameter((count, self.outcome_dim)), cp.Parameter(self.decision_dim)
        decision = cp.Variable(self.decision_dim)
        rows = np.ones((count, 1)) @ cp.reshape(decision, (1, self.decision_dim), order="C")
        objective = cp.Minimize(cp.sum(self._costs(scenarios, rows)) / count + linear @ decision)
        return self._make_layer(objective, decision, [scenarios, linear])

    def _build_projection(self) -> CvxpyLayer:
        request, decision = cp.Parameter(self.decision_dim), cp.Variable(self.decision_dim)
        return self._make_layer(cp.Minimize(cp.sum_squares(decision - request)), decision, [request])

    def _make_layer(self, objective: cp.Minimize, decision: cp.Variable, parameters: list[cp.Parameter]) -> CvxpyLayer:
        problem = cp.Problem(objective, self._feasible(decision))
        if not problem.is_dcp():
            raise ProblemError(
                "the problem is not convex by CVXPY's rules (DCP): write cost(y, z) as a convex expression in z and "
                "constraints(z) as convex constraints"
            )
        if not problem.is_dpp():
            raise ProblemError(
                "the problem is convex but not DPP: y may enter only affinely, in products with expressions of z; "
                "replace products of outcomes by further outcome columns"
            )
        try:
            return CvxpyLayer(problem, parameters, [decision], solver=BACKENDS[self.backend].solver)
        except (RuntimeError, ImportError, cp.error.SolverError) as error:
            raise ProblemError(f"backend {self.backend!r} cannot be used: {error}") from error

    def _call(self, layer: CvxpyLayer, *parameters: Tensor) -> Tensor:
        backend = BACKENDS[self.backend]
        differentiated = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters)
        settings = {**backend.settings, **(backend.backward if differentiated else {})}
        try:
            with _quiet():
                (decisions,) = layer(*parameters, solver_args=settings)
        except (diffcp.SolverError, cp.error.SolverError, RuntimeError) as error:
            raise ProblemError(
                f"backend {self.backend!r} found no solution (infeasible or unbounded?): {error}"
            ) from error
        self._check_feasible(decisions.detach().cpu().numpy())
        return decisions

    def _check_feasible(self, decisions: NDArray[np.float64]) -> None:
        """Hold every solution against the constraints: some backends report an infeasible problem as solved."""
        if not hasattr(self, "_limits"):
            self._probe = cp.Variable(self.decision_dim)
            self._limits = self._feasible(self._probe)
        for context, decision in enumerate(decisions):
            self._probe.value = decision
            missed = max((float(np.max(limit.violation())) for limit in self._limits), default=0.0)
            if not missed <= 1e-4 * (1 + float(np.abs(decision).max())):
                raise ProblemError(
                    f"backend {self.backend!r} found no solution: its answer for context {context} misses a constraint "
                    f"by {missed:.2g}; the constraints contradict each other, or the backend dropped one"
                )

    # ------------------------------------------------------------------ the problem's interface
    def parameters(self) -> dict[str, Any]:
        """A problem made of functions has no JSON form: agents fitted on it cannot be saved."""
        raise ProblemError("a ConvexProblem is made of functions and cannot be saved")

    def cost(self, outcomes: Array, decisions: Array, previous: Array | None = None) -> Array:
        """f(y, z) by CVXPY; with torch it is differentiable in the decisions."""
        if isinstance(decisions, Tensor):
            return _Cost.apply(self, torch.as_tensor(outcomes), decisions)  # type: ignore[no-untyped-call]
        single = isinstance(decisions, float)
        value = self._evaluate(np.atleast_1d(outcomes), np.atleast_1d(decisions))
        return float(value) if single else value

    def _evaluate(self, outcomes: NDArray[Any], decisions: NDArray[Any]) -> NDArray[np.float64]:
        lead, y, z = self._rows(outcomes, decisions)
        return np.asarray(self._costs(cp.Constant(y), cp.Constant(z)).value, np.float64).reshape(lead)

    def _rows(self, outcomes: Any, decisions: Any) -> tuple[tuple[int, ...], Any, Any]:
        """Common leading shape, and both arrays as rows (n, D) and (n, d)."""
        lead = np.broadcast_shapes(outcomes.shape[:-1], decisions.shape[:-1])
        y = np.broadcast_to(outcomes, (*lead, self.outcome_dim)).reshape(-1, self.outcome_dim)
        z = np.broadcast_to(decisions, (*lead, self.decision_dim)).reshape(-1, self.decision_dim)
        return lead, y.astype(np.float64), z.astype(np.float64)

    def marginal(self, outcomes: NDArray[Any], decisions: NDArray[Any]) -> NDArray[np.float64]:
        """df/dz (..., d) for outcomes (..., D) and decisions (..., d); a subgradient at kinks.

        Raises
        ------
        ProblemError
            Outside the domain of the cost.
        """
        lead, y, z = self._rows(outcomes, decisions)
        variable = cp.Variable(z.shape, value=z)
        jacobian = self._costs(cp.Constant(y), variable).grad[variable]
        if jacobian is None:
            raise ProblemError("the cost has no gradient at these decisions: they are outside its domain")
        rows = np.arange(len(z))
        entries = [np.asarray(jacobian[rows + column * len(z), rows]).ravel() for column in range(self.decision_dim)]
        return np.stack(entries, axis=-1).reshape(*lead, self.decision_dim)

    def perfect(self, outcomes: Array, previous: Array | None = None) -> Array:
        """The decision for a single scenario."""
        if isinstance(outcomes, float):
            return float(self.solve(np.full((1, 1, 1), outcomes))[0, 0])
        lead = outcomes.shape[:-1]
        return self.solve(outcomes.reshape(-1, 1, self.outcome_dim)).reshape(*lead, self.decision_dim)

    def solve(self, scenarios: Array, weights: Array | None = None) -> Array:
        """Minimisers (B, d) to the accuracy of the backend; equal weights only, which DPP demands."""
        self._check(scenarios, weights)
        y = _doubles(scenarios)
        with torch.no_grad():
            decisions = self._call(self._layer(y.shape[1]), y, y.new_zeros(len(y), self.decision_dim))
        return self._like(self.project_box(decisions), scenarios)

    def adjoint(self, scenarios: Array, decisions: Array, cotangent: Array, weights: Array | None = None) -> Adjoint:
        """Both estimators from one backward pass of the layer; solves once more than :meth:`solve` did."""
        self._check(scenarios, weights)
        y = _doubles(scenarios).requires_grad_()
        pull = torch.as_tensor(cotangent).detach().double()
        linear = y.new_zeros(len(y), self.decision_dim).requires_grad_()
        layer = self._layer(y.shape[1])
        with torch.enable_grad(), _quiet():
            solved = self._call(layer, y, linear)
            gradient, moved = torch.autograd.grad(solved, (y, linear), pull)
        if self.checks > 0:
            self.checks -= 1
            self._verify(layer, y.detach(), linear.detach(), pull, gradient)
        marginal = torch.as_tensor(self.marginal(y.detach().numpy(), solved.detach().numpy()[:, None]))
        score = (moved[:, None] * marginal).sum(-1)  # u = -dF/dp, so w = -u' df/dz = (dF/dp)' df/dz
        return Adjoint(*(self._like(part, scenarios) for part in (-moved, gradient, score)))

    def _verify(self, layer: CvxpyLayer, y: Tensor, linear: Tensor, pull: Tensor, gradient: Tensor) -> None:
        """Compare the gradient with a central difference along one random direction per context."""
        direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=y.dtype)
        step = 1e-4 * (1 + float(y.abs().mean()))
        with torch.no_grad():
            ahead, back = (self._call(layer, y + sign * step * direction, linear) for sign in (1, -1))
        numeric = ((ahead - back) * pull).sum(-1) / (2 * step)
        analytic = (gradient * direction).sum((1, 2))
        scale = torch.maximum(numeric.abs(), analytic.abs()) + 1e-3 * float(pull.abs().mean())
        wrong = ((numeric - analytic).abs() > _DISAGREEMENT * scale).sum().item()
        if wrong:
            warnings.warn(
                f"the gradient of backend {self.backend!r} disagrees with finite differences in {wrong} of {len(y)} "
                "contexts: the active set is degenerate or changes nearby; try backend='clarabel-dense', smooth the "
                "cost, or add a small quadratic term",
                UnreliableGradientWarning,
                stacklevel=3,
            )

    def project(self, decisions: Array) -> Array:
        """Nearest feasible decisions; requests inside the box need no solver when there are no other constraints."""
        if isinstance(decisions, float):
            return float(self.project(np.array([[decisions]]))[0, 0])
        requests = torch.as_tensor(decisions).detach().double().reshape(-1, self.decision_dim)
        nearest = self.project_box(requests)
        if self._constraints is not None:
            nearest = self.project_box(self._call(self._layer_of_projection, requests))
        return self._like(nearest.reshape(decisions.shape), decisions)

    @property
    def _layer_of_projection(self) -> CvxpyLayer:
        if not hasattr(self, "_projection"):
            self._projection = self._build_projection()
        return self._projection

    def project_box(self, decisions: Tensor) -> Tensor:
        """Clip to the box, which conic solvers miss by their tolerance."""
        low, high = self.box(decisions)
        return torch.minimum(torch.maximum(decisions, low), high)

    def excess(self, decisions: Array, feasible: Array) -> dict[str, Array]:
        """``constraints``: the Euclidean distance to the feasible set."""
        distance = (
            abs(decisions - feasible) if isinstance(decisions, float) else ((decisions - feasible) ** 2).sum(-1) ** 0.5
        )
        return {"constraints": beyond(distance, self.tolerance)}

    # ------------------------------------------------------------------ small things
    def _check(self, scenarios: Array, weights: Array | None) -> None:
        self.check_scenarios(scenarios, weights)
        if weights is not None and float(abs(weights - weights[:, :1]).max()) > 0:
            raise ProblemError("ConvexProblem takes no weights: a product of weight and outcome is not DPP")

    @staticmethod
    def _like(values: Tensor, array: Array) -> Array:
        if isinstance(array, np.ndarray):
            return values.detach().numpy().astype(np.result_type(array.dtype, np.float32))
        return values.detach().to(dtype=array.dtype, device=array.device)


def _doubles(values: Array) -> Tensor:
    """A tensor that needs no gradient; a copy of an array, as torch warns of read-only ones, which a replay has."""
    return values.detach().double() if isinstance(values, Tensor) else torch.from_numpy(np.array(values, np.float64))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself that cvxpylayers copies tensors in a way that NumPy deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept", DeprecationWarning)
        yield


class _Cost(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, problem: ConvexProblem, outcomes: Tensor, decisions: Tensor) -> Tensor:
        ctx.problem = problem
        ctx.save_for_backward(outcomes, decisions)
        value = problem._evaluate(outcomes.detach().cpu().numpy(), decisions.detach().cpu().numpy())
        return torch.as_tensor(value, dtype=decisions.dtype, device=decisions.device)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[None, None, Tensor]:
        outcomes, decisions = ctx.saved_tensors
        marginal = ctx.problem.marginal(outcomes.detach().cpu().numpy(), decisions.detach().cpu().numpy())
        pull = torch.as_tensor(marginal, dtype=decisions.dtype, device=decisions.device) * cotangents[0][..., None]
        return None, None, pull.sum_to_size(decisions.shape)
