"""Docstrings as they are written here, for a site in Markdown: Sphinx roles become links, RST tables become tables."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:class|meth|func|mod|attr|data):`(~?)([\w.]+)`")
_RULE = re.compile(r"^=+( +=+)+$")


def markdown(text: str, owner: str = "") -> str:
    """Return a docstring's text as Markdown.

    Parameters
    ----------
    text : str
        Without the common indentation.
    owner : str
        Dotted name of what it describes: roles name its members relative to it.
    """
    return _tables(_ROLE.sub(lambda match: _link(match[2], bool(match[1]), owner), text))


def _link(target: str, short: bool, owner: str) -> str:
    """Return a link to what has a place on the site, and its name alone to what has none."""
    label = target.rpartition(".")[2] if short else target
    name = target if target.startswith("shiftgym") else f"{owner}.{target}"
    return f'<autoref identifier="{name}" optional><code>{label}</code></autoref>'


def _tables(text: str) -> str:
    """Rewrite RST's simple tables, whose columns are what is ruled above."""
    lines, made, at = text.splitlines(), [], 0
    while at < len(lines):
        rules = [i for i in range(at, len(lines)) if _RULE.match(lines[i].strip())][:3]
        if len(rules) < 3 or rules[0] != at:
            made.append(lines[at])
            at += 1
            continue
        edges = [match.start() for match in re.finditer(r"(?<!=)=+", lines[at])]
        head, *rows = ([_cell(line, edges, i) for i in range(len(edges))] for line in _between(lines, rules))
        made += ["", *map(_row, [head, ["---"] * len(edges), *rows]), ""]
        at = rules[2] + 1
    return "\n".join(made)


def _between(lines: list[str], rules: list[int]) -> list[str]:
    return lines[rules[0] + 1 : rules[1]] + lines[rules[1] + 1 : rules[2]]


def _cell(line: str, edges: list[int], index: int) -> str:
    return line[edges[index] : [*edges, None][index + 1]].strip().replace("|", "\\|")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


class Docstrings(Extension):
    """Rewrites every docstring that the reference shows."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value, obj.path)
