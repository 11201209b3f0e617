"""Readers of request logs and of series: any file with named columns becomes a trace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .catalogue import TraceInfo
from .errors import TraceError
from .requests import RequestLog
from .tables import batches, check_unit, floats, nanoseconds
from .trace import Provenance, Trace, format_duration

Requests = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]


def request_batches(path: Path, *, time: str, prompt: str, output: str | None, unit: str | None) -> Iterator[Requests]:
    """Yield time (ns since 1970), prompt and output tokens of a request log, batch by batch.

    Missing values come as NaT and NaN; nothing is checked but the columns and their types.
    """
    check_unit(unit, f"column {time!r} of {path}")
    columns = [time, prompt] + ([output] if output else [])
    # Stamps are parsed later: a type guessed from the first rows fails at the first one without a fraction.
    kind = pa.string() if unit is None else pa.int64() if unit == "ns" else pa.float64()
    types = {time: kind, prompt: pa.float64()} | ({output: pa.float64()} if output else {})
    for batch in batches(path, columns, types):
        if batch.num_rows == 0:
            continue
        stamps = nanoseconds(batch.column(0), unit, f"column {time!r} of {path}")
        tokens = [floats(batch.column(i), f"column {name!r} of {path}") for i, name in enumerate(columns) if i]
        yield stamps, tokens[0], tokens[1] if output else np.zeros(len(stamps))


def read_requests(
    path: str | os.PathLike[str],
    *,
    time: str,
    prompt: str,
    output: str | None = None,
    unit: str | None = None,
    name: str | None = None,
    sort: bool = False,
    provenance: Provenance | None = None,
) -> RequestLog:
    """Read a request log from CSV, Parquet or JSONL, the text formats also behind gzip.

    Parameters
    ----------
    path : path
        Ending in .csv, .csv.gz, .parquet, .jsonl or .jsonl.gz.
    time : str
        Column of the arrivals: time stamps, ISO text (UTC unless it has a zone) or numbers.
    prompt, output : str
        Columns of the input and output tokens; without ``output`` only the prompt counts.
    unit : {"s", "ms", "us", "ns"}, optional
        Unit of numeric times. They count from 1970-01-01 UTC; a log that counts from its own start is dated
        1970-01-01, which does not matter to anything but calendar features.
    name : str, optional
        Name of the log; the file name by default.
    sort : bool
        Sort rows that are out of order; otherwise they are an error. Requests may tie either way.
    provenance : Provenance, optional
        Origin and terms; the path by default.

    Returns
    -------
    RequestLog
        All requests of the file.

    Raises
    ------
    TraceError
        If the file is missing, empty or malformed, a column is missing or renamed (the message lists those
        found and the closest one), times are missing, unsorted or without unit, tokens are NaN or negative.
        Rows count from 0, the header left out.
    """
    path = Path(path)
    parts = list(request_batches(path, time=time, prompt=prompt, output=output, unit=unit))
    if not parts:
        raise TraceError(f"file {path} has a header but no request: it needs at least one row")
    stamps, prompts, outputs = (np.concatenate(column) for column in zip(*parts, strict=True))
    if sort:
        order = np.argsort(stamps, kind="stable")
        stamps, prompts, outputs = stamps[order], prompts[order], outputs[order]
    elif (unsorted := np.flatnonzero(np.diff(stamps) < 0)).size and stamps.min() != np.iinfo(np.int64).min:
        raise unsorted_error(path, time, int(unsorted[0]) + 1)
    return RequestLog(
        name=name or path.name.split(".")[0],
        time=stamps.view("datetime64[ns]"),
        prompt=prompts,
        output=outputs,
        provenance=provenance or Provenance(source=str(path)),
    )


def unsorted_error(path: Path, time: str, row: int) -> TraceError:
    """Return the error of a log whose times go back."""
    return TraceError(
        f"column {time!r} of {path} is unsorted: row {row} is earlier than the row before it; "
        "sort the file, or read it with sort=True (&sort=true in a file: trace)"
    )


def read_series(path: str | os.PathLike[str], info: TraceInfo) -> Trace:
    """Read a series of the catalogue: tokens or requests per native slot, without context.

    Parameters
    ----------
    path : path
        The CSV file.
    info : TraceInfo
        Its entry; ``info.reading`` says how columns become the outcome (see the head of ``catalogue.toml``).

    Returns
    -------
    Trace
        The sum of the outcome columns, scaled from their rate to one slot and, where some requests have
        unknown lengths, up to all requests. A slot without any request is zero, be it quiet or an outage of
        the log.

    Raises
    ------
    TraceError
        If columns are missing, values missing or negative, times not one slot apart.
    """
    path, how = Path(path), dict(info.reading)
    times = [how["time"]] if isinstance(how["time"], str) else list(how["time"])
    filters: dict[str, str] = how.get("rows", {})
    numbers = [*how["outcome"], *how.get("coverage", ())]
    textual = {*filters, *(times if len(times) == 1 and "unit" not in how else ())}
    columns = list(dict.fromkeys([*filters, *times, *numbers]))
    types = {c: pa.string() if c in textual else pa.float64() for c in columns}
    table = pa.Table.from_batches(list(batches(path, columns, types)), None)
    for column, value in filters.items():
        table = table.filter(pa.compute.equal(table[column], value))

    def number(column: str) -> NDArray[np.float64]:
        return floats(table[column].combine_chunks(), f"column {column!r} of {path}")

    outcome: NDArray[np.float64] = sum((number(c) for c in how["outcome"]), np.zeros(table.num_rows))
    outcome = outcome * how.get("scale", 1)
    if "coverage" in how:
        known, total = (number(column) for column in how["coverage"])
        outcome = outcome * np.divide(total, known, out=np.zeros_like(total), where=total > 0)
    return Trace(
        name=info.name,
        time=_series_time(table, times, how, path),
        outcome=outcome,
        slot=float(info.slot),
        outcome_names=(info.quantity.split()[-1],),
        outcome_units=(f"{info.quantity}/{format_duration(info.slot)}",),
        outcome_low=0.0,
        provenance=info.provenance,
    )


def _series_time(table: Any, times: list[str], how: dict[str, Any], path: Path) -> NDArray[np.datetime64]:
    if len(times) == 1:
        stamps = nanoseconds(table[times[0]].combine_chunks(), how.get("unit"), f"column {times[0]!r} of {path}")
        return stamps.view("datetime64[ns]")
    day, hour = (floats(table[c].combine_chunks(), f"column {c!r} of {path}") for c in times)
    start = np.datetime64(how.get("start", "1970-01-01"), "ns")
    return start + (24 * day + hour).astype(np.int64) * np.timedelta64(1, "h")
