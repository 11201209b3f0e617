"""One page per registered agent: how it decides, its equations, when to use it, its hyper-parameters."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from common import DOCS, note, options, suite_table, suites, summary

from shiftgym.agents import agent_class, list_agents


def made() -> dict[str, Callable[[], str]]:
    """A page of each agent."""
    return {f"agents/{name}.md": lambda name=name: _page(name) for name in list_agents()}


def _page(name: str) -> str:
    cls = agent_class(name)
    home = f"{cls.__module__}.{cls.__qualname__}"
    used = [suite for suite in suites() if any(agent.name == name for agent in suite.agents)]
    taking = ["", "## Where it takes part", "", suite_table(used)] if used else []
    return "\n".join(
        [
            f"# {name}",
            "",
            summary(cls),
            "",
            note("agents", name, cls.__module__.rpartition(".")[2]),
            cost(name),
            "## Hyper-parameters",
            "",
            f'`make_agent("{name}", …)`, or `{name}(…)` in suites and on the command line:',
            "",
            options(cls, {field.name: _default(field) for field in dataclasses.fields(cls)}),
            *taking,
            "",
            "## Class",
            "",
            f"::: {home}",
            "    options: {heading_level: 3, members: false, docstring_options: {warnings: false}}",
            "",
        ]
    )


def cost(name: str) -> str:
    """Return what the table of all agents says of this one's time."""
    text = (DOCS / "agents.md").read_text(encoding="utf-8")
    head = re.search(r"^\| Agent \| Fit.*$", text, re.MULTILINE)
    row = re.search(rf"^\| `{re.escape(name)}` \|.*$", text[head.end() :] if head else "", re.MULTILINE)
    if not head or not row:
        return ""
    rule = "|---" * head[0].count(" | ") + "|---|"
    link = "[All agents, and how it was measured](../agents.md#what-they-cost)"
    return f"## Cost\n\n{head[0]}\n{rule}\n{row[0]}\n\n{link}\n"


def _default(field: Any) -> object:
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()
