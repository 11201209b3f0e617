"""Shifts by name: registering, parsing, listing and sweeping them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ...data.errors import UnknownNameError
from .base import ArrayShift, Compose, Shift, SingleShift, compose
from .parameters import ShiftError
from .text import NAME, NONE, read_calls

_SHIFTS: dict[str, type[SingleShift]] = {}
_Class = TypeVar("_Class", bound=type[SingleShift])


def register(name: str, *, family: str = "user", source: str = "") -> Callable[[_Class], _Class]:
    """Class decorator that makes a shift available under ``name`` in text, JSON and the listings.

    Parameters
    ----------
    name : str
        Letters, digits, ``-`` and ``_``.
    family : str
        Heading under which it is listed.
    source : str
        Paper and section.

    Raises
    ------
    ShiftError
        If the name is taken or malformed, or a field was not declared with ``parameter``.
    """

    def put(cls: _Class) -> _Class:
        taken = _SHIFTS.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ShiftError(f"name {name!r} is taken by the shift {taken.__qualname__}: choose another")
        if not NAME.fullmatch(name) or name == NONE:
            raise ShiftError(f"name of shift {cls.__qualname__} is {name!r}: use letters, digits, '-' and '_'")
        for field in dataclasses.fields(cls):
            if "parameter" not in field.metadata:
                raise ShiftError(f"field {field.name!r} of shift {name!r}: declare it with parameter(...)")
        cls.name, cls.family, cls.source = name, family, source
        _SHIFTS[name] = cls
        return cls

    return put


def list_shifts() -> list[str]:
    """Names of the registered shifts, sorted."""
    return sorted(_SHIFTS)


def own_shifts() -> dict[str, type[SingleShift]]:
    """Shifts that are not of this package: those of the user's own."""
    room = __name__.rpartition(".")[0]
    return {name: cls for name, cls in _SHIFTS.items() if not cls.__module__.startswith(f"{room}.")}


def make_shift(name: str, **values: Any) -> Shift:
    """Build one registered shift.

    Raises
    ------
    UnknownNameError
        For an unknown shift or parameter.
    ShiftError
        For a missing or impossible value.
    """
    if name not in _SHIFTS:
        raise UnknownNameError("shift", name, [*_SHIFTS, NONE])
    cls = _SHIFTS[name]
    for key in values:
        if key not in cls.parameters():
            raise UnknownNameError(f"parameter of shift {name!r}", key, cls.parameters())
    for field in _required(cls):
        if field not in values:
            raise ShiftError(f"{field} of shift {name!r} is missing: give {cls.parameters()[field].expected}")
    return cls(**values)


def _required(cls: type[SingleShift]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING]


def parse_shift(shift: str | Mapping[str, Any] | Sequence[Any] | Shift | None) -> Shift:
    """Build a shift from its text form, its JSON form, a sequence of either (a composition) or None.

    Parameters
    ----------
    shift : str, mapping, sequence, Shift or None
        ``"gaussian(scale=0.1, onset=0.5) | scale(factor=1.3)"``; ``{"kind": "gaussian", "scale": 0.1}``;
        None, ``""`` and ``"none"`` are the identity. A Shift is returned as it is.

    Raises
    ------
    UnknownNameError
        For an unknown shift or parameter; lists the valid ones, the closest first.
    ShiftError
        For malformed text and for missing or impossible values.

    Examples
    --------
    >>> str(parse_shift("cutout(p=0.005)|scale(factor=1.3)"))
    'cutout(p=0.005) | scale(factor=1.3)'
    """
    if shift is None:
        return Compose()
    if isinstance(shift, Shift):
        return shift
    if isinstance(shift, str):
        return compose(make_shift(name, **values) for name, values in read_calls(shift))
    if isinstance(shift, Mapping):
        values = {str(key): value for key, value in shift.items()}
        name = values.pop("kind", None)
        if not isinstance(name, str):
            raise ShiftError(f"kind of shift {dict(shift)!r} is {name!r}: give one of {', '.join(list_shifts())}")
        return compose(()) if name == NONE else make_shift(name, **values)
    if isinstance(shift, Sequence):
        return compose(map(parse_shift, shift))
    raise ShiftError(f"shift is {shift!r}: give its text, a mapping with a kind, a sequence of these, a Shift or None")


def severity_sweep(
    shift: str | Mapping[str, Any] | Sequence[Any] | Shift | None, levels: Iterable[float]
) -> list[Shift]:
    """Return ``shift`` at each severity; 0 is the identity and 1 the shift as given.

    Draws are common to all levels of a sweep, as long as they are applied with the same seed.
    """
    parsed = parse_shift(shift)
    return [parsed.at_severity(float(level)) for level in levels]


def describe_shifts() -> list[dict[str, str]]:
    """Return a row per shift, by family: ``name``, ``family``, ``parameters``, ``models`` and ``source``."""
    rows = []
    for cls in _SHIFTS.values():
        required = _required(cls)
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        common = {field.name for field in dataclasses.fields(ArrayShift)}
        own = {name: spec for name, spec in cls.parameters().items() if name not in common}
        parameters = (
            f"{name}{'' if name in required else f'={defaults[name]}'} ({spec.doc})" for name, spec in own.items()
        )
        rows.append(
            {
                "name": cls.name,
                "family": cls.family,
                "parameters": "; ".join(parameters),
                "models": (cls.__doc__ or "").strip().splitlines()[0].rstrip("."),
                "source": cls.source,
            }
        )
    families = list(dict.fromkeys(row["family"] for row in rows))
    return sorted(rows, key=lambda row: families.index(row["family"]))
