"""Picture of a day of a fleet of data centers: what power is for, where it comes from, batteries, prices, carbon."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..solvers.data_center import DataCenter
from .drawing import WIDTH, headline
from .results import Run

Values = np.ndarray[Any, Any]

#: Centers that a figure has room for, largest ones first.
_CENTERS = 4
_TRAINING = ("#08519C", "#3182BD", "#9ECAE1", "#C6DBEF", "#08306B")
_SERVICES = ("#D95F0E", "#FEC44F", "#993404", "#FEE391")
_BATTERY = "#CC79A7"
# purchase lies at the bottom, where the import limit is read
_SOURCES = {"purchase": "#737373", "import in need": "#E41A1C", "renewables": "#009E73", "battery": _BATTERY}
_SINKS = {"battery": _BATTERY, "surplus": "#BAE4B3"}


def plot_day(run: Run) -> Figure | None:
    """Draw the day of median regret of the agent that is best at home, where it schedules data centers by levels."""
    scenario = run.suite.scenarios[0]
    table = run.contestants[run.contestants["scenario"] == scenario.name]
    if not scenario.env.endswith("/DataCenter-v0") or table.empty:
        return None
    agent = str(table.loc[table[run.score].idxmin(), "agent"])
    steps = run.steps(scenario.name, agent, run.seeds(scenario.name, agent)[0])
    constants = {key: scenario.env_kwargs[key] for key in DataCenter().parameters() if key in scenario.env_kwargs}
    problem = DataCenter(**constants)
    widths = {"outcome": problem.outcome_dim, "decision": problem.decision_dim}
    columns = {name: [f"{name}_{i}" for i in range(width)] for name, width in widths.items()}
    if not all(names[-1] in steps for names in columns.values()):  # what is very wide is not kept
        return None
    outcomes, decisions = (steps[names].to_numpy() for names in columns.values())
    regret = steps["regret"].to_numpy()
    day = int(np.argsort(regret, kind="stable")[len(regret) // 2])
    first = int(np.argmax(steps["episode"].to_numpy() == steps["episode"].iloc[day]))
    state = problem.initial_state()
    for before in range(first, day):
        state = problem.carry(outcomes[before], decisions[before], state)
    date = str(np.datetime64(int(steps["step_time"].iloc[day]), "s"))[:10]
    figure = draw_day(problem, outcomes[day], decisions[day], state)
    cost, violated = steps["cost"].iloc[day], "broken" if steps["violation"].iloc[day] else "kept"
    headline(figure, run, f"{date} by {agent} in {scenario.name}: {1000 * cost:,.0f} $, constraints {violated}")
    return figure


def draw_day(problem: DataCenter, outcome: Values, decision: Values, previous: Values | None = None) -> Figure:
    """Draw a settled day: a column per center; powers in kW, all on one scale.

    Parameters
    ----------
    problem : DataCenter
        Whose fleet.
    outcome, decision, previous : array
        Of the day, as :meth:`DataCenter.cost` takes them.
    """
    fleet = problem.fleet
    schedule, _ = problem.schedule(outcome, decision, previous)
    told, day = problem.outcome(outcome), problem.settlement(outcome, decision, previous)
    shown = np.sort(np.argsort(-day.metered.sum(1), kind="stable")[:_CENTERS])
    figure = Figure(figsize=(WIDTH, 7.4), layout="constrained")
    panels = figure.subplots(4, len(shown), squeeze=False, sharex=True, sharey="row", height_ratios=(3, 3.4, 1.5, 1.8))
    uses = uses_of_power(problem, outcome, decision, previous)
    charge = problem.known_state(previous)[: fleet.size]
    gain, loss = np.array(fleet.charge_efficiency)[:, None], 1 / np.array(fleet.discharge_efficiency)[:, None]
    stored = np.cumsum(gain * schedule.charge - loss * schedule.discharge, axis=1) + charge[:, None]
    for column, d in enumerate(shown):
        use, balance, battery, market = panels[:, column]
        use.set_title(fleet.centers[d], loc="left")
        _stack(use, [(name, values[d], colour) for name, (values, colour) in uses.items()])
        _line(use, schedule.power[d], "planned", "black")
        supply = day.supply
        used = np.minimum(told.renewables[d], told.renewables[d] - supply.curtailed[d])
        bought = np.maximum(schedule.purchase[d] - supply.excess[d], 0.0)
        sources = (bought, supply.imported[d], used, schedule.discharge[d])
        _stack(balance, [(name, v, c) for v, (name, c) in zip(sources, _SOURCES.items(), strict=True)])
        sinks = (-schedule.charge[d], -supply.curtailed[d] - supply.excess[d])
        _stack(balance, [(name, v, c) for v, (name, c) in zip(sinks, _SINKS.items(), strict=True)])
        _line(balance, day.metered[d], "load", "black")
        balance.axhline(fleet.grid_limit[d], color="0.5", lw=0.8, ls=(0, (1, 1.5)), label="import limit")
        hours = np.arange(fleet.slots + 1)
        battery.plot(hours, np.concatenate((charge[d : d + 1], stored[d])), color=_BATTERY)
        _market(market, told.prices[d], told.carbon[d], left=not column, right=column == len(shown) - 1)
        market.set_xlabel("hour, UTC")
        market.set_xlim(0, fleet.slots)
        market.set_xticks(range(0, fleet.slots + 1, max(1, fleet.slots // 4)))
    for axes, label in zip(panels[:, 0], ("use, kW", "supply, kW", "battery, kWh", "price, $/MWh"), strict=True):
        axes.set_ylabel(label)
    panels[2, 0].set_ylim(0, max(fleet.battery) or 1)
    handles = {
        label: handle for axes in panels[:2, 0] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, handlelength=1.4)
    return figure


def uses_of_power(
    problem: DataCenter, outcome: Values, decision: Values, previous: Values | None = None
) -> dict[str, tuple[Values, str]]:
    """Facility power (D, T) [kW] of each training class and service, as it was metered, and a colour for it."""
    fleet, serving = problem.fleet, problem.fleet.serving
    schedule, _ = problem.schedule(outcome, decision, previous)
    told, day = problem.outcome(outcome), problem.settlement(outcome, decision, previous)
    facility = fleet.facility[:, None]
    uses = {}
    for k, name in enumerate(fleet.classes):
        uses[f"training {name}"] = facility * fleet.gpu_power[k] * day.work[k], _TRAINING[k % len(_TRAINING)]
    came = np.divide(told.requests, schedule.level, out=np.zeros_like(told.requests), where=schedule.level > 0)
    for s, name in enumerate(fleet.services):
        mine = serving.service == s
        load = schedule.load[mine] * np.minimum(came[s], 1.0)
        power = np.tensordot(serving.idle_power[mine], schedule.instances[mine], 1)
        power = power + np.tensordot(serving.dynamic_power[mine], load, 1)
        uses[f"inference {name}"] = facility * power, _SERVICES[s % len(_SERVICES)]
    return uses


def _stack(axes: Axes, layers: list[tuple[str, Values, str]]) -> None:
    """Stack hourly values, up or down from zero."""
    base = np.zeros(len(layers[0][1]))
    for name, values, colour in layers:
        axes.stairs(base + values, baseline=base, fill=True, color=colour, label=name, lw=0)
        base = base + values


def _line(axes: Axes, values: Values, name: str, colour: str) -> None:
    axes.stairs(values, baseline=None, color=colour, label=name, lw=1.2, ls="-" if name == "load" else (0, (3, 1.5)))


def _market(axes: Axes, prices: Values, carbon: Values, left: bool, right: bool) -> None:
    """Price, and on a second axis carbon intensity; colours say which axis is whose."""
    axes.stairs(1000 * prices, baseline=None, color="#0072B2", lw=1.3)
    axes.axhline(0, color="0.6", lw=0.6)
    axes.tick_params(axis="y", colors="#0072B2", labelleft=left)
    axes.yaxis.label.set_color("#0072B2")
    other = axes.twinx()
    other.stairs(1000 * carbon, baseline=None, color="#8C510A", lw=1.1, ls=(0, (2, 1)))
    other.set_ylim(0, 900)
    other.grid(visible=False)
    other.spines["right"].set_visible(right)
    other.tick_params(axis="y", colors="#8C510A", labelright=right, right=right)
    if right:
        other.set_ylabel("carbon, g/kWh", color="#8C510A")
