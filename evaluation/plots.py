"""The pictures of a report: vector graphics with text as text, and PNG beside them."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..data.files import atomic_write
from .results import Run, summary
from .rollout import SHOWN
from .scores import LEADING

PLOTS = "plots"
WIDTH = 7.2
"""Inches: the text width of a two-column page."""

# Okabe & Ito (2008) without the yellow, too faint for lines; markers tell apart what colours alone do not
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#595959")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "shiftgym",
}
#: A linear axis hides the small values when the largest is this many times the smallest.
_LOG_RANGE = 20.0
#: Slots of a replay that a panel shows.
_REPLAY_SLOTS = 150


class Look(NamedTuple):
    """How an agent is drawn, in every picture of a run alike."""

    color: str
    marker: str


def draw_plots(run: Run) -> list[Path]:
    """Draw every picture that the run has results for; return the PNG files, each with an SVG beside it."""
    pictures: list[tuple[str, Callable[[Run], Figure | None]]] = [
        ("regret", plot_regret),
        ("severity", plot_severity),
        ("cost_violation", plot_cost_violation),
        ("replay", plot_replay),
    ]
    written = []
    with mpl.rc_context(_STYLE):
        for name, draw in pictures:
            figure = draw(run)
            if figure is not None:
                written.append(_save(figure, run.folder / PLOTS / name))
    return written


def _save(figure: Figure, path: Path) -> Path:
    for suffix, options in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 200})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], **options)
        with atomic_write(path.with_suffix(suffix), "wb") as file:
            file.write(buffer.getvalue())
    return path.with_suffix(".png")


def _looks(run: Run) -> dict[str, Look]:
    """Give each agent a look; a clairvoyant is black, whoever else takes part."""
    names = [run.suite.label(agent) for agent in run.suite.agents]
    all_knowing = set(run.results.loc[run.results["clairvoyant"].astype(bool), "agent"])
    looks, index = {}, 0
    for name in names:
        if name in all_knowing:
            looks[name] = Look("black", "*")
        else:
            looks[name] = Look(_COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)])
            index += 1
    return looks


def _title(run: Run, text: str) -> str:
    return f"{text}, synthetic traces" if run.synthetic else text


def _finite(values: Sequence[float]) -> np.ndarray[Any, Any]:
    return np.array([value for value in values if math.isfinite(value)])


def _logarithmic(values: Sequence[float]) -> bool:
    """Whether a linear axis would hide the small values, and none is zero or less."""
    sizes = _finite(values)
    return bool(sizes.min() > 0 and sizes.max() > _LOG_RANGE * sizes.min())


def _scale(axes: Axes, values: Sequence[float], axis: str = "x") -> None:
    """Make the axis logarithmic where a linear one would hide the small values."""
    sizes = _finite(values)
    if _logarithmic(values):
        getattr(axes, f"set_{axis}scale")("log")
        drawn = getattr(axes, f"{axis}axis")
        drawn.set_major_locator(LogLocator(subs=(1, 2, 5) if sizes.max() < 1e3 * sizes.min() else (1,)))
        drawn.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        drawn.set_minor_formatter(NullFormatter())
    else:
        axes.set(**{f"{axis}lim": (min(0.0, *sizes, *getattr(axes, f"get_{axis}lim")()), None)})


def _lower(value: np.ndarray[Any, Any], half: np.ndarray[Any, Any], shown: Sequence[float]) -> np.ndarray[Any, Any]:
    """Return the lower end of intervals; on a logarithmic axis one that reaches zero would have none."""
    return np.maximum(value - half, 0.05 * value) if _logarithmic(shown) else value - half


def _legend(figure: Figure, looks: dict[str, Look], names: Sequence[str], lines: bool = False) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=looks[name].color,
            marker=looks[name].marker,
            ls="-" if lines else "none",
            label=name,
        )
        for name in looks
        if name in names
    ]
    longest = max(len(str(handle.get_label())) for handle in handles)
    fit = int(figure.get_figwidth() / (0.5 + 0.07 * longest))  # inches: the marker, a letter
    columns = max(1, min(len(handles), 5, fit))
    beyond = math.ceil(len(handles) / columns) - 2  # two lines are allowed for; the panels must not pay for more
    figure.set_figheight(figure.get_figheight() + 0.18 * max(0, beyond))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handletextpad=0.4)


def plot_regret(run: Run) -> Figure | None:
    """Draw the leading score by scenario and agent; clairvoyants are left out."""
    table, score = summary(run.results), run.score
    table = table[(table["sweep"] == "") & ~table["clairvoyant"].astype(bool)]
    table = table[np.isfinite(table[score])]
    if table.empty:
        return None
    looks, scenarios, agents = _looks(run), list(table["scenario"].unique()), list(table["agent"].unique())
    figure = Figure(figsize=(WIDTH, 0.9 + len(scenarios) * (0.25 + 0.16 * len(agents))), layout="constrained")
    axes = figure.add_subplot()
    offsets = np.linspace(-0.36, 0.36, len(agents)) if len(agents) > 1 else np.zeros(1)
    for agent, offset in zip(agents, offsets, strict=True):
        mine = table[table["agent"] == agent]
        place = [scenarios.index(scenario) + offset for scenario in mine["scenario"]]
        look, value, half = looks[agent], mine[score].to_numpy(), mine[f"{score}_half"].to_numpy()
        whiskers = np.stack((value - _lower(value, half, table[score].tolist()), half))
        axes.errorbar(value, place, xerr=whiskers, fmt=look.marker, color=look.color, capsize=2, elinewidth=1)
    for row in range(1, len(scenarios)):
        axes.axhline(row - 0.5, color="0.8", lw=0.6)
    _scale(axes, table[score].tolist())
    axes.set_yticks(range(len(scenarios)), scenarios)
    axes.set_ylim(len(scenarios) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{LEADING[score]}, mean and 95% interval (lower is better)")
    axes.set_title(_title(run, f"{LEADING[score].capitalize()} by scenario and agent"), loc="left")
    _legend(figure, looks, agents)
    return figure


def plot_severity(run: Run) -> Figure | None:
    """Draw the leading score against severity, a panel per sweep and a line per agent."""
    table, score = summary(run.results), run.score
    table = table[(table["sweep"] != "") & ~table["clairvoyant"].astype(bool)]
    sweeps = list(table["sweep"].unique())
    if not sweeps:
        return None
    looks, columns = _looks(run), min(len(sweeps), 2)
    rows = math.ceil(len(sweeps) / columns)
    figure = Figure(figsize=(WIDTH if columns > 1 else 5.2, 0.7 + 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in panels.flat[len(sweeps) :]:
        axes.set_visible(False)
    for axes, sweep in zip(panels.flat, sweeps, strict=False):
        here = table[table["sweep"] == sweep]
        for agent, mine in here.groupby("agent", sort=False):
            mine, look = mine.sort_values("severity"), looks[str(agent)]
            x, y, half = (mine[c].to_numpy() for c in ("severity", score, f"{score}_half"))
            axes.plot(x, y, color=look.color, marker=look.marker)
            axes.fill_between(x, _lower(y, half, table[score].tolist()), y + half, color=look.color, alpha=0.15, lw=0)
        axes.set_title(textwrap.fill(f"{sweep}: {_shift_text(here)}", 48), loc="left")
        axes.set_xlabel("severity")
    _scale(panels[0, 0], table[score].tolist(), "y")
    for axes in panels[:, 0]:
        axes.set_ylabel(LEADING[score])
    figure.suptitle(_title(run, f"{LEADING[score].capitalize()} against severity"), x=0.01, ha="left", fontsize=10)
    _legend(figure, looks, list(table["agent"].unique()), lines=True)
    return figure


def _shift_text(table: pd.DataFrame) -> str:
    """Return the shift at the severity closest to 1."""
    best = (table["severity"] - 1).abs().idxmin()
    return str(table.loc[best, "shift"]).replace("none", "no shift")


def plot_cost_violation(run: Run) -> Figure | None:
    """Draw mean cost against violation rate, a panel per scenario and a point per agent."""
    table = summary(run.results)
    table = table[table["sweep"] == ""]
    scenarios = list(table["scenario"].unique())
    if not scenarios:
        return None
    looks, columns = _looks(run), min(len(scenarios), 4)
    rows = math.ceil(len(scenarios) / columns)
    figure = Figure(figsize=(WIDTH, 0.9 + 2.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(scenarios) :]:
        axes.set_visible(False)
    for index, (axes, scenario) in enumerate(zip(panels.flat, scenarios, strict=False)):
        _cost_panel(axes, table[table["scenario"] == scenario], looks)
        axes.set_title(scenario, loc="left")
        axes.set_xlabel("violated steps, %" if index + columns >= len(scenarios) else "")
        axes.set_ylabel("" if index % columns else "mean cost per step")
    figure.suptitle(
        _title(run, "Cost against violations (lower left is better; hollow: off the scale)"),
        x=0.01,
        ha="left",
        fontsize=10,
    )
    _legend(figure, looks, list(table["agent"].unique()))
    return figure


def _cost_panel(axes: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Draw a point per agent; who costs far more than the others is put at the upper edge, hollow."""
    excess = table["cost"] - table["cost"].min()
    top = table["cost"].min() + 4 * excess[excess > 0].median() if (excess > 0).any() else math.inf
    for _, row in table.iterrows():
        look, beyond = looks[row["agent"]], row["cost"] > top
        axes.plot(
            100 * row["violation_rate"],
            min(row["cost"], top),
            marker=look.marker,
            color=look.color,
            fillstyle="none" if beyond else "full",
            markersize=8 if look.marker == "*" else 5.5,
        )
    axes.margins(0.12)
    if not table["violation_rate"].any():
        axes.set_xlim(-0.12, 1.0)  # percent; of nothing but zeros an axis is made up


def plot_replay(run: Run) -> Figure | None:
    """Draw a stretch of replay by the agent that is best at home: at home, and where it does worst."""
    table, score = summary(run.results), run.score
    table = table[(table["sweep"] == "") & ~table["clairvoyant"].astype(bool)]
    table = table[np.isfinite(table[score])]
    if table.empty:
        return None
    home = table["scenario"].iloc[0]
    agent = table.loc[table.loc[table["scenario"] == home, score].idxmin(), "agent"]
    mine = table[table["agent"] == agent]
    worst = mine.loc[mine[score].idxmax(), "scenario"]
    shown = list(dict.fromkeys((home, worst)))
    figure = Figure(figsize=(WIDTH, 0.6 + 2.3 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, squeeze=False)
    for axes, scenario in zip(panels.flat, shown, strict=True):
        seed = int(run.results.query("agent == @agent and scenario == @scenario")["seed"].iloc[0])
        value = float(mine.loc[mine["scenario"] == scenario, score].iloc[0])
        _replay_panel(axes, run, scenario, agent, seed)
        axes.set_title(f"{agent} in {scenario}: {LEADING[score]} {value:.3g}", loc="left")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
    figure.suptitle(_title(run, "Replay"), x=0.01, ha="left", fontsize=10)
    return figure


def _replay_panel(axes: Axes, run: Run, scenario: str, agent: str, seed: int) -> None:
    """Draw outcome, decision and oracle, slot after slot, where the regret is most typical."""
    about = run.find(scenario, agent, seed)["about"]
    steps = run.steps(scenario, agent, seed)
    slots = sum(column.startswith(SHOWN[0]) for column in steps)
    steps = steps.iloc[_typical(steps["regret"].to_numpy(), max(3, _REPLAY_SLOTS // slots))]
    begin = steps["step_time"].to_numpy()
    each = np.diff(begin).min() / slots if len(begin) > 1 else about["slot_seconds"]
    time, unit = _clock((begin[:, None] + each * np.arange(slots)).ravel())
    outcome, decision, oracle = (steps[[f"{name}_{i}" for i in range(slots)]].to_numpy().ravel() for name in SHOWN)
    named = f"outcome ({about['outcome'][0]})" if len(about["outcome"]) == 1 else "outcome"
    axes.fill_between(time, outcome, step="post", color="0.85", lw=0, label=named)
    axes.step(time, oracle, where="post", color="black", ls=(0, (4, 2)), lw=1, label="oracle")
    axes.step(time, decision, where="post", color="#0072B2", lw=1.4, label="decision")
    low, top = (float(edge(np.concatenate((outcome, decision, oracle)))) for edge in (np.min, np.max))
    broken = np.repeat(steps["violation"].to_numpy(bool), slots) & (np.arange(len(time)) % slots == 0)
    height = top - min(0.0, low)
    axes.plot(
        time[broken],
        np.full(broken.sum(), top + 0.06 * height),
        ls="none",
        marker="v",
        ms=4,
        color="#D55E00",
        label="violation",
        clip_on=not broken.any(),  # an unclipped line without points would claim the corner of the figure
    )
    axes.set_ylim(low - 0.03 * height if low < 0 else 0.0, top + 0.12 * height)
    axes.set_xlim(time[0], time[-1])
    axes.set_xlabel(f"{unit} from {str(np.datetime64(int(begin[0]), 's')).removesuffix('T00:00:00')}")
    axes.set_ylabel(about["axes"][1])


def _typical(regret: np.ndarray[Any, Any], length: int) -> slice:
    """Return the window whose mean regret is closest to the mean of all steps."""
    if len(regret) <= length:
        return slice(None)
    total = np.concatenate(([0.0], np.cumsum(regret)))
    means = (total[length:] - total[:-length]) / length
    start = int(np.argmin(np.abs(means - regret.mean())))
    return slice(start, start + length)


def _clock(seconds: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], str]:
    """Return the time since the first step, in a unit that suits its length."""
    past = seconds - seconds[0]
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if past[-1] >= 3 * size:
            return past / size, unit
    return past, "seconds"
