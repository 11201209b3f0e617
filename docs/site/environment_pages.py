"""One page per registered environment: what it models, its equations, spaces and data, and a picture."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from common import note, options, suite_table, suites, summary, table
from matplotlib.image import imsave

import shiftgym  # noqa: F401 (registers the environments)
from shiftgym.agents import make_agent
from shiftgym.data.spec import parse_spec
from shiftgym.evaluation.scenario import NAMESPACE

#: Decided values that a picture shows, at least.
_SHOWN = 48


def made() -> dict[str, Callable[[], str | bytes]]:
    """A page and a picture of each environment."""
    pages: dict[str, Callable[[], str | bytes]] = {}
    for env_id in environments():
        name = short(env_id)
        pages[f"environments/{name}.md"] = lambda env_id=env_id: _page(env_id)
        pages[f"img/environments/{name}.png"] = lambda env_id=env_id: _picture(env_id)
    return pages


def environments() -> list[str]:
    """Ids of the environments of shiftgym."""
    return [name for name in gymnasium.registry if name.startswith(NAMESPACE)]


def short(env_id: str) -> str:
    """Name of an environment without namespace and version."""
    return env_id.removeprefix(NAMESPACE).rpartition("-v")[0]


def _page(env_id: str) -> str:
    env = gymnasium.make(env_id)
    task = env.unwrapped.task
    home, problem = type(task), type(task.problem)
    module = inspect.getmodule(home)
    assert module is not None
    told = summary(module).rpartition("``: ")[2]
    return "\n".join(
        [
            f"# {short(env_id)}",
            "",
            f"{told[:1].upper()}{told[1:]}",
            "",
            f"![A replay of {short(env_id)}: outcome, decision, oracle](../img/environments/{short(env_id)}.png)",
            "",
            f"*`{env_id}` on `{task.source.name}`, decided by `persistence`, as `env.render()` draws it.*",
            "",
            note("environments", module.__name__.rpartition(".")[2]),
            "## Spaces",
            "",
            _spaces(env),
            "## Options",
            "",
            f'`gymnasium.make("{env_id}", …)`; the rest are constants of the problem, below.',
            "",
            options(home, _defaults(home)),
            "## Problem",
            "",
            f"::: {problem.__module__}.{problem.__qualname__}",
            "    options: {heading_level: 3, members: false}",
            "",
            _data(env_id, task),
        ]
    )


def _defaults(task: type) -> dict[str, object]:
    """The keywords of an environment and their defaults, those of its problem left out."""
    keywords = inspect.signature(task).parameters.values()
    return {key.name: key.default for key in keywords if key.kind is not key.VAR_KEYWORD}


def _spaces(env: Any) -> str:
    """What is seen, done and told, as the environment says it of its default form."""
    task, problem, space = env.unwrapped.task, env.unwrapped.task.problem, env.action_space
    layout, trace = task.layout, task.source
    units = ", ".join(dict.fromkeys(trace.outcome_units))
    seen = [f"{layout.lookback} × {layout.columns} readings"]
    seen += [f"{layout.context} context"] if layout.context else []
    seen += [f"{layout.previous} state"] if layout.previous else []
    low, high = (f"{np.min(edge):g}" for edge in (space.low, space.high))
    high = high if np.min(space.high) == np.max(space.high) else f"{high} to {np.max(space.high):g}"
    rows = [
        ("Observation", f"float32, shape {env.observation_space.shape}: {', '.join(seen)}"),
        ("Action", f"float32, shape {space.shape}, in [{low}, {high}]"),
        ("Outcome", f"{problem.outcome_dim} × {units}" if problem.outcome_dim > 1 else units),
        ("Reward", "minus the cost of the step"),
        ("Projected", f"a request that breaks {_families(problem, problem.hard_families)}"),
        ("Measured", _families(problem, problem.soft_families)),
        ("`info`", ", ".join(f"`{key}`" for key in env.reset(seed=0)[1])),
    ]
    return table(("", "By default"), [row for row in rows if row[1]])


def _families(problem: Any, families: tuple[str, ...]) -> str:
    units = problem.units
    return ", ".join(f"`{name}`" + (f" ({units[name]})" if units.get(name) else "") for name in families)


def _data(env_id: str, task: Any) -> str:
    used = [suite for suite in suites() if any(s.env == env_id for s in suite.scenarios)]
    scenarios = [s.for_seed(0) for suite in used for s in suite.scenarios if s.env == env_id]
    names = dict.fromkeys(parse_spec(spec).name for s in scenarios for spec in (s.train, s.test))
    told = f"By default it replays `{task.source.name}`, which needs no download. "
    told += f"The suites replay {', '.join(f'`{name}`' for name in names)}: [traces](../data.md)." if names else ""
    return "\n".join(["## Data", "", told, "", suite_table(used)])


def _picture(env_id: str) -> bytes:
    """The first episode as persistence decides it, or so much of it as there is to see."""
    env = gymnasium.make(env_id, render_mode="rgb_array")
    agent = make_agent("persistence").fit(env)
    observation, _ = env.reset(seed=0)
    steps = max(3, -(-_SHOWN // env.unwrapped.task.problem.outcome_dim))
    for _ in range(steps):
        observation, _, terminated, truncated, _ = env.step(agent.act(observation[None])[0])
        if terminated or truncated:
            break
    buffer = io.BytesIO()
    imsave(buffer, env.render(), format="png")
    env.close()
    return buffer.getvalue()
