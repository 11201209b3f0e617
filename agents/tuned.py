"""Hyper-parameters of the reinforcement learners by environment.

``benchmarks/reinforcement_settings.py`` is how they were chosen, on the last fifth of the training traces.
A day of a data center has those that all share, with fewer steps, as each takes a schedule.
"""

from __future__ import annotations

from typing import Any

from ..solvers import DecisionProblem

#: What every environment shares unless it says otherwise.
SHARED: dict[str, dict[str, Any]] = {
    "ppo": {"steps": 60_000, "hidden": (64, 64), "learning_rate": 1e-3, "anchor": "persistence", "reach": 3.0},
    "sac": {"steps": 20_000, "hidden": (64, 64), "learning_rate": 1e-3, "anchor": "persistence", "reach": 3.0},
    "td3": {"steps": 20_000, "hidden": (64, 64), "learning_rate": 1e-3, "anchor": "persistence", "reach": 3.0},
}

#: What differs, by problem and algorithm. Where the last outcome says little of the next, actions are deviations from
#: the best constant decision.
TUNED: dict[str, dict[str, dict[str, Any]]] = {
    "Provisioning": {
        "ppo": {"learning_rate": 3e-4, "anchor": "saa", "reach": 1.5},
        "sac": {"anchor": "saa", "reach": 1.5},
        "td3": {"anchor": "saa", "reach": 1.5},
    },
    "PowerScheduling": {"ppo": {"steps": 120_000}},
    "Portfolio": {name: {"anchor": "saa", "reach": 0.5} for name in SHARED},
    "ProductAllocation": {name: {"anchor": "saa", "reach": 0.5} for name in SHARED},
    "Inventory": {name: {"anchor": "saa", "reach": 1.5} for name in SHARED},
    "DataCenter": {"ppo": {"steps": 6_000}, "sac": {"steps": 4_000}, "td3": {"steps": 4_000}},
    "DataCenterHour": {"ppo": {"steps": 120_000}, "sac": {"reach": 1.5}, "td3": {"reach": 1.5}},
}

#: Discount where decisions change what comes next; elsewhere the return of a decision is its own reward.
DISCOUNT = 0.95


def tuned(agent: str, problem: DecisionProblem) -> dict[str, Any]:
    """Hyper-parameters of an agent for a problem."""
    own = TUNED.get(type(problem).__name__, {}).get(agent, {})
    return {"gamma": DISCOUNT if problem.stateful else 0.0, **SHARED[agent], **own}


def main() -> None:
    """Print the table of what is in force for each problem."""
    columns = ("steps", "hidden", "learning_rate", "anchor", "reach")
    print("| Problem | Agent | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 2) + "|")
    for problem in TUNED:
        for agent, shared in SHARED.items():
            settings = {**shared, **TUNED[problem].get(agent, {})}
            print(f"| {problem} | `{agent}` | " + " | ".join(str(settings[name]) for name in columns) + " |")


if __name__ == "__main__":
    main()
