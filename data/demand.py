"""Long series of demand out of a few measured days: a profile for each kind of day, and noise about it.

The public traces of large inference services and GPU clusters last days or weeks, a year of data-center operation
needs more. The logarithm of the measured days is split into

    log x[d, h] = profile[kind of d, h] + level[d] + rest[d, h]

by means over the days of a kind (weekday, Saturday, Sunday) and over the hours of a day. The long series has the
measured profile of its calendar day; level and rest become Ornstein-Uhlenbeck paths with the measured standard
deviations, the measured correlation from hour to hour and that between columns. What the measured days cannot show (a
season, growth, a memory of the level beyond some days) the long series does not have either.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .sampling import Floats, coloured, noise_length
from .tables import floats, nanoseconds, whole

Times = NDArray[np.datetime64]
LEVEL_MEMORY = 72.0  # hours: of the level; an assumption, as a week cannot tell
CLASSES = ("V100", "T4", "P100")
WINDOW = (135, 149)  # days of the GPU trace; only survivors are recorded of what was submitted before day 120


def kinds(time: Times) -> NDArray[np.int64]:
    """Return 0 on weekdays, 1 on Saturdays, 2 on Sundays, shape (T,)."""
    weekday = (time.astype("datetime64[D]").astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    return np.asarray((weekday - 4).clip(0))


def resampled(days: Floats, kind: NDArray[np.int64], time: Times, rng: np.random.Generator) -> Floats:
    """Draw a long series with the profile and the noise of some measured days.

    Parameters
    ----------
    days : array, shape (M, 24, N)
        Measured, positive: whole days of N columns whose noise is correlated.
    kind : array of int, shape (M,)
        Kind of each day, 0 to 2; noise is measured on kinds with two days or more.
    time : array of datetime64, shape (T,)
        Start of each hour of the long series. A kind of day that was not measured has the profile of kind 0.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    array, shape (T, N)
        Positive. The profile is a mean of logarithms, so that noise brings the mean to that of the measured days.
    """
    log = np.log(days)
    many = [k for k in range(3) if (kind == k).sum() > 1]
    profiles = {k: log[kind == k].mean(axis=0) for k in np.unique(kind)}
    noise = np.concatenate([log[kind == k] - profiles[k] for k in many])
    level = noise.mean(axis=1)
    rest = noise - level[:, None]
    freedom = len(noise) - len(many)
    sigmas = np.sqrt(np.stack((np.square(level).sum(axis=0), np.square(rest).mean(axis=1).sum(axis=0))) / freedom)
    columns = log.shape[2]
    mixing = np.linalg.cholesky(_correlation(noise.reshape(-1, columns)))
    first = max(float((rest[:, 1:] * rest[:, :-1]).mean() / np.square(rest).mean()), 0.01)  # hour to hour
    path = np.zeros((len(time), columns))
    for sigma, memory in zip(sigmas, (LEVEL_MEMORY, -1 / np.log(first)), strict=True):
        white = mixing @ rng.standard_normal((columns, noise_length(len(time))))
        path += sigma * np.stack([coloured(row, len(time), memory) for row in white], axis=1)
    hour = time.astype("datetime64[h]").astype(np.int64) % 24
    table = np.stack([profiles.get(k, profiles[0]) for k in range(3)])
    drawn: Floats = np.exp(table[kinds(time), hour] + path)
    return drawn


def _correlation(noise: Floats) -> Floats:
    return np.corrcoef(noise.T).reshape(noise.shape[1], noise.shape[1])


def service_days(path: Path, service: str) -> tuple[Floats, NDArray[np.int64]]:
    """Return the requests per second of a service by hour, shape (7, 24, 1), and the kinds of the seven days.

    ``path`` is the table of :mod:`shiftgym.data.azure_figures`, a row for each ten minutes.
    """
    columns = {"service": pa.string(), "utc": pa.string(), "req_per_min": pa.float64()}
    table = whole(path, list(columns), columns)
    table = table.filter(pa.compute.equal(table["service"], service)).combine_chunks()
    stamps = nanoseconds(table["utc"].combine_chunks(), None, f"column 'utc' of {path}").view("datetime64[ns]")
    rates = floats(table["req_per_min"].combine_chunks(), f"column 'req_per_min' of {path}") / 60
    return rates.reshape(-1, 24, 6).mean(axis=2)[:, :, None], kinds(stamps[:: 24 * 6])


def training_days(pods: Path, nodes: Path) -> tuple[Floats, NDArray[np.int64]]:
    """Return the GPUs that tasks keep busy by hour and class, shape (14, 24, 3), and the kind 0 for all days.

    A task that runs for days cannot arrive as one piece of work that is due in hours: it is cut into hourly pieces,
    each of which arrives in the hour in which the trace has it run. A task that names the types it may run on is
    split among those of :data:`CLASSES` in proportion to the GPUs of the cluster, one that names none among all
    three, and one that names only others is left out, as are tasks without GPU and those that were never scheduled.

    Parameters
    ----------
    pods, nodes : Path
        ``openb_pod_list_gpuspec33.csv`` and ``openb_node_list_all_node.csv``.
    """
    numbers = ("num_gpu", "gpu_milli", "scheduled_time", "deletion_time")
    table = whole(pods, [*numbers, "gpu_spec"], dict.fromkeys(numbers, pa.float64()) | {"gpu_spec": pa.string()})
    gpus, share, begin, end = (floats(table[name].combine_chunks(), f"column {name!r} of {pods}") for name in numbers)
    cluster, allowed = _cluster(nodes), table["gpu_spec"].to_pylist()
    splits = {text: _split(text, cluster) for text in set(allowed)}
    work = (gpus * share / 1000)[:, None] * np.stack([splits[text] for text in allowed])
    ran = ~np.isnan(begin) & ~np.isnan(end)
    edges = np.arange(WINDOW[0] * 24, WINDOW[1] * 24 + 1) * 3600.0
    done = (edges[:, None] - begin[ran]).clip(0, (end - begin)[ran].clip(0)) / 3600
    busy = np.diff(done @ work[ran], axis=0).reshape(-1, 24, len(CLASSES))
    return busy, np.zeros(len(busy), np.int64)


def _cluster(nodes: Path) -> Floats:
    """GPUs of each class, shape (3,); V100 has a model for each size of its memory."""
    table = whole(nodes, ["gpu", "model"], {"gpu": pa.float64(), "model": pa.string()})
    counts = zip(table["gpu"].to_pylist(), table["model"].to_pylist(), strict=True)
    known = [(count, model) for count, model in counts if model]
    return np.array([sum(count for count, model in known if model.startswith(kind)) for kind in CLASSES])


def _split(allowed: str | None, cluster: Floats) -> Floats:
    names = allowed.split("|") if allowed else CLASSES
    open_to = np.array([any(name.startswith(kind) for name in names) for kind in CLASSES]) * cluster
    return np.asarray(open_to / max(open_to.sum(), 1.0))
