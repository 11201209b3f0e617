"""Time and memory of training 3D-Learning on as many sequences as in the paper, relative to plain DFL in the same run.

    python benchmarks/three_d_training.py

751 decision points with 28 slots of history each, on one thread, CPU seconds. The peer is ``dfl`` with the same network
and as many passes over as many samples; what 3D-Learning adds are the reference model and the worst cases. The goal is
three minutes and a gigabyte.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import time
from typing import Any

import gymnasium
from printing import figures, show

import shiftgym  # noqa: F401 (registers the environments)
from shiftgym.agents import make_agent
from shiftgym.agents.threads import single_thread
from shiftgym.evaluation.effort import measure

SEQUENCES, LOOKBACK = 751, 28
SECONDS, MEGABYTES = 180, 1000


def trained(name: str, **settings: Any) -> tuple[float, float]:
    """CPU seconds and megabytes of a fit."""
    window = f"synthetic-azure-2023-conv@2s[0:{SEQUENCES + LOOKBACK}]"
    env = gymnasium.make("shiftgym/Provisioning-v0", trace=window, lookback=LOOKBACK)
    agent = make_agent(name, validation=0.0, **settings)
    assert len(env.unwrapped.task) == SEQUENCES
    with single_thread(), measure() as effort:
        began = time.process_time()
        agent.fit(env)
        seconds = time.process_time() - began
    return seconds, effort.memory_mb


def main() -> None:
    robust: Any = make_agent("three-d")
    trained("dfl", epochs=1)  # loads what the first fit of a process loads
    peer = trained("dfl", epochs=robust.epochs * robust.passes)
    table = figures(
        f"Training on {SEQUENCES} sequences, one thread", "", "CPU s", "times dfl", "goal", "MB", "goal, MB"
    )
    table.add_row("dfl", f"{peer[0]:.1f}", "1.0", "", f"{peer[1]:.0f}", "")
    for label, settings in (("three-d", {}), ("three-d, no adversary", {"inner_epochs": 0})):
        seconds, memory = trained("three-d", **settings)
        goals = (str(SECONDS), f"{memory:.0f}", str(MEGABYTES))
        table.add_row(label, f"{seconds:.1f}", f"{seconds / peer[0]:.1f}", *goals)
    show(table)


if __name__ == "__main__":
    main()
