"""Equations as MathML, made when the site is built: no script, no font to fetch, read aloud as they are meant."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_MATH = re.compile(r'<(span|div) class="arithmatex">\s*(?:\\\((.*?)\\\)|\\\[(.*?)\\\])\s*</\1>', re.DOTALL)
_UNKNOWN = re.compile(r">[^<]*(\\\w+|&(?!#?\w+;))[^<]*<")


class EquationError(ValueError):
    """An equation that cannot be shown."""


def with_mathml(page: str) -> str:
    """Return a page of HTML whose equations, as arithmatex leaves them, are MathML.

    Raises
    ------
    EquationError
        For a command that the converter does not know.
    """
    return _MATH.sub(lambda match: mathml(html.unescape(match[2] or match[3]), block=match[2] is None), page)


def mathml(equation: str, block: bool = False) -> str:
    """Return an equation of LaTeX as MathML."""
    made = convert(equation, display="block" if block else "inline")
    if unknown := _UNKNOWN.search(made):
        raise EquationError(
            f"{unknown[1]} in the equation {equation.strip()!r} cannot be converted: write it otherwise"
        )
    return f'<div class="equation">{made}</div>' if block else made
