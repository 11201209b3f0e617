"""What the user has registered in this process, for the processes of a pool, which never saw the user's script."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import cloudpickle
import gymnasium

from ..agents.base import own_agents, register_agent
from ..data.errors import ShiftgymError, UnknownNameError
from ..data.registry import own_traces, register_trace
from ..envs.shifts.registry import own_shifts, register
from ..solvers import PROBLEMS
from .pool import R, T

_SHIPPED = ("shiftgym.", "gymnasium.")


def pack() -> bytes:
    """Return the user's agents, traces, shifts, problems and environments, for :func:`informed`.

    What a module defines goes by its name, what a script or notebook defines goes as its code. The bytes never leave
    the workers of this run.
    """
    packed, lost = {}, {}
    for kind, things in _own().items():
        for name, thing in things.items():
            try:
                packed[kind, name] = cloudpickle.dumps(thing)
            except Exception as error:  # such as a trace that holds an open file; no harm where it is not used
                lost[kind, name] = repr(error)
    return cloudpickle.dumps((packed, lost))


def informed(packed: bytes, function: Callable[[T], R], task: T) -> R:
    """Call the function where everything that was packed is registered.

    Raises
    ------
    ShiftgymError
        If the task needs something that could not be sent or not be loaded here.
    """
    lost = _install(packed)
    try:
        return function(task)
    except UnknownNameError as error:
        if not lost:
            raise
        missing = "; ".join(f"{kind} {name!r}: {reason}" for (kind, name), reason in lost.items())
        raise ShiftgymError(
            f"{error}. Not known to other processes, and to be defined in a module that they can import: {missing}"
        ) from error


@functools.cache  # once in a process
def _install(packed: bytes) -> dict[tuple[str, str], str]:
    """Register everything; return what cannot be, and why."""
    put: dict[str, Callable[[str, Any], Any]] = {
        "problem": PROBLEMS.__setitem__,
        "environment": gymnasium.registry.__setitem__,
        "shift": lambda name, cls: register(name, family=cls.family, source=cls.source)(cls),
        "trace": register_trace,
        "agent": lambda name, cls: register_agent(name)(cls),
    }
    things, lost = cloudpickle.loads(packed)
    for (kind, name), thing in things.items():
        try:
            put[kind](name, cloudpickle.loads(thing))
        except Exception as error:  # such as a module that is not here
            lost[kind, name] = repr(error)
    return dict(lost)


def _own() -> dict[str, dict[str, Any]]:
    return {
        "problem": {name: cls for name, cls in PROBLEMS.items() if not cls.__module__.startswith(_SHIPPED)},
        "environment": {name: spec for name, spec in gymnasium.registry.items() if not _shipped(spec)},
        "shift": own_shifts(),
        "trace": own_traces(),
        "agent": own_agents(),
    }


def _shipped(spec: Any) -> bool:
    """Whether an environment comes with a package that registers it on import."""
    points = [point for point in (spec.entry_point, spec.vector_entry_point) if point is not None]
    return all(isinstance(point, str) and point.startswith(_SHIPPED) for point in points)
