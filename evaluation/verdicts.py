"""Which differences of a run are real: a verdict per scenario, with all comparisons of the run counted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .aggregates import holm
from .results import Run
from .runs import Runs
from .statistics import LEVEL, Paired, paired

#: Names that a verdict spells out before it counts the rest.
_NAMED = 4


@dataclass(frozen=True)
class Comparison:
    """An agent against the cheapest one of a scenario: what was found, and its p-value once all others are counted."""

    agent: str
    found: Paired
    p_value: float

    @property
    def noise(self) -> bool:
        """Whether the difference may as well be chance."""
        return not self.p_value < 1 - LEVEL


@dataclass(frozen=True)
class Verdict:
    """What one scenario says.

    Attributes
    ----------
    scenario : str
        Its name.
    best : str
        The agent of lowest mean cost.
    others : tuple of Comparison
        All others, cheapest first.
    count : int
        Comparisons in the run that the p-values are corrected for.
    """

    scenario: str
    best: str
    others: tuple[Comparison, ...]
    count: int

    @property
    def noise(self) -> list[str]:
        """Agents that cannot be told from the best."""
        return [other.agent for other in self.others if other.noise]

    @property
    def line(self) -> str:
        """The verdict in a sentence."""
        close, sure = self.noise, len(self.others) - len(self.noise)
        if not sure:
            return f"{self.scenario}: noise. {self.best} costs least, but no difference from it is beyond chance."
        beaten = f"{sure} other{'s' * (sure > 1)}" if close else ("the other" if sure == 1 else f"all {sure} others")
        if not close:
            return f"{self.scenario}: {self.best} costs least, and less than {beaten} beyond chance."
        return (
            f"{self.scenario}: {self.best} costs least, and less than {beaten} beyond chance; "
            f"its lead over {_few(close)} is within the noise."
        )


def _few(names: list[str]) -> str:
    rest = len(names) - _NAMED
    shown = names[:_NAMED] if rest > 1 else names
    shown = [*shown, f"{rest} more"] if rest > 1 else shown
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def compare(run: Run | Runs, scenario: str, agent: str, other: str) -> Paired | None:
    """Compare the costs of two agents on the seeds that both have finished; None where they share no steps."""
    mine, theirs = run.seeds(scenario, agent), run.seeds(scenario, other)
    seeds = [seed for seed in mine if seed in theirs]
    costs = [[run.core(scenario, name, seed)["cost"] for seed in seeds] for name in (agent, other)]
    if not seeds or any(len(a) != len(b) for a, b in zip(*costs, strict=True)):
        return None
    return paired(*costs, same_steps=run.same_steps(scenario))


def verdicts(run: Run | Runs) -> list[Verdict]:
    """Return the verdicts of all scenarios with more than one contestant.

    Every pair of agents of a scenario is compared on the same seeds and steps, and the p-values of all pairs of all
    scenarios are corrected together by :func:`holm`: so the best may be picked after the fact.
    """
    table = run.contestants
    found: dict[str, dict[tuple[str, str], Paired]] = {}
    for scenario, here in table.groupby("scenario", sort=False):
        ranked = here.sort_values("cost", kind="stable")["agent"].tolist()
        pairs = {pair: compare(run, str(scenario), pair[1], pair[0]) for pair in itertools.combinations(ranked, 2)}
        known = {pair: result for pair, result in pairs.items() if result is not None}
        if known:
            found[str(scenario)] = known
    raw = np.array([result.p_value for pairs in found.values() for result in pairs.values()])
    adjusted, count = iter(holm(raw)), int(np.isfinite(raw).sum())
    said = []
    for scenario, known in found.items():
        p_values = {pair: float(next(adjusted)) for pair in known}
        best = next(iter(known))[0]
        others = tuple(Comparison(pair[1], known[pair], p_values[pair]) for pair in known if pair[0] == best)
        said.append(Verdict(scenario, best, others, count))
    return said


def explanation(said: list[Verdict]) -> str:
    """Return how the verdicts were come by; empty where there are none."""
    if not said:
        return ""
    return (
        f"Beyond chance: below 5% after Holm's correction for all {said[0].count} pairs of agents and scenarios, on "
        "the same seeds and steps (moving-block bootstrap over time, Student's t over seeds). This is about cost "
        "alone, whatever was violated."
    )


@dataclass(frozen=True)
class Difference:
    """An agent in a further run against itself in the first one, in one scenario."""

    agent: str
    run: str
    first: str
    scenario: str
    found: Paired
    p_value: float

    @property
    def noise(self) -> bool:
        """Whether the difference may as well be chance."""
        return not self.p_value < 1 - LEVEL


def differences(runs: Runs) -> list[Difference]:
    """Compare what runs have in common: each agent with itself in the first run, p-values corrected together."""
    first, *others = runs.runs
    twins: dict[str, dict[str, str]] = {}
    for name, (run, agent) in runs.origin.items():
        twins.setdefault(agent, {})[run] = name
    found = []
    for scenario, here in runs.contestants.groupby("scenario", sort=False):
        present = set(here["agent"])
        for other, (agent, twin) in itertools.product(others, twins.items()):
            if {twin.get(first), twin.get(other)} <= present:
                result = compare(runs, str(scenario), twin[other], twin[first])
                found += [(agent, other, first, str(scenario), result)] if result else []
    corrected = holm([result.p_value for *_, result in found])
    return [Difference(*one, float(p_value)) for one, p_value in zip(found, corrected, strict=True)]


def difference_lines(found: Sequence[Difference]) -> list[str]:
    """Say in a sentence per scenario and run which agents differ from themselves in the first run."""
    if not found:
        return ["The runs have no agent and scenario in common that could be compared step by step."]
    lines = []
    for (scenario, run), group in itertools.groupby(found, lambda one: (one.scenario, one.run)):
        members = list(group)
        sure = [one for one in members if not one.noise]
        less, more = ([one.agent for one in sure if (one.found.difference < 0) == lower] for lower in (True, False))
        than = f"than in {members[0].first} beyond chance"
        said = [f"{_few(names)} cost {how} {than}" for names, how in ((less, "less"), (more, "more")) if names]
        rest = f"{len(members) - len(sure)} of {len(members)} common agents are within the noise"
        lines.append(f"{scenario}, {run}: {'; '.join([*said, rest])}.")
    return lines
