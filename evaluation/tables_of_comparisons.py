"""Tables that compare agents: with the best one step by step, and with all across scenarios."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .aggregates import interquartile_mean, probability_of_improvement, seed_jackknife
from .results import Run
from .runs import Runs
from .scores import LEADING
from .statistics import Paired
from .table import NOTHING, Cell, Table, decimals_of, number, pivot
from .verdicts import Difference, compare


def comparison_tables(run: Run | Runs) -> list[Table]:
    """Return the tables that compare the agents of a run; sweeps stay out, as out of all averages."""
    table = run.contestants
    table = table[table["sweep"] == ""]
    scenarios = list(table["scenario"].unique())
    if table["agent"].nunique() < 2:
        return []
    mean = pivot(table, run.score, scenarios).mean(axis=1, skipna=False)
    if mean.isna().all():
        return []
    best = str(mean.idxmin())
    tables = [_paired(run, list(mean.index), scenarios, best)]
    return tables if len(scenarios) == 1 else [_across(run, table, best), *tables]


def _paired(run: Run | Runs, agents: list[str], scenarios: list[str], best: str) -> Table:
    """Cost of every agent against the best one on average, on the same seeds and steps."""
    view = Table(
        f"Mean cost minus that of {best}, on the same seeds and steps, ±95% interval, and share of steps won",
        ["agent", *scenarios],
    )
    for agent in agents:
        if agent != best:
            view.rows.append([Cell(agent), *(Cell(_versus(run, scenario, agent, best)) for scenario in scenarios)])
    return view


def difference_table(runs: Runs, found: Sequence[Difference]) -> Table:
    """Cost of every agent in each further run against its own in the first; a star marks what is beyond chance."""
    scenarios = [str(name) for name in runs.contestants["scenario"].unique()]
    known = {(one.agent, one.run, one.scenario): one for one in found}
    view = Table(
        f"Mean cost minus that in {next(iter(runs.runs))}, on the same seeds and steps, ±95% interval, and share of "
        "steps won",
        ["agent", *scenarios],
        note="* beyond chance after Holm's correction for all of this table. "
        f"{NOTHING}: not in both runs, or not on the same steps.",
    )
    for agent, run in dict.fromkeys((one.agent, one.run) for one in found):
        cells = []
        for scenario in scenarios:
            one = known.get((agent, run, scenario))
            cells.append(Cell(_written(one.found) + " *" * (not one.noise) if one else NOTHING))
        view.rows.append([Cell(f"{agent} [{run}]"), *cells])
    return view


def _versus(run: Run | Runs, scenario: str, agent: str, other: str) -> str:
    return _written(compare(run, scenario, agent, other))


def _written(result: Paired | None) -> str:
    if result is None:
        return NOTHING
    half = result.interval.half
    decimals = int(np.clip(1 - np.floor(np.log10(half)), 1, 9)) if half > 0 else 4  # two digits of the interval
    form = "+.3g" if max(abs(result.difference), np.nan_to_num(half)) >= 1e4 else f"+.{decimals}f"
    return f"{result.difference:{form}} ±{half:{form[1:]}}, {100 * result.win_rate:.0f}%"


def score_tables(run: Run | Runs) -> dict[str, np.ndarray]:
    """Return the leading score of every contestant, shape (S, M): the seeds it finished everywhere, the scenarios."""
    table = run.results
    table = table[(table["sweep"] == "") & ~table["clairvoyant"].astype(bool)]
    wide = table.pivot_table(index=["agent", "seed"], columns="scenario", values=run.score, sort=False).dropna()
    return {str(agent): mine.to_numpy() for agent, mine in wide.groupby(level="agent", sort=False)}


def _across(run: Run | Runs, table: pd.DataFrame, best: str) -> Table:
    """Aggregates over scenarios that outliers do not decide, of those agents that finished every scenario."""
    scores = score_tables(run)
    ranks = table.assign(rank=table.groupby("scenario")[run.score].rank()).groupby("agent")["rank"].mean()
    chance = f"chance to beat {best}"
    view = Table(
        f"Across scenarios: {LEADING[run.score]}, ±95% interval over seeds (lower is better)",
        ["agent", "interquartile mean", "mean rank", chance],
        note="Interquartile mean: of the middle half of all scenarios and seeds. Chance: that a run drawn by lot has a "
        "lower score in a scenario drawn by lot. Both have no part in the luck of the steps, see the verdicts.",
    )
    means = {agent: interquartile_mean(mine) for agent, mine in scores.items()}
    decimals = decimals_of(pd.DataFrame(means.items()).iloc[:, 1:])
    for agent, mine in scores.items():
        half = seed_jackknife(interquartile_mean, mine).half
        texts = [number(means[agent], half, decimals), f"{ranks[agent]:.1f}", NOTHING]
        if agent != best and best in scores:
            texts[2] = f"{100 * probability_of_improvement(mine, scores[best]):.0f}%"
        lowest = [means[agent] == min(means.values()), ranks[agent] == ranks.min(), False]
        view.rows.append([Cell(agent), *map(Cell, texts, lowest)])
    return view
