"""Scenarios, and the suites of them that a TOML file describes."""

from __future__ import annotations

import dataclasses
import inspect
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator

from ..data import trace_info
from ..data.errors import ShiftgymError, UnknownNameError
from ..data.spec import FILE, parse_spec
from ..envs.shifts import parse_shift, severity_sweep
from .agent_spec import AgentSpec, check_settings
from .fast import Fast
from .scores import LEADING
from .selection import Selection

NAMESPACE = "shiftgym/"
#: Keywords of an environment that an evaluation sets itself.
_OURS = frozenset(("trace", "shift", "shift_seed", "num_envs", "autoreset_mode", "render_mode"))
_OURS_FROM = "traces and shifts are train, test and shift of the scenario, its seeds are those of the run"


@dataclass(frozen=True)
class Scenario:
    """One question: how well does an agent that was trained there decide here.

    Parameters
    ----------
    name : str
        Unique within a suite.
    env : str
        Id of the environment.
    train, test : str
        Traces to train on and to replay, in text form (``NAME[@SLOT][[START:STOP]]``). ``{seed}`` in them stands for
        the seed, so that each seed has data of its own.
    shift : str
        Shift of the test trace in text form; empty for none.
    env_kwargs : mapping
        Further keywords of the environment, the same in training and test; JSON-able.
    fit : mapping
        Hyper-parameters that agents are fitted with here, those that have them and do not set them themselves.
    act : mapping
        Hyper-parameters that an agent has when it decides, whatever it was fitted with; agents that do not have
        them are left alone. Those that only matter in fitting change nothing here.
    sweep : str
        The sweep this is a point of; empty for none. Sweeps have plots of their own and stay out of the averages
        over scenarios.
    severity : float, optional
        The place on that sweep: the severity of the shift, or what else the sweep is over.
    """

    name: str
    env: str
    train: str
    test: str
    shift: str = ""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    act: Mapping[str, Any] = field(default_factory=dict)
    sweep: str = ""
    severity: float | None = None

    def for_seed(self, seed: int) -> Scenario:
        """Return the scenario as one seed meets it: with the traces of that seed."""
        train, test = (spec.replace("{seed}", str(seed)) for spec in (self.train, self.test))
        return dataclasses.replace(self, train=train, test=test)

    def check(self) -> None:
        """Check environment id, trace names and shift without loading any data.

        Raises
        ------
        ShiftgymError
            If one of them does not exist.
        """
        if ":" not in self.env and self.env not in gymnasium.registry:
            raise UnknownNameError(
                "environment", self.env, [name for name in gymnasium.registry if name.startswith(NAMESPACE)]
            )
        example = self.for_seed(0)
        for spec in (example.train, example.test):
            name = parse_spec(spec).name
            if not name.startswith(FILE):
                trace_info(name)
        parse_shift(self.shift or None)
        for name in _OURS.intersection(self.env_kwargs):
            raise ShiftgymError(f"env_kwargs of scenario {self.name!r} sets {name!r}: {_OURS_FROM}")


@dataclass(frozen=True)
class Published:
    """Figures of a publication that stand beside ours.

    Attributes
    ----------
    source : str
        Where they were published.
    figures : mapping of str to mapping of str to float
        The suite's leading score by method and scenario.
    measures : mapping of str to figures
        Likewise for measures that the suite has tables of, by their name.
    """

    source: str
    figures: Mapping[str, Mapping[str, float]]
    measures: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Scenarios, the agents that face them, and the seeds.

    Attributes
    ----------
    name, title : str
        What the suite is called, and what it asks.
    scenarios : tuple of Scenario
        Names are unique.
    agents : tuple of AgentSpec
        Who takes part.
    seeds : tuple of int
        Each seeds an agent's training and the shifts.
    published : Published, optional
        Figures to show beside ours.
    score : str
        The score that leads the report, one of :data:`~shiftgym.evaluation.scores.LEADING`; empty for the one that
        suits the results (see :attr:`Run.score`).
    measures : tuple of str
        Measures of the problem, or other scores such as "latency_p50_ms", that have a table of their own, by scenario,
        beside the leading score.
    fast : Fast
        What its fast form has instead.
    remark : str
        What a reader of its results must know, such as that this is a fast form.
    selection : Selection, optional
        How settings of the agents are chosen first.
    """

    name: str
    scenarios: tuple[Scenario, ...]
    agents: tuple[AgentSpec, ...]
    seeds: tuple[int, ...]
    title: str = ""
    published: Published | None = None
    score: str = ""
    measures: tuple[str, ...] = ()
    fast: Fast = field(default_factory=Fast)
    remark: str = ""
    selection: Selection | None = None

    def __post_init__(self) -> None:
        if self.score and self.score not in LEADING:
            raise UnknownNameError(f"score of suite {self.name!r}:", self.score, LEADING)
        for field_name, values in (
            ("scenarios", [scenario.name for scenario in self.scenarios]),
            ("agents", [str(agent) for agent in self.agents]),
            ("seeds", list(map(str, self.seeds))),
        ):
            twice = sorted({value for value in values if values.count(value) > 1})
            if not values or twice:
                what = f"hold {', '.join(twice)} more than once" if twice else "are empty"
                raise ShiftgymError(f"the {field_name} of suite {self.name!r} {what}: name each one once")

    def check(self) -> None:
        """Check every name before any work is done.

        Raises
        ------
        ShiftgymError
            For an unknown environment, shift or agent, or a setting that an agent does not have.
        """
        for scenario in self.scenarios:
            scenario.check()
        for agent in self.agents:
            agent.make()
        for scenario in self.scenarios:
            check_settings(scenario.fit, self.agents, f"fit of scenario {scenario.name!r}", left_out=True)
            check_settings(scenario.act, self.agents, f"act of scenario {scenario.name!r}", left_out=True)
        self.fast.check(self)
        if self.selection:
            self.selection.suite(self).check()

    def only(self, names: Sequence[str], where: str) -> Suite:
        """Return the suite with those of its scenarios and sweeps that are named; ``where`` they are, for the error.

        Raises
        ------
        UnknownNameError
            For a name that it does not have.
        """
        known = list(dict.fromkeys(name for s in self.scenarios for name in (s.name, s.sweep) if name))
        for name in names:
            if name not in known:
                raise UnknownNameError(f"scenario in {where}:", name, known)
        kept = tuple(s for s in self.scenarios if {s.name, s.sweep} & set(names))
        return dataclasses.replace(self, scenarios=kept)

    def label(self, agent: AgentSpec) -> str:
        """Return what tables call an agent: its name, or its whole text where several share the name."""
        alone = sum(other.name == agent.name for other in self.agents) == 1
        return agent.name if alone else str(agent)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form, which :meth:`from_dict` reads."""
        content = dataclasses.asdict(self)
        for place, agents in ((content, self.agents), (content["fast"], self.fast.agents)):
            place["agents"] = [str(agent) for agent in agents]
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Suite:
        """Read :meth:`to_dict`'s form."""
        content = dict(content)
        content["scenarios"] = tuple(Scenario(**scenario) for scenario in content["scenarios"])
        content["agents"] = tuple(map(AgentSpec.parse, content["agents"]))
        content["seeds"], content["measures"] = tuple(content["seeds"]), tuple(content.get("measures", ()))
        if content.get("published"):
            content["published"] = Published(**content["published"])
        content["fast"] = _fast(content.get("fast", {}))
        if content.get("selection"):
            content["selection"] = Selection.from_dict(content["selection"])
        return cls(**content)


def list_suites() -> list[str]:
    """Return the names of the suites that come with shiftgym."""
    root = resources.files("shiftgym.suites")
    with resources.as_file(root) as folder:
        return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml"))


def load_suite(name: str | Path) -> Suite:
    """Read a suite by name, or a TOML file of the user's own by its path.

    Raises
    ------
    ShiftgymError
        If there is no such suite, the file is no TOML, or a key is unknown, missing or of a wrong type.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ShiftgymError(f"suite file {str(path)!r} does not exist")
        label, text = path.stem, path.read_text(encoding="utf-8")
    else:
        label = str(name)
        if label not in list_suites():
            raise UnknownNameError("suite", label, list_suites())
        text = resources.files("shiftgym.suites").joinpath(f"{label}.toml").read_text(encoding="utf-8")
    try:
        return parse_suite(tomllib.loads(text), label)
    except tomllib.TOMLDecodeError as error:
        raise ShiftgymError(f"suite {label!r} is not valid TOML: {error}") from error


def home_traces(env: str) -> tuple[str, str]:
    """Return the two halves of the trace that an environment replays by default, to train on and to replay.

    Raises
    ------
    ShiftgymError
        If there is no such environment, or it names no trace.
    """
    if env not in gymnasium.registry:
        raise UnknownNameError("environment", env, [name for name in gymnasium.registry if name.startswith(NAMESPACE)])
    entry = gymnasium.registry[env].entry_point
    task = getattr(load_env_creator(entry) if isinstance(entry, str) else entry, "task_class", None)
    trace = inspect.signature(task).parameters["trace"].default if task else None
    if not isinstance(trace, str):
        raise ShiftgymError(f"environment {env!r} has no trace of its own: give --train and --test")
    return f"{trace}[:0.5]", f"{trace}[0.5:]"


_TOP = {
    "title": str,
    "agents": list,
    "seeds": list,
    "defaults": dict,
    "scenarios": list,
    "sweeps": list,
    "published": dict,
    "score": str,
    "measures": list,
    "fast": dict,
    "selection": dict,
}
_SETTINGS = ("env_kwargs", "fit", "act")
_COMMON = {"name": str, "env": str, "train": str, "test": str, "shift": str, **dict.fromkeys(_SETTINGS, dict)}
_SCENARIO = {**_COMMON, "sweep": str, "severity": float}
_SWEEP = {**_COMMON, "severities": list}
_OPTIONAL = ("shift", *_SETTINGS, "sweep", "severity")
_FAST = {"seeds": list, "agents": list, "scenarios": list, "settings": dict, "trials": int}
_SELECTION = {"train": str, "test": str, "shifts": list, "seeds": list, "trials": dict, "of": str}
_PUBLISHED = {"source": str, "figures": dict, "measures": dict}


def parse_suite(content: Mapping[str, Any], name: str) -> Suite:
    """Build a suite from the content of its TOML file (see ``suites/quick.toml`` for the form)."""
    where = f"suite {name!r}"
    _check_keys(content, _TOP, where, required=("agents", "seeds"))
    defaults = content.get("defaults", {})
    _check_keys(defaults, _COMMON, f"[defaults] of {where}")
    scenarios = [
        Scenario(**_merged(defaults, table, _SCENARIO, f"[[scenarios]] of {where}"))
        for table in content.get("scenarios", [])
    ]
    for table in content.get("sweeps", []):
        merged = _merged(defaults, table, _SWEEP, f"[[sweeps]] of {where}")
        severities = merged.pop("severities")
        scenarios += sweep_scenarios(Scenario(**merged), severities)
    published = content.get("published")
    if published is not None:
        _check_keys(published, _PUBLISHED, f"[published] of {where}", required=("source", "figures"))
        for figures in (published["figures"], *published.get("measures", {}).values()):
            _check_figures(figures, [scenario.name for scenario in scenarios], where)
    fast = content.get("fast", {})
    _check_keys(fast, _FAST, f"[fast] of {where}")
    selection = content.get("selection")
    if selection is not None:
        selection = _selection(selection, content["agents"], f"[selection] of {where}")
    return Suite(
        name=name,
        title=content.get("title", ""),
        scenarios=tuple(scenarios),
        agents=tuple(map(AgentSpec.parse, content["agents"])),
        seeds=parse_seeds(content["seeds"]),
        published=Published(**published) if published else None,
        score=content.get("score", ""),
        measures=tuple(content.get("measures", ())),
        fast=_fast(fast),
        selection=selection,
    )


def _selection(content: Mapping[str, Any], agents: Sequence[Any], where: str) -> Selection | None:
    """Read a ``[selection]``: one of the suite's own, or that ``of`` another suite, for the agents they share."""
    _check_keys(content, _SELECTION, where)
    if "of" not in content:
        _check_keys(content, _SELECTION, where, required=("train", "test", "trials"))
        return Selection.from_dict(content)
    other = load_suite(content["of"]).selection
    if other is None or len(content) > 1:
        raise ShiftgymError(f"{where}: 'of' names a suite that has a [selection], and stands alone")
    return other.of({str(agent): agent for agent in map(AgentSpec.parse, agents)})


def _fast(content: Mapping[str, Any]) -> Fast:
    return Fast(
        seeds=parse_seeds(content.get("seeds", ())),
        agents=tuple(map(AgentSpec.parse, content.get("agents", ()))),
        scenarios=tuple(content.get("scenarios", ())),
        settings=content.get("settings", {}),
        trials=content.get("trials"),
    )


def parse_seeds(seeds: Iterable[Any]) -> tuple[int, ...]:
    """Check that seeds are whole numbers from 0 up."""
    values = tuple(seeds)
    for seed in values:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ShiftgymError(f"seed {seed!r} is no whole number from 0 up")
    return values


def _merged(defaults: Mapping[str, Any], table: Any, known: Mapping[str, type], where: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ShiftgymError(f"{where}: {table!r} is no table")
    where = f"{table.get('name', 'a nameless one')!r} in {where}"
    _check_keys(table, known, where)
    merged = {**defaults, **table}
    for key in _SETTINGS:
        merged[key] = {**defaults.get(key, {}), **table.get(key, {})}
    required = [key for key in known if key not in _OPTIONAL]
    _check_keys(merged, known, where, required=required)
    if ("sweep" in table) != ("severity" in table):
        raise ShiftgymError(f"{where}: a point of a sweep has both its 'sweep' and its 'severity', the place on it")
    return merged


def sweep_scenarios(scenario: Scenario, severities: Iterable[float]) -> list[Scenario]:
    """Return the scenario once per severity of its shift, as one sweep that has its name."""
    levels = list(severities)
    shifts = severity_sweep(scenario.shift or None, levels)
    return [
        dataclasses.replace(
            scenario,
            name=f"{scenario.name} x{level:g}",
            shift=str(shift),
            sweep=scenario.name,
            severity=float(level),
        )
        for level, shift in zip(levels, shifts, strict=True)
    ]


def _check_figures(figures: Mapping[str, Any], scenarios: Sequence[str], where: str) -> None:
    for method, row in figures.items():
        for scenario, value in row.items() if isinstance(row, dict) else [(method, row)]:
            if scenario not in scenarios:
                raise UnknownNameError(f"scenario in [published] of {where}:", scenario, scenarios)
            if not isinstance(value, int | float):
                raise ShiftgymError(f"[published] of {where}: {method} {scenario} = {value!r} is no number")


def _check_keys(table: Mapping[str, Any], known: Mapping[str, type], where: str, required: Sequence[str] = ()) -> None:
    for key, value in table.items():
        if key not in known:
            raise UnknownNameError(f"key in {where}:", key, known)
        if not isinstance(value, known[key]) and not (known[key] is float and type(value) is int):
            raise ShiftgymError(f"{where}: {key} = {value!r} must be of type {known[key].__name__}")
    for key in required:
        if key not in table:
            raise ShiftgymError(f"{where} lacks {key!r}")
