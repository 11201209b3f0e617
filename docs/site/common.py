"""What the makers of pages share: notes written by hand, first lines of docstrings, suites, tables, pictures."""

from __future__ import annotations

import functools
import inspect
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from docstrings import markdown
from griffe import Docstring, Parser
from matplotlib import rc_context
from matplotlib.figure import Figure

from shiftgym.evaluation.drawing import STYLE
from shiftgym.evaluation.scenario import Suite, list_suites, load_suite

DOCS = Path(__file__).parents[1]
#: Grey that is read on white as well as on black: pictures have no background.
INK = "#7a7a7a"
BLUE, ORANGE = "#0072B2", "#D55E00"
_LOOK = {
    **STYLE,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "grid.color": INK,
    "grid.alpha": 0.2,
    "font.family": "sans-serif",
}


def note(kind: str, *names: str) -> str:
    """Return what was written by hand about the first of the names that has a note; empty for none."""
    for name in names:
        path = DOCS / "notes" / kind / f"{name}.md"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return ""


def summary(thing: object) -> str:
    """Return the first line of a docstring."""
    text = inspect.getdoc(thing) or ""
    return markdown(text.partition("\n\n")[0].replace("\n", " "), getattr(thing, "__module__", ""))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; empty without rows."""
    lines = [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines, ""]) if lines else ""


def options(cls: type, defaults: Mapping[str, object]) -> str:
    """Return the parameters of a class with their defaults, and what the docstring of the nearest ancestor says."""
    said: dict[str, str] = {}
    for ancestor in reversed(cls.__mro__):
        if ancestor.__module__.startswith("shiftgym"):
            said.update(_documented(ancestor))
    return table(
        ("Name", "Default", "Meaning"),
        ((f"`{name}`", f"`{default!r}`", said.get(name, "")) for name, default in defaults.items()),
    )


def _documented(cls: Any) -> dict[str, str]:
    """What a class's own docstring says of each parameter, in one line; not where it sends to another class."""
    sections = Docstring(inspect.cleandoc(cls.__doc__ or "")).parse(Parser.numpy, warnings=False)
    return {
        name: markdown(" ".join(parameter.description.split()), cls.__module__)
        for section in sections
        if section.kind.value == "parameters"
        for parameter in section.value
        for name in parameter.name.split(", ")
        if not parameter.description.startswith("See :class:")
    }


@functools.cache
def suites() -> list[Suite]:
    """Every suite that comes with shiftgym."""
    return [load_suite(name) for name in list_suites()]


def suite_table(chosen: Iterable[Suite]) -> str:
    """Return the commands of suites, and what they ask."""
    rows = [(f"[`shiftgym run {suite.name}`](../gallery.md#{anchor(suite.name)})", suite.title) for suite in chosen]
    return table(("Suite", "What it asks"), rows)


def anchor(name: str) -> str:
    """Return the place of a suite on the page of all suites."""
    return f"suite-{name.replace('/', '-')}"


def svg(width: float, height: float, draw: Any) -> bytes:
    """Return a picture that ``draw(figure)`` draws, as SVG without a background."""
    with rc_context(_LOOK):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()
