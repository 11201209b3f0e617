"""Running independent tasks somewhere, and handing each result over as it comes."""

from __future__ import annotations

import errno
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from ..data.errors import ShiftgymError, UnknownNameError

#: How often a task is run whose worker dies each time, before that is held to be the task's doing.
TRIES = 3
#: What the command line and :func:`make_pool` know.
BACKENDS = ("local", "ray")


class Labelled(Protocol):
    """A task: something with a name on disk and a name for people."""

    @property
    def id(self) -> str:
        """Name on disk."""
        ...

    @property
    def label(self) -> str:
        """Name for people."""
        ...


T = TypeVar("T", bound=Labelled)
R = TypeVar("R")


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """What became of a task: its ``result``, or the ``error`` that ended it; ``details`` is the traceback."""

    task: T
    result: R | None = None
    error: str = ""
    details: str = ""
    disk_full: bool = False


class Pool(ABC):
    """Where tasks are run. Nothing is started before the first of them; ``with`` or ``close`` ends it."""

    @abstractmethod
    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Generator[Outcome[T, R], None, None]:
        """Call ``function`` for every task and yield each outcome as soon as it is there, in any order.

        An error ends its own task only. A task whose worker dies is run again, :data:`TRIES` times in all. Closing
        the generator early gives up what is still running.

        Parameters
        ----------
        function : callable
            Importable by name from other processes.
        tasks : sequence
            Each is independent of the others.
        """

    def close(self) -> None:
        """End the workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class InProcess(Pool):
    """One task after the other, in this process."""

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Generator[Outcome[T, R], None, None]:  # noqa: D102
        for task in tasks:
            yield attempt(function, task)


def make_pool(backend: str = "local", jobs: int | None = None, address: str | None = None) -> Pool:
    """Return the pool of a backend, not yet started.

    Parameters
    ----------
    backend : str
        ``"local"``: processes of this machine, or this process for one job. ``"ray"``: tasks of a Ray cluster.
    jobs : int, optional
        Tasks that run at once; by default as many as there are cores, here or in the cluster.
    address : str, optional
        A running Ray cluster, such as ``"auto"`` or ``"ray://head:10001"``; by default one is started on this machine.

    Raises
    ------
    ShiftgymError
        If the backend does not exist or Ray is not installed, or an address is given to a backend without one.
    """
    if backend not in BACKENDS:
        raise UnknownNameError("backend", backend, BACKENDS)
    if address is not None and backend != "ray":
        raise ShiftgymError(f"address {address!r} is for backend 'ray', and the backend is {backend!r}: leave one out")
    if backend == "ray":
        from .ray_cluster import RayCluster

        return RayCluster(jobs, address)
    from .local_processes import LocalProcesses, usable_cores

    jobs = jobs or usable_cores()
    return InProcess() if jobs == 1 else LocalProcesses(jobs)


def attempt(function: Callable[[T], R], task: T) -> Outcome[T, R]:
    """Call the function, whose error is an outcome as well."""
    try:
        return Outcome(task, function(task))
    except Exception as error:  # whatever an agent raises must not end the other cells
        message = f"{type(error).__name__}: {error}"
        return Outcome(task, error=message, details=traceback.format_exc(), disk_full=_disk_full(error))


def given_up(task: T, reason: str) -> Outcome[T, R]:
    """Return the outcome of a task that took its worker with it every time."""
    message = f"its worker died {TRIES} times, killed or out of memory: fewer jobs at once leave more memory for each"
    return Outcome(task, error=message, details=reason)


def _disk_full(error: BaseException | None) -> bool:
    """Whether the error, or one that caused it, says that no space is left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
