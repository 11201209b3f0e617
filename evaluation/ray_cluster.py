"""A pool of Ray tasks: a cluster of many machines, or one that is started on this machine."""

from __future__ import annotations

import contextlib
import functools
import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from ..data.errors import ShiftgymError
from .pool import TRIES, Outcome, Pool, R, T, attempt, given_up
from .registered import informed, pack

_STORE_BYTES = 80_000_000  # results are on disk, and nothing large is sent: little more than the least that Ray takes


class RayCluster(Pool):
    """One Ray task of one core for each, run again by Ray where a worker or a node is lost.

    The run's folder must be one that every node sees, and shiftgym must be installed on every node. Ray keeps each
    worker to one thread; it kills workers before a node runs out of memory.

    Parameters
    ----------
    jobs : int, optional
        Tasks that run at once; as many as the cluster has cores by default.
    address : str, optional
        Of a running cluster; by default one is started on this machine, and ended with the pool.

    Raises
    ------
    ShiftgymError
        If Ray is not installed.
    """

    def __init__(self, jobs: int | None = None, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that someone ran this
        os.environ.setdefault("RAY_task_oom_retries", str(TRIES - 1))  # without end by default
        try:
            import ray
        except ImportError as error:
            raise ShiftgymError(
                'backend "ray" needs Ray, which is not installed: pip install "shiftgym[ray]"'
            ) from error
        self._ray, self._jobs, self._address = ray, jobs, address
        self._started = False

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Generator[Outcome[T, R], None, None]:  # noqa: D102
        if not tasks:
            return
        ray = self._ray
        self._start()
        registered, folder = pack(), str(Path.cwd())

        def bound(task: T) -> Outcome[T, R]:  # Ray sends it once, and only tasks after that
            return _call(registered, function, folder, task)

        # a cluster of our own has no dashboard that would show what its tasks did, and which every task would write to
        shown = not self._started
        call = ray.remote(num_cpus=1, max_retries=TRIES - 1, name="shiftgym", enable_task_events=shown)(bound)
        waiting = deque(tasks)
        # a cluster of our own runs no more than ``jobs`` at once: as many wait at its door, so that no worker waits
        most = len(tasks) if self._jobs is None else self._jobs * (2 if self._started else 1)
        running: dict[Any, T] = {}
        try:
            while waiting or running:
                while waiting and len(running) < most:
                    task = waiting.popleft()
                    running[call.remote(task)] = task
                for done in ray.wait(list(running), num_returns=1)[0]:
                    yield self._outcome(done, running.pop(done))
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def close(self) -> None:  # noqa: D102
        if self._started:
            self._ray.shutdown()
            self._started = False

    def _start(self) -> None:
        """Connect, unless the user's script has done that."""
        ray = self._ray
        if ray.is_initialized():
            return
        alone = {"num_cpus": self._jobs, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
        here = {} if self._address else alone
        try:
            ray.init(address=self._address or "local", log_to_driver=False, logging_level="ERROR", **here)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise ShiftgymError(f"no Ray cluster at address {self._address!r}: {reason}") from error
        self._started = True

    def _outcome(self, reference: Any, task: T) -> Outcome[T, Any]:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            return given_up(task, str(error))
        except errors.RayError as error:
            return Outcome(
                task, error=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", details=str(error)
            )


def _call(registered: bytes, function: Callable[[T], R], folder: str, task: T) -> Outcome[T, R]:
    """Run a task where the user would: relative paths mean the same."""
    with contextlib.suppress(OSError):  # another machine need not have the folder
        os.chdir(folder)
    return attempt(functools.partial(informed, registered, function), task)
