"""The text form of an agent, ``name(key=value, ...)``, as suites and the command line write it."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..agents import Agent, agent_class, list_agents, make_agent, register_agent
from ..data.errors import ShiftgymError, UnknownNameError

#: What a policy of stable-baselines3 begins with; its path follows.
_ZIP = "sb3:"
_FORM = re.compile(r"\s*([A-Za-z][\w.:-]*)\s*(?:\((.*)\))?\s*", re.DOTALL)


@dataclass(frozen=True)
class AgentSpec:
    """Which agent to make, and with which settings.

    Parameters
    ----------
    name : str
        A name of :func:`shiftgym.agents.list_agents`, or ``module:Class`` for a class of the user's own. The text form
        ``sb3:PATH`` is short for ``sb3(path='PATH')``.
    kwargs : mapping
        Keywords of its constructor except ``seed``; numbers, strings, booleans, None, and lists of these.

    Examples
    --------
    >>> spec = AgentSpec.parse("dfl(epochs=3, lr=1e-3)")
    >>> spec.name, spec.kwargs
    ('dfl', {'epochs': 3, 'lr': 0.001})
    >>> str(spec)
    'dfl(epochs=3, lr=0.001)'
    """

    name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | AgentSpec) -> AgentSpec:
        """Read the text form.

        Raises
        ------
        ShiftgymError
            If the text has another form, a value is no literal, or the seed is set here.
        """
        if isinstance(text, AgentSpec):
            return text
        if text.strip().startswith(_ZIP):
            return cls("sb3", {"path": text.strip().removeprefix(_ZIP)})
        match = _FORM.fullmatch(text)
        if match is None:
            raise ShiftgymError(
                f"agent {text!r} has no form such as 'saa', 'dfl(epochs=3)', 'module:Class' or 'sb3:path.zip'"
            )
        try:
            call = ast.parse(f"_({match[2] or ''})", mode="eval").body
            assert isinstance(call, ast.Call)
            if call.args or any(keyword.arg is None for keyword in call.keywords):
                raise ValueError("give settings by name")
            kwargs = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
            json.dumps(kwargs)
        except (SyntaxError, ValueError, TypeError) as error:
            raise ShiftgymError(
                f"agent {text!r}: its settings must read like epochs=3, name='x' (numbers, strings, True, "
                f"False, None, lists): {error}"
            ) from None
        if "seed" in kwargs:
            raise ShiftgymError(f"agent {text!r}: the seed comes from the run's seeds; leave it out here")
        return cls(match[1], kwargs)

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in self.kwargs.items())
        return f"{self.name}({settings})" if settings else self.name

    def agent_class(self) -> type[Agent]:
        """Return the class; one of the user's own is imported and registered under ``module:Class``.

        Raises
        ------
        ShiftgymError
            If there is no such agent or class.
        """
        if ":" in self.name and self.name not in list_agents():
            register_agent(self.name)(_imported(self.name))
        return agent_class(self.name)

    def make(self, seed: int = 0) -> Agent:
        """Make the agent, not yet fitted.

        Raises
        ------
        ShiftgymError
            If there is no such agent or class, or it takes no such setting.
        """
        self.agent_class()
        if self.name == "sb3" and not Path(self.kwargs.get("path", "")).is_file():
            raise ShiftgymError(f"agent {str(self)!r}: there is no such file; write sb3:PATH of a zip that SB3 saved")
        try:
            return make_agent(self.name, seed=seed, **self.kwargs)
        except TypeError as error:
            raise ShiftgymError(f"agent {str(self)!r}: {error}") from error

    def settings(self) -> list[str]:
        """Return the names of the hyper-parameters that a specification may set."""
        return [item.name for item in fields(self.agent_class()) if item.init and item.name != "seed"]

    def having(self, settings: Mapping[str, Any]) -> AgentSpec:
        """Return the agent with those of the settings that it has."""
        known = self.settings()
        return replace(self, kwargs={**self.kwargs, **{k: v for k, v in settings.items() if k in known}})

    def having_by_default(self, settings: Mapping[str, Any]) -> AgentSpec:
        """Return the agent with those of the settings that it has and does not set itself."""
        return self.having({name: value for name, value in settings.items() if name not in self.kwargs})

    def source_digest(self) -> str:
        """Digest of the file of the user's own that the agent comes from; empty for the agents of shiftgym."""
        if self.name == "sb3":
            file = Path(self.kwargs["path"])
        elif ":" in self.name:
            self.agent_class()
            file = Path(inspect.getfile(sys.modules[self.name.partition(":")[0]]))
        else:
            return ""
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def check_settings(
    settings: Mapping[str, Any], agents: Iterable[AgentSpec], where: str, *, left_out: bool = False
) -> None:
    """Check settings that are for whichever agent has them.

    Parameters
    ----------
    settings : mapping
        Values by name.
    agents : iterable of AgentSpec
        Who takes part.
    where : str
        Where the settings stand, for the message.
    left_out : bool
        Whether a setting may be for an agent of shiftgym that was left out.

    Raises
    ------
    ShiftgymError
        If no agent has one of them, or one that has it does not take the value.
    """
    if not settings:
        return
    agents = list(agents)
    known = [name for agent in agents for name in agent.settings()]
    if left_out and not set(settings) <= set(known):
        known += [name for agent in map(AgentSpec, list_agents()) for name in agent.settings()]
    for name in settings:
        if name not in known:
            raise UnknownNameError(f"hyper-parameter in {where}:", name, list(dict.fromkeys(known)))
    for agent in agents:
        agent.having(settings).make()


def _imported(name: str) -> type[Agent]:
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last, so that a folder named like an installed package hides nothing
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ShiftgymError(f"agent {name!r} cannot be imported: {error}; write module:Class") from error
    if not (isinstance(found, type) and issubclass(found, Agent)):
        raise ShiftgymError(f"agent {name!r} is no subclass of shiftgym.agents.Agent")
    return found


def split_agents(texts: Iterable[str]) -> list[str]:
    """Split texts such as ``"saa, dfl(epochs=3, hidden=[8, 4])"`` at the commas outside brackets."""
    parts: list[str] = []
    for text in texts:
        depth, part = 0, ""
        for letter in text:
            depth += (letter in "([") - (letter in ")]")
            if letter == "," and depth == 0:
                parts, part = [*parts, part], ""
            else:
                part += letter
        parts.append(part)
    return [part.strip() for part in parts if part.strip()]
