"""Which solver takes a program: Gurobi where its licence covers the size, otherwise HiGHS or Clarabel.

pip installs gurobipy with a licence for small models: 2,000 variables and 2,000 constraints, and 200 variables as soon
as there is a quadratic term (measured with gurobipy 13.0.3). Beyond that it raises in the middle of a solve, so the
licence is asked once, with a model of 2,001 variables, and sizes are compared before a model is built.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, NamedTuple

from ..data.errors import UnknownNameError
from .base import ProblemError

_LOG = logging.getLogger(__name__)

#: Kinds of programs each solver takes: linear, second-order cone, and both with integers.
CAN = {"gurobi": ("lp", "milp", "socp", "misocp"), "highs": ("lp", "milp"), "clarabel": ("lp", "socp")}
_KINDS = {"lp": "linear", "milp": "mixed-integer linear", "socp": "conic", "misocp": "mixed-integer conic"}
#: What the licence for small models allows.
SMALL, SMALL_CONIC = 2000, 200


class Backend(NamedTuple):
    """A solver's name, and why it was chosen."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


@functools.cache
def gurobi_licence() -> str:
    """``"full"``, ``"small"`` (limited in size) or ``"none"``, found by starting Gurobi once."""
    try:
        env = gurobi_environment()
    except Exception:  # no package, no licence, no network for a floating one: all mean that Gurobi cannot be used
        return "none"
    import gurobipy

    model = gurobipy.Model(env=env)
    model.addMVar(SMALL + 1)
    try:
        model.optimize()
    except gurobipy.GurobiError as error:
        return "small" if error.errno == gurobipy.GRB.Error.SIZE_LIMIT_EXCEEDED else "none"
    finally:
        model.dispose()
    return "full"


@functools.cache
def gurobi_environment() -> Any:
    """Gurobi's environment, silent, started once per process."""
    import gurobipy

    env = gurobipy.Env(empty=True)
    env.setParam("OutputFlag", 0)
    env.setParam("Threads", 1)
    env.start()
    return env


def choose(solver: str, kind: str, variables: int, constraints: int) -> Backend:
    """Choose the solver for a program.

    Parameters
    ----------
    solver : {"auto", "gurobi", "highs", "clarabel"}
        What was asked for.
    kind : {"lp", "milp", "socp", "misocp"}
        What the program is.
    variables, constraints : int
        Its size.

    Raises
    ------
    ProblemError
        When the solver asked for cannot take the program: for its kind, or for what a licence allows.
    """
    if solver not in ("auto", *CAN):
        raise UnknownNameError("solver", solver, ("auto", *CAN))
    if solver == "gurobi":
        if refusal := _gurobi_refuses(kind, variables, constraints):
            raise ProblemError(f"solver='gurobi' cannot take this {_KINDS[kind]} program: {refusal}; use solver='auto'")
        return _told(Backend("gurobi", f"asked for, with a {gurobi_licence()} licence"))
    if solver != "auto":
        if kind not in CAN[solver]:
            able = ", ".join(repr(name) for name in CAN if kind in CAN[name])
            raise ProblemError(f"solver={solver!r} solves no {_KINDS[kind]} programs: use one of {able} or 'auto'")
        return _told(Backend(solver, "asked for"))
    refusal = _gurobi_refuses(kind, variables, constraints)
    if not refusal:
        return _told(Backend("gurobi", f"its {gurobi_licence()} licence covers this {_KINDS[kind]} program"))
    if kind == "misocp":
        raise ProblemError(f"no solver here takes a mixed-integer conic program of this size: {refusal}")
    return _told(Backend("clarabel" if kind == "socp" else "highs", refusal))


def _gurobi_refuses(kind: str, variables: int, constraints: int) -> str:
    """Why Gurobi cannot take a program; empty when it can."""
    licence = gurobi_licence()
    if licence == "none":
        return "gurobi is not installed, or has no licence"
    most = SMALL_CONIC if "socp" in kind else SMALL
    if licence == "full" or (variables <= most and constraints <= SMALL):
        return ""
    size = f"{variables:,} variables and {constraints:,} constraints"
    return f"gurobi's licence allows {most:,} variables and {SMALL:,} constraints here, not {size}"


@functools.cache
def _told(backend: Backend) -> Backend:
    """Log a choice the first time that it is made."""
    _LOG.info("solver %s", backend)
    return backend
