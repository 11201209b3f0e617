"""What one instance of an LLM can serve within its latency objectives: rates, load limits and power, per request class.

The model is Llama2-70B in fp16 on H100-80GB, served with tensor parallelism (TP) of degree 2, 4 or 8. Requests of a
service fall into nine classes by the length of prompt and answer: S, M or L each, cut at the 33rd and 66th percentile.

| symbol | here | unit |
|---|---|---|
| pairs (i, j) of class and TP degree | axis P of :class:`Serving` | |
| g, mu, rho-bar | ``gpus``, ``rate``, ``load_limit`` | GPU, req/s, 1 |
| P^id, P^pk | ``idle_power``, ``peak_power`` | kW per instance |
| T^pre, T^tbt, b* | ``prefill``, ``between_tokens``, ``batch`` | s, s, requests |
| pi_i (share of the class in its service) | ``share`` | 1 |
| delta | ``slack`` | s |

Source: "Contextual Robust Optimization for AI Data Center Scheduling with Statistical Guarantees", Sec. III, for (5) to
(9b); the instance parameters follow rules (P1) to (P6), which are this project's and stand at the functions below.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data.errors import UnknownNameError
from ..base import ProblemError, check_not_negative

Vector = NDArray[np.float64]
Index = NDArray[np.int64]

#: Waiting time of M/M/1 as (6a) needs it, or the sojourn time that the source may have meant: see :func:`load_limit`.
QUEUES = ("mm1_wait", "mm1_sojourn")

# Profile of Llama2-70B on H100-80GB: data/perf_model.csv of Splitwise-sim (MIT licence), medians of five runs, made
# monotone in the size. Batch 64 at TP 2 is left out, for its key-value cache overflows.
_PROMPTS = (128, 256, 512, 1024, 2048, 4096, 8192)
_PREFILL_MS = {  # of one prompt, by its tokens
    2: (48.33, 51.85, 83.83, 157.95, 310.32, 642.66, 1339.84),
    4: (49.09, 50.98, 59.62, 105.61, 200.68, 463.46, 953.58),
    8: (54.41, 54.41, 54.41, 77.91, 136.80, 390.29, 844.89),
}
_DECODE_MS = {  # per output token, prompts of 512 tokens, by batch 1, 2, 4, ...
    2: (37.00, 37.39, 39.98, 40.40, 41.97, 52.30),
    4: (29.72, 29.95, 29.95, 31.44, 32.84, 36.88, 52.36),
    8: (29.76, 30.26, 31.79, 32.50, 34.17, 38.62, 50.16),
}
# Power as a fraction of what the board may draw, on A100-80GB: no power was recorded on H100, nor for batches above 16.
_PREFILL_POWER = {
    2: (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    4: (0.642, 0.813, 1.0, 1.0, 1.0, 1.0, 1.0),
    8: (0.460, 0.658, 0.747, 0.747, 0.982, 0.982, 0.982),
}
_DECODE_POWER = {  # by batch 1, 2, 4, 8, 16
    2: (0.736, 0.745, 0.741, 0.762, 0.794),
    4: (0.599, 0.607, 0.604, 0.615, 0.642),
    8: (0.435, 0.428, 0.438, 0.434, 0.458),
}
_DECODE_POWER_MEAN = 0.625  # the A100 fraction that Splitwise's constant decoding power stands for

_IDLE_KW, _PREFILL_KW, _DECODE_KW = 0.075, 0.700, 0.380  # H100: configs/power_model/constant.yaml of Splitwise-sim
_MEMORY, _BANDWIDTH = 85_899_345_920, 3.35e12  # bytes and bytes/s of an H100-80GB, from its data sheet
_MEMORY_USED, _OVERHEAD, _BANDWIDTH_USED = 0.9, 2.5e9, 0.6  # assumed; with them TP 2 holds batch 32 and not 64
_WEIGHTS, _CACHE_PER_TOKEN = 137.95e9, 327_680  # 68.98e9 parameters x 2 B; 80 layers x 2 x 8 heads x 128 x 2 B
_PROFILED_CONTEXT = 576  # tokens in the cache while the decoding profile was taken: a prompt of 512, half the answer

# Time to first token by prompt length, and between tokens: the objectives that DynamoLLM states.
_FIRST_TOKEN = {"S": 0.25, "M": 0.4, "L": 2.0}
_BETWEEN_TOKENS = 0.1

# Classes of the Azure LLM inference traces of 2023 (CC-BY), measured: share, mean and 95th percentile of the prompt,
# mean of the answer, all lengths in tokens. The first letter is that of the prompt.
_CLASSES = {
    "code": {
        "SS": (0.11044, 349.7, 820.3, 7.9),
        "SM": (0.10795, 334.3, 841.4, 14.1),
        "SL": (0.11192, 358.1, 826.7, 62.2),
        "MS": (0.12768, 1476.6, 2134.8, 8.0),
        "MM": (0.09423, 1476.0, 2149.5, 13.8),
        "ML": (0.10784, 1479.0, 2132.0, 60.4),
        "LS": (0.12677, 4140.0, 7436.0, 7.9),
        "LM": (0.10285, 4284.8, 7436.0, 13.5),
        "LL": (0.11033, 4354.6, 7436.0, 66.1),
    },
    "conv": {
        "SS": (0.14691, 336.7, 405.0, 68.6),
        "SM": (0.18099, 273.5, 406.0, 142.2),
        "SL": (0.00325, 182.9, 306.8, 354.4),
        "MS": (0.05029, 650.9, 1054.0, 77.0),
        "MM": (0.05282, 554.0, 977.9, 116.5),
        "ML": (0.22601, 1035.3, 1096.0, 424.8),
        "LS": (0.13880, 3077.2, 4133.6, 59.2),
        "LM": (0.09026, 2209.0, 4107.3, 143.7),
        "LL": (0.11066, 1198.7, 1316.0, 424.0),
    },
}

#: Services whose request classes are known.
SERVICES = tuple(_CLASSES)
#: Degrees of tensor parallelism: GPUs per instance.
DEGREES = (2, 4, 8)


@dataclass(frozen=True, eq=False)
class Serving:
    """Pairs of request class and TP degree that can meet the latency objectives, and what an instance of each can do.

    Attributes
    ----------
    services, classes : tuple of str
        Names: S services, I classes ("code SS").
    share : array, shape (I,)
        Part of its service's requests that a class makes up; sums to one within a service.
    service_of : array of int, shape (I,)
        Service of each class.
    klass, service, gpus : arrays of int, shape (P,)
        Class, service and GPUs (the TP degree) of each pair.
    rate, load_limit : arrays, shape (P,)
        mu [req/s] and rho-bar [-]: an instance takes at most ``rate * load_limit`` requests per second.
    idle_power, peak_power : arrays, shape (P,)
        Power [kW] of an instance without load, and at full utilisation.
    prefill, prefill_tail, between_tokens : arrays, shape (P,)
        Prefill at the mean and at the 95th percentile of the prompt, and time between tokens [s].
    batch : array of int, shape (P,)
        Requests that are decoded together.
    queue_budget : array, shape (P,)
        What the objectives leave for waiting [s].
    """

    services: tuple[str, ...]
    classes: tuple[str, ...]
    share: Vector
    service_of: Index
    klass: Index
    service: Index
    gpus: Index
    rate: Vector
    load_limit: Vector
    idle_power: Vector
    peak_power: Vector
    prefill: Vector
    prefill_tail: Vector
    between_tokens: Vector
    batch: Index
    queue_budget: Vector

    @property
    def pairs(self) -> int:
        """P, the number of pairs."""
        return len(self.rate)

    @property
    def capacity(self) -> Vector:
        """Requests per second (P,) that an instance may take: mu rho-bar of (9')."""
        return self.rate * self.load_limit

    @property
    def dynamic_power(self) -> Vector:
        """Energy (P,) per request beyond the idle power [kW s]: (P^pk - P^id) / mu of (13a), (13b)."""
        return (self.peak_power - self.idle_power) / self.rate

    def power(self, instances: Vector, load: Vector) -> Vector:
        """Power [kW] of the GPUs, (13a): instances and load (P, ...) to (...)."""
        return np.tensordot(self.idle_power, instances, 1) + np.tensordot(self.dynamic_power, load, 1)

    def class_load(self, level: Vector) -> Vector:
        """Requests per second of each class (I, T) at service levels (S, T), as on the right of (4a)."""
        return self.share[:, None] * np.asarray(level)[self.service_of]


def load_limit(rate: Vector, budget: Vector, queue: str) -> Vector:
    """Largest utilisation at which the queue fits its budget, (9') from (5) to (9b); 0 where there is none.

    ``mm1_wait`` is the waiting time rho / (mu - lambda) of M/M/1. The sojourn time 1 / (mu - lambda), ``mm1_sojourn``,
    counts the service twice where execution is added in (5), and leaves two classes without any TP degree.
    """
    if queue not in QUEUES:
        raise UnknownNameError("queue", queue, QUEUES)
    work = rate * np.maximum(budget, 0.0)
    with np.errstate(divide="ignore"):
        return work / (1 + work) if queue == "mm1_wait" else np.maximum(0.0, 1 - 1 / work)


def _batch(degree: int, prompt: float, answer: float, prefill: float) -> tuple[int, float, float]:
    """Batch b*, rate mu [req/s] and time between tokens [s] by (P1) to (P4); batch 0 where no batch is fast enough.

    (P1) the key-value cache holds b (prompt + answer) tokens; (P2) a decoding step takes its profile and the reading of
    a longer cache; (P3) between two tokens the prefill of others interrupts; (P4) of the feasible batches the one with
    the largest rate mu = 1 / (prefill + answer * step / b) of continuous batching is taken.
    """
    step = np.array(_DECODE_MS[degree]) / 1e3
    batches = 2 ** np.arange(len(step))
    free = _MEMORY_USED * _MEMORY * degree - _WEIGHTS - _OVERHEAD * degree
    longer = max(0.0, prompt + answer / 2 - _PROFILED_CONTEXT) * _CACHE_PER_TOKEN
    step = step + batches * longer / (degree * _BANDWIDTH_USED * _BANDWIDTH)
    between = step + (batches - 1) * prefill / answer
    fits = (batches * (prompt + answer) * _CACHE_PER_TOKEN <= free) & (between <= _BETWEEN_TOKENS)
    if not fits.any():
        return 0, 0.0, 0.0
    rate = np.where(fits, 1 / (prefill + answer * step / batches), -1.0)
    best = int(rate.argmax())
    return int(batches[best]), float(rate[best]), float(between[best])


def _instance(service: str, klass: str, degree: int, slack: float) -> dict[str, float]:
    """Parameters of an instance by (P1) to (P6), without its load limit."""
    _, prompt, long_prompt, answer = _CLASSES[service][klass]
    prefill, tail = np.interp([prompt, long_prompt], _PROMPTS, _PREFILL_MS[degree]) / 1e3  # (P5): capped at 8,192
    batch, rate, between = _batch(degree, prompt, answer, prefill)
    busy = rate * prefill  # share of the time that goes into prompts
    drawn = _PREFILL_KW * np.interp(prompt, _PROMPTS, _PREFILL_POWER[degree])
    measured = np.interp(batch, 2 ** np.arange(5), _DECODE_POWER[degree])
    decode = _DECODE_KW * measured / _DECODE_POWER_MEAN
    return {
        "gpus": degree,
        "rate": rate,
        "idle_power": _IDLE_KW * degree,
        "peak_power": degree * (busy * drawn + (1 - busy) * decode),  # (P6)
        "prefill": prefill,
        "prefill_tail": tail,
        "between_tokens": between,
        "batch": batch,
        # (8) is redundant: an end-to-end objective that allows the longest answer its time between tokens
        "queue_budget": _FIRST_TOKEN[klass[0]] + slack - tail if batch else 0.0,
    }


@functools.cache
def serving(slack: float = 0.0, queue: str = "mm1_wait", services: tuple[str, ...] = SERVICES) -> Serving:
    """All pairs that can meet their objectives with ``slack`` seconds more for the first token.

    Raises
    ------
    ProblemError
        Naming every request class that no TP degree serves in time.
    """
    check_not_negative(slack=slack)
    unknown = [name for name in services if name not in _CLASSES]
    if unknown:
        raise UnknownNameError("service", unknown[0], _CLASSES)
    classes = [(service, klass) for service in services for klass in _CLASSES[service]]
    rows = [
        {"klass": i, "service": services.index(service), **_instance(service, klass, degree, slack)}
        for i, (service, klass) in enumerate(classes)
        for degree in DEGREES
    ]
    column = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    column["load_limit"] = load_limit(column["rate"], column["queue_budget"], queue)
    kept = column["load_limit"] > 1e-6
    lost = [" ".join(name) for i, name in enumerate(classes) if not kept[column["klass"] == i].any()]
    if lost:
        raise ProblemError(
            f"no TP degree of {DEGREES} serves the request classes {', '.join(lost)} in time with slack={slack} s and "
            f"queue={queue!r}: give more slack or queue='mm1_wait'"
        )
    share = np.array([_CLASSES[service][klass][0] for service, klass in classes])
    of = np.array([services.index(service) for service, _ in classes])
    return Serving(
        services=services,
        classes=tuple(" ".join(name) for name in classes),
        share=share / np.bincount(of, share)[of],
        service_of=of,
        **{name: values[kept] for name, values in column.items()},
    )
