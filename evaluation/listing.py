"""Tables of what there is to choose from."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import gymnasium
from rich import box
from rich.markup import escape
from rich.table import Table

from ..agents import agent_class, list_agents
from ..data import list_traces, trace_info
from ..envs.shifts import describe_shifts
from .scenario import NAMESPACE, list_suites, load_suite


def listing(kind: str) -> Table:
    """Return the table of one of :data:`KINDS`."""
    columns, rows = _LISTINGS[kind]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, no_wrap=not index, overflow="fold")
    for row in rows():
        table.add_row(*map(escape, row))
    return table


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _envs() -> list[list[str]]:
    names = [name for name in gymnasium.registry if name.startswith(NAMESPACE)]
    points = [gymnasium.registry[name].entry_point for name in names]
    classes = [gymnasium.envs.registration.load_env_creator(p) if isinstance(p, str) else p for p in points]
    return [
        [name, _first_line(inspect.getmodule(found)).rpartition("``: ")[2]]
        for name, found in zip(names, classes, strict=True)
    ]


def _agents() -> list[list[str]]:
    return [[name, _first_line(agent_class(name))] for name in list_agents()]


def _shifts() -> list[list[str]]:
    return [[row["name"], row["family"], row["models"], row["parameters"]] for row in describe_shifts()]


def _traces() -> list[list[str]]:
    infos = map(trace_info, list_traces())
    return [
        [i.name, i.kind, f"{i.slot:g} s", "synthetic" if i.synthetic else "measured", i.licence, i.title] for i in infos
    ]


def _suites() -> list[list[str]]:
    suites = [load_suite(name) for name in list_suites()]
    return [[s.name, f"{len(s.scenarios)} x {len(s.agents)} x {len(s.seeds)}", s.title] for s in suites]


_LISTINGS: dict[str, tuple[tuple[str, ...], Callable[[], list[list[str]]]]] = {
    "envs": (("environment", "what it models"), _envs),
    "agents": (("agent", "how it decides"), _agents),
    "shifts": (("shift", "family", "what it models", "parameters"), _shifts),
    "traces": (("trace", "kind", "slot", "origin", "licence", "what it is"), _traces),
    "suites": (("suite", "scenarios x agents x seeds", "what it asks"), _suites),
}
KINDS = tuple(_LISTINGS)
