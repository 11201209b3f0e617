"""Gymnasium environments that replay traces under distribution shift."""

from typing import Any

from .shifts import Shift, list_shifts, parse_shift

__all__ = ["Shift", "list_shifts", "parse_shift", "to_sb3"]


def __getattr__(name: str) -> Any:
    if name == "to_sb3":  # stable-baselines3 imports torch: only for whom needs it
        from .sb3 import to_sb3

        return to_sb3
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
