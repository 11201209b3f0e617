"""The S&P 500 panels: closes and volumes of the members, picked from a public archive of daily stock files."""

from __future__ import annotations

import csv
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .errors import TraceError
from .files import atomic_write

FIRST, LAST = "2004-01-02", "2017-11-10"
LATEST_START = "2005-02-25"  # where many files of the archive start
CALENDAR = "IBM"  # the ticker whose sessions count
PANELS = {"Close": "sp500_close_2004_2017.csv", "Volume": "sp500_volume_2004_2017.csv"}
_STOCK = re.compile(r"(?:.*/)?Data/Stocks/(?P<stem>[\w-]+)\.us\.txt")


def derive(archive: Path, target: Path, members: Path) -> None:
    """Write the panels of closes and of volumes beside each other, one row per session, one column per ticker.

    A ticker is in when it was a member at any time from 2004-01-02 to 2017-11-10, its file starts by 2005-02-25
    and ends on the last session: all of them survived. Values are copied, not changed; an empty cell is a session
    that the file of the ticker does not have. Sessions are those of IBM.

    Parameters
    ----------
    archive : Path
        Tar archive of the repository guyr18/stock-market-big-data, or of any with ``Data/Stocks/TICKER.us.txt``.
    target : Path
        One of the panels to write; the other goes into the same folder.
    members : Path
        ``sp500_ticker_start_end.csv`` of the repository fja05680/sp500.

    Raises
    ------
    TraceError
        If the archive has no file of IBM.

    References
    ----------
    B. Marjanovic, Huge Stock Market Dataset, Kaggle, 2017.
    """
    tickers = _members(members)
    wanted = {ticker.lower().replace(".", "-"): ticker for ticker in [*tickers, CALENDAR]}
    texts: dict[str, list[str]] = {}
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            match = _STOCK.fullmatch(member.name)
            ticker = wanted.get(match["stem"]) if match else None
            content = tar.extractfile(member) if ticker else None
            if ticker is None or content is None:
                continue
            lines = content.read().decode().split()
            if ticker == CALENDAR or _whole(lines):
                texts[ticker] = [*lines[:1], *(line for line in lines[1:] if FIRST <= line[:10] <= LAST)]
    if CALENDAR not in texts:
        raise TraceError(f"archive {archive} has no Data/Stocks/{CALENDAR.lower()}.us.txt: its layout has changed")
    sessions = list(_cells(texts[CALENDAR], "Close"))
    stocks = {ticker: texts[ticker] for ticker in tickers if ticker in texts}
    for column, name in PANELS.items():
        _write(target.with_name(name), sessions, stocks, column)


def _members(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return sorted(
        {row["ticker"] for row in rows if row["start_date"] <= LAST and (row["end_date"] or "9999") >= "2004-01-01"}
    )


def _whole(lines: Sequence[str]) -> bool:
    """Whether a file has rows, starts early enough and lasts to the end."""
    return len(lines) > 1 and lines[1].split(",")[0] <= LATEST_START and lines[-1].split(",")[0] == LAST


def _cells(lines: Sequence[str], column: str) -> dict[str, str]:
    """Text of one column by date."""
    return {row["Date"]: row[column] for row in csv.DictReader(lines)}


def _write(path: Path, sessions: Sequence[str], stocks: dict[str, list[str]], column: str) -> None:
    columns = []
    for lines in stocks.values():
        cells = _cells(lines, column)
        columns.append(np.array([cells.get(session, "") for session in sessions]))  # compact: there are millions
    panel = np.stack(columns, axis=1)
    with atomic_write(path) as handle:
        handle.write(f"date,{','.join(stocks)}\n")
        handle.writelines(f"{session},{','.join(row)}\n" for session, row in zip(sessions, panel, strict=True))
