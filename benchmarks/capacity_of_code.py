"""How the collapse on the code trace depends on the capacity that its workload is divided by.

    python benchmarks/capacity_of_code.py [--seeds 3]

A ``dfl`` agent is trained on the first half of the 2023 conversation trace (2 s slots) and replays the code trace with
its workload in units of different capacities. One fleet serves both services in our suites, so both are divided by the
training trace's largest slot. Dividing each trace by a scale of its own makes the code look small to the agent, which
then holds far too much: that alone moves the normalised regret from about a half to above one. Persistence has no
scale and does not move.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium
import numpy as np
from printing import figures, show

import shiftgym
from shiftgym.agents import Agent, make_agent

TRAIN, TEST = "azure-2023-conv@2s[:0.5]", "azure-2023-code@2s"


def make(trace: str, capacity: float | None = None) -> Any:
    return gymnasium.make("shiftgym/Provisioning-v0", trace=trace, capacity=capacity)


def normalised_regret(agent: Agent, env: Any) -> float:
    task = env.unwrapped.task
    observations, outcomes = task.dataset()
    cost = task.problem.cost(outcomes, task.problem.project(agent.act(observations)))
    return float((cost.mean() - task.oracle_costs.mean()) / abs(task.oracle_costs.mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    train = make(TRAIN)
    agents = [make_agent("dfl", seed=seed).fit(train) for seed in range(parser.parse_args().seeds)]
    persistence = make_agent("persistence").fit(train)
    code, conversation = (shiftgym.data.load_trace(name).outcome[:, 0] for name in (TEST, TRAIN))
    fleet = train.unwrapped.task.capacity
    capacities = {"one fleet: the largest slot of the training trace (ours)": fleet}
    for level in (0.95, 0.99, 0.995, 1.0):  # both traces in units of their own quantile, seen from the training scale
        ratio = np.quantile(code, level) / np.quantile(conversation, level)
        capacities[f"each trace by its own {level:.1%} quantile"] = fleet * float(ratio)
    headings = ("capacity", "code / training scale", "dfl (mean, sd over seeds)", "persistence")
    table = figures(f"Normalised regret on {TEST}, trained on {TRAIN}", *headings)
    for name, capacity in capacities.items():
        test = make(TEST, capacity)
        regrets = [normalised_regret(agent, test) for agent in agents]
        naive = normalised_regret(persistence, test)
        table.add_row(
            name, f"{capacity / fleet:.2f}", f"{np.mean(regrets):.3f} ({np.std(regrets):.3f})", f"{naive:.3f}"
        )
    show(table)


if __name__ == "__main__":
    main()
