"""Distribution shifts: seeded, composable, with one text form; one file per family."""

from . import corruption, marginal, correlation, temporal, mixture, swap, resampling, adversarial  # noqa: F401, I001 - registers, in order of listing
from .adversarial import AdversarialShift, Opponent
from .base import ArrayShift, Compose, Scene, Shift, SingleShift, TraceShift, compose
from .parameters import Parameter, ShiftError, parameter
from .registry import describe_shifts, list_shifts, make_shift, parse_shift, register, severity_sweep
from .report import ShiftReport, report_shift, wasserstein_distance
from .resampling import tilt_weights

__all__ = [
    "AdversarialShift",
    "ArrayShift",
    "Compose",
    "Opponent",
    "Parameter",
    "Scene",
    "Shift",
    "ShiftError",
    "ShiftReport",
    "SingleShift",
    "TraceShift",
    "compose",
    "describe_shifts",
    "list_shifts",
    "make_shift",
    "parameter",
    "parse_shift",
    "register",
    "report_shift",
    "severity_sweep",
    "tilt_weights",
    "wasserstein_distance",
]
