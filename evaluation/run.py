"""Running a suite: fits first, each once, then every cell, on disk as soon as it is finished."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..data.errors import ShiftgymError
from ..data.files import atomic_write
from ..data.trace import Trace
from .cells import Cell, load_traces, plan, trace_digest
from .machine import describe
from .pool import InProcess, Outcome, Pool
from .progress import Progress
from .results import FAILED, FITS, RUN, Run, write_json
from .rollout import TestBench, make_training_env
from .scenario import Suite
from .selection import FOLDER as SELECTION
from .selection import Choice, choose, selected
from .tasks import run_cell, run_fit


class Interrupted(ShiftgymError):  # noqa: N818 (not an error of anyone's)
    """Ctrl-C; what was finished is on disk."""


class StoppedError(ShiftgymError):
    """No space is left; what was finished is on disk."""


@dataclass
class Tally:
    """What a run came to.

    Attributes
    ----------
    run : Run
        Its folder.
    cells, reused, computed : int
        Cells of the suite, those that were finished before, those finished now.
    failed : dict of str to str
        Error by the label of the fit or cell that it ended.
    """

    run: Run
    cells: int
    reused: int
    computed: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        finished = self.reused + self.computed
        return f"{finished} of {self.cells} cells are finished in {self.run.folder}; the same command resumes"


def execute(
    suite: Suite,
    folder: str | Path,
    *,
    pool: Pool | None = None,
    device: str = "cpu",
    fits: str | Path | None = None,
    progress: Progress | None = None,
) -> Tally:
    """Compute the cells of a suite that ``folder`` does not hold yet, and the tables of all that it holds.

    Where settings are to be chosen first, the trials are a run of their own inside the folder.

    Parameters
    ----------
    suite : Suite
        What to run.
    folder : path
        The run; made when missing. Cells in it that belong to other suites or settings are left alone.
    pool : Pool, optional
        Where fits and cells are computed; in this process by default.
    device : str
        Where agents are fitted.
    fits : path, optional
        Folder of fitted agents, to share them between runs; inside the run by default.
    progress : Progress, optional
        Told of every fit and cell; silent by default.

    Raises
    ------
    ShiftgymError
        Before any work, for names or settings that do not exist, and scenarios whose trace, shift and environment
        do not go together. After the trials of a suite's selection, if one of them failed.
    Interrupted, StoppedError
        Calling this again resumes the run.
    """
    suite.check()
    _check_device(device)
    run = Run(Path(folder))
    choices: list[Choice] = []
    if suite.selection:
        suite.selection.check_data(suite)
        trials, place = suite.selection.suite(suite), run.folder / SELECTION
        execute(trials, place, pool=pool, device=device, fits=fits, progress=progress)
        choices = choose(suite.selection, suite, Run(place))
        suite = selected(suite, choices)
    traces = load_traces(suite)
    cells = plan(suite, traces, device)
    _check_fits(cells)
    _check_benches(suite)
    missing = [cell for cell in cells if not run.cell_file(cell.id).is_file()]
    tally = Tally(run, len(cells), reused=len(cells) - len(missing))
    record = {**_record(suite, cells, traces), "selection": [dataclasses.asdict(choice) for choice in choices]}
    write_json(run.folder / RUN, record, indent=1)
    shelf = run.folder / FITS if fits is None else Path(fits)
    try:
        _compute(missing, tally, shelf, pool or InProcess(), progress or Progress())
    except BaseException as error:
        with contextlib.suppress(ShiftgymError, OSError):  # a full disk must not hide what went wrong
            _close(tally, record)
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"interrupted: {tally}") from None
        raise
    _close(tally, record)
    return tally


def _check_device(device: str) -> None:
    """Refuse a device that is not here before any work, and without loading torch for the processor."""
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).partition("\n")[0]
        raise ShiftgymError(f"device is {device!r}, which cannot be used here ({reason}): give 'cpu'") from error


def _check_fits(cells: Sequence[Cell]) -> None:
    """Set every training environment up once, and refuse agents that are not made for its problem."""
    for fit in {str(cell.fit.home): cell.fit for cell in cells}.values():
        env = make_training_env(*fit.home)
        for agent in {cell.agent.name: cell.agent for cell in cells if cell.fit.home == fit.home}.values():
            agent.agent_class().check_problem(env.unwrapped.task.problem)  # type: ignore[attr-defined]
        env.close()


def _check_benches(suite: Suite) -> None:
    """Set every scenario up once: one that cannot be replayed is found before hours of fitting, not after."""
    for scenario in suite.scenarios:
        for seed in suite.seeds if "{seed}" in scenario.test else suite.seeds[:1]:
            try:
                TestBench.make(scenario.for_seed(seed), seed).env.close()
            except ShiftgymError as error:
                raise ShiftgymError(f"scenario {scenario.name!r} cannot be replayed: {error}") from error


def _compute(missing: Sequence[Cell], tally: Tally, shelf: Path, pool: Pool, progress: Progress) -> None:
    """Fit what the missing cells need, then replay them."""
    fits = {cell.fit.id: cell.fit for cell in missing}
    fits = {name: fit for name, fit in fits.items() if not (shelf / name).is_dir()}
    broken = set()
    run, shelf = Run(tally.run.folder.absolute()), shelf.absolute()  # workers may have a working folder of their own
    with progress.show(len(fits) + len(missing), reused=tally.reused):
        fitting = pool.run(functools.partial(run_fit, folder=shelf), list(fits.values()))
        with contextlib.closing(fitting):
            for fitted in fitting:
                broken |= set() if _account(fitted, shelf / fitted.task.id, tally, progress) else {fitted.task.id}
        for cell in missing:
            if cell.fit.id in broken:
                progress.advance(cell.label, error=f"see {cell.fit.label}")
        replayable = [cell for cell in missing if cell.fit.id not in broken]
        replays = pool.run(functools.partial(run_cell, run=run, fits=shelf), replayable)
        with contextlib.closing(replays):
            for replay in replays:
                tally.computed += _account(replay, run.cell_file(replay.task.id), tally, progress)


def _account(outcome: Outcome[Any, Any], file: Path, tally: Tally, progress: Progress) -> bool:
    """Note what became of a fit or cell, and return whether it is finished, which its file says.

    A full disk ends the run, because nothing more could be kept.
    """
    label, report = outcome.task.label, tally.run.folder / FAILED / f"{outcome.task.id}.txt"
    if not outcome.error and not file.exists():
        hint = f"{file} is not seen here: give a folder that all machines of the cluster share (--out, --fits)"
        outcome = dataclasses.replace(outcome, error=hint)
    progress.advance(label, outcome.error)
    if outcome.disk_full:
        raise StoppedError(f"{outcome.error}; {tally}")
    if outcome.error:
        tally.failed[label] = outcome.error
        with atomic_write(report) as written:
            written.write(f"{label}\n\n{outcome.details}")
    else:
        report.unlink(missing_ok=True)
    return not outcome.error


def _record(suite: Suite, cells: Sequence[Cell], traces: Mapping[str, Trace]) -> dict[str, Any]:
    """Content of ``run.json``."""
    return {
        "suite": suite.to_dict(),
        **describe(),
        "started": _now(),
        "finished": None,
        "failed": {},
        "traces": {
            spec: {
                "slots": len(trace),
                "slot_seconds": trace.slot,
                "from": str(trace.time[0]),
                "digest": trace_digest(trace),
                **dataclasses.asdict(trace.provenance),
            }
            for spec, trace in traces.items()
        },
        "cells": [{"id": cell.id, "fit": cell.fit.id, "keys": _keys(cell, suite.label(cell.agent))} for cell in cells],
    }


def _keys(cell: Cell, agent: str) -> dict[str, Any]:
    scenario = cell.scenario
    return {
        "scenario": scenario.name,
        "agent": agent,
        "seed": cell.fit.seed,
        "sweep": scenario.sweep,
        "severity": scenario.severity,
        "env": scenario.env,
        "train": scenario.train,
        "test": scenario.test,
        "shift": scenario.shift,
    }


def _close(tally: Tally, record: dict[str, Any]) -> None:
    """Write the tables of what is finished."""
    write_json(tally.run.folder / RUN, {**record, "finished": _now(), "failed": tally.failed}, indent=1)
    tally.run.write_tables()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
