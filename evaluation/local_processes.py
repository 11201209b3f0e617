"""A pool of processes on this machine: one executor of loky for each, so that one that dies takes no other with it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from multiprocessing import resource_tracker
from typing import Any, NamedTuple, TypeAlias

import loky
import psutil

from .pool import TRIES, Outcome, Pool, R, T, attempt, given_up
from .registered import informed, pack

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
#: How often it is looked whether somebody has pressed Ctrl-C, in seconds.
_LOOK = 0.5


def usable_cores() -> int:
    """Cores that this process may use: those of its container and affinity, not all of the machine."""
    return int(loky.cpu_count())


_Future: TypeAlias = Future[Outcome[T, R]]


class _Running(NamedTuple):
    worker: loky.ProcessPoolExecutor
    task: Any
    tries: int


class LocalProcesses(Pool):
    """Worker processes with one thread each, which know what the user has registered.

    Memory stays bounded: loky replaces a worker that has grown by 300 MB since its first task, once that task is over.
    A worker that is killed is replaced, and only its own task runs again. Workers end with this process, however
    it ends.

    Parameters
    ----------
    jobs : int
        Processes; no more are started than there are tasks.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._hired: list[loky.ProcessPoolExecutor] = []
        self._idle: list[loky.ProcessPoolExecutor] = []
        self._registered: bytes | None = None

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Generator[Outcome[T, R], None, None]:  # noqa: D102
        try:
            with warnings.catch_warnings(), _noting_ctrl_c() as pressed:
                # a worker whose memory grew is replaced, which is as it should be and loses nothing
                warnings.filterwarnings("ignore", r"A worker (stopped|was restarted) while some jobs", UserWarning)
                yield from self._outcomes(function, tasks, pressed)
        finally:
            for worker in self._hired.copy():
                if worker not in self._idle:
                    self._dismiss(worker)

    def _outcomes(
        self, function: Callable[[T], R], tasks: Sequence[T], pressed: Sequence[int]
    ) -> Generator[Outcome[T, R], None, None]:
        waiting = deque((task, 1) for task in tasks)
        running: dict[_Future[T, R], _Running] = {}
        while waiting or running:
            while waiting and len(running) < self._jobs:
                task, tries = waiting.popleft()
                with _born_deaf():
                    worker, future = self._submit(function, task)
                running[future] = _Running(worker, task, tries)
            done = wait(running, _LOOK, FIRST_COMPLETED).done
            if pressed:
                raise KeyboardInterrupt
            for future in done:
                worker, task, tries = running.pop(future)
                error = future.exception()
                if not isinstance(error, BrokenExecutor):
                    self._idle.append(worker)
                    yield future.result() if error is None else Outcome(task, error=repr(error))
                    continue
                self._dismiss(worker)
                if tries < TRIES:
                    waiting.appendleft((task, tries + 1))
                else:
                    yield given_up(task, str(error))

    def close(self) -> None:  # noqa: D102
        self._idle.clear()
        while self._hired:
            self._dismiss(self._hired[-1], wait=True)

    def _dismiss(self, worker: loky.ProcessPoolExecutor, wait: bool = False) -> None:
        worker.shutdown(wait=wait, kill_workers=True)
        self._hired.remove(worker)

    def _submit(self, function: Callable[[T], R], task: T) -> tuple[loky.ProcessPoolExecutor, _Future[T, R]]:
        """Hand a task to an idle worker, or to a new one where there is none alive."""
        while self._idle:
            worker = self._idle.pop()
            with contextlib.suppress(BrokenExecutor):
                return worker, worker.submit(_call, function, task)
            self._dismiss(worker)
        if self._registered is None:
            self._registered = pack()
        worker = loky.ProcessPoolExecutor(
            1,
            timeout=None,
            initializer=_prepare,
            initargs=(os.getpid(), self._registered),
            env=dict.fromkeys(_THREADS, "1"),
        )
        self._hired.append(worker)  # before it starts, so that whatever happens it will be ended
        return worker, worker.submit(_call, function, task)


@contextlib.contextmanager
def _noting_ctrl_c() -> Iterator[Sequence[int]]:
    """Note that Ctrl-C was pressed, and raise KeyboardInterrupt at the end of the block, unless another error does.

    Raised wherever it comes, it could leave a lock of the executors held forever. Pressed twice, it is raised at once.
    """
    pressed: list[int] = []

    def note(number: int, frame: Any) -> None:
        if pressed:
            signal.default_int_handler(number, frame)
        pressed.append(number)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield pressed  # it is ignored, or somebody else's
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _born_deaf() -> Iterator[None]:
    """Block Ctrl-C, where the system can, for the processes that are started in the block, which inherit that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # a process of Python's that each worker needs; starting it ends the blocking
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_registered = b""  # in a worker


def _prepare(parent: int, registered: bytes) -> None:
    """Set a worker up.

    Ctrl-C, which a terminal sends to every process, is left to the one that hands out the tasks.
    """
    global _registered
    _registered = registered
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process with its parent: one that is killed cannot tell its workers, which would wait forever."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os._exit(1)


def _call(function: Callable[[T], R], task: T) -> Outcome[T, R]:
    return attempt(functools.partial(informed, _registered, function), task)
