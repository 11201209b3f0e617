"""A robust week of a fleet of data centers: what a promise costs, and whether it is kept when the week is not ordinary.

    python examples/robust_data_center_week.py [--fast] [--start 2021-10-04] [--shift "scale(factor=1.1, …)"]

fits three schedulers on nine months of the synthetic trace: ``persistence`` expects yesterday, ``deterministic`` takes
a learned forecast for certain, ``ulro-box`` promises to break each constraint at most at the rate epsilon: power in a
center and hour, training and inference on a day. Then every day of a week is scheduled the evening before, by the same
solver for all, and settled as it came. It prints, for the week as it was and under the shift, what was paid, what was
not served, and how often each constraint was broken.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium

import shiftgym  # noqa: F401 (registers the environments)
from shiftgym.agents import make_agent

ENV, TRACE = "shiftgym/DataCenter-v0", "synthetic-datacenter"
#: What is told of a week: heading, key of ``info``, what it is divided by.
TOLD = (
    ("paid, 1000 $", "cost", 1),
    ("energy, MWh", "unserved_energy", 1e3),
    ("work, GPU h", "unserved_training", 1),
    ("requests, million", "unserved_requests", 1e6),
)
#: How often constraints were broken: heading, key of ``info`` that is not zero then, or is the share of a day.
BROKEN = (
    ("power, of hours", "short_slots"),
    ("training, of days", "violation_training"),
    ("inference, of days", "violation_inference"),
)


def week(agent: Any, start: str, days: int, **keywords: Any) -> list[float]:
    """What the days from ``start`` on come to, and the share of hours or days on which each constraint was broken."""
    env = gymnasium.make(ENV, trace=TRACE, **keywords)
    observation, _ = env.reset(seed=0, options={"start": start, "length": days})
    agent.reset()
    infos = []
    for _ in range(days):
        observation, _, _, _, info = env.step(agent.act(observation[None])[0])
        infos.append(info)
    env.close()
    sums = [sum(info[key] for info in infos) / unit for _, key, unit in TOLD]
    rates = [sum(info[key] if key == "short_slots" else info[key] > 0 for info in infos) / days for _, key in BROKEN]
    return sums + rates


def main() -> None:
    """Read the command line, fit, replay, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fast", action="store_true", help="four months, two days, no whole instances")
    parser.add_argument("--start", default="2021-10-04", help="first day of the week")
    parser.add_argument("--shift", default="scale(factor=1.1, columns='requests:* training:*')", help="what may come")
    parser.add_argument("--epsilon", type=float, default=0.05, help="rate that is promised")
    options = parser.parse_args()
    days, train = (2, f"{TRACE}[2021-06-01:2021-10-01]") if options.fast else (7, f"{TRACE}[:2021-10-01]")
    common = {"reference": train, "integer": not options.fast}
    home = gymnasium.make(ENV, trace=train, **common)
    networks = {"epochs": 20} if options.fast else {}
    agents = {
        "persistence": make_agent("persistence").fit(home),
        "deterministic": make_agent("deterministic", **networks).fit(home),
        "ulro-box": make_agent("ulro-box", epsilon=options.epsilon, **networks).fit(home),
    }
    heads = [head for head, *_ in (*TOLD, *BROKEN)]
    for shift in ("none", options.shift):
        print(f"{days} days from {options.start}, shift {shift}")
        print(" " * 13 + "".join(f"{head:>19}" for head in heads))
        for name, agent in agents.items():
            told = week(agent, options.start, days, shift=shift, **common)
            print(f"{name:<13}" + "".join(f"{value:>19.3f}" for value in told))
        print()


if __name__ == "__main__":
    main()
