"""Picture of what an agent was trained against: the rounds of its adversary, and what that made of the samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .drawing import WIDTH, headline
from .results import Run

_REFERENCE, _WORST = "0.35", "#D55E00"
#: What a round is about, and how an axis says it.
_ROUNDS = {"loss": "mean loss", "divergence": "divergence J, nats", "multiplier": r"price $\alpha$"}


def plot_adversary(run: Run) -> Figure | None:
    """Draw the adversary of the agent that is best at home among those that have one.

    Above what it came to in every round, a line per seed: the loss beside that of the reference, the divergence
    beside its budget, its price. Below paths of the first seed, drawn from the reference and from the worst case.
    """
    found = _best(run)
    if found is None:
        return None
    agent, seeds = found
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    above, below = halves
    for axes, (name, label) in zip(above.subplots(1, len(_ROUNDS)), _ROUNDS.items(), strict=True):
        _rounds(axes, seeds, name)
        axes.set(xlabel="round", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels = below.subplots(1, 2, sharey=True)
    for axes, name, colour in zip(panels, ("reference", "worst_case"), (_REFERENCE, _WORST), strict=True):
        _paths(axes, seeds[0][f"{name}_paths"], int(seeds[0]["history"].item()), colour)
        axes.set_title(name.replace("_", " "), loc="left")
        axes.set_xlabel("history, then outcome (shaded)")
    panels[0].set_ylabel("in units of the problem")
    colours = "worst case orange, reference grey, budget dashed, mean of all paths black"
    headline(figure, run, f"What {agent} is trained against: {colours}")
    return figure


def _best(run: Run) -> tuple[str, list[dict[str, Any]]] | None:
    """Return the agent and what its fits for the first scenario have to show, seed by seed."""
    home = run.suite.scenarios[0].name
    shown: dict[str, list[dict[str, Any]]] = {}
    for cell in run.cells:
        keys, exhibits = cell["keys"], run.exhibits(cell["fit"])
        if keys["scenario"] == home and "worst_case_paths" in exhibits:
            shown.setdefault(keys["agent"], []).append(exhibits)
    scores: pd.Series[float] = run.results.query("scenario == @home").groupby("agent")[run.score].mean()
    agent = min(shown, key=lambda name: scores[name], default=None)
    return None if agent is None else (agent, shown[agent])


def _rounds(axes: Axes, seeds: list[dict[str, Any]], name: str) -> None:
    """Draw a line per seed, and what it is to be seen against."""
    for exhibits in seeds:
        rounds = np.arange(1, len(exhibits[name]) + 1)
        if name == "loss":
            axes.plot(rounds, exhibits["reference_loss"], color=_REFERENCE, lw=1)
        axes.plot(rounds, exhibits[name], color=_WORST, marker=".", ms=4, lw=1)
    if name == "divergence":
        axes.axhline(float(seeds[0]["budget"].item()), color="black", ls="--", lw=0.8)


def _paths(axes: Axes, paths: np.ndarray[Any, Any], history: int, colour: str) -> None:
    """Draw paths (P, places) and their mean; the outcome's places are shaded."""
    places = np.arange(paths.shape[1]) - history
    axes.axvspan(-0.5, places[-1] + 0.5, color="0.93", lw=0)
    axes.plot(places, paths.T, color=colour, alpha=0.3, lw=0.6)
    axes.plot(places, paths.mean(0), color="black", lw=1.4)
    axes.set_xlim(places[0] - 0.5, places[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
