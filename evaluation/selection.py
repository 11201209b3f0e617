"""Choosing hyper-parameters: as many trials for every agent, on held-out training data and corrupted copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..data import load_trace
from ..data.errors import ShiftgymError, UnknownNameError
from ..data.spec import parse_spec
from .agent_spec import AgentSpec

if TYPE_CHECKING:
    from .results import Run
    from .scenario import Suite

FOLDER = "selection"


@dataclass(frozen=True)
class Selection:
    """How the settings of a suite's agents are chosen before its own scenarios are looked at.

    Every agent is fitted on ``train`` once per trial and seed and replays ``test`` under every shift; the trial with
    the lowest mean of the suite's leading score is the one that takes part. Both traces are parts of the trace that the
    suite trains on, so no test set has a say, and every agent gets as many trials.

    Attributes
    ----------
    train, test : str
        Traces in text form.
    shifts : tuple of str
        What corrupts the copies of ``test``; "none" is one too.
    trials : mapping of str to tuple of mapping
        Settings to try by agent, as the suite writes it, on top of what it sets; agents without any take part as they
        are.
    seeds : tuple of int
        Of the trials.
    """

    train: str
    test: str
    shifts: tuple[str, ...]
    trials: Mapping[str, tuple[Mapping[str, Any], ...]]
    seeds: tuple[int, ...] = (0,)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Selection:
        """Read the form of a suite's ``[selection]``, which is that of ``dataclasses.asdict`` too.

        Raises
        ------
        ShiftgymError
            If the agents do not get the same number of trials.
        """
        trials = {name: tuple(settings) for name, settings in content["trials"].items()}
        counts = {name: len(settings) for name, settings in trials.items()}
        if len(set(counts.values())) != 1 or 0 in counts.values():
            raise ShiftgymError(f"trials of [selection]: {counts}: give every agent the same number, at least one")
        lists = {key: tuple(content[key]) for key in ("shifts", "seeds") if key in content}
        return cls(content["train"], content["test"], trials=trials, **{"shifts": ("none",), **lists})

    def first(self, count: int) -> Selection:
        """Return it with the first ``count`` trials of each agent."""
        return replace(self, trials={name: settings[:count] for name, settings in self.trials.items()})

    def of(self, agents: Mapping[str, AgentSpec]) -> Selection | None:
        """Return it for agents that stand for those it names, by the latter; None if none of them has trials."""
        kept = {str(agents[name]): settings for name, settings in self.trials.items() if name in agents}
        return replace(self, trials=kept) if kept else None

    def candidates(self, suite: Suite) -> dict[str, list[AgentSpec]]:
        """Return the agents to try, by the agent whose trials they are."""
        known = {str(agent): agent for agent in suite.agents}
        for name in self.trials:
            if name not in known:
                raise UnknownNameError(f"agent in trials of suite {suite.name!r}:", name, known)
        return {
            name: [replace(known[name], kwargs={**known[name].kwargs, **settings}) for settings in trials]
            for name, trials in self.trials.items()
        }

    def suite(self, suite: Suite) -> Suite:
        """Return the suite of all trials.

        Raises
        ------
        ShiftgymError
            If agents are trained in more than one way, so that there is no one choice for all.
        """
        homes = {(s.env, s.train, str(s.env_kwargs), str(s.fit)): s for s in suite.scenarios}
        if len(homes) != 1:
            raise ShiftgymError(
                f"suite {suite.name!r} has a [selection], but its scenarios train in {len(homes)} ways "
                "(env, train, env_kwargs, fit): settings can only be chosen for one"
            )
        home = next(iter(homes.values()))
        scenarios = tuple(
            replace(home, name=shift, train=self.train, test=self.test, shift="" if shift == "none" else shift)
            for shift in self.shifts
        )
        return replace(
            suite,
            name=f"{suite.name}-{FOLDER}",
            title=f"Settings for {suite.name}, tried on held-out training data and corrupted copies of them",
            scenarios=scenarios,
            agents=tuple({str(spec): spec for specs in self.candidates(suite).values() for spec in specs}.values()),
            seeds=self.seeds,
            published=None,
            selection=None,
        )

    def check_data(self, suite: Suite) -> None:
        """Raise unless both traces are parts of the one that the suite trains on; loads them.

        Raises
        ------
        ShiftgymError
            If the trials would see other data than training data.
        """
        home = suite.scenarios[0].train
        trace = load_trace(home)
        for spec in (self.train, self.test):
            part = load_trace(spec)
            elsewhere = parse_spec(spec).name != parse_spec(home).name
            if elsewhere or part.time[0] < trace.time[0] or part.time[-1] > trace.time[-1]:
                raise ShiftgymError(
                    f"[selection] of suite {suite.name!r}: {spec!r} is no part of the training trace {home!r}: "
                    "what chooses settings must not look at test data"
                )


@dataclass(frozen=True)
class Choice:
    """What was tried for an agent, and what was chosen.

    Attributes
    ----------
    agent : str
        As the suite writes it.
    chosen : str
        With the settings that did best.
    scores : mapping of str to float
        Mean leading score by trial, lower is better.
    """

    agent: str
    chosen: str
    scores: Mapping[str, float]


def choose(selection: Selection, suite: Suite, run: Run) -> list[Choice]:
    """Choose the best trial of each agent from a finished run of :meth:`Selection.suite`; the first one of equals.

    Raises
    ------
    ShiftgymError
        If a trial is not finished, so that it cannot be compared.
    """
    finished = run.results.groupby("agent")[run.score].agg(["mean", "count"])  # NaN is no count
    cells = len(selection.shifts) * len(selection.seeds)
    choices = []
    for name, specs in selection.candidates(suite).items():
        scores = {}
        for spec in specs:
            label = run.suite.label(spec)
            if label not in finished.index or finished.loc[label, "count"] < cells:
                raise ShiftgymError(f"the trial {str(spec)!r} did not finish: see {run.folder / 'failed'}")
            scores[str(spec)] = float(finished.loc[label, "mean"])
        choices.append(Choice(name, min(scores, key=scores.__getitem__), scores))
    return choices


def selected(suite: Suite, choices: list[Choice]) -> Suite:
    """Return the suite with the chosen settings, and nothing left to choose."""
    chosen = {choice.agent: AgentSpec.parse(choice.chosen) for choice in choices}
    agents = tuple(chosen.get(str(agent), agent) for agent in suite.agents)
    return replace(suite, agents=agents, selection=None)
