"""Speed of the data-center environments: a 30-day episode of three centers, and steps per second by the hour.

    OMP_NUM_THREADS=1 python benchmarks/data_center_replay.py

Prints milliseconds per day (schedule, settlement, oracle), seconds of a 30-day episode, and steps per second of a
single hourly environment and of 64 in a vector. Days are timed by the process, so that other work on the machine counts
less; of hours the fastest twentieth is given too, which is what a step takes when nothing interrupts it.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np

import shiftgym  # noqa: F401 (registers the environments)

TRACE = "synthetic-datacenter[2021-01-01:2021-04-01]"
MARGINS = (0.7, 1.3)  # on what plants gave the day before, and on what arrived


def daily(integer: bool) -> tuple[float, float]:
    """Seconds of 30 days, and mean cost of a day [1000 $], with levels a margin away from the day before."""
    env: Any = gymnasium.make(
        "shiftgym/DataCenter-v0", trace=TRACE, integer=integer, disable_env_checker=True
    ).unwrapped
    observation, _ = env.reset(seed=0)
    plants = env.task.problem.rows["renewables"] * env.task.problem.fleet.slots
    begin, cost, done = time.process_time(), 0.0, False
    while not done:
        levels = env.task.layout.history(observation)[-1].astype(float)
        levels[:plants] *= MARGINS[0]
        levels[plants:] *= MARGINS[1]
        observation, reward, terminated, truncated, _ = env.step(levels)
        cost -= reward / 30
        done = terminated or truncated
    return time.process_time() - begin, cost


def hourly(rows: int, oracle: bool, steps: int) -> str:
    """Steps per second, of all rows together, with sampled actions."""
    keywords: dict[str, Any] = {"trace": TRACE, "oracle": oracle}
    if rows:
        env: Any = gymnasium.make_vec("shiftgym/DataCenterHourly-v0", num_envs=rows, **keywords)
    else:
        env = gymnasium.make("shiftgym/DataCenterHourly-v0", disable_env_checker=True, **keywords).unwrapped
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(50)]
    if oracle:  # days are scheduled once, when they are first met
        env.task.observe(np.arange(len(env.task)), np.full((len(env.task), env.task.problem.state_dim), np.nan))
    seconds = np.empty(steps)
    for step in range(steps):
        begin = time.perf_counter()
        _, _, terminated, truncated, _ = env.step(actions[step % 50])
        seconds[step] = time.perf_counter() - begin
        if not rows and (terminated or truncated):
            env.reset()
    typical, fastest = max(rows, 1) / np.quantile(seconds, [0.5, 0.05])
    return f"{typical:,.0f} steps/s (median), {fastest:,.0f} (fastest twentieth)"


if __name__ == "__main__":
    for integer in (True, False):
        seconds, cost = daily(integer)
        kind = "whole instances" if integer else "relaxation"
        print(f"30 days, D = 3, {kind}: {seconds:.2f} s, {1e3 * seconds / 30:.0f} ms a day, {1000 * cost:,.0f} $ a day")
    print("hourly, single, without oracle:", hourly(0, False, 6000))
    print("hourly, single, oracle of days met before:", hourly(0, True, 6000))
    print("hourly, vector of 64, without oracle:", hourly(64, False, 500))
