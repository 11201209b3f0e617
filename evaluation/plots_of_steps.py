"""Pictures of single steps: how their regret is distributed, and a stretch of a replay."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .drawing import WIDTH, Look, finite, grid, headline, legend, logarithmic, looks_of, scale
from .results import Run
from .rollout import SHOWN
from .scores import LEADING

#: Slots of a replay that a panel shows.
_REPLAY_SLOTS = 150
#: Panels of the distribution at most.
_PANELS = 8
#: Quantiles that a box and its whiskers show.
_QUANTILES = {"whislo": 0.05, "q1": 0.25, "med": 0.5, "q3": 0.75, "whishi": 0.95}


def plot_distribution(run: Run) -> Figure | None:
    """Draw quantiles of the regret of single steps, a panel per scenario and a box per agent; no clairvoyants."""
    regrets: dict[str, dict[str, list[np.ndarray[Any, Any]]]] = {}
    for cell in run.cells:
        keys = cell["keys"]
        if keys["sweep"] or cell["about"]["clairvoyant"]:
            continue
        here = regrets.setdefault(keys["scenario"], {}) if len(regrets) < _PANELS else regrets.get(keys["scenario"], {})
        regret = run.core(keys["scenario"], keys["agent"], keys["seed"])["regret"]
        here.setdefault(keys["agent"], []).append(regret)
    if not regrets:
        return None
    looks = looks_of(run)
    figure, panels = grid(len(regrets), 4, 2.4)
    for index, (axes, (scenario, agents)) in enumerate(zip(panels, regrets.items(), strict=True)):
        _boxes(axes, {agent: np.concatenate(steps) for agent, steps in agents.items()}, looks)
        axes.set_title(scenario, loc="left")
        axes.set_ylabel("" if index % 4 else "regret of a step")
    headline(figure, run, "Regret of single steps: quartiles and median, 5th to 95th percentile, mean (marker)")
    legend(figure, looks, [agent for agents in regrets.values() for agent in agents])
    return figure


def _boxes(axes: Axes, regrets: dict[str, np.ndarray[Any, Any]], looks: dict[str, Look]) -> None:
    boxes = []
    for agent, regret in regrets.items():
        quantiles = np.quantile(regret, list(_QUANTILES.values()))
        boxes.append({**dict(zip(_QUANTILES, quantiles, strict=True)), "mean": regret.mean(), "fliers": []})
        look = looks[agent]
        axes.plot(len(boxes), boxes[-1]["mean"], marker=look.marker, color=look.color, mec="white", mew=0.6, zorder=3)
    drawn = axes.bxp(boxes, showfliers=False, widths=0.62, patch_artist=True)
    for agent, box, median in zip(regrets, drawn["boxes"], drawn["medians"], strict=True):
        box.set(facecolor=looks[agent].color, alpha=0.35, edgecolor="none")
        median.set(color=looks[agent].color, linewidth=1.8)
    for part in ("whiskers", "caps"):
        for line, agent in zip(drawn[part], np.repeat(list(regrets), 2), strict=True):
            line.set(color=looks[agent].color, linewidth=1)
    axes.set_xticks([])
    axes.grid(visible=False, axis="x")
    _stretch(axes, [value for box in boxes for key, value in box.items() if key != "fliers"])


def _stretch(axes: Axes, values: list[float]) -> None:
    """Make small and large regrets visible together; some may be zero or less."""
    sizes = np.abs(finite(values))
    sizes = sizes[sizes > 1e-9 * sizes.max(initial=0.0)]
    if logarithmic(values):
        scale(axes, values, "y")
    elif len(sizes) and logarithmic([float(np.median(sizes)), float(sizes.max())]):
        axes.set_yscale("symlog", linthresh=10 ** np.floor(np.log10(np.median(sizes))))


def plot_replay(run: Run) -> Figure | None:
    """Draw a stretch of replay by the agent that is best at home: at home, and where it does worst."""
    table, score = run.contestants, run.score
    table = table[table["sweep"] == ""]
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
    headline(figure, run, "Replay")
    return figure


def _replay_panel(axes: Axes, run: Run, scenario: str, agent: str, seed: int) -> None:
    """Draw outcome, decision and oracle, slot after slot, where the regret is most typical."""
    about = run.find(scenario, agent, seed)["about"]
    steps = run.steps(scenario, agent, seed)
    slots = sum(column.startswith(SHOWN[0]) for column in steps)
    steps = steps.iloc[typical(steps["regret"].to_numpy(), max(3, _REPLAY_SLOTS // slots))]
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


def typical(regret: np.ndarray[Any, Any], length: int) -> slice:
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
