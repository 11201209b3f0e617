"""Replay speed as a multiple of CartPole-v1, in the same run on the same machine.

    python benchmarks/replay_speed.py [--seconds 3] [--envs Provisioning Portfolio]

Steps of every environment with shift, cost, oracle and info on, single and natively batched, against ``CartPole-v1``
single; CartPole's own native vector stands beside them. Episodes are restarted as they end, actions are drawn
beforehand and are feasible, as those of an agent with a solver are; a second row per environment has any actions, which
the environment projects. The environments take turns so that a change of the machine's speed hits all alike.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import gymnasium
from printing import figures, show
from rich.progress import track

import shiftgym  # noqa: F401  (registers the environments)

SHIFT = "gaussian(scale=0.1) | scale(factor=1.3, onset=0.5)"
TRACES = {
    "Provisioning": "synthetic-azure-2023-conv@2s",
    "PowerScheduling": "synthetic-pjm-duq",
    "Portfolio": "synthetic-sp500",
    "ProductAllocation": "allocation",
    "Inventory": "inventory-k3",
}
FORMS = ("single", "native 64", "native 1024")
GOALS = {"Provisioning": (1.0, 12.0, 60.0)}
GOALS_OF_OTHERS = (0.5, None, 40.0)
CARTPOLE = "CartPole"


def make(name: str, form: str) -> Any:
    keywords = {} if name == CARTPOLE else {"trace": TRACES[name], "shift": SHIFT}
    spec = "CartPole-v1" if name == CARTPOLE else f"shiftgym/{name}-v0"
    if form == "single":
        return gymnasium.make(spec, **keywords)
    count = int(form.rsplit(" ", 1)[-1])
    return gymnasium.make_vec(spec, num_envs=count, vectorization_mode="vector_entry_point", **keywords)


def draw_actions(env: Any, feasible: bool) -> list[Any]:
    """Actions of the environment's type for 64 steps."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]
    if not feasible:
        return actions
    problem = env.unwrapped.task.problem
    return [problem.project(action.astype(float)).astype(action.dtype) for action in actions]


def steps_per_second(env: Any, actions: list[Any], seconds: float) -> float:
    """Environment steps per second of wall time, restarts included."""
    count = getattr(env, "num_envs", 0)
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
    parser.add_argument("--seconds", type=float, default=2.0, help="per row of the table (default 2)")
    parser.add_argument("--rounds", type=int, default=7, help="turns that each environment takes (default 7)")
    parser.add_argument("--envs", nargs="+", choices=TRACES, default=list(TRACES), help="which (default all)")
    options = parser.parse_args()
    names = [CARTPOLE, *options.envs]
    envs = {(name, form): make(name, form) for name in names for form in FORMS}
    actions = {(*key, True): draw_actions(env, key[0] != CARTPOLE) for key, env in envs.items()}
    actions |= {(*key, False): draw_actions(env, False) for key, env in envs.items() if key[0] != CARTPOLE}
    rounds = [
        {
            key: steps_per_second(envs[key[:2]], given, options.seconds / options.rounds)
            for key, given in actions.items()
        }
        for _ in track(range(options.rounds), description="rounds", transient=True)
    ]
    table = figures(
        f"Replay speed, median of {options.rounds} rounds",
        "environment",
        "actions",
        "steps/s",
        "multiple of CartPole single",
        "goal",
        words=2,
    )
    for key in sorted(actions, key=lambda key: names.index(key[0])):
        name, form, feasible = key
        speed = median(one[key] for one in rounds)
        multiple = median(one[key] / one[CARTPOLE, "single", True] for one in rounds)
        goals = (None,) * 3 if name == CARTPOLE else GOALS.get(name, GOALS_OF_OTHERS)
        goal = goals[FORMS.index(form)] if feasible else None
        kind = "" if name == CARTPOLE else "feasible" if feasible else "any, projected"
        table.add_row(f"{name} {form}", kind, f"{speed:,.0f}", f"{multiple:.2f}", f">= {goal:g}" if goal else "")
    show(table)
    for name in options.envs:
        times = []
        for _ in range(10):
            start = time.perf_counter()
            make(name, "single")
            times.append(time.perf_counter() - start)
        print(f"construction of {name}, trace cached: median {median(times) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
