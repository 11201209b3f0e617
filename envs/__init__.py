"""Gymnasium environments that replay traces under distribution shift."""

from .shifts import Shift, list_shifts, parse_shift

__all__ = ["Shift", "list_shifts", "parse_shift"]
