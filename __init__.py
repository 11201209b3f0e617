"""shiftgym: real traces replayed under distribution shift, and the policies that decide on them, scored.

Importing it registers the environments and nothing more; the rooms (``shiftgym.data``, ``shiftgym.envs``,
``shiftgym.solvers``, ``shiftgym.agents``, ``shiftgym.evaluate``) are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import gymnasium

__version__ = "0.1.0"

_ROOMS = ("data", "solvers", "envs", "agents", "evaluation", "evaluate")


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])


_ENVIRONMENTS = {
    "Provisioning": "provisioning",
    "PowerScheduling": "power",
    "Portfolio": "portfolio",
    "ProductAllocation": "allocation",
    "Inventory": "inventory",
    "DataCenter": "data_center",
    "DataCenterHourly": "data_center_hourly",
}

for _name, _module in _ENVIRONMENTS.items():
    # pytest imports this file a second time, as the package around the tests; once is enough
    if f"shiftgym/{_name}-v0" not in gymnasium.registry:
        gymnasium.register(
            id=f"shiftgym/{_name}-v0",
            entry_point=f"shiftgym.envs.{_module}:{_name}Env",
            vector_entry_point=f"shiftgym.envs.{_module}:{_name}VectorEnv",
        )
