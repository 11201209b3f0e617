"""What was run and on what: the part of a report by which its figures can be had again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..data.spec import parse_spec
from .results import Run
from .runs import Runs


@dataclass(frozen=True)
class Provenance:
    """What a reader must know of one run.

    Attributes
    ----------
    label : str
        What the run is called among others; empty where it is alone.
    run : Run
        The run.
    """

    label: str
    run: Run

    @property
    def name(self) -> str:
        """Name of the suite, with the label where there are several runs."""
        return f"{self.run.suite.name} [{self.label}]" if self.label else self.run.suite.name

    @property
    def info(self) -> dict[str, Any]:
        """Content of ``run.json``: command, versions, machine, traces."""
        return self.run.info

    @property
    def remarks(self) -> list[str]:
        """What a reader must know before believing a table."""
        run = self.run
        remarks = [run.suite.remark] if run.suite.remark else []
        if len(run.cells) < len(run.info["cells"]):
            remarks.append(f"Only {len(run.cells)} of {len(run.info['cells'])} cells are finished.")
        remarks += [f"Failed: {label}: {error}" for label, error in run.info["failed"].items()]
        names = sorted({parse_spec(spec).name for spec, trace in run.info["traces"].items() if trace["synthetic"]})
        if names:
            remarks.append(f"Synthetic traces, generated and not measured: {', '.join(names)}.")
        return remarks

    @property
    def scenarios(self) -> list[dict[str, str]]:
        """What each scenario replays, in words."""
        return [
            {
                "name": s.name,
                "env": s.env,
                "train": s.train,
                "test": s.test,
                "shift": s.shift or "none",
                "settings": ", ".join(f"{k}={v!r}" for k, v in {**s.env_kwargs, **s.fit, **s.act}.items()),
            }
            for s in self.run.suite.scenarios
        ]


def provenance_of(run: Run | Runs) -> list[Provenance]:
    """Return the part of each run."""
    if isinstance(run, Run):
        return [Provenance("", run)]
    return [Provenance(name, one) for name, one in run.runs.items()]
