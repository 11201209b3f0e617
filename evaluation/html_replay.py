"""The replays that a report in HTML embeds: thinned, cut into stretches worth seeing, and packed."""

from __future__ import annotations

import base64
import itertools
import math
from typing import Any

import numpy as np
import pandas as pd

from ..data.errors import ShiftgymError
from .plots_of_steps import typical
from .results import Run
from .rollout import SHOWN
from .runs import Runs

Array = np.ndarray[Any, Any]

#: Values of one series that a stretch shows at most and at least, and bytes that all replays together may take.
_MOST, _LEAST, _BYTES = 600, 60, 3_000_000
#: Columns of the steps that are shown beside :data:`SHOWN`.
_STEP = ("step_time", "regret", "violation", "shifted")
#: Bytes of a value of one agent: decision, oracle and regret in single precision, in base64, and a rest.
_BYTES_PER_VALUE = 18


class Packed:
    """Arrays in base64, each kept once however often it is put in: agents replay the same outcomes."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._known: dict[str, int] = {}

    def put(self, values: Array, dtype: str = "<f4") -> int:
        """Return the number of an array."""
        text = base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode("ascii")
        if text not in self._known:
            self._known[text] = len(self.texts)
            self.texts.append(text)
        return self._known[text]


def replays(run: Run | Runs) -> dict[str, Any]:
    """Return what the viewer shows, JSON-able.

    Returns
    -------
    dict
        ``scenarios``: by name ``seed``, ``axes``, ``outcome`` and ``stretches``, each with a ``label``, numbers of its
        ``time`` and ``outcome``, and by agent those of decision, oracle, regret and whether a step was violated;
        ``arrays``: the arrays that these numbers stand for; ``left_out``: scenarios for which there was no room.
    """
    packed = Packed()
    table = run.summary
    scenarios = [str(name) for name in table["scenario"].unique()]
    agents = {name: table.loc[table["scenario"] == name, "agent"].astype(str).tolist() for name in scenarios}
    room = _BYTES / _BYTES_PER_VALUE  # values of an agent in a scenario, of all of them together
    points = int(np.clip(room / 2 / max(1, sum(map(len, agents.values()))), _LEAST, _MOST))
    shown: dict[str, Any] = {}
    left_out = []
    for scenario in scenarios:
        room -= len(agents[scenario]) * 2 * points  # the whole replay, and as much for the stretches
        if room < 0 and shown:
            left_out.append(scenario)
        elif replay := _scenario(run, scenario, agents[scenario], points, packed):
            shown[scenario] = replay
    return {"scenarios": shown, "arrays": packed.texts, "left_out": left_out}


def _scenario(run: Run | Runs, scenario: str, agents: list[str], points: int, packed: Packed) -> dict[str, Any] | None:
    """The replay of a scenario by all agents that share its first seed and its steps."""
    seed = min((seeds[0] for seeds in (run.seeds(scenario, agent) for agent in agents) if seeds), default=0)
    steps: dict[str, pd.DataFrame] = {}
    columns: list[str] | None = None
    for agent in agents:
        try:
            read = run.steps(scenario, agent, seed, columns)
        except ShiftgymError:
            continue
        columns = [name for name in read if name in _STEP or name.startswith(SHOWN)]
        first = next(iter(steps.values()), read)
        if np.array_equal(read["step_time"], first["step_time"]):
            steps[agent] = read
    if not steps:
        return None
    first = next(iter(steps.values()))
    slots = sum(name.startswith(SHOWN[0]) for name in first)
    regret = np.mean([table["regret"] for table in steps.values()], axis=0)
    about = run.find(scenario, next(iter(steps)), seed)["about"]
    begin = first["step_time"].to_numpy()
    each = float(np.diff(begin).min()) / slots if len(begin) > 1 else float(about["slot_seconds"])
    onset = _onset(first["shifted"].to_numpy(bool))
    stretches = []
    for label, rows, flat in _stretches(regret, onset, slots, points):
        stretches.append(_stretch(label, {a: t.iloc[rows] for a, t in steps.items()}, slots, each, flat, packed))
    return {
        "seed": int(seed),
        "axes": about["axes"],
        "outcome": about["outcome"][0] if len(about["outcome"]) == 1 else "outcome",
        "onset": None if onset is None else float(begin[onset]),
        "stretches": stretches,
    }


def _onset(shifted: Array) -> int | None:
    """First step under the shift; None where there is no shift or never a step without."""
    return int(np.argmax(shifted)) if shifted.any() and not shifted.all() else None


def _stretches(regret: Array, onset: int | None, slots: int, points: int) -> list[tuple[str, Any, bool]]:
    """Labels, rows, and whether a step is one value, of the whole replay and of what is worth a closer look."""
    steps = len(regret)
    if steps * slots <= points:
        return [("whole replay", slice(None), False)]
    bins = min(steps, points)
    edges = np.linspace(0, steps, bins + 1).astype(int)
    worst = np.array([low + int(np.argmax(regret[low:high])) for low, high in itertools.pairwise(edges)])
    every = math.ceil(steps / bins)
    thinned = f"whole replay, 1 of {every} steps: that of most regret" if every > 1 else "whole replay"
    length = min(steps, max(3, points // (3 * slots)))
    total = np.concatenate(([0.0], np.cumsum(regret)))
    hardest = int(np.argmax(total[length:] - total[:-length]))
    found = [
        (thinned + (", mean over its slots" if slots > 1 else ""), worst, True),
        ("typical regret", typical(regret, length), False),
        ("most regret", slice(hardest, hardest + length), False),
    ]
    if onset is not None:
        start = int(np.clip(onset - length // 2, 0, steps - length))
        found.append(("onset of the shift", slice(start, start + length), False))
    return found


def _stretch(
    label: str, steps: dict[str, pd.DataFrame], slots: int, each: float, flat: bool, packed: Packed
) -> dict[str, Any]:
    """Pack a stretch; ``flat`` shows a step as one value, the mean over its slots."""

    def drawn(table: pd.DataFrame, name: str) -> Array:
        values = table[[f"{name}_{slot}" for slot in range(slots)]].to_numpy(float)
        return values.mean(axis=1) if flat else values.ravel()

    first = next(iter(steps.values()))
    begin = first["step_time"].to_numpy()
    time = begin if flat else (begin[:, None] + each * np.arange(slots)).ravel()
    per_step = slice(None, None, 1 if flat else slots)
    outcome, decision, oracle = SHOWN
    return {
        "label": label,
        "time": packed.put(time, "<f8"),
        "outcome": packed.put(drawn(first, outcome)),
        "step_time": packed.put(time[per_step], "<f8"),
        "agents": {
            agent: {
                "decision": packed.put(drawn(table, decision)),
                "oracle": packed.put(drawn(table, oracle)),
                "regret": packed.put(table["regret"].to_numpy()),
                "violated": packed.put(table["violation"].to_numpy(bool), "u1"),
            }
            for agent, table in steps.items()
        },
    }
