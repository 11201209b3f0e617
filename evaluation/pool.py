"""Running independent tasks, in this process or in a pool of them, and handing results over as they come."""

from __future__ import annotations

import errno
import importlib
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import joblib


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


def run_tasks(function: Callable[[T], R], tasks: Sequence[T], jobs: int = 1) -> Generator[Outcome[T, R], None, None]:
    """Call ``function`` for every task and yield each outcome as soon as it is there, in any order.

    Parameters
    ----------
    function : callable
        Importable by name when ``jobs > 1``.
    tasks : sequence
        Each is independent of the others; an error ends its own task only.
    jobs : int
        Processes, each kept to one thread; 1 stays in this process.
    """
    if jobs == 1 or len(tasks) <= 1:
        for task in tasks:
            yield _guarded(function, task)
        return
    with joblib.parallel_config(backend="loky", n_jobs=min(jobs, len(tasks)), inner_max_num_threads=1):
        parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs")
        with warnings.catch_warnings():
            # a worker whose memory grew is replaced, which is as it should be and loses nothing
            warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
            # a run that ends early says itself what is finished and what is not
            warnings.filterwarnings("ignore", ".*tasks (have been successfully|which were still)", UserWarning)
            yield from parallel(joblib.delayed(_in_worker)(function, task) for task in tasks)


def _in_worker(function: Callable[[T], R], task: T) -> Outcome[T, R]:
    """Run a task in a worker.

    Ctrl-C, which a terminal sends to every process, is left to the one that hands out the tasks. Torch is loaded
    before the first task ends, because loky takes a worker whose memory grows after that for a leaking one.
    """
    importlib.import_module("torch")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _guarded(function, task)


def _guarded(function: Callable[[T], R], task: T) -> Outcome[T, R]:
    try:
        return Outcome(task, function(task))
    except Exception as error:  # whatever an agent raises must not end the other cells
        message = f"{type(error).__name__}: {error}"
        return Outcome(task, error=message, details=traceback.format_exc(), disk_full=_disk_full(error))


def _disk_full(error: BaseException | None) -> bool:
    """Whether the error, or one that caused it, says that no space is left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
