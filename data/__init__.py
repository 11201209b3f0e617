"""What happened: traces, their catalogue, download and checks, synthetic stand-ins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .catalogue import TraceInfo
from .errors import DownloadError, ShiftgymError, TraceError, UnknownNameError
from .registry import list_traces, load_requests, load_trace, register_trace, trace_info
from .requests import RequestLog
from .trace import Provenance, Trace

if TYPE_CHECKING:
    from .fetch import fetch_trace
    from .loaders import read_requests
    from .stream import stream_slots

__all__ = [
    "DownloadError",
    "Provenance",
    "RequestLog",
    "ShiftgymError",
    "Trace",
    "TraceError",
    "TraceInfo",
    "UnknownNameError",
    "fetch_trace",
    "list_traces",
    "load_requests",
    "load_trace",
    "read_requests",
    "register_trace",
    "stream_slots",
    "trace_info",
]

# These modules import pyarrow or pooch, which take about a second: only who asks for them pays for it.
_LAZY = {"fetch_trace": "fetch", "read_requests": "loaders", "stream_slots": "stream"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
