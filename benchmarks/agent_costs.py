"""CPU seconds that each agent takes to fit and to decide, with its default settings, on one thread.

    python benchmarks/agent_costs.py [AGENT ...]

Prints the table of ``docs/agents.md``: fitted on 300 decision points of ``Provisioning`` with 28 slots of history each,
then asked for 1000 decisions at once, the median of five times. An agent that does not take this environment is left
out. ``dfl`` is the measure, taken before and after each of the others, as what else a machine does changes by the
minute; its own time is in the last line.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import statistics
import sys
import time
from typing import Any

import gymnasium
import numpy as np

import shiftgym  # noqa: F401 (registers the environments)
from shiftgym.agents import list_agents, make_agent
from shiftgym.agents.threads import single_thread
from shiftgym.data.errors import ShiftgymError
from shiftgym.evaluation.machine import describe

POINTS, LOOKBACK, DECISIONS = 300, 28, 1000


def costs(name: str, env: Any) -> tuple[float, float]:
    """CPU seconds of a fit, and of a thousand decisions."""
    task = env.unwrapped.task
    observations, outcomes = task.dataset()
    began = time.process_time()
    agent = make_agent(name).fit(env)
    fitted = time.process_time() - began
    seen = outcomes if agent.clairvoyant else observations
    rows = np.resize(seen, (DECISIONS, seen.shape[1]))
    decided = []
    for _ in range(5):
        began = time.process_time()
        agent.act(rows)
        decided.append(time.process_time() - began)
    return fitted, statistics.median(decided)


def main(names: list[str]) -> None:
    """Print a row per agent."""
    env = gymnasium.make("shiftgym/Provisioning-v0", trace=f"synthetic-azure-2023-conv@10s[0:{POINTS + LOOKBACK}]")
    with single_thread():
        costs("two-stage", env)  # what is loaded and compiled once
        before = first = costs("dfl", env)[0]
        print("| Agent | Fit, in fits of `dfl` | 1000 decisions, ms |\n|---|---|---|")
        for name in names or list_agents():
            try:
                fitted, decided = costs(name, env)
            except ShiftgymError:
                continue  # made for another environment
            after = costs("dfl", env)[0] if fitted > before / 20 else before
            print(f"| `{name}` | {2 * fitted / (before + after):.2g} | {1000 * decided:.2g} |", flush=True)
            before = after
    print(f"\n`dfl` fits in {first:.1f} s of one core: {describe()['machine']['cpu']}")


if __name__ == "__main__":
    main(sys.argv[1:])
