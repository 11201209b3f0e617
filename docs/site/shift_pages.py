"""One page per registered shift: its parameters, and a picture of what it does to a trace."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from common import BLUE, INK, note, svg, table
from docstrings import markdown

from shiftgym.agents import make_agent
from shiftgym.data import Trace, load_trace
from shiftgym.envs.shifts import AdversarialShift, Shift, describe_shifts, parse_shift
from shiftgym.envs.shifts.base import SingleShift
from shiftgym.envs.shifts.registry import _SHIFTS
from shiftgym.evaluation.rollout import TestBench
from shiftgym.evaluation.scenario import Scenario

#: What is shifted in the picture: two weeks of load by the hour,
_TRACE = "synthetic-pjm-duq[2010-07-05:2010-07-19]"
#: a request log and another where a shift takes from a second trace,
_PAIR = ("synthetic-azure-2023-conv@10s[0:168]", "synthetic-azure-2023-code@10s[0:168]")
#: the log alone where an agent is attacked; and what the defaults would not show.
_SHOWN = {
    "correlation": ("synthetic-sp500-20[0:168]", "correlation(share=0.8)"),
    "daylight": ("synthetic-pjm-duq[2010-07-05:2010-07-08]", "daylight"),
    "cutout": (_TRACE, "cutout(p=0.05)"),
    "clip": (_TRACE, "clip(quantile=0.8)"),
    "tilt": (_TRACE, "tilt(kl=0.5, block=24, statistic=max)"),
    "wasserstein-ball": (_PAIR[0], "wasserstein-ball(budget=0.5, directions=16)"),
    "worst-case-diffusion": (_PAIR[0], "worst-case-diffusion(budget=0.5, rounds=2)"),
}


def made() -> dict[str, Callable[[], str | bytes]]:
    """A page and a picture of each shift."""
    pages: dict[str, Callable[[], str | bytes]] = {}
    for row in describe_shifts():
        name = row["name"]
        pages[f"shifts/{name}.md"] = lambda row=row: _page(row)
        pages[f"img/shifts/{name}.svg"] = lambda name=name: _picture(name)
    return pages


def _page(row: dict[str, str]) -> str:
    name, cls = row["name"], _SHIFTS[row["name"]]
    trace, text = shown(name)
    rest = inspect.cleandoc(cls.__doc__ or "").partition("\n")[2].strip()
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{row['models']}.",
            "",
            f"![{name}: a trace as it was and as it is shifted](../img/shifts/{name}.svg)",
            "",
            f"*`{parse_shift(text)}` on `{trace}`: left the trace as it was (grey) and shifted (blue), right what"
            " became of its values.*",
            "",
            markdown(rest, f"{cls.__module__}.{cls.__qualname__}"),
            "",
            note("shifts", name),
            "## Parameters",
            "",
            parameters(cls),
            "`onset`, `severity` and `channel` are those of [every shift](../shifts.md).",
            "",
            f"Family: {row['family']}." + (f" Source: {row['source']}." if row["source"] else ""),
            "",
        ]
    )


def parameters(cls: type[SingleShift]) -> str:
    """Return the parameters that a shift has of its own."""
    common = {field.name for field in dataclasses.fields(SingleShift)}
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    rows = [
        (
            f"`{name}`",
            "required" if defaults[name] is dataclasses.MISSING else f"`{defaults[name]}`",
            spec.expected,
            "" if spec.identity is None else f"{spec.identity:g}",
            spec.doc,
        )
        for name, spec in cls.parameters().items()
        if name not in common
    ]
    return table(("Name", "Default", "Value", "Changes nothing at", "Meaning"), rows)


def shown(name: str) -> tuple[str, str]:
    """Return the trace and the text of the shift that a picture shows: its defaults unless they show nothing."""
    if name in _SHOWN:
        return _SHOWN[name]
    fields = _SHIFTS[name].parameters()
    if "trace" in fields:
        return _PAIR[0], f"{name}(trace={_PAIR[1]})"
    return _TRACE, name


@functools.cache
def shifted(name: str) -> tuple[Trace, Trace]:
    """Return the trace of a shift's picture, as it was and shifted."""
    spec, text = shown(name)
    before = load_trace(spec)
    shift: Shift = parse_shift(text)
    if not isinstance(shift, AdversarialShift):
        return before, shift.apply(before, np.random.default_rng(0))
    scenario = Scenario(name, "shiftgym/Provisioning-v0", train=_PAIR[0], test=spec, shift=text)
    home = TestBench.make(dataclasses.replace(scenario, shift=""), 0)
    agent = make_agent("persistence").fit(home.env)
    return before, TestBench.make(scenario, 0, agent).env.task.trace


def _picture(name: str) -> bytes:
    before, after = shifted(name)
    changed = not np.array_equal(before.outcome, after.outcome)
    old, new = (trace.outcome if changed else trace.observed for trace in (before, after))
    label = f"{'value' if changed else 'reading'} ({before.outcome_units[0]})"

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(3, 1))
        for values, colour in ((old, INK), (new, BLUE)):
            left.step(np.arange(len(values)), values[:, 0], where="post", color=colour, lw=1.1, alpha=0.9)
        left.set(xlabel="slot", ylabel=label)
        if old.shape[1] > 1:
            for values, colour in ((old, INK), (new, BLUE)):
                right.plot(values[:, 0], values[:, 1], ".", color=colour, ms=3)
            right.set(xlabel=before.outcome_names[0], ylabel=before.outcome_names[1])
        else:
            for values, colour in ((old, INK), (new, BLUE)):
                right.plot(np.sort(values[:, 0]), np.linspace(0, 1, len(values)), color=colour)
            right.set(xlabel=label, ylabel="share below")

    return svg(8.0, 2.6, draw)
