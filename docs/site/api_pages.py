"""The reference: one page per room of the package, with what the room offers."""

from __future__ import annotations

import importlib
from collections.abc import Callable

#: Rooms in the order in which they may import from each other.
ROOMS = ("data", "solvers", "envs", "agents", "evaluation", "suites")
#: What each page holds: a module, and the names that it offers.
_PAGES = {
    "data": "shiftgym.data",
    "solvers": "shiftgym.solvers",
    "envs": "shiftgym.envs.task shiftgym.envs.rows shiftgym.envs.replay shiftgym.envs.vector",
    "shifts": "shiftgym.envs.shifts",
    "agents": "shiftgym.agents shiftgym.agents.trained shiftgym.agents.learner",
    "evaluate": "shiftgym.evaluate",
}


def made() -> dict[str, Callable[[], str]]:
    """The pages of the reference."""
    return {f"api/{name}.md": lambda name=name: _page(name) for name in _PAGES}


def _page(name: str) -> str:
    lines = [f"# {_PAGES[name].split()[0]}", ""]
    for module in _PAGES[name].split():
        lines += [f"{(importlib.import_module(module).__doc__ or '').strip()}", ""]
        lines += [f"::: {thing}\n" for thing in _offered(module)]
    return "\n".join(lines)


def _offered(module: str) -> list[str]:
    """Where what a module offers is defined: those of ``__all__``, or its own public classes and functions."""
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None)
    own = [
        name
        for name, thing in vars(found).items()
        if not name.startswith("_") and getattr(thing, "__module__", None) == module and callable(thing)
    ]
    places = []
    for name in own if names is None else names:
        home = getattr(getattr(found, name), "__module__", module)
        places.append(f"{home if str(home).startswith('shiftgym') else module}.{name}")
    return places
