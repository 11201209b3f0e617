"""What a fit costs the machine: wall-clock seconds and memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Effort:
    """Seconds, and the peak resident memory above that at the beginning in MB; filled in when the block ends."""

    seconds: float = 0.0
    memory_mb: float = 0.0


@contextlib.contextmanager
def measure() -> Iterator[Effort]:
    """Measure the block.

    Linux keeps the peak of the resident memory and lets a process reset its own; elsewhere the memory at the
    end of the block stands in for it. Memory of another device does not count.
    """
    effort = Effort()
    _settle()
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")  # resets VmHWM, see proc(5)
    before = _peak_memory()
    start = time.perf_counter()
    yield effort
    effort.seconds = time.perf_counter() - start
    effort.memory_mb = max(0.0, _peak_memory() - before) / 1e6


def _settle() -> None:
    """Load what torch would load at the first step of an optimiser; give back what earlier blocks freed.

    The one would be counted, the other, used again, would not be.
    """
    if "torch" in sys.modules:
        importlib.import_module("torch._dynamo")
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # only the C library of Linux has it
        ctypes.CDLL(None).malloc_trim(0)


def _peak_memory() -> float:
    try:
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
        return float(lines["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):
        return float(psutil.Process().memory_info().rss)
