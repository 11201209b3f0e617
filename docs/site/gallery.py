"""The gallery: every suite with what it asks, the command that runs it, and pictures of what came out.

The pictures are drawn from the tables of ``docs/findings.md``, so that no number stands in two places.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import BLUE, DOCS, anchor, suites, svg
from markdown.extensions.toc import slugify
from rich.console import Console

from shiftgym.evaluation.agent_spec import AgentSpec
from shiftgym.evaluation.report import report
from shiftgym.evaluation.results import Run
from shiftgym.evaluation.run import execute
from shiftgym.evaluation.scenario import Suite, load_suite

_RUN = re.compile(r"shiftgym run ([\w./-]+)")
#: Agents of the report that is made with the site: those that are fitted in no time.
_EXAMPLE = ("oracle", "persistence", "saa", "residual-saa")
_VALUE = re.compile(r"\**(-?[\d.]+)(?: ± ([\d.]+))?\**")


@dataclass(frozen=True)
class Finding:
    """A section of the findings.

    Attributes
    ----------
    title : str
        Its heading.
    suites : frozenset of str
        Which suites it is about.
    figures : list of (list of str, dict)
        Its tables: names of the columns, and of each row the pairs (value, half of the interval).
    """

    title: str
    suites: frozenset[str]
    figures: list[tuple[list[str], dict[str, np.ndarray[Any, Any]]]]


def made() -> dict[str, Callable[[], str | bytes]]:
    """The page of all suites, and the pictures of the findings."""
    pages: dict[str, Callable[[], str | bytes]] = {"gallery.md": _page, "img/report.html": example}
    for finding in findings():
        for index in range(len(finding.figures)):
            pages[_place(finding, index)] = lambda finding=finding, index=index: _picture(*finding.figures[index])
    return pages


def findings() -> list[Finding]:
    """The sections of ``docs/findings.md`` in their order."""
    sections = re.split(r"^## ", (DOCS / "findings.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    names = [suite.name for suite in suites()]
    found = []
    for section in sections:
        title, _, text = section.partition("\n")
        found.append(Finding(title, frozenset(_RUN.findall(text)) & set(names), _figures(text)))
    return found


def _figures(text: str) -> list[tuple[list[str], dict[str, np.ndarray[Any, Any]]]]:
    """The tables of scores in a text: those whose first column names agents and whose others are numbers."""
    figures = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines())
        values = {row[0]: np.array([_value(cell) for cell in row[1:]]) for row in rows}
        columns = [name.replace("\\|", "|") for name in head[1:]]
        if head[0] == "agent" and not any(np.isnan(row[:, 0]).all() for row in values.values()):
            figures.append((columns, values))
    return figures


def _value(cell: str) -> tuple[float, float]:
    match = _VALUE.match(cell)
    return (float(match[1]), float(match[2] or "nan")) if match else (np.nan, np.nan)


def _place(finding: Finding, index: int) -> str:
    return f"img/findings/{slugify(finding.title, '-')}-{index}.svg"


def _page() -> str:
    lines = [
        "# Gallery",
        "",
        "Every suite, the command that runs it, and what came out. The pictures are drawn from the tables of the"
        " [findings](findings.md), which say how to read them, what differs from the publications and why; lines are"
        " 95 % intervals.",
        "",
        "A run leaves such tables and pictures in its folder, and a report to browse. [Here is one](img/report.html),"
        f" made with this site: {', '.join(_EXAMPLE)} on three parts of the suite `quick`.",
        "",
    ]
    verdict = re.search(r"^\| Published .*?(?=\n\n)", (DOCS / "findings.md").read_text(encoding="utf-8"), re.M | re.S)
    if verdict:
        lines += ["## What reproduced, and what did not", "", verdict[0].replace("](#", "](findings.md#"), ""]
    known = findings()
    told = [suite for suite in suites() if any(suite.name in finding.suites for finding in known)]
    for suite in [*told, *(suite for suite in suites() if suite not in told)]:
        lines += _entry(suite, [finding for finding in known if suite.name in finding.suites])
    return "\n".join(lines)


def example() -> bytes:
    """The report of a small run, made now."""
    quick = load_suite("quick").only(["23V", "23D", "noise"], "the gallery")
    suite = Suite("example", quick.scenarios, tuple(map(AgentSpec.parse, _EXAMPLE)), seeds=(0,), title=quick.title)
    with tempfile.TemporaryDirectory() as folder:
        execute(suite, folder)
        return report(Run.open(folder), Console(file=io.StringIO())).read_bytes()


def _entry(suite: Suite, about: list[Finding]) -> list[str]:
    lines = [f"## {suite.name} {{#{anchor(suite.name)}}}", "", f"{suite.title}.", ""]
    lines += ["```bash", f"shiftgym run {suite.name}", "```", ""]
    size = f"{len(suite.scenarios)} scenarios, {len(suite.agents)} agents, {len(suite.seeds)} seeds"
    beside = f"; beside the figures of {suite.published.source}" if suite.published else ""
    lines += [f"{size}{beside}.", ""]
    if not about:
        lines += ["No findings are written down for this suite yet.", ""]
    for finding in about:
        lines += [f"**[{finding.title}](findings.md#{slugify(finding.title, '-')})**", ""]
        places = [_place(finding, index) for index in range(len(finding.figures))]
        lines += [f"![{finding.title}]({place}){{loading=lazy}}\n" for place in places]
    return lines


def _picture(columns: list[str], rows: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """One panel per column, one line per agent, the best one marked."""
    wide = min(len(columns), 5)
    deep = -(-len(columns) // wide)

    def draw(figure: Any) -> None:
        panels = figure.subplots(deep, wide, squeeze=False, sharey=True)
        for index, axes in enumerate(panels.flat):
            axes.set_visible(index < len(columns))
            if index < len(columns):
                _panel(axes, columns[index], np.array([row[index] for row in rows.values()]))
        panels[0, 0].set_yticks(range(len(rows)), rows)
        panels[0, 0].invert_yaxis()

    return svg(2.4 + 1.5 * wide, deep * (0.7 + 0.19 * len(rows)), draw)


def _panel(axes: Any, name: str, scores: np.ndarray[Any, Any]) -> None:
    value, half = scores.T
    seen = value[np.isfinite(value)]
    if len(seen) and seen.min() > 0 and seen.max() > 20 * seen.min():
        axes.set_xscale("log")
        half = np.minimum(half, 0.95 * value)
    places = np.arange(len(value))
    axes.errorbar(value, places, xerr=np.nan_to_num(half), fmt="o", color=BLUE, ms=3.5, elinewidth=1)
    axes.set_title(name, fontsize=8.5)
    axes.tick_params(axis="x", labelsize=7.5)
