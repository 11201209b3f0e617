"""Decision problems: their cost, exact batched solvers and gradients. Knows nothing of environments."""

from __future__ import annotations

from typing import Any

from ..data.errors import UnknownNameError
from .allocation import ProductAllocation
from .base import Adjoint, DecisionProblem, Judged, ProblemError
from .data_center import DataCenter, DataCenterHour
from .inventory import Inventory
from .portfolio import Portfolio
from .power import PowerScheduling
from .provisioning import Provisioning

__all__ = [
    "PROBLEMS",
    "Adjoint",
    "DataCenter",
    "DataCenterHour",
    "DecisionProblem",
    "Inventory",
    "Judged",
    "Portfolio",
    "PowerScheduling",
    "ProblemError",
    "ProductAllocation",
    "Provisioning",
    "make_problem",
]

#: Problems by the name under which a saved agent finds them again.
PROBLEMS: dict[str, type[DecisionProblem]] = {
    problem.__name__: problem
    for problem in (DataCenter, DataCenterHour, Inventory, Portfolio, PowerScheduling, ProductAllocation, Provisioning)
}


def make_problem(name: str, **parameters: Any) -> DecisionProblem:
    """Build a problem from its name and :meth:`DecisionProblem.parameters`."""
    if name not in PROBLEMS:
        raise UnknownNameError("problem", name, PROBLEMS)
    return PROBLEMS[name](**parameters)
