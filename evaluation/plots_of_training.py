"""Pictures of fitting: how decisions on held-out data got cheaper, and what the result cost the machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .drawing import Look, frame, grid, headline, legend, logarithmic, looks_of, lower, scale
from .results import Run
from .scores import LEADING

#: Training environments at most that learning curves are drawn for.
_PANELS = 8
#: Seconds of a fit under which nobody asks what it takes.
_NOTICEABLE = 1.0


def plot_learning(run: Run) -> Figure | None:
    """Draw the objective of decisions on held-out data after each epoch, a panel per training environment.

    That is their cost, or what the problem minimises in training in its stead (:attr:`DecisionProblem.objective`).
    """
    table = learning_curves(run)
    if table.empty:
        return None
    looks, homes = looks_of(run), list(table["home"].unique())[:_PANELS]
    figure, panels = grid(len(homes), 2, 2.6)
    for index, (axes, home) in enumerate(zip(panels, homes, strict=True)):
        here = table[table["home"] == home]
        for agent, mine in here.groupby("agent", sort=False):
            _curve(axes, mine, looks[str(agent)])
        if logarithmic(here["loss"].tolist()):
            scale(axes, here["loss"].tolist(), "y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("" if index % 2 else "objective")
        axes.set_title(home if len(homes) > 1 else "", loc="left")
    gaps = "; no line where samples were not kept, as too unlike outcomes" if table["loss"].isna().any() else ""
    shown = "Objective of decisions on held-out training data, mean and standard deviation over seeds"
    headline(figure, run, shown + gaps)
    legend(figure, looks, list(table["agent"].unique()), lines=True)
    return figure


def learning_curves(run: Run) -> pd.DataFrame:
    """Table of the epochs that were judged by the objective of decisions.

    Returns
    -------
    DataFrame
        Columns ``home`` (the first scenario whose agents are trained alike), ``agent``, ``seed``, ``epoch``,
        ``seconds`` and ``loss``, which is NaN where the weights were not to be kept.
    """
    homes: dict[str, str] = {}
    where = {s.name: homes.setdefault(str((s.env, s.train, s.env_kwargs, s.fit)), s.name) for s in run.suite.scenarios}
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for cell in run.cells:
        for epoch in cell.get("history", ()):
            if epoch["decision_cost"]:
                row = {"home": where[cell["keys"]["scenario"]], **{key: cell["keys"][key] for key in ("agent", "seed")}}
                row |= {key: epoch[key] for key in ("epoch", "seconds", "loss")}
                rows[row["home"], cell["fit"], epoch["epoch"]] = row
    columns = ["home", "agent", "seed", "epoch", "seconds", "loss"]
    return pd.DataFrame(rows.values(), columns=columns).astype({"loss": float})


def _curve(axes: Axes, table: pd.DataFrame, look: Look) -> None:
    """Draw mean and spread over seeds, a dot per epoch and a marker where the mean is lowest.

    There is a gap where the weights of a seed were not to be kept.
    """
    losses = table.pivot_table(index="epoch", columns="seed", values="loss", dropna=False)
    mean, spread = losses.mean(axis=1, skipna=False), losses.std(axis=1, skipna=False)
    axes.plot(mean.index, mean, color=look.color, ls=look.line, marker=".", ms=3)
    axes.fill_between(mean.index, mean - spread, mean + spread, color=look.color, alpha=0.15, lw=0)
    if mean.notna().any():
        axes.plot(mean.idxmin(), mean.min(), marker=look.marker, color=look.color, mec="white", mew=0.6)


def plot_effort(run: Run) -> Figure | None:
    """Draw the leading score in the first scenario against the seconds and the memory of the fit, a point per agent."""
    table, score = run.contestants, run.score
    if table.empty or not table["fit_seconds"].max() > _NOTICEABLE:
        return None
    scenario = table["scenario"].iloc[0]
    table, looks = table[table["scenario"] == scenario], looks_of(run)
    figure, panels = grid(2, 2, 2.6, sharey=True)
    low = lower(table[score].to_numpy(), table[f"{score}_half"].to_numpy(), table[score].tolist())
    whiskers = np.stack((table[score].to_numpy() - low, table[f"{score}_half"].to_numpy()))
    for axes, column in zip(panels, ("fit_seconds", "fit_memory_mb"), strict=True):
        for row, whisker in zip(table.to_dict("records"), whiskers.T, strict=True):
            look = looks[row["agent"]]
            place = {"x": row[column], "y": row[score], "yerr": whisker[:, None]}
            axes.errorbar(**place, fmt=look.marker, color=look.color, capsize=2, elinewidth=1)
        scale(axes, table[column].tolist())
    cut = frame(panels[0], table[score].tolist(), table[f"{score}_half"].tolist(), "y")
    if logarithmic(table[score].tolist()):  # else not from zero: agents that cost nearly the same are to differ
        scale(panels[0], table[score].tolist(), "y")
    panels[0].set(ylabel=LEADING[score], xlabel="seconds to fit")
    panels[1].set_xlabel("memory to fit, MB")
    panels[0].set_title(scenario, loc="left")
    what = f"{LEADING[score].capitalize()} against what a fit takes (lower left is better)"
    headline(figure, run, f"{what}, with 95% intervals{cut}")
    legend(figure, looks, list(table["agent"]))
    return figure
