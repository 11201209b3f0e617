"""Time and peak memory of streaming a request log as large as the Azure 2024 release files.

    python benchmarks/stream_requests.py [--rows 27000000] [--slot 2s]

The log is generated into a temporary folder, streamed by a process of its own, so that the peak is that of
streaming alone, and removed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

COLUMNS = {"time": "TIMESTAMP", "prompt": "ContextTokens", "output": "GeneratedTokens"}
WEEK = 7 * 86400 * 10**6  # microseconds
CHUNK = 500_000


def generate(path: Path, rows: int) -> int:
    """Write a week of requests with microsecond stamps, as in the release; return the tokens."""
    rng = np.random.default_rng(0)
    start = np.datetime64("2024-05-12", "us").astype(np.int64)
    total = 0
    with pa.OSFile(str(path), "wb") as sink:
        for first in range(0, rows, CHUNK):
            count = min(CHUNK, rows - first)
            # evenly spread with a jitter under the mean gap, which keeps the rows in order
            gap = WEEK / rows
            stamps = start + ((first + np.arange(count) + rng.random(count)) * gap).astype(np.int64)
            prompt, output = (rng.lognormal(*law, count).astype(np.int64) for law in ((6.8, 1.1), (3.6, 1.4)))
            total += int(prompt.sum() + output.sum())
            table = pa.table([stamps.view("datetime64[us]"), prompt, output], list(COLUMNS.values()))
            options = pa.csv.WriteOptions(include_header=first == 0, quoting_style="none")
            pa.csv.write_csv(table, sink, options)
    return total


def measure(path: Path, slot: str) -> None:
    """Stream the log and print what it took; runs in a process of its own."""
    from shiftgym.data import stream_slots

    start = time.perf_counter()
    trace = stream_slots(path, slot, **COLUMNS)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(f"slots {len(trace)}  time {seconds:.1f} s  peak memory of the process {peak:.0f} MiB")
    print(f"tokens in whole slots {trace.outcome.sum():.0f}")


def main() -> None:
    """Generate, stream, remove."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=27_000_000)
    parser.add_argument("--slot", default="2s")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(Path(options.measure), options.slot)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.csv"
        total = generate(path, options.rows)
        print(f"rows {options.rows}  file {path.stat().st_size / 1e9:.2f} GB  tokens {total}", flush=True)
        subprocess.run([sys.executable, __file__, "--measure", str(path), "--slot", options.slot], check=True)


if __name__ == "__main__":
    main()
