"""Decision problems: their cost, exact batched solvers and gradients. Knows nothing of environments."""

from .base import Adjoint, DecisionProblem
from .provisioning import Provisioning

__all__ = ["Adjoint", "DecisionProblem", "Provisioning"]
