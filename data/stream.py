"""Slots of a request log too large for the memory."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .errors import TraceError
from .loaders import Requests, request_batches, unsorted_error
from .requests import check_times, check_tokens, slot_count, slot_trace
from .trace import Provenance, Trace, parse_duration


def stream_slots(
    path: str | os.PathLike[str],
    slot: str | float,
    *,
    time: str,
    prompt: str,
    output: str | None = None,
    unit: str | None = None,
    name: str | None = None,
    sort: bool = False,
    provenance: Provenance | None = None,
) -> Trace:
    """Sum the tokens of each slot batch by batch, as ``read_requests(path, …).slots(slot)`` does at once.

    Memory is bounded by one batch and the slots, whatever the length of a CSV or Parquet file. Sums of whole
    tokens are exact in float64, so the result does not depend on where batches end.

    Parameters
    ----------
    path, time, prompt, output, unit, name, provenance
        As in :func:`shiftgym.data.read_requests`.
    slot : str or float
        Slot length.
    sort : bool
        Accept rows that are out of order, at the price of a second pass over the file.

    Returns
    -------
    Trace
        Prompt plus output tokens per slot, from the first arrival to the last; carries no request log.

    Raises
    ------
    TraceError
        As :func:`shiftgym.data.read_requests`, and if the slot is longer than the log.
    """
    path = Path(path)
    name = name or path.name.split(".")[0]
    width = round(parse_duration(slot) * 1e9)
    read = functools.partial(request_batches, path, time=time, prompt=prompt, output=output, unit=unit)
    origin = min((int(stamps.min()) for stamps, _, _ in read()), default=None) if sort else None
    totals, last = np.zeros(1 << 16), np.iinfo(np.int64).min
    for stamps, prompts, outputs in _checked(read(), name, None if sort else (path, time)):
        origin = int(stamps[0]) if origin is None else origin
        last = max(last, int(stamps.max()))
        index = (stamps - origin) // width
        first = int(index.min())
        needed = slot_count(name, origin, last, width) + 1
        if needed > len(totals):
            totals = np.concatenate((totals, np.zeros(max(needed - len(totals), len(totals)))))
        sums = np.bincount(index - first, prompts + outputs)
        totals[first : first + len(sums)] += sums
    if origin is None:
        raise TraceError(f"file {path} has a header but no request: it needs at least one row")
    return slot_trace(name, origin, last, width, totals, provenance or Provenance(source=str(path)))


def _checked(batches: Iterator[Requests], name: str, order: tuple[Path, str] | None) -> Iterator[Requests]:
    """Check each batch as a request log is, and its order (``order`` names file and column) unless it is None."""
    row, last = 0, np.iinfo(np.int64).min
    for stamps, prompts, outputs in batches:
        check_times(name, stamps, row)
        check_tokens(name, "prompt", prompts, row)
        check_tokens(name, "output", outputs, row)
        if order is not None:
            back = np.concatenate(([stamps[0] < last], stamps[1:] < stamps[:-1]))
            if back.any():
                raise unsorted_error(*order, row + int(np.argmax(back)))
        row, last = row + len(stamps), int(stamps[-1])
        yield stamps, prompts, outputs
