"""What a worker does: fit an agent, or replay a fitted one and write down its scores."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet
from safetensors.numpy import save

from ..agents import load_agent
from ..agents.threads import single_thread
from ..data.files import atomic_write, explain_full_disk
from .cells import Cell, Fit
from .effort import measure
from .results import CELLS, Run, read_json, write_json
from .rollout import TestBench, make_training_env, rollout

EFFORT_FILE, HISTORY_FILE, EXHIBITS_FILE = "effort.json", "history.json", "exhibits.safetensors"


def run_fit(fit: Fit, folder: Path) -> dict[str, Any]:
    """Fit an agent and save it as ``folder/ID``, complete or not at all.

    Returns
    -------
    dict
        ``fit_seconds`` and ``fit_memory_mb``, which are saved beside the agent, as are its learning curve and what it
        has to show.
    """
    agent = fit.agent.make(fit.seed)
    env = make_training_env(*fit.home)
    with single_thread(), measure() as effort:
        agent.fit(env, progress=False, device=fit.device)
    env.close()
    cost = {"fit_seconds": effort.seconds, "fit_memory_mb": effort.memory_mb}
    target = folder / fit.id
    with explain_full_disk(target):
        folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{fit.id}.", dir=folder))
        try:
            agent.save(draft)
            write_json(draft / EFFORT_FILE, cost)
            write_json(draft / HISTORY_FILE, {"epochs": [epoch._asdict() for epoch in agent.history_]})
            if agent.exhibits_:
                shown = {name: np.ascontiguousarray(array) for name, array in agent.exhibits_.items()}
                (draft / EXHIBITS_FILE).write_bytes(save(shown))
            if not target.exists():
                draft.replace(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return cost


def run_cell(cell: Cell, run: Run, fits: Path) -> dict[str, Any]:
    """Replay a fitted agent and write the cell's steps, then its scores: these make it a finished cell.

    Returns
    -------
    dict
        The scores.
    """
    spec = cell.fit.agent.having(cell.scenario.act)  # registers a class of the user's own, which load_agent then finds
    agent = load_agent(fits / cell.fit.id, **spec.kwargs)
    bench = TestBench.make(cell.scenario, cell.fit.seed, agent)
    began = time.perf_counter()
    with single_thread():
        replay = rollout(agent, bench)
    seconds = time.perf_counter() - began
    task, moved = bench.env.task, bench.shift_report
    scores = {
        **replay.scores(),
        **read_json(fits / cell.fit.id / EFFORT_FILE),
        "replay_seconds": seconds,
        "wasserstein": moved.wasserstein,
        "relative_wasserstein": moved.relative_wasserstein,
    }
    about = {
        "clairvoyant": bool(agent.clairvoyant),
        "promise": agent.promise_,
        "certified": agent.certified_,
        "synthetic": task.trace.synthetic or task.reference.synthetic,
        "outcome": task.trace.outcome_names,
        "families": task.problem.families,
        "units": task.problem.units,
        "measures": task.problem.measures,
        "axes": task.axes,
        "history": task.trace.provenance.history,
        "slot_seconds": task.trace.slot,
    }
    bench.env.close()
    with atomic_write(run.folder / CELLS / f"{cell.id}.parquet", "wb") as file:
        parquet.write_table(pyarrow.table(replay.columns()), file, compression="zstd")
    # kept here too: a run may borrow its fits
    history, exhibits = read_json(fits / cell.fit.id / HISTORY_FILE)["epochs"], fits / cell.fit.id / EXHIBITS_FILE
    if exhibits.is_file():
        with atomic_write(run.exhibits_file(cell.fit.id), "wb") as file:
            file.write(exhibits.read_bytes())
    write_json(run.cell_file(cell.id), {"scores": scores, "about": about, "history": history})
    return scores
