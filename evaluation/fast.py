"""The fast form of a suite: the same question to fewer agents, scenarios and seeds, with smaller budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .agent_spec import AgentSpec, check_settings

if TYPE_CHECKING:
    from .scenario import Suite


@dataclass(frozen=True)
class Fast:
    """What the fast form of a suite has in place of the suite's own.

    Attributes
    ----------
    seeds : tuple of int
        Seeds; the first of the suite's when empty.
    agents : tuple of AgentSpec
        Agents; those of the suite when empty.
    scenarios : tuple of str
        Names of the scenarios and sweeps that are kept; all when empty.
    settings : mapping
        Hyper-parameters that replace those of every agent that has them.
    trials : int, optional
        How many trials of each agent are left of the suite's selection; 0 for none, so that agents are as they stand.
    """

    seeds: tuple[int, ...] = ()
    agents: tuple[AgentSpec, ...] = ()
    scenarios: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    trials: int | None = None

    def check(self, suite: Suite) -> None:
        """Check the names against those of the suite.

        Raises
        ------
        ShiftgymError
            For a scenario that the suite does not have, and a setting that no agent has, or not with this value.
        """
        where = f"[fast] of suite {suite.name!r}"
        if self.scenarios:
            suite.only(self.scenarios, where)
        for agent in self.agents:
            agent.make()
        check_settings(self.settings, self.agents or suite.agents, f"settings of {where}")

    def of(self, suite: Suite) -> Suite:
        """Return the suite in this form, under a name of its own, with a remark that says what differs."""
        kept = suite.only(self.scenarios, "[fast]").scenarios if self.scenarios else suite.scenarios
        agents = self.agents or suite.agents
        seeds = self.seeds or suite.seeds[:1]
        differences = [
            *_instead("seeds", seeds, suite.seeds),
            *_instead("agents", agents, suite.agents),
            *_instead("scenarios", _groups(kept), _groups(suite.scenarios)),
        ]
        changed = {str(agent): agent.having(self.settings) for agent in agents}
        selection = suite.selection and suite.selection.of(changed)
        if selection and self.trials is not None:
            selection = selection.first(self.trials) if self.trials else None
            differences.append(f"{self.trials} trials of each agent's settings")
        if self.settings:
            chosen = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
            differences.append(f"{chosen} where an agent has such a setting")
        return replace(
            suite,
            name=f"{suite.name}-fast",
            scenarios=kept,
            agents=tuple(changed.values()),
            seeds=seeds,
            fast=Fast(),
            selection=selection,
            remark=f"Fast form of suite {suite.name!r}: {'; '.join(differences) or 'nothing is left out'}.",
        )


def _groups(scenarios: Iterable[Any]) -> list[str]:
    """Names of scenarios, a sweep once."""
    return list(dict.fromkeys(scenario.sweep or scenario.name for scenario in scenarios))


def _instead(what: str, mine: Iterable[Any], theirs: Iterable[Any]) -> list[str]:
    """Say what stands in place of what, if they differ."""
    new, old = (", ".join(map(str, values)) for values in (mine, theirs))
    return [f"{what} {new} instead of {old}"] if new != old else []
