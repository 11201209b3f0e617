"""The sessions of the US stock exchanges, by rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

JUNETEENTH = 2022  # the first year that exchanges close on it
KING = 1998  # likewise Martin Luther King Day


def exchange_sessions(first: str, last: str) -> NDArray[np.datetime64]:
    """Weekdays from ``first`` to ``last``, both included, without the US holidays that close the exchanges.

    Closures that no rule foretells (mourning, storms) are not known.

    Parameters
    ----------
    first, last : str
        ISO dates.

    Returns
    -------
    array of datetime64[D], shape (T,)

    Examples
    --------
    >>> len(exchange_sessions("2023-01-01", "2023-12-31"))
    250
    """
    years = range(int(first[:4]), int(last[:4]) + 1)
    holidays = np.array([day for year in years for day in us_holidays(year)])
    days = np.arange(np.datetime64(first, "D"), np.datetime64(last, "D") + 1)
    return np.asarray(days[np.is_busday(days, holidays=holidays)])


def us_holidays(year: int) -> list[np.datetime64]:
    """Days of a year on which US exchanges are closed, as they are observed; some fall on a weekend."""
    days = [
        _nth(year, 2, 3, "Mon"),  # Washington's Birthday
        _easter(year) - 2,  # Good Friday
        _nth(year, 6, 1, "Mon") - 7,  # Memorial Day, the last Monday of May
        _observed(year, 7, 4),
        _nth(year, 9, 1, "Mon"),  # Labor Day
        _nth(year, 11, 4, "Thu"),  # Thanksgiving
        _observed(year, 12, 25),
    ]
    new_year = np.datetime64(f"{year}-01-01", "D")
    # On a Saturday it is not made up for: the Friday before ends the books of the year.
    days.append(new_year + 1 if _weekday(new_year) == 6 else new_year)
    if year >= KING:
        days.append(_nth(year, 1, 3, "Mon"))
    if year >= JUNETEENTH:
        days.append(_observed(year, 6, 19))
    return days


def _weekday(day: np.datetime64) -> int:
    """Monday is 0; 1970-01-01 was a Thursday."""
    return int((day.astype(np.int64) + 3) % 7)


def _nth(year: int, month: int, number: int, weekday: str) -> np.datetime64:
    found: np.datetime64 = np.busday_offset(f"{year}-{month:02}", number - 1, roll="forward", weekmask=weekday)
    return found


def _observed(year: int, month: int, day: int) -> np.datetime64:
    """Return the Friday before a Saturday, the Monday after a Sunday."""
    date = np.datetime64(f"{year}-{month:02}-{day:02}", "D")
    return date + {5: -1, 6: 1}.get(_weekday(date), 0)


def _easter(year: int) -> np.datetime64:
    """Easter Sunday of the Gregorian calendar, by the algorithm of Meeus, Jones and Butcher."""
    century, rest = divmod(year, 100)
    epact = (19 * (year % 19) + century - century // 4 - (century - (century + 8) // 25 + 1) // 3 + 15) % 30
    sunday = (32 + 2 * (century % 4) + 2 * (rest // 4) - epact - rest % 4) % 7
    late = (year % 19 + 11 * epact + 22 * sunday) // 451
    month, day = divmod(epact + sunday - 7 * late + 114, 31)
    return np.datetime64(f"{year}-{month:02}-{day + 1:02}", "D")
