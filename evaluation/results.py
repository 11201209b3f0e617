"""The results of a run on disk: one folder, readable at any moment, finished or not."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

from ..data.errors import ShiftgymError
from ..data.files import atomic_write
from .scenario import Suite
from .statistics import seed_half

if TYPE_CHECKING:
    import pandas as pd

# pandas and pyarrow are imported where tables are read or written: they take as long as all the rest of a command.

RUN, CELLS, FITS, EXHIBITS, FAILED = "run.json", "cells", "fits", "exhibits", "failed"

#: What says which cell a row is; everything else in a row is a score.
KEYS = (
    "scenario",
    "agent",
    "seed",
    "sweep",
    "severity",
    "env",
    "train",
    "test",
    "shift",
    "synthetic",
    "clairvoyant",
)
#: The columns of the steps that every comparison needs.
CORE = ("cost", "regret", "violation")
#: An oracle that costs less than this share of what the agents cost has no cost to relate a regret to.
NEXT_TO_NOTHING = 1e-3
#: Scores that depend on the machine and its load.
EFFORT = ("fit_seconds", "fit_memory_mb", "replay_seconds", "latency_p50_ms", "latency_p99_ms")


@dataclass(frozen=True)
class Run:
    """A run's folder.

    ======================  =======================================================================
    ``run.json``            suite, versions, machine, command, traces, cells, what failed
    ``cells/ID.json``       scores of a finished cell, what its columns mean, learning curve of its agent
    ``cells/ID.parquet``    its steps
    ``fits/ID/``            fitted agents, shared by cells
    ``exhibits/``           of fits that have something to show: arrays by name
    ``failed/ID.txt``       tracebacks
    ``results.parquet``     one row per scenario, agent and seed; the same as ``results.csv``
    ``summary.csv``         one row per scenario and agent, with intervals over seeds and time
    ======================  =======================================================================
    """

    folder: Path

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open an existing run.

        Raises
        ------
        ShiftgymError
            If the folder holds none.
        """
        run = cls(Path(folder))
        if not (run.folder / RUN).is_file():
            raise ShiftgymError(f"{str(folder)!r} is no run: it has no {RUN}; give the folder that `run` wrote")
        return run

    @functools.cached_property
    def info(self) -> dict[str, Any]:
        """Content of ``run.json``."""
        return read_json(self.folder / RUN)

    @functools.cached_property
    def suite(self) -> Suite:
        """The suite that was run."""
        try:
            return Suite.from_dict(self.info["suite"])
        except (KeyError, TypeError) as error:
            version = self.info.get("versions", {}).get("shiftgym", "unknown")
            raise ShiftgymError(
                f"{self.folder / RUN} has another form than this version reads ({error}): report it with the version "
                f"that wrote it, shiftgym {version}, or run again"
            ) from error

    @property
    def score(self) -> str:
        """The score that leads the report, one of :data:`~shiftgym.evaluation.scores.LEADING`.

        That of the suite; without one, normalised regret, unless the oracle costs next to nothing somewhere, so that
        there is nothing to relate the regret to: then the regret itself.
        """
        if self.suite.score:
            return self.suite.score
        table = self.results[~self.results["clairvoyant"].astype(bool)]
        cost = table.groupby("scenario")[["cost", "oracle_cost"]].mean().abs()
        return "regret" if (cost["oracle_cost"] < NEXT_TO_NOTHING * cost["cost"]).any() else "normalised_regret"

    @property
    def synthetic(self) -> bool:
        """Whether any trace of the run was generated rather than measured."""
        return any(trace["synthetic"] for trace in self.info["traces"].values())

    def cell_file(self, cell: str) -> Path:
        """Path of the scores of a cell, which exist once it is finished."""
        return self.folder / CELLS / f"{cell}.json"

    def exhibits_file(self, fit: str) -> Path:
        """Path of what a fit has to show, if it has."""
        return self.folder / EXHIBITS / f"{fit}.safetensors"

    def exhibits(self, fit: str) -> dict[str, np.ndarray[Any, Any]]:
        """Return what a fit has to show, see :attr:`~shiftgym.agents.base.Agent.exhibits_`."""
        path = self.exhibits_file(fit)
        return load_file(path) if path.is_file() else {}

    @functools.cached_property
    def cells(self) -> list[dict[str, Any]]:
        """Finished cells in the order of the suite: ``id``, ``fit``, ``keys``, ``scores``, ``about``, ``history``."""
        finished = (cell for cell in self.info["cells"] if self.cell_file(cell["id"]).is_file())
        return [{**cell, **read_json(self.cell_file(cell["id"]))} for cell in finished]

    @functools.cached_property
    def results(self) -> pd.DataFrame:
        """Tidy table with one row per finished cell."""
        import pandas as pd

        rows = [
            {
                **cell["keys"],
                **{key: cell["about"][key] for key in ("synthetic", "clairvoyant")},
                **cell["scores"],
            }
            for cell in self.cells
        ]
        table = pd.DataFrame(rows, columns=list(dict.fromkeys((*KEYS, *(key for row in rows for key in row)))))
        numbers = [column for column in table.columns if column not in KEYS or column == "severity"]
        return table.astype(dict.fromkeys(numbers, np.float64))

    @functools.cached_property
    def summary(self) -> pd.DataFrame:
        """One row per scenario and agent, see :func:`summary`."""
        return summary(self.results)

    @property
    def contestants(self) -> pd.DataFrame:
        """The rows of :attr:`summary` that are compared: no clairvoyants, and with a leading score."""
        return contestants(self.summary, self.score)

    def steps(self, scenario: str, agent: str, seed: int, columns: list[str] | None = None) -> pd.DataFrame:
        """Read the steps of a finished cell.

        Raises
        ------
        ShiftgymError
            If there is no such cell, or it is not finished.
        """
        import pyarrow.parquet as pq

        path = self.cell_file(self.find(scenario, agent, seed)["id"])
        steps = path.with_suffix(".parquet")
        try:
            return pq.ParquetFile(steps).read(columns).to_pandas()
        except (OSError, ValueError) as error:  # pyarrow's errors are both
            raise ShiftgymError(f"{steps} is missing or damaged ({error}): delete {path.name} and run again") from error

    def core(self, scenario: str, agent: str, seed: int) -> Mapping[str, np.ndarray[Any, Any]]:
        """Return the :data:`CORE` columns of a cell's steps, which are read once."""
        cell = self.find(scenario, agent, seed)["id"]
        if cell not in self._cores:
            steps = self.steps(scenario, agent, seed, list(CORE))
            self._cores[cell] = {name: steps[name].to_numpy() for name in CORE}
        return self._cores[cell]

    def find(self, scenario: str, agent: str, seed: int) -> dict[str, Any]:
        """Return a finished cell by what it is."""
        if (scenario, agent, seed) not in self._by_key:
            raise ShiftgymError(f"run {str(self.folder)!r} has no finished cell of {agent} in {scenario}, seed {seed}")
        return self._by_key[scenario, agent, seed]

    def seeds(self, scenario: str, agent: str) -> list[int]:
        """Return the seeds of which the cell is finished."""
        return [seed for seed in self.suite.seeds if (scenario, agent, seed) in self._by_key]

    def same_steps(self, scenario: str) -> bool:
        """Whether all seeds replay the same trace, so that the luck of its steps does not average out over them."""
        return len({cell["keys"]["test"] for key, cell in self._by_key.items() if key[0] == scenario}) == 1

    @functools.cached_property
    def _by_key(self) -> dict[tuple[str, str, int], dict[str, Any]]:
        """Finished cells by scenario, agent and seed."""
        return {(c["keys"]["scenario"], c["keys"]["agent"], c["keys"]["seed"]): c for c in self.cells}

    @functools.cached_property
    def _cores(self) -> dict[str, Mapping[str, np.ndarray[Any, Any]]]:
        """What :meth:`core` has read, by id of the cell."""
        return {}

    def write_tables(self) -> None:
        """Write the combined tables of what is finished, read anew."""
        fresh = Run(self.folder)
        with atomic_write(self.folder / "results.parquet", "wb") as file:
            fresh.results.to_parquet(file, index=False)
        for name, table in (("results.csv", fresh.results), ("summary.csv", fresh.summary)):
            with atomic_write(self.folder / name) as file:
                table.to_csv(file, index=False)


def contestants(table: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the rows of a summary that are compared: no clairvoyants, and with that score."""
    return table[~table["clairvoyant"].astype(bool) & np.isfinite(table[score])]


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Return one row per scenario and agent: means over seeds, with half-widths of 95% intervals.

    ``X_half_seeds`` is Student's t over seeds, ``X_half_time`` the moving-block bootstrap over time averaged
    over seeds, ``X_half`` both together, for X in cost, regret, normalised_regret and
    violation_rate. Where every seed replays data of its own, the luck of the steps is in the spread over seeds
    already, so ``X_half_time`` is NaN and ``X_half`` that over seeds.
    """
    import pandas as pd

    groups = ["scenario", "agent"]
    same = [key for key in KEYS if key not in (*groups, "seed")]
    scores = [c for c in results.columns if c not in KEYS and not c.endswith(("_low", "_high"))]
    grouped = results.groupby(groups, sort=False)
    table = grouped[same].first().join(grouped.size().rename("seeds")).join(grouped[scores].mean())
    for trace in ("train", "test"):
        table[trace] = grouped[trace].agg(lambda specs: ", ".join(dict.fromkeys(specs)))
    same_steps = grouped["test"].nunique() == 1
    for score in (c.removesuffix("_low") for c in results.columns if c.endswith("_low")):
        time_half = (results[f"{score}_high"] - results[f"{score}_low"]) / 2
        over_time = time_half.groupby([results[g] for g in groups], sort=False).mean()
        over_seeds = pd.Series(seed_half(grouped[score].std(), grouped[score].count()), table.index).fillna(0.0)
        table[f"{score}_half_time"] = over_time = over_time.where(same_steps)
        table[f"{score}_half_seeds"], table[f"{score}_half"] = over_seeds, np.hypot(over_time.fillna(0.0), over_seeds)
    return table.reset_index()


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = None) -> None:
    """Write strict JSON: NaN and infinity, which JSON has no word for, become null.

    An indent is for people, and costs: the encoder in C has none.
    """
    text = json.dumps(_strict(content), indent=indent, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    ShiftgymError
        If the file is damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ShiftgymError(f"{path} is damaged ({error}): delete it and run again") from error


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
