"""The cells of a run: which agent, fitted how, replays what, and what their results are called on disk."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..data import load_trace
from ..data.trace import Trace
from ..envs.shifts import parse_shift
from .agent_spec import AgentSpec
from .scenario import Scenario, Suite

_SLUG = re.compile(r"[^\w.+-]+")
_FITTED_BY = ("data", "solvers", "envs", "agents")
_SCORED_BY = (*_FITTED_BY, "evaluation")


@dataclass(frozen=True)
class Fit:
    """A training run that any number of cells share.

    Attributes
    ----------
    agent : AgentSpec
        Who is trained.
    seed : int
        With which seed.
    env, train, env_kwargs
        On what, as in :class:`Scenario`.
    device : str
        Where ("cpu", "cuda").
    content : str
        Digest of the training trace and of the code.
    """

    agent: AgentSpec
    seed: int
    env: str
    train: str
    env_kwargs: Mapping[str, Any]
    device: str
    content: str

    @functools.cached_property
    def id(self) -> str:
        """Name on disk, which changes with everything that the fitted agent depends on."""
        return f"{_slug(self.agent.name)}-s{self.seed}-{digest(asdict(self))}"

    @property
    def home(self) -> tuple[str, str, Mapping[str, Any]]:
        """Environment id, trace and keywords of the training environment."""
        return self.env, self.train, self.env_kwargs

    @property
    def label(self) -> str:
        """What a person reads while it runs."""
        return f"fit {self.agent} on {self.train}, seed {self.seed}"


@dataclass(frozen=True)
class Cell:
    """One agent of the suite, as it was fitted, replaying one scenario, that of the seed."""

    agent: AgentSpec
    scenario: Scenario
    fit: Fit
    content: str

    @functools.cached_property
    def id(self) -> str:
        """Name on disk, which changes with everything that the scores depend on."""
        key = {"scenario": asdict(self.scenario), "fit": self.fit.id, "content": self.content}
        return f"{_slug(self.scenario.name)}-{_slug(self.fit.agent.name)}-s{self.fit.seed}-{digest(key)}"

    @property
    def label(self) -> str:
        """What a person reads while it runs."""
        return f"{self.agent} in {self.scenario.name}, seed {self.fit.seed}"


def plan(suite: Suite, traces: Mapping[str, Trace], device: str = "cpu") -> list[Cell]:
    """Return the cells of a suite, scenario by scenario; ``traces`` holds every trace it names."""
    digests = {spec: trace_digest(trace) for spec, trace in traces.items()}
    fit_code, cell_code = code_digest(_FITTED_BY), code_digest(_SCORED_BY)
    cells = []
    for question in suite.scenarios:
        brought_in = [digests[spec] for spec in _brought_in(question.shift)]
        for agent in suite.agents:
            for seed in suite.seeds:
                scenario = question.for_seed(seed)
                fit = Fit(
                    agent=agent.having_by_default(scenario.fit),
                    seed=seed,
                    env=scenario.env,
                    train=scenario.train,
                    env_kwargs=scenario.env_kwargs,
                    device=device,
                    content=digest([digests[scenario.train], fit_code, agent.source_digest()]),
                )
                cells.append(
                    Cell(agent, scenario, fit, content=digest([cell_code, digests[scenario.test], *brought_in]))
                )
    return cells


def load_traces(suite: Suite) -> dict[str, Trace]:
    """Load every trace that the suite names, once and before any worker starts.

    A download then happens once, and a trace that cannot be had stops the run before any work is done. Those
    that shifts bring in are among them.
    """
    scenarios = [scenario.for_seed(seed) for scenario in suite.scenarios for seed in suite.seeds]
    specs = dict.fromkeys(spec for s in scenarios for spec in (s.train, s.test, *_brought_in(s.shift)))
    return {spec: load_trace(spec) for spec in specs}


def _brought_in(shift: str) -> list[str]:
    """Traces that a shift takes from elsewhere."""
    forms = parse_shift(shift or None).to_dict()
    return [form["trace"] for form in ([forms] if isinstance(forms, dict) else forms) if form.get("trace")]


def digest(content: Any) -> str:
    """Short hexadecimal digest of JSON-able content."""
    text = json.dumps(content, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def trace_digest(trace: Trace) -> str:
    """Digest of the numbers that a trace replays."""
    checksum = hashlib.sha256(f"{trace.slot} {trace.outcome_low} {trace.outcome_names} {trace.context_names}".encode())
    for array in (trace.time, trace.outcome, trace.observed, trace.context, trace.shifted):
        checksum.update(np.asarray(array).tobytes())
    return checksum.hexdigest()[:16]


@functools.cache
def code_digest(packages: tuple[str, ...]) -> str:
    """Digest of the version and the source of some of shiftgym's packages: their code is part of a result."""
    checksum = hashlib.sha256(metadata.version("shiftgym").encode())
    for package in packages:
        root = Path(__file__).parents[1] / package
        for path in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".toml")):
            checksum.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return checksum.hexdigest()[:16]


def _slug(text: str) -> str:
    return _SLUG.sub("_", text)[:40]
