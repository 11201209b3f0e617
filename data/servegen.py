"""The ServeGen series: the published clients of Alibaba's services, added up to service level."""

from __future__ import annotations

import ast
import csv
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import TraceError
from .files import atomic_write

Floats = NDArray[np.float64]

SERVICES = (
    "language/m-large",
    "language/m-mid",
    "language/m-small",
    "reason/deepseek-r1",
    "multimodal/mm-image",
)
HEADER = (
    "service",
    "t_s",
    "clients_active",
    "req_per_s",
    "req_per_s_with_lengths",
    "input_tok_per_s",
    "output_tok_per_s",
    "mean_client_cv",
)
_CHUNK = re.compile(r"(?:.*/)?data/(?P<service>\w+/[\w-]+)/chunk-(?P<number>\d+)-(?P<kind>trace\.csv|dataset\.json)")


@dataclass
class Client:
    """One client of a service: its request rate, and the mean lengths of its requests.

    Attributes
    ----------
    time : array of int64, shape (W,)
        Start of each 10-minute window, seconds since a midnight.
    rate, cv : array of float64, shape (W,)
        Requests per second, and coefficient of variation of the inter-arrival times.
    starts : array of int64, shape (L,)
        Start of each 6-hour window with known lengths.
    means : array of float64, shape (L, 2)
        Mean input and output tokens of a request there.
    """

    time: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    rate: Floats = field(default_factory=lambda: np.empty(0))
    cv: Floats = field(default_factory=lambda: np.empty(0))
    starts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    means: Floats = field(default_factory=lambda: np.empty((0, 2)))

    def read_trace(self, text: str) -> None:
        """Read a ``chunk-N-trace.csv``: start, rate, cv and the arrival law of each window."""
        rows = [line.split(",")[:3] for line in text.split()]
        self.time = np.array([row[0] for row in rows], float).astype(np.int64)
        self.rate, self.cv = (np.array([row[i] for row in rows], float) for i in (1, 2))

    def read_lengths(self, text: str) -> None:
        """Read a ``chunk-N-dataset.json``: per 6-hour window a length distribution per token field."""
        windows = {}
        for start, fields in json.loads(text).items():
            laws = {name: ast.literal_eval(law) for name, law in fields.items()}
            if all(laws.values()):  # a window without requests has empty laws
                windows[int(start)] = (_input_mean(laws), _mean(laws["output_tokens"]))
        self.starts = np.array(sorted(windows), np.int64)
        self.means = np.array([windows[int(start)] for start in self.starts], float).reshape(-1, 2)

    def lengths_at(self, time: NDArray[np.int64]) -> tuple[NDArray[np.bool_], Floats]:
        """Return whether lengths are known at each time, and the means of the newest window begun by then."""
        index = np.searchsorted(self.starts, time, side="right") - 1
        known = index >= 0
        means = np.zeros((len(time), 2))
        means[known] = self.means[index[known]]
        return known, means


def _mean(law: dict[float, float]) -> float:
    values, weights = np.array(list(law), float), np.array(list(law.values()), float)
    return float((values * weights).sum() / weights.sum())


def _input_mean(laws: dict[str, dict[float, float]]) -> float:
    """Mean input tokens of a request: its text, plus its media for a multimodal service."""
    if "input_tokens" in laws:
        return _mean(laws["input_tokens"])
    media = (_mean(laws[f"{kind}_count"]) * _mean(laws[f"{kind}_tokens"]) for kind in ("image", "audio", "video"))
    return _mean(laws["text_tokens"]) + sum(media)


def read_clients(archive: Path) -> dict[str, list[Client]]:
    """Return the clients of each service in a ServeGen archive, in the order of their numbers.

    Raises
    ------
    TraceError
        If a service has no client in it.
    """
    clients: dict[str, dict[int, Client]] = {service: {} for service in SERVICES}
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            match = _CHUNK.fullmatch(member.name)
            content = tar.extractfile(member) if match and match["service"] in clients else None
            if match is None or content is None:
                continue
            client = clients[match["service"]].setdefault(int(match["number"]), Client())
            read = client.read_trace if match["kind"] == "trace.csv" else client.read_lengths
            read(content.read().decode())
    for service, found in clients.items():
        if not any(len(client.time) for client in found.values()):
            raise TraceError(f"archive {archive} has no client of {service}: its layout has changed")
    return {s: [found[n] for n in sorted(found) if len(found[n].time)] for s, found in clients.items()}


def derive(archive: Path, target: Path) -> None:
    """Write requests and tokens per second of each ServeGen service in 10-minute windows.

    Rates are added up over the clients. Token rates are rate times mean length over the clients whose lengths
    are known; ``req_per_s_with_lengths`` says how much of the rate that covers.

    Parameters
    ----------
    archive : Path
        Tar archive of the repository alibaba/ServeGen.
    target : Path
        The CSV file to write.

    Raises
    ------
    TraceError
        If a service is missing from the archive.

    References ---------- .. [1] Y. Xiang et al., "ServeGen: Workload characterization and generation of large
    language model serving
       in production", NSDI 2026, arXiv:2505.09999.
    """
    services = read_clients(archive)
    with atomic_write(target) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(HEADER)
        for service, clients in services.items():
            writer.writerows(_service_rows(service.split("/")[1], clients))


def _service_rows(name: str, clients: list[Client]) -> Iterator[tuple[Any, ...]]:
    time = np.sort(clients[0].time)
    active = np.zeros(len(time), np.int64)
    rate, covered, jitter, tokens = (
        np.zeros(len(time)),
        np.zeros(len(time)),
        np.zeros(len(time)),
        np.zeros((len(time), 2)),
    )
    for client in clients:
        order = np.searchsorted(client.time, time, sorter=np.argsort(client.time))
        rows = np.argsort(client.time)[order]
        own = np.maximum(client.rate[rows], 0)
        known, means = client.lengths_at(time)
        active += own > 0
        rate += own
        jitter += own * client.cv[rows]
        covered += own * known
        tokens += own[:, None] * means
    for i, start in enumerate(time):
        numbers = (f"{value:.6g}" for value in (rate[i], covered[i], *tokens[i]))
        yield name, int(start), int(active[i]), *numbers, f"{jitter[i] / rate[i]:.4g}" if rate[i] else ""
