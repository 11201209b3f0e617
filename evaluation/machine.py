"""What a run ran on: versions, machine and command, so that a figure can be traced back."""

from __future__ import annotations

import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import loky
import psutil

_PACKAGES = (
    "shiftgym",
    "gymnasium",
    "loky",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "stable-baselines3",
    "torch",
)


def describe() -> dict[str, Any]:
    """Versions of what computes, the machine, and the command line."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpu": _cpu(),
            "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
            "usable_cores": loky.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        },
    }


def _cpu() -> str:
    """Name of the processor, which only Linux hides from :mod:`platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
