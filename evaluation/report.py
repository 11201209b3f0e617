"""The report of a run: on the terminal, as ``report.md``, and as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from ..data.errors import ShiftgymError
from ..data.files import atomic_write
from ..data.spec import parse_spec
from .plots import draw_plots
from .promises import promises
from .results import Run
from .table import Table
from .tables import all_tables
from .verdicts import Verdict, verdicts

_ALT = {
    "regret": "The leading score by scenario and agent",
    "severity": "The leading score against the severity of a shift, or what else a sweep varies",
    "cost_violation": "Mean cost against the share of steps with a violation",
    "distribution": "Quantiles of the regret of single steps",
    "learning": "Decision cost on held-out training data against the epoch",
    "adversary": "What an agent was trained against: the rounds of its adversary, paths of the worst case",
    "effort": "The leading score against the time and the memory of a fit",
    "replay": "A stretch of a replay: outcome, decision and oracle",
    "day": "A day of data centers: use and supply of power, batteries, prices and carbon",
}


def report(run: Run, console: Console) -> Path:
    """Print the tables, draw the pictures and write ``report.md``; return its path.

    Raises
    ------
    ShiftgymError
        If the run has no finished cell.
    """
    if not run.cells:
        failed = "".join(f"; {label}: {error}" for label, error in run.info["failed"].items())
        raise ShiftgymError(f"run {str(run.folder)!r} has no finished cell to report{failed}")
    tables = [*all_tables(run), *promises(run)]
    for table in tables:
        console.print(table.rich())
    said = verdicts(run)
    for line in _verdict_lines(said):
        console.print(line, markup=False, highlight=False)
    for line in _remarks(run):
        console.print(line, style="yellow", markup=False, highlight=False)
    pictures = draw_plots(run)
    target = run.folder / "report.md"
    with atomic_write(target) as file:
        file.write(_markdown(run, tables, said, pictures))
    return target


def _remarks(run: Run) -> list[str]:
    """Return what a reader must know before believing a table."""
    remarks = [run.suite.remark] if run.suite.remark else []
    if len(run.cells) < len(run.info["cells"]):
        remarks.append(f"Only {len(run.cells)} of {len(run.info['cells'])} cells are finished.")
    remarks += [f"Failed: {label}: {error}" for label, error in run.info["failed"].items()]
    names = sorted({parse_spec(spec).name for spec, trace in run.info["traces"].items() if trace["synthetic"]})
    if names:
        remarks.append(f"Synthetic traces, generated and not measured: {', '.join(names)}.")
    return remarks


def _verdict_lines(said: list[Verdict]) -> list[str]:
    """Return a line per scenario, and how it was come by."""
    if not said:
        return []
    how = (
        f"Beyond chance: below 5% after Holm's correction for all {said[0].count} pairs of agents and scenarios, on "
        "the same seeds and steps (moving-block bootstrap over time, Student's t over seeds)."
    )
    return [*(verdict.line for verdict in said), how]


def _markdown(run: Run, tables: list[Table], said: list[Verdict], pictures: list[Path]) -> str:
    suite = run.suite
    parts = [f"# {suite.name}", suite.title, *(f"> {line}" for line in _remarks(run))]
    parts += [table.markdown() for table in tables]
    if said:
        *lines, how = _verdict_lines(said)
        parts.append("\n".join(["### Verdicts", "", *(f"- {line}" for line in lines), "", how]))
    parts += [
        f"![{_ALT[path.stem]}]({path.relative_to(run.folder).with_suffix('.svg').as_posix()})" for path in pictures
    ]
    return "\n\n".join(part for part in [*parts, _scenarios(run), _provenance(run.info)] if part) + "\n"


def _scenarios(run: Run) -> str:
    heads = ["scenario", "trained on", "replayed", "shift"]
    rows = [[s.name, f"`{s.train}`", f"`{s.test}`", f"`{s.shift}`" if s.shift else "none"] for s in run.suite.scenarios]
    settings = [{**s.env_kwargs, **s.fit, **s.act} for s in run.suite.scenarios]
    if any(settings):
        heads.append("settings")
        for row, chosen in zip(rows, settings, strict=True):
            row.append(", ".join(f"`{name}={value!r}`" for name, value in chosen.items()))
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    table = "\n".join(f"| {line} |" for line in (" | ".join(heads), " | ".join(["---"] * len(heads)), *lines))
    agents = ", ".join(f"`{agent}`" for agent in run.suite.agents)
    seeds = ", ".join(map(str, run.suite.seeds))
    return f"### Scenarios\n\n{table}\n\nAgents: {agents}. Seeds: {seeds}."


def _provenance(info: dict[str, Any]) -> str:
    machine, versions = info["machine"], info["versions"]
    lines = [
        "### What was run",
        "",
        f"- Command: `{info['command']}`, {info['started']} to {info['finished'] or '(unfinished)'}",
        f"- Machine: {machine['cpu']}, {machine['usable_cores']} cores, {machine['memory_gb']} GB, {machine['system']}",
        f"- Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}",
    ]
    for spec, trace in info["traces"].items():
        kind = "synthetic" if trace["synthetic"] else "measured"
        terms = "; ".join(part for part in (trace["licence"], trace["citation"], trace["url"]) if part)
        lines.append(f"- Trace `{spec}` ({kind}, {trace['slots']} slots of {trace['slot_seconds']:g} s): {terms}")
    return "\n".join(lines)
