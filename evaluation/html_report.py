"""The report as one HTML file that needs nothing else: no network, no server, light and dark, any width."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import bokeh
import numpy as np
from bokeh.embed import json_item
from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..data.files import atomic_write
from .html_figures import (
    Look,
    cost_violation_figure,
    distribution_figure,
    looks_of,
    profile_figure,
    replay_figures,
    scenario_figure,
    severity_figures,
)
from .html_replay import replays
from .provenance import provenance_of
from .results import Run
from .runs import Runs
from .scores import LEADING
from .table import NOTHING, Table, decimals_of, number, pivot
from .verdicts import Verdict, explanation

TEMPLATES = "templates"
#: Bokeh's markers as paths in a square of 12.
_MARKER_PATHS = {
    "circle": "M2 6a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "square": "M2 2h8v8h-8z",
    "triangle": "M6 1.5L11 10H1z",
    "diamond": "M6 .5L10.5 6L6 11.5L1.5 6z",
    "inverted_triangle": "M6 10.5L1 2h10z",
    "hex": "M6 .5L11 3.3v5.4L6 11.5L1 8.7V3.3z",
    "square_pin": "M1.5 1.5Q6 4 10.5 1.5Q8 6 10.5 10.5Q6 8 1.5 10.5Q4 6 1.5 1.5z",
    "triangle_pin": "M6 .5Q7 7 11.5 10Q6 8.5 .5 10Q5 7 6 .5z",
    "plus": "M5 1h2v4h4v2H7v4H5V7H1V5h4z",
    "star": "M6 .5L7.5 4.3L11.5 4.5L8.4 7L9.5 11L6 8.7L2.5 11L3.6 7L.5 4.5L4.5 4.3z",
}


def write_html(
    run: Run | Runs, target: Path, tables: list[Table], said: list[Verdict], differences: Sequence[str] = ()
) -> Path:
    """Write the page of a run, or of several side by side.

    Parameters
    ----------
    run : Run or Runs
        What is shown.
    target : path
        The file.
    tables : list of Table
        Shown below the figures, as they are in the other reports.
    said : list of Verdict
        The verdicts.
    differences : sequence of str
        What is to be said of the difference between runs.
    """
    looks = looks_of(run)
    figures = _figures(run, looks)
    replayed = replays(run)
    data = {
        "figures": {name: json_item(plot, name) for name, plot in figures.items()},
        "looks": {agent: look._asdict() for agent, look in looks.items()},
        "replays": replayed,
    }
    parts = provenance_of(run)
    environment = Environment(
        loader=PackageLoader(__package__, TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    scripts = [bokeh_script(), _template("report.js")]
    page = environment.get_template("report.html").render(
        title=" and ".join(part.name for part in parts),
        parts=parts,
        synthetic=run.synthetic,
        verdicts=said,
        how=explanation(said),
        differences=differences,
        score=LEADING[run.score],
        board=leaderboard(run, looks, said),
        looks=looks,
        markers=_MARKER_PATHS,
        figures=list(figures),
        sweeps=list(dict.fromkeys(run.contestants.query("sweep != ''")["sweep"])),
        bokeh=bokeh.__version__,
        scenarios=list(run.summary["scenario"].unique()),
        replayed=replayed,
        tables=tables,
        style=Markup(_template("report.css")),
        scripts=[Markup(script) for script in scripts],
        policy=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        data=Markup(_embedded(data)),
    )
    with atomic_write(target) as file:
        file.write(page)
    return target


def _figures(run: Run | Runs, looks: dict[str, Look]) -> dict[str, Any]:
    """The figures by the id of their place in the page."""
    replay, regret = replay_figures()
    found = {
        "scenario-figure": scenario_figure(run, looks),
        **{f"severity-figure-{i}": plot for i, plot in enumerate(severity_figures(run, looks).values())},
        "profile-figure": profile_figure(run, looks),
        "cost-figure": cost_violation_figure(run, looks),
        "distribution-figure": distribution_figure(run, looks),
        "replay-figure": replay,
        "regret-figure": regret,
    }
    return {name: plot for name, plot in found.items() if plot is not None}


def leaderboard(run: Run | Runs, looks: dict[str, Look], said: list[Verdict]) -> dict[str, Any]:
    """Heads and rows of the leaderboard: average, worst scenario, violations, time, then scenario by scenario.

    Sweeps stay out of the average unless there is nothing else. A row is a list of cells: text, number to sort by, and
    whether it is the best of its column or within the noise of it.
    """
    table, score = run.summary, run.score
    plain = table[table["sweep"] == ""]
    plain = table if plain.empty else plain
    scenarios = list(plain["scenario"].unique())
    mean, half = pivot(plain, score, scenarios), pivot(plain, f"{score}_half", scenarios)
    per_agent = table.groupby("agent", sort=False)
    columns = {
        "violated steps, %": 100 * per_agent["violation_rate"].mean(),
        "fit, s": per_agent["fit_seconds"].mean(),
        "decision, ms": per_agent["latency_p50_ms"].mean(),
    }
    average, worst = mean.mean(axis=1, skipna=False), mean.max(axis=1, skipna=False)
    sees_all = per_agent["clairvoyant"].first().astype(bool)
    ranked = mean[~sees_all.reindex(mean.index)]
    decimals = decimals_of(ranked)
    close = {(verdict.scenario, agent) for verdict in said for agent in verdict.noise}
    rows: list[dict[str, Any]] = []
    for agent in mean.index:
        cells = []
        if len(scenarios) > 1:
            where = str(mean.loc[agent].idxmax()) if math.isfinite(worst[agent]) else ""
            cells = [
                _cell(number(average[agent], decimals=decimals), average[agent], average[ranked.index].min()),
                _cell(number(worst[agent], decimals=decimals), worst[agent], worst[ranked.index].min(), note=where),
            ]
        cells += [_cell(_three_digits(values[agent]), values[agent]) for values in columns.values()]
        for scenario in scenarios:
            value = mean.loc[agent, scenario]
            text = number(value, half.loc[agent, scenario], decimals)
            near = "within the noise of the best" if (scenario, agent) in close else ""
            cells.append(_cell(text, value, ranked[scenario].min(), near=near))
        rows.append({"agent": str(agent), "look": looks[str(agent)], "sees_all": bool(sees_all[agent]), "cells": cells})
    heads = [*(("average", "worst scenario") if len(scenarios) > 1 else ()), *columns, *scenarios]
    lead = 0 if len(scenarios) > 1 else len(columns)
    rows.sort(key=lambda row: (row["sees_all"], _order(row["cells"][lead]["value"])))
    return {"heads": heads, "rows": rows, "sorted": lead}


def _order(value: float | None) -> float:
    return math.inf if value is None else value


def _cell(text: str, value: float, best: float = math.nan, note: str = "", near: str = "") -> dict[str, Any]:
    """A cell of the leaderboard; what is missing has no value to sort by."""
    return {
        "text": text,
        "value": float(value) if math.isfinite(value) else None,
        "best": bool(value == best),
        "note": note,
        "near": near,
    }


def _three_digits(value: float) -> str:
    if not math.isfinite(value):
        return NOTHING
    return f"{value:.3g}" if value == 0 or abs(value) >= 1e-3 else "<0.001"


def _embedded(data: Any) -> str:
    """JSON that cannot end the element it stands in, nor begin another."""
    text = json.dumps(_plain(data), allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _digest(script: str) -> str:
    """Digest by which the page's policy knows a script, so that none but these is ever run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _template(name: str) -> str:
    return (resources.files(__package__) / TEMPLATES / name).read_text(encoding="utf-8")


@functools.cache
def bokeh_script() -> str:
    """BokehJS without widgets and tables, as its Python package ships it."""
    bundle = Resources(mode="inline")
    bundle.components = ["bokeh"]
    return "\n".join(bundle.js_raw)
