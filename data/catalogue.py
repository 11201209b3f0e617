"""The catalogue: what each named trace is, and which public file it is read from."""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from .errors import UnknownNameError
from .trace import Provenance

SYNTHETIC = "synthetic-"


@dataclass(frozen=True)
class PublicFile:
    """A file that anyone can download.

    Attributes
    ----------
    key : str
        Name in the catalogue.
    path : str
        Place relative to the cache, or to the folder that ``SHIFTGYM_DATA`` names.
    url : str
        The public address.
    sha256, sha256_gz : str
        Checksum of the public file and of the gzip of it; empty when none is known.
    bytes : int
        Length of the public file; 0 when unknown.
    derive : str
        Module of this package whose ``derive`` makes the file from the public one; empty for a copy.
    sha256_derived : tuple of str
        Checksums of known results of ``derive``.
    also : tuple of str
        Keys of other public files that ``derive`` reads.
    """

    key: str
    path: str
    url: str
    sha256: str = ""
    sha256_gz: str = ""
    bytes: int = 0
    derive: str = ""
    sha256_derived: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def accepted(self, packed: bool) -> tuple[str, ...]:
        """Return the checksums that the file, or the gzip of it, may have; empty when none is known."""
        if packed and not self.path.endswith(".gz"):  # else the public file is itself packed
            return (self.sha256_gz,) if self.sha256_gz else ()
        if self.derive:
            return self.sha256_derived
        return (self.sha256,) if self.sha256 else ()


@dataclass(frozen=True)
class TraceInfo:
    """What the catalogue says of a trace.

    Attributes
    ----------
    name, title : str
        The name to load it by, and what it is.
    kind : {"requests", "series", "grid", "prices", "datacenter", "generated"}
        Whether the source has one row per request, per slot, per hour of a local clock or per exchange session, is
        put together for data centers, or is a law to draw from.
    slot : float
        Length of a slot in seconds: the native one of a series, the default one of requests.
    quantity : str
        What is counted per slot.
    files : tuple of PublicFile
        The files behind it, in the order of time (of prices: closes, then volumes); none for a stand-in, a generated
        trace or one of the user's own.
    columns : mapping of str to str
        Columns of the file, with units.
    span, licence, citation, notes : str
        Time covered, terms of use, paper to cite, known defects and their treatment.
    streamed : bool
        Whether the requests are too many to keep, so that only slots can be loaded.
    synthetic : bool
        Whether the numbers are generated.
    reading : mapping
        How the file is read (see the head of ``catalogue.toml``).
    """

    name: str
    title: str
    kind: Literal["requests", "series", "grid", "prices", "datacenter", "generated"]
    slot: float = 2.0
    quantity: str = "tokens"
    files: tuple[PublicFile, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    span: str = ""
    licence: str = ""
    citation: str = ""
    notes: str = ""
    streamed: bool = False
    synthetic: bool = False
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def provenance(self) -> Provenance:
        """Origin and terms, in the form that a trace carries."""
        return Provenance(
            source=self.title,
            url=" ".join(dict.fromkeys(file.url for file in self.files)),
            licence=self.licence,
            citation=self.citation,
            synthetic=self.synthetic,
            notes=self.notes,
        )


_READING = (
    *("rows", "time", "prompt", "output", "unit", "start", "outcome", "scale", "coverage"),
    *("header", "delimiter", "format", "stamp", "zone", "utc", "context", "band"),
    *("stop", "zones", "demand", "market_lag"),
)


@functools.cache
def _tables() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@functools.cache
def public_files() -> dict[str, PublicFile]:
    """Return the public files by key."""
    files = {}
    for key, table in _tables()["file"].items():
        lists = {name: tuple(table.get(name, ())) for name in ("sha256_derived", "also")}
        files[key] = PublicFile(key, **{**table, **lists})
    return files


@functools.cache
def catalogue() -> dict[str, TraceInfo]:
    """Return the real traces by name, in the order of ``catalogue.toml``."""
    tables: dict[str, dict[str, Any]] = _tables()["trace"]
    infos = {}
    for name, table in tables.items():
        table = {**tables.get(table.get("inherit", ""), {}), **table}
        table.pop("inherit", None)
        reading = {key: table.pop(key) for key in _READING if key in table}
        keys = table.pop("file")
        files = tuple(public_files()[key] for key in ([keys] if isinstance(keys, str) else keys))
        infos[name] = TraceInfo(name=name, files=files, reading=reading, **table)
    return infos


def entry(name: str) -> TraceInfo:
    """Return the entry of a real trace.

    Raises
    ------
    UnknownNameError
        If the catalogue has no trace of that name; the message lists the closest ones.
    """
    if name not in catalogue():
        raise UnknownNameError("trace", name, catalogue())
    return catalogue()[name]


def stand_in(info: TraceInfo) -> TraceInfo:
    """Return the entry of the synthetic stand-in of a real trace."""
    return TraceInfo(
        name=SYNTHETIC + info.name,
        title=f"Synthetic stand-in for: {info.title}",
        kind=info.kind,
        slot=info.slot,
        quantity=info.quantity,
        licence="Apache-2.0",
        citation=info.citation,
        streamed=info.streamed,
        notes=f"Generated with parameters that were fitted to {info.name}; no measured value is in it.",
        synthetic=True,
    )


@functools.cache
def long_stand_ins() -> dict[str, TraceInfo]:
    """Return the entries, by name, of stand-ins that are longer than any real trace."""
    info = dataclasses.replace(
        stand_in(entry("datacenter-2021")),
        name="synthetic-datacenter",
        span="2021-01-01 to 2023-12-31 (nominal), UTC: three years of the law of synthetic-datacenter-2021",
    )
    return {info.name: info}
