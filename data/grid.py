"""Load of power grids: hourly files of system operators on the wall clock of their zone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .catalogue import TraceInfo
from .clock import HOUR, Floats, Regular, Times, regular, wall_clock
from .errors import TraceError
from .tables import floats, nanoseconds, whole
from .trace import Trace

LONGEST_GAP = 1  # hours: what is interpolated; a longer hole is an error


def read_grid(paths: Sequence[Path], info: TraceInfo) -> Trace:
    """Read hourly load, with what was known a day ahead or measured beside it, in days of exactly 24 hours.

    Parameters
    ----------
    paths : sequence of path
        The files, in the order of time. Where two overlap the earlier one counts.
    info : TraceInfo
        The entry; ``info.reading`` says how columns become the trace (see the head of ``catalogue.toml``).

    Returns
    -------
    Trace
        Start of each hour by the clock of the zone, whole days only. The hour that the clock skips in spring is
        interpolated between its neighbours, the hour that it shows twice in autumn is the mean of both. Any other
        single hour that is missing is interpolated as well. The history of the provenance counts all that.

    Raises
    ------
    TraceError
        If columns are missing, values missing or negative, or more than one hour in a row is missing.
    """
    how = dict(info.reading)
    time, values = _joined([_read(path, how) for path in paths])
    mended = 0
    if "band" in how:
        values, mended = _within_band(values, *how["band"])
    hours = _whole_days(regular(time, values, HOUR))
    _check_gaps(hours, info.name)
    treatments = [
        f"{mended} hours replaced by the forecast" if mended else "",
        f"{hours.filled.sum()} missing hours interpolated" if hours.filled.any() else "",
        f"{hours.doubled.sum()} doubled hours averaged" if hours.doubled.any() else "",
    ]
    context: dict[str, dict[str, Any]] = how.get("context", {})
    trace = Trace(
        name=info.name,
        time=hours.time,
        outcome=hours.values[:, :1],
        slot=float(info.slot),
        outcome_names=("load",),
        outcome_units=("GW",),
        outcome_low=0.0,
        context=hours.values[:, 1:],
        context_names=tuple(context),
        context_units=tuple(column["unit"] for column in context.values()),
        provenance=info.provenance,
    )
    return trace.replace(note="; ".join(filter(None, treatments)))


def _read(path: Path, how: dict[str, Any]) -> tuple[Times, Floats]:
    """Start of each hour on the wall clock, shape (N,), and load with context, shape (N, 1 + C), unsorted."""
    where = f"column {how['time']!r} of {path}"
    scales = {how["outcome"]: how.get("scale", 1.0)}
    scales |= {context["column"]: context.get("scale", 1.0) for context in how.get("context", {}).values()}
    columns = [how["time"], *scales]
    texts = dict.fromkeys(columns, pa.string())  # numbers may have thousands separators, times any form
    table = whole(path, columns, texts, header=how.get("header"), delimiter=how.get("delimiter", ","))
    values = [_number(table[name], f"column {name!r} of {path}") * scale for name, scale in scales.items()]
    return _starts(table[how["time"]], how, where), np.stack(values, axis=1)


def _number(column: pa.ChunkedArray, where: str) -> Floats:
    try:
        return floats(pc.cast(pc.replace_substring(column, ",", ""), pa.float64()).combine_chunks(), where)
    except pa.ArrowInvalid as error:
        raise TraceError(f"{where} does not hold numbers: {error}") from error


def _starts(column: pa.ChunkedArray, how: dict[str, Any], where: str) -> Times:
    try:
        if "unit" in how:
            column = pc.cast(column, pa.float64())
        elif "format" in how:
            column = pc.strptime(column, format=how["format"], unit="s")
    except pa.ArrowInvalid as error:
        raise TraceError(f"{where} does not hold times of the form of the catalogue: {error}") from error
    stamps: Times = nanoseconds(column.combine_chunks(), how.get("unit"), where).view("datetime64[ns]")
    if np.isnat(stamps).any():
        raise TraceError(f"{where} is missing at row {int(np.argmax(np.isnat(stamps)))}")
    end = how.get("stamp", "start") == "end"
    if not how.get("utc", False):
        return _hour_before(stamps) if end else stamps
    if not end:
        return wall_clock(stamps, how["zone"])
    # UTC here was made from local stamps of the end of the hour, which knew nothing of clock changes: the one that
    # does not exist in spring went to the hour after it, the doubled one in autumn to its second half. The earlier
    # of the two readings undoes both.
    zone: str = how["zone"]
    earlier: Times = np.minimum(_hour_before(wall_clock(stamps, zone)), wall_clock(_hour_before(stamps), zone))
    return earlier


def _hour_before(time: Times) -> Times:
    before: Times = np.subtract(time, HOUR)
    return before


def _joined(parts: Sequence[tuple[Times, Floats]]) -> tuple[Times, Floats]:
    time, values = parts[0]
    for later, rows in parts[1:]:
        new = later > time.max()
        time, values = np.concatenate((time, later[new])), np.concatenate((values, rows[new]))
    return time, values


def _within_band(values: Floats, low: float, high: float) -> tuple[Floats, int]:
    """Replace a load that is not between two multiples of its forecast, which was known the day before, by it."""
    load, forecast = values[:, 0], values[:, 1]
    wrong = (load < low * forecast) | (load > high * forecast)
    return np.column_stack((np.where(wrong, forecast, load), values[:, 1:])), int(wrong.sum())


def _whole_days(hours: Regular) -> Regular:
    day: NDArray[np.datetime64] = hours.time.astype("datetime64[D]")
    first, last = np.searchsorted(hours.time, [day[0], day[-1]])
    if hours.time[0] != day[0]:
        first = np.searchsorted(hours.time, day[0] + 1)
    if hours.time[-1] == day[-1] + 23 * HOUR:
        last = len(hours.time)
    rows = slice(int(first), int(last))
    return Regular(hours.time[rows], hours.values[rows], hours.filled[rows], hours.doubled[rows])


def _check_gaps(hours: Regular, name: str) -> None:
    long = hours.filled[1:] & hours.filled[:-1]
    if long.any():
        raise TraceError(
            f"trace {name!r} lacks more than {LONGEST_GAP} hour from {hours.time[int(np.argmax(long))]} on: "
            "its file is not the one of the catalogue"
        )
