"""Wall clocks: local days of exactly 24 hours, whatever the law does to the clock in spring and autumn."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from .errors import TraceError

Times = NDArray[np.datetime64]
Floats = NDArray[np.float64]
HOUR = np.timedelta64(3600 * 10**9, "ns")
_WEEK = np.timedelta64(7, "D")


def time_zone(name: str) -> ZoneInfo:
    """Return the zone of a name such as ``America/New_York``.

    Raises
    ------
    TraceError
        If the time zone database has no such zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the others: names that are no file of the database
        raise TraceError(
            f"zone {name!r} is unknown: give one of the time zone database, such as America/New_York or UTC"
        ) from None


def _offset(instant: np.datetime64, zone: ZoneInfo) -> np.timedelta64:
    seconds = int(instant.astype("datetime64[s]").astype(np.int64))
    offset = dt.datetime.fromtimestamp(seconds, zone).utcoffset()
    assert offset is not None  # a time with a zone has one
    return np.timedelta64(round(offset.total_seconds() * 1e9), "ns")


@dataclass(frozen=True)
class ClockChange:
    """One change of a local clock.

    Attributes
    ----------
    instant : datetime64[ns]
        When it happens, UTC.
    before, after : timedelta64[ns]
        Offset of the clock from UTC. In spring ``after`` is larger, and the clock skips the difference; in autumn
        it shows the difference twice.
    """

    instant: np.datetime64
    before: np.timedelta64
    after: np.timedelta64

    def shows(self, wall: Times) -> NDArray[np.bool_]:
        """Whether a clock time is among those that this change skips or doubles."""
        first, last = sorted((self.instant + self.before, self.instant + self.after))
        inside: NDArray[np.bool_] = (wall >= first) & (wall < last)
        return inside


def clock_changes(zone: str, first: np.datetime64, last: np.datetime64) -> list[ClockChange]:
    """Return the changes of a local clock between two instants (UTC), and up to two weeks after, to the second.

    Raises
    ------
    TraceError
        If the zone is unknown.
    """
    info = time_zone(zone)
    days = np.arange(first.astype("datetime64[D]"), last.astype("datetime64[D]") + 2 * _WEEK, _WEEK)
    days = days.astype("datetime64[s]")  # no clock changes twice within a week
    offsets = np.array([_offset(day, info) for day in days])
    changes = []
    for i in np.flatnonzero(offsets[1:] != offsets[:-1]):
        low, high = days[i], days[i + 1]
        while high - low > np.timedelta64(1, "s"):
            middle = low + (high - low) // 2
            low, high = (middle, high) if _offset(middle, info) == offsets[i] else (low, middle)
        changes.append(ClockChange(high.astype("datetime64[ns]"), offsets[i], offsets[i + 1]))
    return changes


def wall_clock(utc: Times, zone: str) -> Times:
    """Return what the clock of a zone shows at instants given in UTC, without a zone, shape (T,).

    Raises
    ------
    TraceError
        If the zone is unknown.
    """
    if len(utc) == 0:
        time_zone(zone)
        return utc
    changes = clock_changes(zone, utc.min(), utc.max())
    start = changes[0].before if changes else _offset(utc.min(), time_zone(zone))
    offsets = np.array([start, *(change.after for change in changes)])
    return (
        utc + offsets[np.searchsorted(np.array([change.instant for change in changes], utc.dtype), utc, side="right")]
    )


def utc_clock(wall: Times, zone: str) -> Times:
    """Return the instants (UTC) at which the clock of a zone shows given times, shape (T,).

    NaT for a time that it skips in spring, and for one that it shows twice in autumn, as nothing says which is meant.
    Times are whole hours.

    Raises
    ------
    TraceError
        If the zone is unknown.
    """
    instants: Times = np.arange(wall.min() - 24 * HOUR, wall.max() + 24 * HOUR, HOUR)
    shown, first, count = np.unique(wall_clock(instants, zone), return_index=True, return_counts=True)
    place = np.searchsorted(shown, wall).clip(max=len(shown) - 1)
    sure = (shown[place] == wall) & (count[place] == 1)
    return np.where(sure, instants[first[place]], np.datetime64("NaT", "ns"))


@dataclass(frozen=True)
class Regular:
    """Rows brought to one per slot.

    Attributes
    ----------
    time : array of datetime64[ns], shape (T,)
        Start of each slot, one slot apart.
    values : array of float64, shape (T, D)
        The mean of the rows of each slot; interpolated from the slots before and after where there was none.
    filled, doubled : array of bool, shape (T,)
        Slots that had no row, and those that had more than one.
    """

    time: Times
    values: Floats
    filled: NDArray[np.bool_]
    doubled: NDArray[np.bool_]


def regular(time: Times, values: Floats, slot: np.timedelta64) -> Regular:
    """Return one row per slot, from rows in any order that may be doubled or missing.

    Parameters
    ----------
    time : array of datetime64[ns], shape (N,)
        Starts, each a whole number of slots after the earliest.
    values : array of float64, shape (N, D)
        Their rows.
    slot : timedelta64
        Length of a slot.
    """
    place = (time - time.min()) // slot
    count = np.bincount(place)
    filled = count == 0
    sums = np.stack([np.bincount(place, column) for column in values.T], axis=1)
    means = sums / np.maximum(count, 1)[:, None]
    known = np.flatnonzero(~filled)
    for column in means.T:
        column[filled] = np.interp(np.flatnonzero(filled), known, column[known])
    return Regular(time.min() + np.arange(len(count)) * slot, means, filled, count > 1)
