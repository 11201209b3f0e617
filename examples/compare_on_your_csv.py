"""Compare agents on a trace of your own, as it is and as it may become.

    python examples/compare_on_your_csv.py [FILE --time COLUMN --load COLUMN --unit UNIT]

reads hourly loads from a CSV file, schedules every day before it is known, and prints the mean cost of a day and the
regret against perfect information: on the last days as they were, with a fifth more load, with noise, and with a meter
that fails now and then. Without a file it writes one first, to have something to show. ``--out`` keeps the run, with
tables, pictures and a report.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from shiftgym.data import load_trace
from shiftgym.evaluate import Scenario, evaluate

#: What may come, by the name it has in the table.
CHANGES = {
    "as it was": "",
    "a fifth more": "scale(factor=1.2)",
    "noise": "gaussian(scale=0.05)",
    "meter fails": "missing(p=0.05)",
}


def made_up(path: Path, days: int = 120) -> Path:
    """Write a load by the hour that follows the clock and the season, with noise that lasts."""
    rng, hour = np.random.default_rng(0), np.arange(24 * days)
    noise = np.convolve(rng.normal(0, 1, len(hour) + 23), np.full(24, 0.4), "valid")
    load = 50 + 15 * np.sin(2 * np.pi * (hour % 24 - 9) / 24) - 5 * np.cos(2 * np.pi * hour / len(hour)) + noise
    rows = [f"{np.datetime64('2026-01-05T00') + h},{value:.3f}" for h, value in enumerate(load)]
    path.write_text("\n".join(["hour,load", *rows]) + "\n", encoding="utf-8")
    return path


def compare(trace: str, agents: list[str], out: str | None) -> None:
    """Fit on the first 60 % of a trace, replay the rest under every change, and print two tables."""
    # plants can follow the steepest hour that has been seen
    ramp = float(np.abs(np.diff(load_trace(f"{trace}[:0.6]").outcome, axis=0)).max())
    scenarios = [
        Scenario(
            name,
            "shiftgym/PowerScheduling-v0",
            train=f"{trace}[:0.6]",
            test=f"{trace}[0.6:]",
            shift=shift,
            env_kwargs={"ramp": ramp},
        )
        for name, shift in CHANGES.items()
    ]
    table = evaluate(agents, scenarios, seeds=[0], jobs=1, out=out)
    for score in ("cost", "regret"):
        print(f"{score} of a day")
        print(table.pivot(index="agent", columns="scenario", values=score)[list(CHANGES)].round(1).to_string(), "\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", nargs="?", help="CSV, JSONL or Parquet with a row per hour; one is made up without")
    parser.add_argument("--time", default="hour", help="column of the times")
    parser.add_argument("--load", default="load", help="column of the loads")
    parser.add_argument("--unit", default="MWh", help="of the loads")
    parser.add_argument("--agents", nargs="+", default=["persistence", "saa", "residual-saa"], help="who takes part")
    parser.add_argument("--out", help="folder that keeps the run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = options.file or made_up(Path(folder) / "load.csv")
        trace = f"file:{file}?time={options.time}&outcome={options.load}&unit={options.unit}&low=0"
        compare(trace, options.agents, options.out)


if __name__ == "__main__":
    main()
