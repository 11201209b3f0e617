"""Stock markets: prices per exchange session become simple returns, one column per ticker."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .catalogue import SYNTHETIC, TraceInfo, entry
from .errors import TraceError
from .tables import batches, column_names, floats, nanoseconds
from .trace import Provenance, Trace

Floats = NDArray[np.float64]
DAY = 86400.0
MISSING_SHARE = 0.02  # of the tickers: a session that so many lack is missing from the source
SPIKE = 2.5  # a close that moves by more than this factor ...
BACK = 0.1  # ... and is back this close to the one before it ...
WITHIN = 3  # ... in so many sessions is a wrong price, not a return


@dataclass(frozen=True)
class Panel:
    """One value per session and ticker.

    Attributes
    ----------
    days : array of datetime64[D], shape (T,)
        The sessions, increasing.
    tickers : tuple of str, length N
        The columns.
    values : array of float64, shape (T, N)
        NaN where there is none.
    """

    days: NDArray[np.datetime64]
    tickers: tuple[str, ...]
    values: Floats


def read_panel(path: Path, time: str, columns: Sequence[str] | None = None, unit: str | None = None) -> Panel:
    """Read a table with a row per session and a column per ticker, all columns but ``time`` by default.

    Parameters
    ----------
    path : Path
        CSV, Parquet or JSONL, the text formats also behind gzip.
    time : str
        Column of the sessions: dates, ISO text or numbers with a ``unit``; the hour does not count.
    columns : sequence of str, optional
        The tickers.
    unit : {"s", "ms", "us", "ns"}, optional
        Of numeric times.

    Raises
    ------
    TraceError
        If the file or a column is missing or malformed, or sessions are missing, unsorted or doubled. Rows count
        from 0, the header left out.
    """
    tickers = [c for c in column_names(path) if c != time] if columns is None else list(columns)
    if not tickers or time in tickers or len(set(tickers)) < len(tickers):
        raise TraceError(f"file {path}: give price columns, each once and none of them the time column {time!r}")
    types: dict[str, Any] = dict.fromkeys(tickers, pa.float64())
    types[time] = pa.string() if unit is None else pa.float64()
    table = pa.Table.from_batches(list(batches(path, [time, *tickers], types))).combine_chunks()
    where = f"column {time!r} of {path}"
    stamps = nanoseconds(table[time].combine_chunks(), unit, where).view("datetime64[ns]")
    days = stamps.astype("datetime64[D]")
    if np.isnat(stamps).any():
        raise TraceError(f"{where} is missing at row {int(np.argmax(np.isnat(stamps)))}: every row needs its session")
    if (wrong := np.flatnonzero(np.diff(days) <= np.timedelta64(0, "D"))).size:
        row = int(wrong[0]) + 1
        what = (
            f"doubled: row {row} is the second one of {days[row]}; keep one row per session"
            if days[row] == days[row - 1]
            else f"unsorted: row {row} ({days[row]}) is earlier than the row before it; sort the file"
        )
        raise TraceError(f"{where} is {what}")
    values = [floats(table[ticker].combine_chunks(), f"column {ticker!r} of {path}") for ticker in tickers]
    return Panel(days, tuple(tickers), np.stack(values, axis=1))


@dataclass(frozen=True)
class Screening:
    """What of a panel of closes can be used, by rule.

    Attributes
    ----------
    sessions : array of bool, shape (T,)
        The sessions that stay.
    absent : dict of str to str
        Why a ticker is left out; those that stay are not in it.
    """

    sessions: NDArray[np.bool_]
    absent: dict[str, str]

    @property
    def note(self) -> str:
        """What was left out, counted."""
        kinds = [reason.split(":")[0] for reason in self.absent.values()]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("late", "hole", "spike") if kind in kinds)
        return f"{(~self.sessions).sum()} sessions dropped; tickers left out: {counts or 'none'}"


def screen(closes: Panel) -> Screening:
    """Find the sessions that the source lacks, and the tickers whose closes are late, have holes or spikes.

    A session is dropped when at least 2 % of the tickers that have started lack it; the return of the session
    after it then spans two. A ticker is late when it has no close in the first session, has a hole when it lacks
    one of the remaining sessions, and a spike when a close moves by more than a factor of 2.5 and is back within
    10 % of the close before on one of the next three sessions. The first of these reasons is the one given.
    """
    there = np.isfinite(closes.values)
    started = np.maximum.accumulate(there, axis=0)
    sessions = (started & ~there).sum(axis=1) < MISSING_SHARE * np.maximum(started.sum(axis=1), 1)
    days, values, there = closes.days[sessions], closes.values[sessions], there[sessions]
    spikes = _spikes(values)
    absent = {}
    for column, ticker in enumerate(closes.tickers):
        if not there[:, column].any():
            absent[ticker] = "hole: it has no price at all"
        elif not there[0, column]:
            absent[ticker] = f"late: its first session is {days[np.argmax(there[:, column])]}"
        elif not there[:, column].all():
            lost = days[~there[:, column]]
            absent[ticker] = f"hole: it lacks {len(lost)} of the sessions, the first on {lost[0]}"
        elif spikes[:, column].any():
            absent[ticker] = f"spike: its price is wrong on {', '.join(map(str, days[spikes[:, column]]))}"
    return Screening(sessions, absent)


def _spikes(values: Floats) -> NDArray[np.bool_]:
    """Mask (T, N) of closes that move by a wide margin and soon move back."""
    found = np.zeros(values.shape, bool)
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN where there is no price: no spike
        ratio = values[1:] / values[:-1]
        jump = (ratio >= SPIKE) | (ratio <= 1 / SPIKE)
        for later in range(1, WITHIN + 1):
            count = max(len(values) - 1 - later, 0)
            back = np.abs(values[1 + later :] / values[:count] - 1) <= BACK
            found[1 : count + 1] |= jump[:count] & back
    return found


def read_prices(paths: Sequence[Path], info: TraceInfo) -> Trace:
    """Read a market of the catalogue: the returns of the tickers that pass :func:`screen`.

    Parameters
    ----------
    paths : sequence of path
        The panel of closes, then that of volumes where there is one.
    info : TraceInfo
        Its entry; ``info.reading["time"]`` is the column of the sessions.

    Returns
    -------
    Trace
        One row per session: the simple return of each ticker since the session before. Context, where volumes are
        known: ``volume:TICKER``, the change of the log volume that the session before brought, which is known
        before the decision. A volume of zero counts as that of the session before.
    """
    closes = read_panel(paths[0], info.reading["time"])
    screening = screen(closes)
    kept = [column for column, ticker in enumerate(closes.tickers) if ticker not in screening.absent]
    tickers = tuple(closes.tickers[column] for column in kept)
    prices, days = closes.values[screening.sessions][:, kept], closes.days[screening.sessions]
    if len(paths) == 1:
        return _returns(days, tickers, prices, info.name, info.provenance).replace(note=screening.note)
    volumes = read_panel(paths[1], info.reading["time"], tickers)
    if not np.array_equal(volumes.days, closes.days):
        raise TraceError(f"file {paths[1]} has other sessions than {paths[0]}: fetch both anew")
    trace = _returns(days, tickers, prices, info.name, info.provenance).window(1)
    return trace.replace(
        name=info.name,
        context=_log_changes(volumes.values[screening.sessions])[:-1],
        context_names=tuple(f"volume:{ticker}" for ticker in tickers),
        context_units=("1",) * len(tickers),
        provenance=info.provenance,
    ).replace(note=screening.note)


def _log_changes(volumes: Floats) -> Floats:
    """Change of the logarithm from row to row, (T - 1, N); a volume that is missing or zero repeats the last one."""
    known = volumes > 0
    known[0] = True
    row = np.maximum.accumulate(np.where(known, np.arange(len(volumes))[:, None], 0), axis=0)
    return np.diff(np.log(np.take_along_axis(volumes, row, axis=0)), axis=0)


def _returns(
    days: NDArray[np.datetime64], tickers: tuple[str, ...], prices: Floats, name: str, provenance: Provenance
) -> Trace:
    return Trace(
        name=name,
        time=days[1:].astype("datetime64[ns]"),
        outcome=prices[1:] / prices[:-1] - 1,
        slot=DAY,
        outcome_names=tickers,
        outcome_units=("1",) * len(tickers),
        outcome_low=-1.0,
        sessions=True,
        provenance=provenance,
    )


def read_own_prices(path: Path, *, time: str, price: str, time_unit: str | None = None) -> Trace:
    """Read prices of the user's own: returns per session, nothing dropped or filled.

    Parameters
    ----------
    path : Path
        CSV, Parquet or JSONL, the text formats also behind gzip; one row per session.
    time : str
        Column of the sessions; only the date counts.
    price : str
        Columns of the prices, separated by commas, or ``*`` for all but the time.
    time_unit : {"s", "ms", "us", "ns"}, optional
        Of numeric times.

    Returns
    -------
    Trace
        One row per session from the second one on, as of :func:`read_prices`.

    Raises
    ------
    TraceError
        As of :func:`read_panel`, and if a price is missing, zero or negative; the message names the column, the
        day and what to do.
    """
    columns = None if price.strip() == "*" else [name.strip() for name in price.split(",") if name.strip()]
    panel = read_panel(path, time, columns, time_unit)
    if len(panel.days) < 2:
        raise TraceError(f"file {path} has {len(panel.days)} session: returns need two at least")
    for column, ticker in enumerate(panel.tickers):
        _check_prices(panel.values[:, column], panel.days, f"column {ticker!r} of {path}")
    return _returns(panel.days, panel.tickers, panel.values, path.name.split(".")[0], Provenance(source=str(path)))


def _check_prices(prices: Floats, days: NDArray[np.datetime64], where: str) -> None:
    missing = np.isnan(prices)
    if missing.any():
        first = int(np.argmin(missing))
        if missing.all() or missing[:first].any():
            begins = "has no price at all" if missing.all() else f"begins late, on {days[first]}"
            raise TraceError(f"{where} {begins}: leave it out of price=, or let the file begin when all have a price")
        raise TraceError(
            f"{where} has no price on {days[int(np.argmax(missing))]} ({missing.sum()} missing in all): fill it, drop "
            "the day for all, or leave the column out of price="
        )
    wrong = ~(np.isfinite(prices) & (prices > 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise TraceError(
            f"{where} is {prices[row]} on {days[row]}: prices are above zero; mend it or leave the column out"
        )


def why_absent(name: str, ticker: str) -> str:
    """Say why a market trace does not have a ticker, in a sentence without its end.

    Parameters
    ----------
    name : str
        Name of the trace, or of a window of it or a shifted copy.
    ticker : str
        A ticker that is not among its outcomes.

    Returns
    -------
    str
        Such as ``"'AAP' is left out of 'sp500' (late: its first session is 2005-02-25)"``.
    """
    plain = re.split(r"[\[@ ]", name)[0]
    if plain.startswith(SYNTHETIC):
        return f"{ticker!r} is not in {plain!r}, whose tickers are made up and called S001, S002 and so on"
    try:
        info = entry(plain)
    except LookupError:
        return f"{ticker!r} is not a column of {plain!r}"
    if info.kind != "prices":
        return f"{ticker!r} is not in {plain!r}, which is no market"
    from .fetch import find

    path = find(info.files[0])
    if path is None:  # nothing is downloaded for a message
        return f"{ticker!r} is not a column of {plain!r}"
    tickers, absent = _screened(path, path.stat().st_mtime_ns, info.reading["time"])
    if ticker in absent:
        return f"{ticker!r} is left out of {plain!r} ({absent[ticker]})"
    close = difflib.get_close_matches(ticker, [t for t in tickers if t not in absent], n=3, cutoff=0.5)
    hint = f" (close: {', '.join(close)})" if close else ""
    return f"{ticker!r} is not in the source of {plain!r}{hint}"


@functools.lru_cache(maxsize=4)
def _screened(path: Path, mtime: int, time: str) -> tuple[tuple[str, ...], dict[str, str]]:
    closes = read_panel(path, time)
    return closes.tickers, screen(closes).absent
