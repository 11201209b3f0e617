"""Telling a person how far a run is: a bar on a terminal, lines in a log, nothing in a program."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar


class Progress:
    """Silent; the base of those that speak."""

    @contextlib.contextmanager
    def show(self, total: int, reused: int) -> Iterator[None]:
        """Show the progress of ``total`` tasks inside the block; ``reused`` cells were finished before."""
        yield

    def advance(self, label: str, error: str = "") -> None:
        """Say that a task is over, by its label, and the error that ended it if one did."""


class LineProgress(Progress):
    """One line per task, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console, self._total, self._done = console, 0, 0

    @contextlib.contextmanager
    def show(self, total: int, reused: int) -> Iterator[None]:  # noqa: D102
        self._total, self._done = total, 0
        if reused:
            self._console.print(f"{reused} cells were finished before", highlight=False)
        yield

    def advance(self, label: str, error: str = "") -> None:  # noqa: D102
        self._done += 1
        line = f"[{self._done}/{self._total}] {label}{f': FAILED: {error}' if error else ''}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class BarProgress(Progress):
    """A bar that names the task finished last; failures stay above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Bar(
            BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), "left", TimeRemainingColumn(),
            TextColumn("{task.description}"), console=console, transient=True,
        )  # fmt: skip
        self._task = TaskID(0)

    @contextlib.contextmanager
    def show(self, total: int, reused: int) -> Iterator[None]:  # noqa: D102
        if reused:
            self._console.print(f"[dim]{reused} cells were finished before[/]")
        with self._bar:
            self._task = self._bar.add_task("starting", total=total)
            yield

    def advance(self, label: str, error: str = "") -> None:  # noqa: D102
        if error:
            self._bar.console.print(f"[red]failed[/] {escape(label)}: {escape(error)}")
        self._bar.update(self._task, advance=1, description=escape(label))


def for_console(console: Console) -> Progress:
    """Return a bar for a terminal, lines for anything else."""
    return BarProgress(console) if console.is_terminal else LineProgress(console)
