"""The interactive figures of a report in HTML, drawn with Bokeh.

A row of a figure's data belongs to an agent, and to a scenario where there is a choice of them: the page's script
shows the rows of what the reader has chosen (``templates/report.js``). Colours of axes and grids come from the page's
style sheet, so that they follow its theme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from bokeh.models import (
    BoxAnnotation,
    ColumnDataSource,
    DatetimeTickFormatter,
    FactorRange,
    FixedTicker,
    HoverTool,
    NumeralTickFormatter,
    Range1d,
    Span,
)
from bokeh.plotting import figure

from .aggregates import performance_profile
from .drawing import finite, logarithmic
from .results import Run
from .runs import Runs
from .scores import LEADING
from .tables import sweep_axis
from .tables_of_comparisons import score_tables

#: Okabe & Ito (2008) but for the yellow and the black: what is left is seen on white and on black.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8A8A8A")
_MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex", "square_pin", "triangle_pin", "plus")
_DASHES = ("solid", "dashed", "dotted")
_ORACLE = "#808080"
#: Letters of a name that an axis has room for.
_LETTERS = 22
#: What a tooltip says of a value and its interval.
_VALUE = "@value{0.0000} (@low{0.0000} to @high{0.0000})"
#: How times are written, from the finest unit of an axis to the coarsest.
_CLOCK = {
    **dict.fromkeys(("seconds", "minsec"), "%H:%M:%S"),
    **dict.fromkeys(("minutes", "hourmin"), "%H:%M"),
    "hours": "%d %b %H:%M",
    "days": "%d %b",
    "months": "%b %Y",
}
#: Quantiles that a box and its whiskers show, and thresholds of a profile.
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_THRESHOLDS = 150


class Look(NamedTuple):
    """How an agent is drawn in every figure, and its name where room is short."""

    color: str
    marker: str
    dash: str
    short: str


def looks_of(run: Run | Runs) -> dict[str, Look]:
    """Give each agent a look; of several runs, an agent has one colour in all and a dash of its own in each."""
    table = run.summary
    who = list(dict.fromkeys(zip(table["agent"], table["clairvoyant"].astype(bool), strict=True)))
    origin = run.origin if isinstance(run, Runs) else {str(agent): ("", str(agent)) for agent, _ in who}
    colours = {name: i for i, name in enumerate(dict.fromkeys(origin[agent][1] for agent, sees in who if not sees))}
    groups = list(dict.fromkeys(origin[agent][0] for agent, _ in who))
    shorts = _short([str(agent) for agent, _ in who])
    looks = {}
    for (agent, sees_all), short in zip(who, shorts, strict=True):
        group, name = origin[agent]
        again, colour = divmod(colours.get(name, 0), len(_COLOURS))
        dash = _DASHES[(again + groups.index(group)) % len(_DASHES)]
        marker = "star" if sees_all else _MARKERS[(colours.get(name, 0) + groups.index(group)) % len(_MARKERS)]
        looks[str(agent)] = Look(_ORACLE if sees_all else _COLOURS[colour], marker, dash, short)
    return looks


def _short(names: Sequence[str]) -> list[str]:
    """Cut names to the room of an axis, and number those that are then alike."""
    found: list[str] = []
    for name in names:
        cut = name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"
        again = 1
        while cut in found:
            again += 1
            cut = f"{name[: _LETTERS - 3]}… {again}"
        found.append(cut)
    return found


def _figure(height: int, hover: list[tuple[str, str]], **options: Any) -> Any:
    """Return an empty figure of the house's style."""
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        min_width=260,
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_drag=None,
        toolbar_inner=True,
        min_border_left=62,  # so that figures one above the other have one axis
        **options,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    if hover:
        plot.add_tools(HoverTool(tooltips=hover, point_policy="snap_to_data", line_policy="nearest"))
    return plot


def _source(rows: pd.DataFrame | list[dict[str, Any]], looks: dict[str, Look]) -> ColumnDataSource:
    """Rows that each belong to an agent, with how it looks."""
    full = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
    full = [{**row, **looks[str(row["agent"])]._asdict()} for row in full]
    return ColumnDataSource({name: [row[name] for row in full] for name in full[0]})


def _interval(table: pd.DataFrame, score: str, log: bool) -> pd.DataFrame:
    """Return name, value and interval of a score; on a logarithmic axis a lower end of zero or less has no place."""
    value, half = table[score], table[f"{score}_half"].fillna(0.0)
    low = np.maximum(value - half, 0.05 * value) if log else value - half
    return pd.DataFrame({"value": value, "low": low, "high": value + half})


def _log_ticks(axis: Any, values: Sequence[float]) -> None:
    """Put 1, 2, 5 or, over many decades, powers of ten on a logarithmic axis; Bokeh leaves its small end bare."""
    sizes = finite(values)
    low, high = np.floor(np.log10(sizes.min())) - 1, np.ceil(np.log10(sizes.max())) + 1
    steps = (1, 2, 5) if high - low < 6 else (1,)
    ticks = [float(f"{step}e{decade:.0f}") for decade in np.arange(low, high + 1) for step in steps]
    axis.ticker = FixedTicker(ticks=ticks)
    axis.major_label_overrides = {tick: f"{tick:g}" for tick in ticks}


def scenario_figure(run: Run | Runs, looks: dict[str, Look]) -> Any | None:
    """The leading score by scenario and agent, with 95% intervals."""
    table = run.contestants
    table = table[table["sweep"] == ""]
    if table.empty:
        return None
    scenarios, agents = list(table["scenario"].unique()), list(table["agent"].unique())
    log = logarithmic(table[run.score].tolist())
    offsets = dict(zip(agents, np.linspace(0.36, -0.36, len(agents)) if len(agents) > 1 else [0.0], strict=True))
    rows = table[["agent", "scenario"]].join(_interval(table, run.score, log))
    rows["place"] = [-scenarios.index(s) + offsets[a] for s, a in zip(rows["scenario"], rows["agent"], strict=True)]
    rows = rows.rename(columns={"scenario": "where"})  # all scenarios are shown, whichever is chosen
    plot = _figure(
        90 + len(scenarios) * max(44, 13 * len(agents)),
        [("", "@agent in @where"), (LEADING[run.score], _VALUE)],
        x_axis_type="log" if log else "linear",
        y_range=Range1d(-len(scenarios) + 0.5, 0.5, bounds="auto"),
        x_axis_label=f"{LEADING[run.score]} (lower is better)",
    )
    if log:
        _log_ticks(plot.xaxis[0], table[run.score].tolist())
    source = _source(rows, looks)
    plot.segment("low", "place", "high", "place", source=source, line_color="color", line_width=1.5)
    points = plot.scatter("value", "place", source=source, marker="marker", color="color", size=8)
    plot.hover.renderers = [points]
    places = [-float(i) for i in range(len(scenarios))]
    plot.yaxis.ticker = FixedTicker(ticks=places)
    plot.yaxis.major_label_overrides = dict(zip(places, _short(scenarios), strict=True))
    plot.ygrid.visible = False
    for place in places[1:]:
        plot.add_layout(Span(location=place + 0.5, dimension="width", line_color="#808080", line_alpha=0.35))
    return plot


def severity_figures(run: Run | Runs, looks: dict[str, Look]) -> dict[str, Any]:
    """The leading score along each sweep, a line and a band per agent, by name of the sweep."""
    table = run.contestants
    found = {}
    for sweep, here in table[table["sweep"] != ""].groupby("sweep", sort=False):
        log = logarithmic(here[run.score].tolist())
        axis = sweep_axis(here)
        plot = _figure(
            340,
            [
                ("", "@agent"),
                (axis, "@x{0.[000]}"),
                (LEADING[run.score], _VALUE),
            ],
            x_axis_type="log" if logarithmic(here["severity"].tolist()) else "linear",
            y_axis_type="log" if log else "linear",
            x_axis_label=axis,
            y_axis_label=LEADING[run.score],
        )
        for along, axis_of in (("severity", plot.xaxis[0]), (run.score, plot.yaxis[0])):
            if logarithmic(here[along].tolist()):
                _log_ticks(axis_of, here[along].tolist())
        ends = here[["agent", "severity"]].join(_interval(here, run.score, log)).sort_values("severity")
        lines, bands = [], []
        for agent, mine in ends.groupby("agent", sort=False):
            x, y, low, high = (mine[c].tolist() for c in ("severity", "value", "low", "high"))
            lines.append({"agent": agent, "xs": x, "ys": y})
            bands.append({"agent": agent, "xs": [*x, *x[::-1]], "ys": [*low, *high[::-1]]})
        faint = min(0.15, 0.6 / len(lines))
        plot.patches("xs", "ys", source=_source(bands, looks), fill_color="color", fill_alpha=faint, line_alpha=0)
        plot.multi_line("xs", "ys", source=_source(lines, looks), line_color="color", line_dash="dash", line_width=2)
        points = ends.rename(columns={"severity": "x"})
        dots = plot.scatter("x", "value", source=_source(points, looks), marker="marker", color="color", size=7)
        plot.hover.renderers = [dots]
        found[str(sweep)] = plot
    return found


def cost_violation_figure(run: Run | Runs, looks: dict[str, Look]) -> Any:
    """Mean cost against the share of violated steps in the chosen scenario, a point per agent."""
    table = run.summary
    rows = table[["agent", "scenario", "cost"]].assign(violated=100 * table["violation_rate"])
    plot = _figure(
        320,
        [("", "@agent"), ("violated steps", "@violated{0.00} %"), ("mean cost", "@cost{0.0000}")],
        x_axis_label="violated steps, %",
        y_axis_label="mean cost per step",
    )
    plot.scatter("violated", "cost", source=_source(rows, looks), marker="marker", color="color", size=11, alpha=0.9)
    return plot


def distribution_figure(run: Run | Runs, looks: dict[str, Look]) -> Any | None:
    """Quantiles of the regret of single steps in the chosen scenario, a box per agent that can have any."""
    table = run.summary[~run.summary["clairvoyant"].astype(bool)]
    if table.empty:
        return None
    found = []
    for scenario, agent in zip(table["scenario"], table["agent"], strict=True):
        seeds = run.seeds(scenario, agent)
        regret = np.concatenate([run.core(scenario, agent, seed)["regret"] for seed in seeds])
        low, first, median, third, high = np.quantile(regret, _QUANTILES)
        box = {"low": low, "first": first, "median": median, "third": third, "high": high, "mean": regret.mean()}
        found.append({"scenario": scenario, "agent": agent, **box})
    agents = list(dict.fromkeys(looks[str(row["agent"])].short for row in found))
    plot = _figure(
        90 + 30 * len(agents),
        [("", "@agent"), ("mean", "@mean{0.0000}"), ("median", "@median{0.0000}"), ("95%", "@high{0.0000}")],
        y_range=FactorRange(*agents[::-1], tags=["agents"]),
        x_axis_label="regret of a step",
    )
    source = _source(found, looks)
    plot.segment("low", "short", "high", "short", source=source, line_color="color", line_width=1.5)
    box = plot.hbar(y="short", left="first", right="third", height=0.6, source=source, fill_color="color")
    box.glyph.update(fill_alpha=0.35, line_alpha=0)
    bar = {"marker": "dash", "angle": math.pi / 2, "size": 17, "line_width": 2}
    plot.scatter("median", "short", source=source, color="color", **bar)
    plot.scatter("mean", "short", source=source, marker="marker", color="color", size=8, line_color="white")
    plot.hover.renderers = [box]
    plot.ygrid.visible = False
    return plot


def profile_figure(run: Run | Runs, looks: dict[str, Look]) -> Any | None:
    """Share of scenarios and seeds in which an agent's score stays under a threshold (Dolan & Moré 2002)."""
    scores = score_tables(run)
    if not scores or next(iter(scores.values())).shape[1] < 2:
        return None
    everything = np.concatenate([mine.ravel() for mine in scores.values()])
    log = logarithmic(everything.tolist())
    between = np.geomspace if log else np.linspace
    thresholds = between(everything.min(), everything.max(), _THRESHOLDS)
    lines = []
    for agent, mine in scores.items():
        mastered = 100 * performance_profile(mine, thresholds)
        lines.append({"agent": agent, "xs": thresholds.tolist(), "ys": mastered.tolist()})
    plot = _figure(
        320,
        [("", "@agent")],
        x_axis_type="log" if log else "linear",
        x_axis_label=f"{LEADING[run.score]} of at most",
        y_axis_label="scenarios and seeds, %",
        y_range=Range1d(-3, 103),
    )
    plot.multi_line("xs", "ys", source=_source(lines, looks), line_color="color", line_dash="dash", line_width=2)
    if log:
        _log_ticks(plot.xaxis[0], everything.tolist())
    return plot


def replay_figures() -> tuple[Any, Any]:
    """The empty viewer of replays, and the regret below it on the same axis of time; the page's script fills both."""
    upper = _figure(330, [], x_axis_type="datetime", x_range=Range1d(0, 1), name="replay")
    empty = {"time": [0, 1], "value": [0.0, 0.0]}  # of no point at all, BokehJS 3.9 steps without end
    upper.varea_step(
        x="time", y1="zero", y2="value", source=ColumnDataSource({**empty, "zero": [0.0, 0.0]}, name="outcome"),
        step_mode="after", fill_color="#808080", fill_alpha=0.32,
    )  # fmt: skip
    oracle = {"line_color": _ORACLE, "line_dash": "dashed", "line_width": 1.5}
    for name, style in (("oracle", oracle), ("second", {"line_width": 2}), ("first", {"line_width": 2})):
        upper.step("time", "value", source=ColumnDataSource(empty, name=name), mode="after", name=name, **style)
    for name in ("second", "first"):
        source = ColumnDataSource(empty, name=f"violated_{name}")
        marks = {"marker": "inverted_triangle", "size": 8, "name": source.name}
        upper.scatter("time", "value", source=source, **marks)
    lower = _figure(150, [], x_axis_type="datetime", x_range=Range1d(0, 1), y_axis_label="regret", name="regret")
    for name in ("second", "first"):
        source = ColumnDataSource(empty, name=f"regret_{name}")
        lower.step("time", "value", source=source, mode="after", line_width=1.5, name=f"regret_{name}")
    for plot in (upper, lower):
        plot.xaxis.formatter = DatetimeTickFormatter(**_CLOCK)
        plot.add_layout(BoxAnnotation(fill_color="#D55E00", fill_alpha=0.07, visible=False, name="shifted"))
        onset = {"line_color": "#D55E00", "line_dash": "dotted", "line_width": 2, "visible": False}
        plot.add_layout(Span(location=0, dimension="height", name="onset", **onset))
    lower.yaxis.formatter = NumeralTickFormatter(format="0.[0000]a")
    return upper, lower
