"""Several runs read as one, so that what compares the agents of a run compares those of different runs as well."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from .results import Run, contestants
from .scenario import Scenario


class Runs:
    """Runs side by side: each agent is called after its run as well, scenarios are one where they replay the same.

    It has what :class:`Run` has for reading results, so tables, verdicts and pages take either.

    Parameters
    ----------
    runs : sequence of Run
        Two or more; they are called after their folders.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        names = _unique([run.folder.resolve().name for run in runs])
        self.runs = dict(zip(names, runs, strict=True))
        #: Agents by what they are called here: the name of their run, and their own.
        self.origin = {
            f"{agent} [{name}]": (name, str(agent))
            for name, run in self.runs.items()
            for agent in run.results["agent"].unique()
        }

    @property
    def score(self) -> str:
        """The score that leads: that of all runs, or the regret where they differ."""
        scores = {run.score for run in self.runs.values()}
        return scores.pop() if len(scores) == 1 else "regret"

    @property
    def synthetic(self) -> bool:
        """Whether any trace of any run was generated rather than measured."""
        return any(run.synthetic for run in self.runs.values())

    @functools.cached_property
    def results(self) -> pd.DataFrame:
        """Tidy table with one row per finished cell."""
        return self._concatenated("results")

    @functools.cached_property
    def summary(self) -> pd.DataFrame:
        """One row per scenario and agent."""
        return self._concatenated("summary")

    @property
    def contestants(self) -> pd.DataFrame:
        """The rows of :attr:`summary` that are compared, as in :attr:`Run.contestants`."""
        return contestants(self.summary, self.score)

    def seeds(self, scenario: str, agent: str) -> list[int]:
        """Return the seeds of which the cell is finished."""
        run, theirs = self._of(scenario, agent)
        return run.seeds(*theirs)

    def core(self, scenario: str, agent: str, seed: int) -> Any:
        """Return the columns of a cell's steps that comparisons need."""
        run, theirs = self._of(scenario, agent)
        return run.core(*theirs, seed)

    def steps(self, scenario: str, agent: str, seed: int, columns: list[str] | None = None) -> pd.DataFrame:
        """Read the steps of a finished cell."""
        run, theirs = self._of(scenario, agent)
        return run.steps(*theirs, seed, columns)

    def find(self, scenario: str, agent: str, seed: int) -> dict[str, Any]:
        """Return a finished cell by what it is."""
        run, theirs = self._of(scenario, agent)
        return run.find(*theirs, seed)

    def same_steps(self, scenario: str) -> bool:
        """Whether all seeds replay the same trace."""
        return all(
            run.same_steps(theirs)
            for name, run in self.runs.items()
            for theirs, ours in self._scenarios[name].items()
            if ours == scenario
        )

    def _of(self, scenario: str, agent: str) -> tuple[Run, tuple[str, str]]:
        """The run of an agent, and what it calls scenario and agent."""
        name, theirs = self.origin[agent]
        called = {ours: own for own, ours in self._scenarios[name].items()}
        return self.runs[name], (called.get(scenario, scenario), theirs)

    @functools.cached_property
    def _scenarios(self) -> dict[str, dict[str, str]]:
        """What the scenarios of each run are called here: after the run too where they replay different things."""
        replayed: dict[str, set[Any]] = {}
        for run in self.runs.values():
            for scenario in run.suite.scenarios:
                replayed.setdefault(scenario.name, set()).add(_replayed(scenario))
        return {
            name: {s.name: s.name if len(replayed[s.name]) == 1 else f"{s.name} [{name}]" for s in run.suite.scenarios}
            for name, run in self.runs.items()
        }

    def _concatenated(self, table: str) -> pd.DataFrame:
        parts = []
        for name, run in self.runs.items():
            part = getattr(run, table)
            part = part.assign(agent=part["agent"] + f" [{name}]", scenario=part["scenario"].map(self._scenarios[name]))
            parts.append(part.dropna(axis=1, how="all"))
        return pd.concat(parts, ignore_index=True)


def _replayed(scenario: Scenario) -> str:
    """Everything that two agents must share to be compared step by step."""
    return repr((scenario.env, scenario.test, scenario.shift, sorted(scenario.env_kwargs.items())))


def _unique(names: Iterable[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        again = sum(other.split(" (")[0] == name for other in found)
        found.append(f"{name} ({again + 1})" if again else name)
    return found
