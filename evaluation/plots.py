"""The pictures of a report: vector graphics with text as text, and PNG beside them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .drawing import STYLE, WIDTH, Look, frame, grid, headline, legend, logarithmic, looks_of, lower, save, scale, title
from .plots_of_adversaries import plot_adversary
from .plots_of_days import plot_day
from .plots_of_steps import plot_distribution, plot_replay
from .plots_of_training import plot_effort, plot_learning
from .results import Run
from .scores import LEADING
from .tables import sweep_axis

PLOTS = "plots"


def draw_plots(run: Run) -> list[Path]:
    """Draw every picture that the run has results for; return the PNG files, each with an SVG beside it."""
    pictures: list[tuple[str, Callable[[Run], Figure | None]]] = [
        ("regret", plot_regret),
        ("severity", plot_severity),
        ("cost_violation", plot_cost_violation),
        ("distribution", plot_distribution),
        ("learning", plot_learning),
        ("adversary", plot_adversary),
        ("effort", plot_effort),
        ("replay", plot_replay),
        ("day", plot_day),
    ]
    written = []
    with mpl.rc_context(STYLE):
        for name, draw in pictures:
            figure = draw(run)
            if figure is not None:
                written.append(save(figure, run.folder / PLOTS / name))
    return written


def plot_regret(run: Run) -> Figure | None:
    """Draw the leading score by scenario and agent; clairvoyants are left out."""
    table, score = run.contestants, run.score
    table = table[table["sweep"] == ""]
    if table.empty:
        return None
    looks, scenarios, agents = looks_of(run), list(table["scenario"].unique()), list(table["agent"].unique())
    figure = Figure(figsize=(WIDTH, 0.9 + len(scenarios) * (0.25 + 0.16 * len(agents))), layout="constrained")
    axes = figure.add_subplot()
    offsets = np.linspace(-0.36, 0.36, len(agents)) if len(agents) > 1 else np.zeros(1)
    for agent, offset in zip(agents, offsets, strict=True):
        mine = table[table["agent"] == agent]
        place = [scenarios.index(scenario) + offset for scenario in mine["scenario"]]
        look, value, half = looks[agent], mine[score].to_numpy(), mine[f"{score}_half"].to_numpy()
        whiskers = np.stack((value - lower(value, half, table[score].tolist()), half))
        axes.errorbar(value, place, xerr=whiskers, fmt=look.marker, color=look.color, capsize=2, elinewidth=1)
    for row in range(1, len(scenarios)):
        axes.axhline(row - 0.5, color="0.8", lw=0.6)
    cut = frame(axes, table[score].tolist(), table[f"{score}_half"].tolist())
    scale(axes, table[score].tolist())
    axes.set_yticks(range(len(scenarios)), scenarios)
    axes.set_ylim(len(scenarios) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{LEADING[score]} (lower is better), 95% intervals{cut}")
    axes.set_title(title(run, f"{LEADING[score].capitalize()} by scenario and agent"), loc="left")
    legend(figure, looks, agents)
    return figure


def plot_severity(run: Run) -> Figure | None:
    """Draw the leading score along every sweep, a panel per sweep and a line per agent."""
    table, score = run.summary, run.score
    table = table[(table["sweep"] != "") & ~table["clairvoyant"].astype(bool)]
    sweeps = list(table["sweep"].unique())
    if not sweeps:
        return None
    looks, agents = looks_of(run), list(table["agent"].unique())
    faint = min(0.15, 0.6 / len(agents))  # so that lines are seen through the bands of many
    figure, panels = grid(len(sweeps), 2, 2.6, sharey=True)
    for axes, sweep in zip(panels, sweeps, strict=True):
        here = table[table["sweep"] == sweep]
        for agent, mine in here.groupby("agent", sort=False):
            mine, look = mine.sort_values("severity"), looks[str(agent)]
            x, y, half = (mine[c].to_numpy() for c in ("severity", score, f"{score}_half"))
            axes.plot(x, y, color=look.color, marker=look.marker, ls=look.line)
            axes.fill_between(x, lower(y, half, table[score].tolist()), y + half, color=look.color, alpha=faint, lw=0)
        axis = sweep_axis(here)
        if axis == "severity":  # else the axis says it all
            axes.set_title(textwrap.fill(f"{sweep}: {_shift_text(here)}", 48), loc="left")
        axes.set_xlabel(axis)
        if logarithmic(here["severity"].tolist()):
            scale(axes, here["severity"].tolist())
    cut = frame(panels[0], table[score].tolist(), table[f"{score}_half"].tolist(), "y")
    scale(panels[0], table[score].tolist(), "y")
    for axes in panels[::2]:
        axes.set_ylabel(LEADING[score])
    varied = {sweep_axis(table[table["sweep"] == sweep]) for sweep in sweeps}
    what = varied.pop() if len(varied) == 1 else "what varies"
    headline(figure, run, f"{LEADING[score].capitalize()} against {what}, with 95% intervals{cut}")
    legend(figure, looks, agents, lines=True)
    return figure


def _shift_text(table: pd.DataFrame) -> str:
    """Return the shift at the severity closest to 1."""
    best = (table["severity"] - 1).abs().idxmin()
    return str(table.loc[best, "shift"]).replace("none", "no shift")


def plot_cost_violation(run: Run) -> Figure | None:
    """Draw mean cost against violation rate, a panel per scenario and a point per agent."""
    table = run.summary
    table = table[table["sweep"] == ""]
    scenarios = list(table["scenario"].unique())
    if not scenarios:
        return None
    looks = looks_of(run)
    figure, panels = grid(len(scenarios), 4, 2.2)
    for index, (axes, scenario) in enumerate(zip(panels, scenarios, strict=True)):
        _cost_panel(axes, table[table["scenario"] == scenario], looks)
        axes.set_title(scenario, loc="left")
        axes.set_xlabel("violated steps, %" if index + 4 >= len(scenarios) else "")
        axes.set_ylabel("" if index % 4 else "mean cost per step")
    headline(figure, run, "Cost against violations (lower left is better; hollow: off the scale)")
    legend(figure, looks, list(table["agent"].unique()))
    return figure


def _cost_panel(axes: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Draw a point per agent; who costs far more than the others is put at the upper edge, hollow."""
    excess = table["cost"] - table["cost"].min()
    # three quarters of them decide what is far; of nearly equal ones the median would make the others so
    top = table["cost"].min() + 4 * excess[excess > 0].quantile(0.75) if (excess > 0).any() else math.inf
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
