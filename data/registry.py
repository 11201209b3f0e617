"""Traces by name: the catalogue, their synthetic stand-ins, the user's own."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

from .calendar import with_calendar
from .catalogue import SYNTHETIC, TraceInfo, catalogue, entry, long_stand_ins, stand_in
from .errors import TraceError, UnknownNameError
from .mixtures import draw_trace, generated
from .requests import RequestLog
from .spec import FILE, Place, parse_file, parse_spec
from .trace import Trace, parse_duration

# The modules that read files (pyarrow), download (pooch, requests) and generate are imported where they are
# first used: they take over a second, and `import shiftgym` must not.

DEFAULT_SLOT = 2.0
Loader = Callable[[], Trace | RequestLog]
Files = tuple[tuple[str, int], ...]  # paths, each with the time of its last change

_own: dict[str, functools._lru_cache_wrapper[Trace | RequestLog]] = {}


def list_traces() -> list[str]:
    """Return the names that :func:`load_trace` knows: real traces, their stand-ins, generated and registered ones."""
    return [*catalogue(), *(SYNTHETIC + name for name in catalogue()), *long_stand_ins(), *generated(), *_own]


def trace_info(name: str) -> TraceInfo:
    """Return what is known of a trace without loading it.

    Raises
    ------
    UnknownNameError
        If there is no trace of that name.
    """
    if name in _own:
        return TraceInfo(name, title="Registered by the user", kind="series")
    if name in (made := {**long_stand_ins(), **generated()}):
        return made[name]
    real = name.removeprefix(SYNTHETIC)
    if real not in catalogue():
        raise UnknownNameError("trace", name, list_traces())
    return entry(real) if name == real else stand_in(entry(real))


def register_trace(name: str, loader: Loader) -> None:
    """Make a trace of your own loadable by name.

    Parameters
    ----------
    name : str
        Letters, digits, ``-``, ``_``, ``.`` and ``+``.
    loader : callable
        Takes nothing and returns a :class:`Trace` or a :class:`RequestLog`; called once, on first use.

    Raises
    ------
    TraceError
        If the name is malformed or taken by the catalogue. Registering a name of your own again replaces it.

    Examples
    --------
    >>> import numpy as np
    >>> time = np.datetime64("2026-01-01", "ns") + np.arange(4) * np.timedelta64(1, "h")
    >>> register_trace("flat", lambda: Trace("flat", time, np.ones(4), 3600.0))
    >>> len(load_trace("flat@2h"))
    2
    """
    if not re.fullmatch(r"[\w.+-]+", name):
        raise TraceError(f"trace name {name!r}: use letters, digits, '-', '_', '.' and '+' only")
    if name.removeprefix(SYNTHETIC) in {**catalogue(), **generated()} or name in long_stand_ins():
        raise TraceError(f"trace name {name!r} is taken by the catalogue: choose another")
    _own[name] = functools.cache(loader)


def own_traces() -> dict[str, Loader]:
    """Loaders by name, as they were registered."""
    return {name: loader.__wrapped__ for name, loader in _own.items()}


def load_requests(name: str) -> RequestLog:
    """Return the request log behind a trace.

    Parameters
    ----------
    name : str
        Name of a request-level trace or of its stand-in, ``file:PATH?…`` or a registered request log.

    Raises
    ------
    UnknownNameError
        If there is no trace of that name.
    TraceError
        If the trace has no request log: a series, or a log too large to keep.
    DownloadError
        If the file is neither found nor downloadable.
    """
    source = _source(name)
    if not isinstance(source, RequestLog):
        raise TraceError(f"trace {name!r} has no request log in memory: load its slots with load_trace")
    return source


def load_trace(spec: str, *, slot: str | float | None = None, window: tuple[Place, Place] | None = None) -> Trace:
    r"""Return a trace, downloaded on first use.

    Parameters
    ----------
    spec : str
        ``NAME[@SLOT][\[START:STOP\]]``, such as ``"azure-2023-conv@2s[:0.5]"``; NAME from
        :func:`list_traces`, or ``file:PATH?time=COLUMN&prompt=COLUMN&output=COLUMN`` for a request log of
        your own, ``file:PATH?time=COLUMN&outcome=COLUMN,COLUMN`` for a series,
        ``file:PATH?time=COLUMN&price=COLUMN,COLUMN`` for daily prices.
    slot : str or float, optional
        Slot length; the text may hold it instead. By default 2 s for requests, the native slot of a series.
        The slot of a series must be a multiple of its native one.
    window : pair, optional
        Start and stop as in :meth:`Trace.window`; the text may hold them instead.

    Returns
    -------
    Trace
        Total tokens (or requests, see the unit) per slot. A trace of two days or more has its hour of the day
        as context, one of two weeks or more its day of the week too, unless it brings a context of its own.

    Raises
    ------
    UnknownNameError
        If there is no trace of that name.
    TraceError
        For a malformed text, a slot or a window that does not fit, a slot or window given twice.
    DownloadError
        If the file is neither found nor downloadable.

    Examples
    --------
    >>> load_trace("synthetic-azure-2023-conv@2s[:10]").outcome.shape
    (10, 1)
    """
    parsed = parse_spec(spec)
    for field, given, inside in (
        ("slot", slot is not None, bool(parsed.slot)),
        ("window", window is not None, (parsed.start, parsed.stop) != (None, None)),
    ):
        if given and inside:
            raise TraceError(f"{field} of trace {spec!r} is given twice, in the text and as keyword: give one")
    start, stop = window or (parsed.start, parsed.stop)
    length = slot if slot is not None else parsed.slot or None
    trace = _slots(parsed.name, None if length is None else parse_duration(length))
    return trace if start is stop is None else _window(trace, start, stop)


@functools.lru_cache(maxsize=8, typed=True)  # slot 1 is another place than the fraction 1.0
def _window(trace: Trace, start: Place, stop: Place) -> Trace:
    """Part of a trace; cells ask for the same ones again and again, and traces are compared by identity."""
    return trace.window(start, stop)


def _slots(name: str, slot: float | None) -> Trace:
    if name in generated():  # independent draws have no calendar
        return _drawn(name) if slot is None else _drawn(name).coarsen(slot)
    info = catalogue().get(name.removeprefix(SYNTHETIC))
    if info is None or not info.streamed:
        return _aggregated(_source(name), slot)
    if name.startswith(SYNTHETIC):
        return _generated_slots(info.name, slot or info.slot)
    return _streamed(name, slot or info.slot, _located(name))


@functools.lru_cache(maxsize=64)
def _aggregated(source: Trace | RequestLog, slot: float | None) -> Trace:
    """Slots of a log or a longer slot of a series; sources are compared by identity."""
    if isinstance(source, RequestLog):
        return with_calendar(source.slots(slot or DEFAULT_SLOT))
    return with_calendar(source if slot is None else source.coarsen(slot))


def _source(name: str) -> Trace | RequestLog:
    """Return the log or series of a name, from memory when it was read before and its file is unchanged."""
    if name in _own:
        return _own[name]()
    if name.startswith(FILE):
        path = Path(parse_file(name)[0]).expanduser()
        return _read_file(name, path.stat().st_mtime_ns if path.exists() else 0)
    info = trace_info(name)
    if info.streamed:
        raise TraceError(f"trace {name!r} is too large to keep request by request: load its slots with load_trace")
    if info.kind == "generated":
        return _drawn(name)
    if info.synthetic:
        return _generated(name.removeprefix(SYNTHETIC))
    return _read_real(name, _located(name))


def _located(name: str) -> Files:
    from .fetch import fetch_trace

    return tuple((str(path), path.stat().st_mtime_ns) for path in fetch_trace(name))


@functools.lru_cache(maxsize=32)
def _read_real(name: str, files: Files) -> Trace | RequestLog:
    info, paths = entry(name), [Path(path) for path, _ in files]
    if info.kind == "grid":
        from .grid import read_grid

        return read_grid(paths, info)
    if info.kind == "prices":
        from .market import read_prices

        return read_prices(paths, info)
    if info.kind == "datacenter":
        from .datacenter import read_datacenter

        return read_datacenter(paths, info)
    from .loaders import read_requests, read_series

    if info.kind == "series":
        return read_series(paths[0], info)
    return read_requests(paths[0], name=name, provenance=info.provenance, **info.reading)


@functools.lru_cache(maxsize=8)
def _streamed(name: str, slot: float, files: Files) -> Trace:
    from .stream import stream_slots

    info = entry(name)
    trace = stream_slots(files[0][0], slot, name=name, provenance=info.provenance, **info.reading)
    return with_calendar(trace)


@functools.lru_cache(maxsize=8)
def _read_file(name: str, mtime: int) -> Trace | RequestLog:
    text, options = parse_file(name)
    path = Path(text).expanduser()
    if "outcome" in options:
        from .own_series import read_own_series

        return read_own_series(path, **options)
    if "price" in options:
        from .market import read_own_prices

        return read_own_prices(path, **options)
    from .loaders import read_requests

    return read_requests(
        path,
        time=options["time"],
        prompt=options["prompt"],
        output=options.get("output"),
        unit=options.get("unit"),
        sort=options.get("sort", "false") == "true",
    )


@functools.lru_cache(maxsize=8)
def _drawn(name: str) -> Trace:
    return draw_trace(name)


@functools.lru_cache(maxsize=32)
def _generated(real: str) -> Trace | RequestLog:
    from . import synthetic

    kind = trace_info(SYNTHETIC + real).kind
    return synthetic.synthetic_requests(real) if kind == "requests" else synthetic.synthetic_trace(real)


@functools.lru_cache(maxsize=8)
def _generated_slots(real: str, slot: float) -> Trace:
    from . import synthetic

    return with_calendar(synthetic.synthetic_trace(real, slot=slot))
