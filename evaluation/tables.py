"""The tables of a report: the leading score, sweeps, other scores, comparisons, and what was chosen."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from .results import Run
from .scores import LEADING
from .statistics import combined_half
from .table import Cell, Table, decimals_of, number, pivot, short
from .tables_of_comparisons import comparison_tables


def all_tables(run: Run) -> list[Table]:
    """Every table of a run's report."""
    table = run.summary
    sweeps = [name for name in table["sweep"].unique() if name]
    tables = [_leading(run, table)] if (table["sweep"] == "").any() else []
    tables += [_sweep(run, table, name) for name in sweeps]
    tables += [_measure(run, table, name) for name in run.suite.measures if {name, f"mean_{name}"} & set(table)]
    tables += [*_brought(table), _scores(table)]
    return [*tables, *comparison_tables(run), *_choices(run)]


def _choices(run: Run) -> list[Table]:
    """The settings that were tried for each agent and those that were chosen, where there was a choice."""
    choices = run.info.get("selection", [])
    if not choices:
        return []
    trials = len(choices[0]["scores"])
    title = f"Settings chosen before, on held-out training data and corrupted copies, of {trials} per agent"
    view = Table(title, ["agent", "chosen", "score there", "others"])
    for choice in choices:
        scores = dict(choice["scores"])
        best = scores.pop(choice["chosen"])
        others = ", ".join(number(score) for score in sorted(scores.values()))
        view.rows.append([Cell(choice["agent"]), Cell(choice["chosen"]), Cell(number(best)), Cell(others)])
    return [view]


def _leading(run: Run, table: pd.DataFrame) -> Table:
    """The leading score by agent and scenario, with average and maximum, as in Table I of 3D-Learning."""
    score = run.score
    table = table[table["sweep"] == ""]
    scenarios = list(table["scenario"].unique())
    mean = pivot(table, score, scenarios)
    half = pivot(table, f"{score}_half", scenarios)
    many = len(scenarios) > 1
    if many:
        half["average"] = _average_halves(run.results, table, scenarios, score)
        mean["average"], mean["maximum"] = (
            mean.mean(axis=1, skipna=False),
            mean[scenarios].max(axis=1, skipna=False),
        )
        half["maximum"] = math.nan
    contestants = ~table.groupby("agent", sort=False)["clairvoyant"].first()
    best = mean[contestants].min()
    head = f"{LEADING[score].capitalize()}{_mark(run.synthetic)}"
    view = Table(f"{head}: mean ±95% interval over seeds and time (lower is better)", ["agent", *mean.columns])
    decimals = decimals_of(mean[contestants])
    for agent, row in mean.iterrows():
        ranked = bool(contestants[agent])
        texts = [number(row[c], half.loc[agent, c], decimals) for c in mean.columns]
        bests = [ranked and row[c] == best[c] for c in mean.columns]
        view.rows.append([Cell(str(agent)), *map(Cell, texts, bests)])
    _add_published(run, view, scenarios, many)
    distance = table.groupby("scenario", sort=False)["relative_wasserstein"].mean()
    cells = [Cell(number(distance[scenario]), muted=True) for scenario in scenarios]
    view.rows.append([Cell("distance from training", muted=True), *cells, *[Cell("", muted=True)] * (2 * many)])
    _add_note(view, "Distance: 1-Wasserstein, as a multiple of the mean training outcome.")
    return view


def _measure(run: Run, table: pd.DataFrame, name: str) -> Table:
    """A measure, or another score, by agent and scenario, for suites that ask for it."""
    scenarios = list(table["scenario"].unique())
    heads = {column: head for head, column, _ in _COLUMNS}
    title, column = (
        (heads[name].capitalize(), name)
        if name in heads
        else (f"Mean {name.replace('_', ' ')} per step", f"mean_{name}")
    )
    mean = pivot(table, column, scenarios)
    view = Table(f"{title}{_mark(run.synthetic)}", ["agent", *scenarios])
    decimals = decimals_of(mean)
    for agent, row in mean.iterrows():
        view.rows.append([Cell(str(agent)), *(Cell(number(row[s], decimals=decimals)) for s in scenarios)])
    _add_published(run, view, scenarios, many=False, measure=name)
    return view


def _add_note(view: Table, said: str) -> None:
    view.note = f"{view.note} {said}".strip()


def _add_published(run: Run, view: Table, scenarios: list[str], many: bool, measure: str = "") -> None:
    published = run.suite.published
    if published is None:
        return
    figures = published.measures.get(measure, {}) if measure else published.figures
    rows = {method: [known.get(s, math.nan) for s in scenarios] for method, known in figures.items()}
    rows = {method: values for method, values in rows.items() if not np.isnan(values).all()}
    if not rows:
        return
    for method, values in rows.items():
        extra = [float(np.mean(values)), float(np.max(values))] if many else []
        view.rows.append(
            [
                Cell(f"[published] {method}", muted=True),
                *(Cell(number(v), muted=True) for v in [*values, *extra]),
            ]
        )
    said = f"[published]: {published.source}" + "; its average and maximum are over the scenarios shown here." * many
    _add_note(view, said)


def _average_halves(results: pd.DataFrame, table: pd.DataFrame, scenarios: list[str], score: str) -> pd.Series:
    """Half-widths of averages over scenarios: seeds are paired across them, slots independent."""
    squares = pivot(table, f"{score}_half_time", scenarios).pow(2)
    over_time = squares.sum(axis=1) ** 0.5 / len(scenarios)
    mine = results[results["scenario"].isin(scenarios)]
    by_seed = mine.groupby(["agent", "seed"], sort=False)[score].mean()
    halves = {agent: combined_half(half, by_seed[agent].to_numpy()) for agent, half in over_time.items()}
    return pd.Series(halves)


def sweep_axis(table: pd.DataFrame) -> str:
    """What the points of a sweep differ in: the severity of their shift, or what the sweep is called after."""
    return "severity" if table["shift"].nunique() > 1 else str(table["sweep"].iloc[0])


def _sweep(run: Run, table: pd.DataFrame, sweep: str) -> Table:
    """The leading score by agent and place on the sweep."""
    score, table = run.score, table[table["sweep"] == sweep]
    mean = table.pivot_table(index="agent", columns="severity", values=score, sort=False)
    half = table.pivot_table(index="agent", columns="severity", values=f"{score}_half", sort=False)
    contestants = ~table.groupby("agent", sort=False)["clairvoyant"].first()
    best, decimals, axis = mean[contestants].min(), decimals_of(mean[contestants]), sweep_axis(table)
    head = f"{LEADING[score].capitalize()} against {axis}{f': {sweep}' if axis != sweep else ''}"
    view = Table(head, ["agent", *(f"{axis} {c:g}" for c in mean.columns)])
    for agent, row in mean.iterrows():
        cells = [Cell(number(row[c], half.loc[agent, c], decimals), best=row[c] == best[c]) for c in mean.columns]
        view.rows.append([Cell(str(agent)), *cells])
    if axis == "severity":
        view.note = "Severity 0 is the test trace as it is, 1 the shift as given."
    places = table.groupby("severity", sort=False)["scenario"].first()
    _add_published(run, view, [str(places[c]) for c in mean.columns], many=False)
    return view


#: Head, column of the summary, factor.
_COLUMNS = (
    ("violated steps %", "violation_rate", 100.0),
    ("Sharpe ratio", "sharpe_ratio", 1.0),
    ("CVaR95 of cost", "cvar95", 1.0),
    ("RMSE", "rmse", 1.0),
    ("CRPS", "crps", 1.0),
    ("90% covered %", "coverage90", 100.0),
    ("decision p50 ms", "latency_p50_ms", 1.0),
    ("p99 ms", "latency_p99_ms", 1.0),
    ("fit s", "fit_seconds", 1.0),
    ("fit MB", "fit_memory_mb", 1.0),
)


def _brought(table: pd.DataFrame) -> list[Table]:
    """What the problem measures of a step besides its cost, averaged; some problems measure nothing."""
    measures = [c for c in table.columns if c.startswith("mean_")]
    columns = [(c.removeprefix("mean_").replace("_", " "), c, 1.0) for c in measures]
    view = _averages(table, "What a step brought, averaged over all scenarios and seeds", columns)
    return [view] if len(view.columns) > 1 else []


def _scores(table: pd.DataFrame) -> Table:
    """Tabulate the other scores, averaged over scenarios; constraints that no agent broke are named below."""
    families = [c for c in table.columns if c.startswith("violation_rate_") and "_half" not in c]
    broken = [c for c in families if table[c].any()]
    columns = [
        _COLUMNS[0],
        *((f"{c.removeprefix('violation_rate_')} %", c, 100.0) for c in broken),
        *_COLUMNS[1:],
    ]
    view = _averages(table, "Other scores, averaged over all scenarios and seeds", columns)
    kept = [c.removeprefix("violation_rate_") for c in families if c not in broken]
    view.note = f"Never broken: {', '.join(kept)}." if kept else ""
    return view


def _averages(table: pd.DataFrame, title: str, columns: list[tuple[str, str, float]]) -> Table:
    """A row per agent of the means of columns, given as head, name and factor; those without numbers are left out."""
    mean = table.groupby("agent", sort=False).mean(numeric_only=True)
    columns = [column for column in columns if column[1] in mean and mean[column[1]].notna().any()]
    view = Table(title, ["agent", *(head for head, _, _ in columns)])
    for agent, row in mean.iterrows():
        view.rows.append([Cell(str(agent)), *(Cell(short(row[name] * factor)) for _, name, factor in columns)])
    return view


def _mark(synthetic: bool) -> str:
    return " (synthetic traces)" if synthetic else ""
