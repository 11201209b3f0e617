"""Distribution shifts: seeded, composable, with one text form; one file per family."""

from . import corruption, marginal
from .base import ArrayShift, Compose, Scene, Shift, SingleShift, TraceShift, compose
from .parameters import Parameter, ShiftError, parameter
from .registry import describe_shifts, list_shifts, make_shift, parse_shift, register, severity_sweep

__all__ = [
    "ArrayShift",
    "Compose",
    "Parameter",
    "Scene",
    "Shift",
    "ShiftError",
    "SingleShift",
    "TraceShift",
    "compose",
    "corruption",
    "describe_shifts",
    "list_shifts",
    "make_shift",
    "marginal",
    "parameter",
    "parse_shift",
    "register",
    "severity_sweep",
]
