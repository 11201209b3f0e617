"""Which settings of ppo, sac and td3 suit which environment: how those of agents/tuned.py were chosen.

    python benchmarks/reinforcement_settings.py [--scenarios NAME ...] [--agents ppo sac td3] [--seeds 0]

Each training trace of the suite is cut in time: agents are fitted on the first four fifths, of which they hold out a
part themselves, and each setting is judged by what it costs on the last fifth, less what `saa`, the best constant
decision, costs there. In data centers that is the objective, which charges for what is left undone. The traces that
the suite tests on are not looked at.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium
import numpy as np
from printing import figures, show
from rich.progress import track

import shiftgym  # noqa: F401 (registers the environments)
from shiftgym.agents import make_agent
from shiftgym.agents.coach import replayed_objective
from shiftgym.envs.vector import ReplayVectorEnv
from shiftgym.evaluation.scenario import Scenario, load_suite

SHARE = 0.8
#: What is tried, beside the settings that are in force.
TRIED: dict[str, list[dict[str, Any]]] = {
    "Provisioning": [{"anchor": "saa", "reach": reach} for reach in (0.5, 1.5)],
    "PowerScheduling": [{"anchor": anchor, "reach": 3.0} for anchor in ("saa", "persistence")],
    "Portfolio": [{"anchor": "saa", "reach": reach} for reach in (0.2, 0.5)],
    "ProductAllocation": [{"anchor": "saa", "reach": reach} for reach in (0.5, 1.5)],
    "Inventory": [{"anchor": "saa", "reach": reach} for reach in (0.5, 1.5)],
    "DataCenter": [{"anchor": "persistence", "reach": reach} for reach in (1.5, 3.0)],
    "DataCenterHourly": [{"anchor": "persistence", "reach": reach} for reach in (1.5, 3.0, 6.0)],
}
RATES = (3e-4, 1e-3)


def compare(scenario: Scenario, names: list[str], seeds: list[int]) -> None:
    """Print what each setting costs on the part that was held out."""
    kind = scenario.env.removeprefix("shiftgym/").removesuffix("-v0")
    whole = gymnasium.make(scenario.env, trace=scenario.train, **scenario.env_kwargs).unwrapped.task
    count = int(len(whole) * SHARE)
    env, held = ReplayVectorEnv.of(whole.part(0, count), 1), whole.part(count, len(whole))

    def cost(name: str, **settings: Any) -> float:
        return replayed_objective(held, make_agent(name, **settings).fit(env).act)

    base = cost("saa")
    title = f"{kind}, trained on {count} of {len(whole)} points of {scenario.train}; `saa` costs {base:.5g}"
    table = figures(title, "setting", *(f"`{name}`, less `saa`" for name in names))
    tried = [{**setting, "learning_rate": rate} for setting in TRIED[kind] for rate in RATES]
    for setting in track(tried, kind, transient=True):
        costs = [np.mean([cost(name, seed=seed, **setting) for seed in seeds]) - base for name in names]
        text = ", ".join(f"{key} {value}" for key, value in setting.items())
        table.add_row(text, *(f"{value:+.3g}" for value in costs))
        print(kind, text, *(f"{value:+.3g}" for value in costs), flush=True)
    show(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--suite", default="rl/all", help="or rl/data-center, rl/data-center-hourly (default rl/all)")
    parser.add_argument("--scenarios", nargs="+")
    parser.add_argument("--agents", nargs="+", default=["ppo", "sac", "td3"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args()
    seen = set()
    for scenario in load_suite(options.suite).scenarios:
        chosen = options.scenarios is None or scenario.name in options.scenarios
        if chosen and (scenario.env, scenario.train) not in seen:
            seen.add((scenario.env, scenario.train))
            compare(scenario, options.agents, options.seeds)


if __name__ == "__main__":
    main()
