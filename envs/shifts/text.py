"""The text form of shifts, ``gaussian(scale=0.1, onset=0.5) | scale(factor=1.3)``: reading and writing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .parameters import ShiftError

NONE = "none"
"""Text of the identity, and of a parameter without a value."""
NAME = re.compile(r"[A-Za-z][\w-]*")
"""Names that a shift may have."""

_KEY = re.compile(r"([A-Za-z_]\w*)\s*=")
_QUOTED = re.compile(r""""((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'""")
_BARE = re.compile(r"""[^\s(),|"']+""")
_INTEGER = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_calls(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Names and parameters of the shifts in ``text``, in order; empty for the identity.

    Raises
    ------
    ShiftError
        If the text is not of that form; the message shows the place.
    """
    reader = _Reader(text)
    if not text.strip():
        return []
    calls = [_read_call(reader)]
    while reader.take("|"):
        calls.append(_read_call(reader))
    if reader.rest:
        raise reader.error("'|' or the end")
    return [call for call in calls if call[0] != NONE]


def write_call(name: str, values: Mapping[str, Any]) -> str:
    """Text of one shift; without parameters the name alone."""
    pairs = ", ".join(f"{key}={_write_value(value)}" for key, value in values.items())
    return f"{name}({pairs})" if pairs else name


def _write_value(value: Any) -> str:
    if not isinstance(value, str):
        return NONE if value is None else repr(value)
    if _BARE.fullmatch(value) and isinstance(_plain(value), str):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def _plain(text: str) -> Any:
    if text.lower() == NONE:
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


class _Reader:
    """A text and how far it is read; blanks between its parts do not count."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.rest = text.strip()

    def take(self, part: str | re.Pattern[str]) -> re.Match[str] | None:
        """Read ``part`` if it comes next."""
        match = re.compile(re.escape(part) if isinstance(part, str) else part).match(self.rest)
        if match:
            self.rest = self.rest[match.end() :].lstrip()
        return match

    def error(self, expected: str) -> ShiftError:
        """Make the error that says what should come next."""
        return ShiftError(
            f"shift {self.text!r}: expected {expected} at {self.rest or 'the end'!r}; write it as "
            "'name(parameter=value, ...) | name(...)', with texts that hold blanks or any of (),| in quotes"
        )


def _read_call(reader: _Reader) -> tuple[str, dict[str, Any]]:
    name = reader.take(NAME)
    if name is None:
        raise reader.error("the name of a shift")
    values: dict[str, Any] = {}
    if not reader.take("("):
        return name[0], values
    while not reader.take(")"):
        key = reader.take(_KEY)
        if key is None:
            raise reader.error("'parameter=value' or ')'")
        if key[1] in values:
            raise reader.error(f"{key[1]!r} once, not twice,")
        if quoted := reader.take(_QUOTED):
            values[key[1]] = re.sub(r"\\(.)", r"\1", quoted[1] if quoted[1] is not None else quoted[2])
        elif bare := reader.take(_BARE):
            values[key[1]] = _plain(bare[0])
        else:
            raise reader.error(f"a value for {key[1]!r}")
        if not reader.take(",") and not reader.rest.startswith(")"):
            raise reader.error("',' or ')'")
    return name[0], values
