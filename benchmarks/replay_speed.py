"""Replay speed as a multiple of CartPole-v1, in the same run on the same machine.

    python benchmarks/replay_speed.py [--seconds 3]

Steps of ``shiftgym/Provisioning-v0`` with shift, cost, oracle and info on, single and natively batched, against
``CartPole-v1`` single; CartPole's own native vector stands beside them. Episodes are restarted as they end, actions
are drawn beforehand, and the environments take turns so that a change of the machine's speed hits all alike.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import gymnasium
from rich.console import Console
from rich.table import Table

import shiftgym  # noqa: F401  (registers the environments)

KEYWORDS = {"trace": "synthetic-azure-2023-conv@2s", "shift": "gaussian(scale=0.1) | scale(factor=1.3, onset=0.5)"}
ID = "shiftgym/Provisioning-v0"
GOALS = {"Provisioning single": 1.0, "Provisioning native 64": 12.0, "Provisioning native 1024": 60.0}


def make(name: str) -> Any:
    kind, _, form = name.partition(" ")
    spec, keywords = ("CartPole-v1", {}) if kind == "CartPole" else (ID, KEYWORDS)
    if form == "single":
        return gymnasium.make(spec, **keywords)
    count = int(form.rsplit(" ", 1)[-1])
    return gymnasium.make_vec(spec, num_envs=count, vectorization_mode="vector_entry_point", **keywords)


def steps_per_second(env: Any, seconds: float) -> float:
    """Environment steps per second of wall time, restarts included."""
    count = getattr(env, "num_envs", 0)
    actions = [env.action_space.sample() for _ in range(64)]
    env.reset(seed=0)
    steps, start = 0, time.perf_counter()
    while True:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if not count and (terminated or truncated):
                env.reset()
        steps += len(actions) * max(count, 1)
        elapsed = time.perf_counter() - start
        if elapsed > seconds:
            return steps / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="per environment (default 3)")
    parser.add_argument("--rounds", type=int, default=7, help="turns that each environment takes (default 7)")
    options = parser.parse_args()
    names = ["CartPole single", *GOALS, "CartPole native 64", "CartPole native 1024"]
    envs = {name: make(name) for name in names}
    rounds = [
        {name: steps_per_second(env, options.seconds / options.rounds) for name, env in envs.items()}
        for _ in range(options.rounds)
    ]
    table = Table(title=f"Replay speed, median of {options.rounds} rounds")
    for heading in ("environment", "steps/s", "multiple of CartPole single", "goal"):
        table.add_column(heading, justify="left" if heading == "environment" else "right")
    for name in names:
        speed = median(one[name] for one in rounds)
        multiple = median(one[name] / one["CartPole single"] for one in rounds)
        goal = GOALS.get(name)
        table.add_row(name, f"{speed:,.0f}", f"{multiple:.2f}", f">= {goal:g}" if goal else "")
    times = []
    for _ in range(20):
        start = time.perf_counter()
        gymnasium.make(ID, **KEYWORDS)
        times.append(time.perf_counter() - start)
    Console().print(table)
    print(f"construction of an environment, trace cached: median {median(times) * 1e3:.1f} ms (goal < 200 ms)")


if __name__ == "__main__":
    main()
