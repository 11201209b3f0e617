"""The report of a run: on the terminal, as ``report.md`` with pictures, and as one page, ``report.html``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from ..data.errors import ShiftgymError
from ..data.files import atomic_write
from .html_report import write_html
from .plots import draw_plots
from .promises import promises
from .provenance import Provenance, provenance_of
from .results import Run
from .runs import Runs
from .table import Table
from .tables import all_tables
from .tables_of_comparisons import comparison_tables, difference_table
from .verdicts import Verdict, difference_lines, differences, explanation, verdicts

_ALT = {
    "regret": "The leading score by scenario and agent",
    "severity": "The leading score against the severity of a shift, or what else a sweep varies",
    "cost_violation": "Mean cost against the share of steps with a violation",
    "distribution": "Quantiles of the regret of single steps",
    "learning": "The objective of decisions on held-out training data against the epoch",
    "adversary": "What an agent was trained against: the rounds of its adversary, paths of the worst case",
    "effort": "The leading score against the time and the memory of a fit",
    "replay": "A stretch of a replay: outcome, decision and oracle",
    "day": "A day of data centers: use and supply of power, batteries, prices and carbon",
}


def report(run: Run, console: Console) -> Path:
    """Print the tables, draw the pictures and write ``report.md`` and ``report.html``; return the path of the former.

    Raises
    ------
    ShiftgymError
        If the run has no finished cell.
    """
    _check(run)
    tables, said = [*all_tables(run), *promises(run)], verdicts(run)
    how = _print(console, tables, said)
    for line in Provenance("", run).remarks:
        console.print(line, style="yellow", markup=False, highlight=False)
    pictures = draw_plots(run)
    target = run.folder / "report.md"
    with atomic_write(target) as file:
        file.write(_markdown(run, tables, said, how, pictures))
    write_html(run, target.with_suffix(".html"), tables, said)
    return target


def report_side_by_side(runs: Runs, console: Console, target: Path) -> Path:
    """Print what differs between runs and write a page that shows them side by side; return its path.

    Raises
    ------
    ShiftgymError
        If one of the runs has no finished cell.
    """
    for run in runs.runs.values():
        _check(run)
    found, said = differences(runs), verdicts(runs)
    tables, lines = [difference_table(runs, found)], difference_lines(found)
    console.print(tables[0].rich())
    for line in lines:
        console.print(line, markup=False, highlight=False)
    for part in provenance_of(runs):
        for line in part.remarks:
            console.print(f"{part.label}: {line}", style="yellow", markup=False, highlight=False)
    return write_html(runs, target, [*tables, *comparison_tables(runs)], said, lines)


def _check(run: Run) -> None:
    if not run.cells:
        failed = "".join(f"; {label}: {error}" for label, error in run.info["failed"].items())
        raise ShiftgymError(f"run {str(run.folder)!r} has no finished cell to report{failed}")


def _print(console: Console, tables: list[Table], said: list[Verdict]) -> str:
    """Print tables and verdicts; return how the verdicts were come by."""
    for table in tables:
        console.print(table.rich())
    how = explanation(said)
    for line in [*(verdict.line for verdict in said), how]:
        console.print(line, markup=False, highlight=False)
    return how


def _markdown(run: Run, tables: list[Table], said: list[Verdict], how: str, pictures: list[Path]) -> str:
    suite, part = run.suite, Provenance("", run)
    parts = [f"# {suite.name}", suite.title, *(f"> {line}" for line in part.remarks)]
    parts += [table.markdown() for table in tables]
    if said:
        parts.append("\n".join(["### Verdicts", "", *(f"- {verdict.line}" for verdict in said), "", how]))
    parts += [
        f"![{_ALT[path.stem]}]({path.relative_to(run.folder).with_suffix('.svg').as_posix()})" for path in pictures
    ]
    return "\n\n".join(part for part in [*parts, _scenarios(part), _provenance(run.info)] if part) + "\n"


def _scenarios(part: Provenance) -> str:
    heads = {"name": "scenario", "train": "trained on", "test": "replayed", "shift": "shift", "settings": "settings"}
    if not any(scenario["settings"] for scenario in part.scenarios):
        del heads["settings"]
    coded = [{key: f"`{text}`" if text else "" for key, text in scenario.items()} for scenario in part.scenarios]
    rows = [
        [s["name"], *(c[key] for key in heads if key != "name")] for s, c in zip(part.scenarios, coded, strict=True)
    ]
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    table = "\n".join(f"| {line} |" for line in (" | ".join(heads.values()), " | ".join(["---"] * len(heads)), *lines))
    agents = ", ".join(f"`{agent}`" for agent in part.run.suite.agents)
    seeds = ", ".join(map(str, part.run.suite.seeds))
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
