"""Series of the user's own: any file with a time column becomes a trace, on UTC or on the clock of a zone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .clock import HOUR, Floats, Times, clock_changes, regular, wall_clock
from .errors import TraceError
from .tables import check_unit, floats, has_zone, nanoseconds, whole
from .trace import Provenance, Trace, format_duration


def read_own_series(
    path: Path,
    *,
    time: str,
    outcome: str,
    context: str = "",
    unit: str = "",
    time_unit: str | None = None,
    zone: str = "",
    low: str = "-inf",
    sort: str = "false",
) -> Trace:
    """Read a series from CSV, Parquet or JSONL; the arguments are the options of ``file:PATH?…``.

    Parameters
    ----------
    path : Path
        Ending in .csv, .csv.gz, .parquet, .jsonl or .jsonl.gz.
    time : str
        Column of the start of each slot: time stamps, ISO text or numbers.
    outcome, context : str
        Columns, separated by commas.
    unit : str
        Unit of the outcomes: one for all, or one each, separated by commas.
    time_unit : {"s", "ms", "us", "ns"}, optional
        Unit of numeric times, which count from 1970-01-01 UTC.
    zone : str
        Time zone on whose clock the days of the trace run, such as ``Europe/Berlin``. Times that say how they relate
        to UTC are converted, others are taken to be of that clock. Slots that the clock skips in spring are
        interpolated, slots that it shows twice in autumn averaged, so that every day has 24 hours.
    low : str
        Smallest outcome that makes sense; a smaller one is an error, and shifts clip to it.
    sort : str
        "true" sorts rows that are out of order; otherwise they are an error.

    Returns
    -------
    Trace
        With the slot that most rows are apart.

    Raises
    ------
    TraceError
        If a column is missing, a value missing or under ``low``, times are missing, unsorted, doubled or not one
        slot apart, or an option has no sense. The message names the column, the row or time, and what to do.
    """
    outcomes, contexts = _names(outcome), _names(context)
    stamps, values, zoned = _columns(path, time, [*outcomes, *contexts], time_unit)
    where = f"column {time!r} of {path}"
    if sort == "true":
        order = np.argsort(stamps, kind="stable")
        stamps, values = stamps[order], values[order]
    local = wall_clock(stamps, zone) if zone and zoned else stamps
    back = np.diff(stamps) < np.timedelta64(0, "ns")
    if zone and not zoned:
        back &= ~_at_change(stamps[1:], zone)
    if back.any():
        row = int(np.argmax(back)) + 1
        raise TraceError(
            f"{where} is unsorted: row {row} ({stamps[row]}) is earlier than the row before it; sort the file, or read "
            "it with &sort=true"
        )
    slot = _slot(local, where, bool(zone))
    _check_grid(local, slot, zone, where)
    rows = regular(local, values, slot)
    units = _names(unit) or [""]
    if len(units) not in (1, len(outcomes)):
        raise TraceError(
            f"unit {unit!r} of {path} names {len(units)} units for {len(outcomes)} outcomes: give 1 or all"
        )
    trace = Trace(
        name=path.name.split(".")[0],
        time=rows.time,
        outcome=rows.values[:, : len(outcomes)],
        slot=float(slot / np.timedelta64(1, "s")),
        outcome_names=tuple(outcomes),
        outcome_units=tuple(units * len(outcomes) if len(units) == 1 else units),
        outcome_low=_number(low, path),
        context=rows.values[:, len(outcomes) :],
        context_names=tuple(contexts),
        context_units=("",) * len(contexts),
        provenance=Provenance(source=str(path)),
    )
    changed = int(rows.filled.sum() + rows.doubled.sum())
    return trace.replace(note=f"{changed} slots interpolated or averaged at clock changes" if changed else "")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _number(low: str, path: Path) -> float:
    try:
        return float(low)
    except ValueError:
        raise TraceError(f"low {low!r} of {path} is no number: give the smallest outcome, such as 0") from None


def _columns(path: Path, time: str, names: list[str], unit: str | None) -> tuple[Times, Floats, bool]:
    """Time stamps, shape (N,), columns, shape (N, C), and whether the stamps say how they relate to UTC."""
    where = f"column {time!r} of {path}"
    doubled = [name for name in names if names.count(name) > 1 or name == time]
    if doubled:
        raise TraceError(f"column {doubled[0]!r} of {path} is named twice: name each column once")
    check_unit(unit, where)
    types = {time: pa.string() if unit is None else pa.float64()} | dict.fromkeys(names, pa.float64())
    table = whole(path, [time, *names], types)
    column = table[time].combine_chunks()
    if unit is None and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise TraceError(f"{where} holds numbers ({column[0]}): say what they count with &time_unit=s|ms|us|ns")
    stamps: Times = nanoseconds(column, unit, where).view("datetime64[ns]")
    if np.isnat(stamps).any():
        raise TraceError(f"{where} is missing at row {int(np.argmax(np.isnat(stamps)))}: drop or mend that row")
    values = np.stack([floats(table[n].combine_chunks(), f"column {n!r} of {path}") for n in names], axis=1)
    bad = ~np.isfinite(values)
    if bad.any():
        row, i = np.argwhere(bad)[0]
        raise TraceError(
            f"column {names[i]!r} of {path} is {values[row, i]} at row {row} ({stamps[row]}; {bad[:, i].sum()} such "
            "rows): fill or cut these rows"
        )
    return stamps, values, has_zone(column)


def _at_change(wall: Times, zone: str) -> NDArray[np.bool_]:
    """Whether a clock time is skipped or doubled, shape (N,)."""
    day = np.timedelta64(1, "D")
    shown = np.zeros(len(wall), bool)
    if len(wall):
        for change in clock_changes(zone, wall.min() - day, wall.max() + day):
            shown |= change.shows(wall)
    return shown


def _slot(time: Times, where: str, zoned: bool) -> np.timedelta64:
    """Return the most frequent step between times."""
    steps, counts = np.unique(np.diff(np.unique(time)), return_counts=True)
    if len(steps) == 0:
        raise TraceError(f"{where} holds one time only, {time[0]}: a series needs two at least")
    slot: np.timedelta64 = steps[np.argmax(counts)]
    if zoned and slot > HOUR:
        raise TraceError(
            f"{where} has slots of {_text(slot)}, and zone= is for an hour or shorter, as clocks skip no more: leave "
            "zone out and give stamps of the local clock without a zone"
        )
    return slot


def _text(slot: np.timedelta64) -> str:
    return format_duration(float(slot / np.timedelta64(1, "s")))


def _check_grid(time: Times, slot: np.timedelta64, zone: str, where: str) -> None:
    """Raise a TraceError for times that are between slots, and for doubled or missing ones but at a clock change."""
    off = (time - time.min()) % slot != np.timedelta64(0, "ns")
    if off.any():
        row = int(np.argmax(off))
        raise TraceError(
            f"{where} is {time[row]} at row {row}, between two slots of {_text(slot)}: round or aggregate the times"
        )
    there, counts = np.unique(time, return_counts=True)
    gaps = np.flatnonzero(np.diff(there) > slot)
    doubled, first, last = there[counts > 1], there[gaps] + slot, there[gaps + 1] - slot
    if zone:
        doubled = doubled[~_at_change(doubled, zone)]
        first = first[~(_at_change(first, zone) & _at_change(last, zone))]
    hint = "" if zone else "; if a local clock changed there, name its zone, such as &zone=America/New_York"
    for times, what, fix in (
        (doubled, "doubled", "drop or average one of them"),
        (first, "missing", "fill the gap, or cut the file there"),
    ):
        if len(times):
            raise TraceError(f"{where}: {times[0]} is {what} (the first of {len(times)} such places): {fix}{hint}")
