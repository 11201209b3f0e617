"""The parameters of a shift: declared once, from which checks, severity, text and documentation follow."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np

from ...data.errors import ShiftgymError
from ...data.trace import Trace

Kind = Literal["number", "integer", "place", "choice", "text", "trace"]


class ShiftError(ShiftgymError):
    """A shift that cannot be built from its parameters, or cannot be applied to a trace."""


@dataclass(frozen=True)
class Parameter:
    """What values a parameter may take, and where the shift does nothing.

    Attributes
    ----------
    kind : str
        "number", "integer", "place" (slot index, fraction or ISO time), "choice", "text" or "trace".
    doc : str
        What it means and its unit.
    identity : float or None
        Value at which the shift changes nothing; None for a parameter that severity does not scale.
    low, high : float or None
        Smallest and largest value, both allowed.
    choices : tuple of str
        The values of a "choice".
    optional : bool
        Whether None is a value too.
    """

    kind: Kind = "number"
    doc: str = ""
    identity: float | None = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False

    def check(self, field: str, value: Any) -> Any:
        """Return ``value`` in its plain Python type.

        Raises
        ------
        ShiftError
            If it is of the wrong type or out of range; ``field`` opens the message.
        """
        if value is None and self.optional:
            return None
        plain: Any = _READERS[self.kind](value)
        if self.kind in ("number", "integer") and plain is not None:
            low = -math.inf if self.low is None else self.low
            high = math.inf if self.high is None else self.high
            plain = plain if math.isfinite(plain) and low <= plain <= high else None
        if plain is None or (self.choices and plain not in self.choices):
            raise ShiftError(f"{field} is {value!r}: give {self.expected}")
        return plain

    @property
    def expected(self) -> str:
        """The valid values, in words."""
        if self.kind == "choice":
            return " or ".join(map(repr, self.choices))
        if self.kind == "place":
            return "a slot index (an integer from 0), a fraction of the trace (0.0 to 1.0) or an ISO time"
        if self.kind == "trace":
            return "a trace such as 'azure-2023-code' or 'azure-2023-code[0.5:]', or a Trace"
        if self.kind == "text":
            return "a text"
        noun = "an integer" if self.kind == "integer" else "a finite number"
        if self.low is not None and self.high is not None:
            return f"{noun} from {self.low:g} to {self.high:g}"
        return noun if self.low is None else f"{noun} of {self.low:g} or more"

    def scaled(self, value: float, severity: float) -> float:
        """Return the value on the line from the identity (severity 0) to ``value`` (severity 1)."""
        assert self.identity is not None
        moved = self.identity + severity * (value - self.identity)
        return round(moved) if self.kind == "integer" else moved


def _read_number(value: Any) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, Real) else float(value)


def _read_integer(value: Any) -> int | None:
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _read_place(value: Any) -> float | int | str | None:
    if isinstance(value, str | np.datetime64):
        try:
            return None if np.isnat(np.datetime64(str(value), "ns")) else str(value)
        except ValueError:
            return None
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value) if int(value) >= 0 else None
    number = _read_number(value)
    return number if number is not None and 0 <= number <= 1 else None


def _read_text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _read_trace(value: Any) -> str | Trace | None:
    return value if isinstance(value, Trace) else _read_text(value)


_READERS = {
    "number": _read_number,
    "integer": _read_integer,
    "place": _read_place,
    "choice": _read_text,
    "text": _read_text,
    "trace": _read_trace,
}


def parameter(
    default: Any = dataclasses.MISSING,
    *,
    kind: Kind = "number",
    identity: float | None = None,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    doc: str,
) -> Any:
    """Declare a parameter of a shift as a dataclass field.

    Parameters
    ----------
    default : object, optional
        Value when none is given; without it the parameter is required, with None it is optional.
    kind, identity, low, high, choices, doc
        See :class:`Parameter`.

    Returns
    -------
    dataclasses.Field
    """
    spec = Parameter(kind, doc, identity, low, high, choices, optional=default is None)
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata={"parameter": spec})
    return dataclasses.field(default=default, metadata={"parameter": spec})
