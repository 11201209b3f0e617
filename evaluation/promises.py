"""What agents promised, against what came of it: rates of violation with their intervals, and who kept the promise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .results import Run
from .statistics import Rate, realised_rate
from .table import NOTHING, Cell, Table, number


@dataclass(frozen=True)
class Account:
    """What an agent promised in a scenario, and what came of it.

    Attributes
    ----------
    scenario, agent : str
        Which one where.
    cost : float
        Its mean cost.
    promised : dict of str to float
        The largest rates by name; empty for an agent that promises nothing.
    realised : dict of str to Rate
        The rates of whatever anybody promises in the run.
    certified : bool
        Whether the data were enough to certify every promise.
    """

    scenario: str
    agent: str
    cost: float
    promised: Mapping[str, float]
    realised: Mapping[str, Rate]
    certified: bool

    def verdict(self, name: str) -> str:
        """Say whether a promise was kept, broken or, where the steps do not tell, is open; empty without a promise."""
        return self.realised[name].against(self.promised[name]) if name in self.promised else ""

    @property
    def kept(self) -> bool:
        """Whether it promises something and none of it is broken beyond chance."""
        return bool(self.promised) and not any(self.verdict(name) == "broken" for name in self.promised)


def accounts(run: Run) -> list[Account]:
    """The accounts of all agents in the scenarios of a run; none where nobody promises anything."""
    given = {(cell["keys"]["scenario"], cell["keys"]["agent"]): cell["about"] for cell in run.cells}
    names = list(dict.fromkeys(name for about in given.values() for name in about.get("promise", {})))
    if not names:
        return []
    found = []
    for row in run.contestants.itertuples():
        scenario, agent = str(row.scenario), str(row.agent)
        about = given[scenario, agent]
        columns = {name: f"violation_{name}" if name in about["families"] else name for name in names}
        seeds = run.seeds(scenario, agent)
        steps = [run.steps(scenario, agent, seed, list(columns.values())) for seed in seeds]
        realised = {
            name: realised_rate(
                # the magnitude of a family, or a measure that is a share already
                [(step[column] > 0 if column != name else step[column]).to_numpy(float) for step in steps],
                same_steps=run.same_steps(scenario),
            )
            for name, column in columns.items()
        }
        certified = all(about.get("certified", {}).values())
        found.append(Account(scenario, agent, float(row.cost), about.get("promise", {}), realised, certified))
    return found


def promises(run: Run) -> list[Table]:
    """Tables of promised against realised rates, one per scenario; none where nobody promises anything."""
    found = accounts(run)
    return [
        _table(scenario, [account for account in found if account.scenario == scenario])
        for scenario in dict.fromkeys(account.scenario for account in found)
    ]


def _table(scenario: str, found: list[Account]) -> Table:
    """Agents that keep their promises by cost, then the others by cost."""
    names = list(found[0].realised)
    ranked = sorted(found, key=lambda account: (not account.kept, account.cost))
    heads = [f"{name} %: realised [95% interval]" for name in names]
    view = Table(f"Promised against realised: {scenario}", ["agent", "promised %", *heads, "mean cost", "rank"])
    for place, account in enumerate(ranked, start=1):
        rates = [Cell(_text(account, name)) for name in names]
        rank = Cell(str(place), best=place == 1) if account.kept else Cell(NOTHING)
        view.rows.append([Cell(account.agent), Cell(_promised(account)), *rates, Cell(number(account.cost)), rank])
    view.note = (
        "Kept: the whole interval is within the promise. Broken: it is above. Open: the replay is too short to tell. "
        "Agents are ranked by cost among those that break no promise. *: not certified, for lack of calibration data "
        "or of a theorem."
    )
    return view


def _promised(account: Account) -> str:
    if not account.promised:
        return NOTHING
    rates = dict.fromkeys(f"{100 * rate:g}" for rate in account.promised.values())
    return " / ".join(rates) + ("" if account.certified else " *")


def _text(account: Account, name: str) -> str:
    """Realised rate and interval in percent, and the verdict."""
    rate, (low, high), _ = account.realised[name]
    if math.isnan(rate):
        return NOTHING
    verdict = account.verdict(name)
    return f"{100 * rate:.1f} [{100 * low:.1f}, {100 * high:.1f}]" + (f", {verdict}" if verdict else "")
