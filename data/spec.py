r"""The text form of a trace: ``NAME[@SLOT][\[START:STOP\]]``.

It is the one form used by environments, suites and the command line, for instance
``azure-2023-conv@2s[:0.5]`` or ``file:log.csv?time=when&prompt=tokens_in@10s``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from .errors import TraceError
from .trace import parse_duration

Place = int | float | str | None

_WINDOW = re.compile(r"(?P<rest>.*?)\[(?P<window>[^\[\]]*)\]", re.DOTALL)
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}(?::\d{2}(?::\d{2}(?:\.\d+)?)?)?)?Z?")
_FORM = "NAME[@SLOT][[START:STOP]], for instance azure-2023-conv@2s[0.5:]"
FILE = "file:"


@dataclass(frozen=True)
class TraceSpec:
    """A parsed trace specification; ``str()`` gives the text back.

    Attributes
    ----------
    name : str
        Name in the catalogue, or ``file:PATH?…`` (see :func:`parse_file`).
    slot : str
        Slot length as text, empty for the default of the trace.
    start, stop : int, float, str or None
        Window, as in :meth:`Trace.window`.
    """

    name: str
    slot: str = ""
    start: Place = None
    stop: Place = None

    def __str__(self) -> str:
        slot = f"@{self.slot}" if self.slot else ""
        if self.start is None and self.stop is None:
            return f"{self.name}{slot}"
        start, stop = ("" if place is None else str(place) for place in (self.start, self.stop))
        return f"{self.name}{slot}[{start}:{stop}]"


def _is_place(text: str) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return _ISO.fullmatch(text) is not None
    return True


def parse_place(text: str) -> Place:
    """Return a place: an integer is a slot index, a ``.`` or exponent makes a fraction, else ISO time."""
    text = text.strip()
    if not text:
        return None
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text.removesuffix("Z")


def _parse_window(text: str, spec: str) -> tuple[Place, Place]:
    # An ISO time has colons of its own, so every colon is tried; an ISO start with a number for its stop is
    # left out because [2023-11-16T18:20:30] would then be read as "from 18:20 to slot 30".
    halves = [(text[: m.start()].strip(), text[m.end() :].strip()) for m in re.finditer(":", text)]
    fits = [
        (start, stop)
        for start, stop in halves
        if _is_place(start) and _is_place(stop) and not (_ISO.fullmatch(start) and stop and "-" not in stop)
    ]
    if len(fits) != 1:
        raise TraceError(
            f"window [{text}] of trace {spec!r} is not START:STOP: give slot indices (100), fractions (0.5) "
            "or ISO times (2023-11-16T18:20) around one colon; either may be left out"
        )
    return parse_place(fits[0][0]), parse_place(fits[0][1])


def parse_spec(spec: str) -> TraceSpec:
    """Parse the text form of a trace.

    Raises
    ------
    TraceError
        If the window or the slot is malformed. Whether the name exists is checked when it is loaded.

    Examples
    --------
    >>> parse_spec("azure-2023-conv@2s[:0.5]")
    TraceSpec(name='azure-2023-conv', slot='2s', start=None, stop=0.5)
    """
    rest, start, stop = spec.strip(), None, None
    if match := _WINDOW.fullmatch(rest):
        rest = match["rest"]
        start, stop = _parse_window(match["window"], spec)
    name, at, slot = rest.rpartition("@")
    if not at or (rest.startswith(FILE) and not _is_duration(slot)):  # a path or a column may hold an @
        name, slot = rest, ""
    elif not _is_duration(slot):
        raise TraceError(f"slot {slot!r} of trace {spec!r} is not a duration such as 2s, 10min or 1h: {_FORM}")
    if not name:
        raise TraceError(f"trace {spec!r} has no name: {_FORM}")
    return TraceSpec(name, slot, start, stop)


def _is_duration(text: str) -> bool:
    try:
        parse_duration(text)
    except TraceError:
        return False
    return True


# What a file holds is told by the option that names its main columns; these are the others that go with it.
_FILES = {
    "prompt": ("time", "output", "unit", "sort"),
    "outcome": ("time", "context", "unit", "time_unit", "zone", "low", "sort"),
    "price": ("time", "time_unit"),
}
_FILE_FORMS = (
    "file:PATH?time=COLUMN&prompt=COLUMN for a request log (with &output=COLUMN, &unit=s|ms|us|ns), "
    "file:PATH?time=COLUMN&outcome=COLUMN,COLUMN for a series (with &context=COLUMN,COLUMN, &unit=GW, "
    "&zone=Europe/Berlin, &time_unit=s|ms|us|ns, &low=0), each with &sort=true when needed, "
    "file:PATH?time=COLUMN&price=COLUMN,COLUMN or &price=* for daily prices (with &time_unit=s|ms|us|ns)"
)


def parse_file(name: str) -> tuple[str, dict[str, str]]:
    """Return the path and the options of ``file:PATH?time=COL&…``, with ``prompt``, ``outcome`` or ``price`` columns.

    Raises
    ------
    TraceError
        If the path, ``time`` or the main columns are missing, or an option is unknown.
    """
    path, _, query = name.removeprefix(FILE).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    kinds = [key for key in _FILES if key in options]
    known = {*kinds, *_FILES[kinds[0]]} if kinds else {"time"}
    faults = [
        *(f"no {key!r}" for key in ("time", *kinds) if not options.get(key)),
        *([" and ".join(f"no {key!r}" for key in _FILES)] if not kinds else []),
        *([f"both {kinds[0]!r} and {kinds[1]!r}"] if len(kinds) > 1 else []),
        *(f"unknown option {key!r}" for key in options if key not in known),
        *([] if path else ["no path"]),
    ]
    if faults:
        raise TraceError(f"trace {name!r} has {faults[0]}: write {_FILE_FORMS}")
    return path, options
