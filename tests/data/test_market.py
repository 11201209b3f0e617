"""Markets: the panels are derived, screened by rule and turned into returns; so are prices of the user's own."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftgym.data import TraceError, TraceInfo, load_trace, sp500
from shiftgym.data.catalogue import entry
from shiftgym.data.exchange import exchange_sessions, us_holidays
from shiftgym.data.fetch import find
from shiftgym.data.market import Panel, read_panel, read_prices, screen, why_absent

DAYS = exchange_sessions("2004-01-02", "2004-03-15")
MARKETS = ("sp500", "sp500-20")
INFO = TraceInfo("demo", "made up", "prices", 86400.0, reading={"time": "date"})


def closes(tickers: int = 60, seed: int = 0) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(0, 0.02, (len(DAYS), tickers))
    return np.exp(3 + np.cumsum(steps, axis=0))


def write(path: Path, values: np.ndarray, days: Any = DAYS, header: str = "date") -> Path:
    names = [f"T{i:02}" for i in range(values.shape[1])]
    rows = [
        f"{d},{','.join('' if np.isnan(x) else repr(float(x)) for x in v)}" for d, v in zip(days, values, strict=True)
    ]
    path.write_text("\n".join([",".join([header, *names]), *rows]) + "\n")
    return path


def panel(values: np.ndarray) -> Panel:
    return Panel(DAYS, tuple(f"T{i:02}" for i in range(values.shape[1])), values)


# ---------------------------------------------------------------------- the sessions of the exchange
def test_holidays_are_those_that_the_exchange_publishes() -> None:
    observed = {
        2021: "01-01 01-18 02-15 04-02 05-31 07-05 09-06 11-25 12-24",
        2022: "01-17 02-21 04-15 05-30 06-20 07-04 09-05 11-24 12-26",  # New Year on a Saturday is not made up for
        2023: "01-02 01-16 02-20 04-07 05-29 06-19 07-04 09-04 11-23 12-25",
    }
    for year, days in observed.items():
        closed = [str(day)[5:] for day in sorted(us_holidays(year)) if np.is_busday(day)]
        assert closed == days.split()
    assert len(exchange_sessions("2023-01-01", "2023-12-31")) == 250


@pytest.mark.real("sp500", "sp500-20")
def test_rules_find_every_real_session_and_few_more() -> None:
    for name, extra in (("sp500", 4), ("sp500-20", 10)):  # mourning, storms, 2001-09-11 to 14
        file = entry(name).files[0]
        days = read_panel(find(file), entry(name).reading["time"]).days
        ruled = exchange_sessions(str(days[0]), str(days[-1]))
        assert np.isin(days, ruled).all()
        assert len(ruled) - len(days) == extra


# ---------------------------------------------------------------------- rules
def test_a_clean_panel_is_kept_whole() -> None:
    found = screen(panel(closes()))
    assert found.sessions.all()
    assert not found.absent


def test_sessions_that_many_tickers_lack_are_dropped_and_few_make_a_hole() -> None:
    values = closes()
    values[10, :2] = np.nan  # 2 of 60 tickers: more than 2 %
    values[20, 5] = np.nan  # one of them: a hole
    found = screen(panel(values))
    assert np.flatnonzero(~found.sessions).tolist() == [10]
    assert found.absent == {"T05": f"hole: it lacks 1 of the sessions, the first on {DAYS[20]}"}


def test_late_tickers_and_those_without_prices_are_left_out() -> None:
    values = closes()
    values[:7, 3] = np.nan
    values[:, 4] = np.nan
    found = screen(panel(values))
    assert found.sessions.all(), "a ticker that has not started is not missing"
    assert found.absent["T03"] == f"late: its first session is {DAYS[7]}"
    assert found.absent["T04"].startswith("hole: it has no price at all")
    assert "1 late, 1 hole" in found.note


@given(
    day=st.integers(1, len(DAYS) - 5),
    length=st.integers(1, 3),
    factor=st.sampled_from([0.01, 0.1, 10.0, 100.0]),
)
@settings(max_examples=30)
def test_prices_wrong_for_a_few_sessions_are_spikes(day: int, length: int, factor: float) -> None:
    values = closes()
    values[day - 1 : day + length + 1, 7] = values[day, 7]
    values[day : day + length, 7] *= factor
    found = screen(panel(values))
    assert found.absent == {"T07": f"spike: its price is wrong on {DAYS[day]}"}


def test_a_crash_that_lasts_is_no_spike() -> None:
    values = closes()
    values[20:, 7] *= 0.3
    values[30:, 8] *= 4.0
    assert not screen(panel(values)).absent


# ---------------------------------------------------------------------- returns and volumes
def test_returns_are_of_the_session_and_span_a_dropped_one(tmp_path: Path) -> None:
    values = closes()
    values[10, :9] = np.nan
    trace = read_prices([write(tmp_path / "close.csv", values)], INFO)
    kept = np.delete(values, 10, axis=0)
    np.testing.assert_allclose(trace.outcome, kept[1:] / kept[:-1] - 1)
    assert trace.time.tolist() == np.delete(DAYS, 10)[1:].astype("datetime64[ns]").tolist()
    assert trace.sessions
    assert trace.outcome_low == -1
    assert trace.outcome_units[0] == "1"
    assert trace.context_names == ()
    assert "1 sessions dropped" in trace.provenance.history[-1]


def test_volumes_are_known_before_the_session(tmp_path: Path) -> None:
    volumes = np.random.default_rng(1).integers(100, 10_000, (len(DAYS), 60)).astype(float)
    volumes[30, 4] = 0.0
    paths = [write(tmp_path / "close.csv", closes()), write(tmp_path / "volume.csv", volumes)]
    trace = read_prices(paths, INFO)
    assert trace.time[0] == DAYS[2]
    assert trace.context_names[4] == "volume:T04"
    for row in (0, 1, 40):
        session = row + 2
        expected = np.log(volumes[session - 1] / volumes[session - 2])
        np.testing.assert_allclose(trace.context[row], expected)
    # A volume of zero counts as the one before it: no change, then the change since.
    assert trace.context[29, 4] == 0.0
    assert trace.context[30, 4] == pytest.approx(np.log(volumes[31, 4] / volumes[29, 4]))
    # What comes later does not show.
    volumes[50:] *= 7
    later = read_prices([paths[0], write(tmp_path / "volume.csv", volumes)], INFO)
    assert np.array_equal(later.context[: 50 - 1], trace.context[: 50 - 1])
    write(paths[1], volumes[1:], DAYS[1:])
    with pytest.raises(TraceError, match="other sessions"):
        read_prices(paths, INFO)


# ---------------------------------------------------------------------- the archive
def stock(days: Any, rng: np.random.Generator) -> str:
    rows = [f"{d},1,2,3,{rng.uniform(10, 20):.4g},{rng.integers(1, 9999)},0" for d in days]
    return "\n".join(["Date,Open,High,Low,Close,Volume,OpenInt", *rows])


def archive(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"stock-market-big-data-30d766f/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def test_the_panels_are_picked_from_the_archive(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    days = exchange_sessions("2003-12-01", "2017-11-10")
    files = {
        "Data/Stocks/ibm.us.txt": stock(days, rng),
        "Data/Stocks/brk-b.us.txt": stock(np.delete(days, 100), rng),  # BRK.B lacks a session
        "Data/Stocks/late.us.txt": stock(days[400:], rng),  # after 2005-02-25
        "Data/Stocks/gone.us.txt": stock(days[:-5], rng),
        "Data/Stocks/other.us.txt": stock(days, rng),  # no member
        "Data/Stocks/left.us.txt": stock(days, rng),  # a member before 2004 only
        "Data/Stocks/empty.us.txt": "",
        "Data/ETFs/etf.us.txt": stock(days, rng),
    }
    members = tmp_path / "members.csv"
    members.write_text(
        "ticker,start_date,end_date\nIBM,1990-01-01,\nBRK.B,2010-02-16,\nLATE,1990-01-01,\nGONE,1990-01-01,\n"
        "LEFT,1990-01-01,2003-12-31\nEMPTY,1990-01-01,\nETF,1990-01-01,\nBRK.B,1990-01-01,1995-01-01\n"
    )
    target = tmp_path / sp500.PANELS["Close"]
    sp500.derive(archive(tmp_path / "archive.tar.gz", files), target, members)
    close, volume = (read_panel(tmp_path / name, "date") for name in sp500.PANELS.values())
    assert close.tickers == volume.tickers == ("BRK.B", "IBM")
    assert close.days[0] == np.datetime64("2004-01-02")
    assert np.array_equal(close.days, days[days >= np.datetime64("2004-01-02")])
    source = {row.split(",")[0]: row.split(",") for row in files["Data/Stocks/brk-b.us.txt"].splitlines()}
    for index, day in enumerate(close.days):
        if str(day) in source:
            assert close.values[index, 0] == float(source[str(day)][4])
            assert volume.values[index, 0] == float(source[str(day)][5])
        else:
            assert day == days[100]
            assert np.isnan(close.values[index, 0])
    with pytest.raises(TraceError, match=r"no Data/Stocks/ibm\.us\.txt"):
        sp500.derive(archive(tmp_path / "other.tar.gz", {"a": "b"}), target, members)


# ---------------------------------------------------------------------- the real markets
@pytest.mark.real("sp500")
def test_the_real_market_has_the_documented_figures() -> None:
    trace = load_trace("sp500")
    assert trace.outcome.shape == trace.context.shape == (3487, 310)
    assert (str(trace.time[0])[:10], str(trace.time[-1])[:10]) == ("2004-01-06", "2017-11-10")
    assert trace.provenance.history[-1] == "2 sessions dropped; tickers left out: 192 late, 9 hole, 3 spike"
    assert not {"2010-11-19", "2011-02-17"} & {str(day)[:10] for day in trace.time}
    assert trace.outcome.min() == pytest.approx(-0.6408, abs=1e-4)
    assert trace.outcome.max() == pytest.approx(1.0233, abs=1e-4)
    assert trace.outcome.mean() == pytest.approx(4.95e-4, abs=1e-5)
    apple = trace.outcome[:, trace.outcome_names.index("AAPL")]
    assert apple[0] == pytest.approx(1.415 / 1.4202 - 1, abs=2e-3)
    volumes = trace.context
    assert volumes.std() == pytest.approx(0.4052, abs=1e-3)
    assert (volumes[trace.index("2010-04-27")] == 0).sum() > 150  # after the session without volumes
    repeated = (trace.outcome == 0).sum(axis=1)
    assert np.sort(repeated)[-2:].tolist() == [16, 48]
    assert repeated[trace.index("2008-04-30")] == 48


@pytest.mark.real("sp500")
def test_the_clean_tickers_of_the_quality_table_are_in() -> None:
    # Of 310 that a stricter look at each ticker calls clean from the first session, all but two that lack one session
    # are in, with two whose volume is zero more than once.
    names = set(load_trace("sp500").outcome_names)
    assert len(names) == 310
    assert not {"CHRW", "IAC"} & names
    assert {"C", "GIS"} <= names
    for ticker, why in {
        "AAP": "late: its first session is 2005-02-25",
        "CHRW": "hole: it lacks 1 of the sessions, the first on 2005-10-17",
        "SANM": "hole: it lacks 19 of the sessions, the first on 2009-08-17",
        "EIX": "spike: its price is wrong on 2009-09-01, 2012-03-08, 2012-03-22",
    }.items():
        assert why_absent("sp500", ticker) == f"{ticker!r} is left out of 'sp500' ({why})"
        assert why_absent("sp500[0:100] | scale(factor=2.0)", ticker) == why_absent("sp500", ticker)
    assert why_absent("sp500", "APPL") == "'APPL' is not in the source of 'sp500' (close: PPL, AAPL, PPG)"


@pytest.mark.real("sp500-20", "sp500")
def test_the_long_market_agrees_with_the_wide_one() -> None:
    long, wide = load_trace("sp500-20"), load_trace("sp500")
    assert long.outcome.shape == (8312, 20)
    assert (str(long.time[0])[:10], str(long.time[-1])[:10]) == ("1990-01-03", "2022-12-28")
    assert long.context_names == ()
    assert long.provenance.history[-1] == "0 sessions dropped; tickers left out: none"
    both = [name for name in long.outcome_names if name in wide.outcome_names]
    assert len(both) >= 18
    days, here, there = np.intersect1d(long.time, wide.time, return_indices=True)
    assert len(days) == 3487
    for name in both:
        one = long.outcome[here, long.outcome_names.index(name)]
        two = wide.outcome[there, wide.outcome_names.index(name)]
        assert np.corrcoef(one, two)[0, 1] > 0.99


def test_absences_elsewhere_are_explained_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shiftgym.data.fetch.cache_folder", lambda: tmp_path)
    monkeypatch.delenv("SHIFTGYM_DATA", raising=False)
    assert why_absent("sp500", "AAP") == "'AAP' is not a column of 'sp500'"  # the source is not here to tell
    assert "made up and called S001" in why_absent("synthetic-sp500", "AAPL")
    assert why_absent("mine", "AAPL") == "'AAPL' is not a column of 'mine'"
    assert "no market" in why_absent("burstgpt-hourly", "AAPL")


# ---------------------------------------------------------------------- prices of one's own
def test_own_prices_are_returns_per_session(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("day,A,B,note\n2026-01-02,10,4,x\n2026-01-05,11,5,y\n2026-01-06,9.9,5,z\n")
    trace = load_trace(f"file:{path}?time=day&price=A,B")
    np.testing.assert_allclose(trace.outcome, [[0.1, 0.25], [-0.1, 0.0]])
    assert trace.outcome_names == ("A", "B")
    assert trace.sessions
    assert trace.outcome_low == -1
    assert trace.context_names == ()
    assert trace.name == "prices"
    assert trace.provenance.source == str(path)
    assert load_trace(f"file:{path}?time=day&price=B[1:2]").outcome.tolist() == [[0.0]]
    path.write_text(path.read_text().replace(",note", "").replace(",x", "").replace(",y", "").replace(",z", ""))
    assert load_trace(f"file:{path}?time=day&price=*").outcome_names == ("A", "B")
    with pytest.raises(TraceError, match="exchange sessions"):
        load_trace(f"file:{path}?time=day&price=*@5d")


def test_own_prices_come_in_every_format(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    stamps = [1767312000, 1767571200, 1767657600]
    (tmp_path / "p.jsonl").write_text(
        "\n".join(f'{{"t": {t}, "A": {p}}}' for t, p in zip(stamps, (10, 11, 9.9), strict=True))
    )
    pa.parquet.write_table(pa.table({"t": stamps, "A": [10, 11, 9.9]}), tmp_path / "p.parquet")
    (tmp_path / "p.csv").write_text("t,A\n2026-01-02T16:00,10\n2026-01-05T13:00,11\n2026-01-06 16:00,9.9\n")
    for name, unit in (("p.jsonl", "&time_unit=s"), ("p.parquet", "&time_unit=s"), ("p.csv", "")):
        trace = load_trace(f"file:{tmp_path / name}?time=t&price=*{unit}")
        np.testing.assert_allclose(trace.outcome[:, 0], [0.1, -0.1])
        assert [str(t)[:10] for t in trace.time] == ["2026-01-05", "2026-01-06"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("2026-01-02,1,2\n2026-01-05,,2\n2026-01-06,1,2", r"column 'A' .* no price on 2026-01-05 \(1 missing in all\)"),
        ("2026-01-02,1,\n2026-01-05,1,\n2026-01-06,1,2", r"column 'B' .* begins late, on 2026-01-06.*leave it out"),
        ("2026-01-02,1,\n2026-01-05,1,", "column 'B' .* no price at all"),
        ("2026-01-02,1,2\n2026-01-05,0,2", r"column 'A' .* is 0\.0 on 2026-01-05: prices are above zero"),
        ("2026-01-02,1,2\n2026-01-05,1,-3.5", r"column 'B' .* is -3\.5 on 2026-01-05"),
        ("2026-01-02,1,2\n2026-01-05,1,NaN\n2026-01-06,1,2", "column 'B' .* no price on 2026-01-05"),
        ("2026-01-02,1,2\n2026-01-05,1,inf", "is inf"),
        ("2026-01-05,1,2\n2026-01-02,1,2", r"column 'day' .* unsorted: row 1 \(2026-01-02\)"),
        ("2026-01-02,1,2\n2026-01-02,1,2", "doubled: row 1 is the second one of 2026-01-02"),
        ("2026-01-02,1,2\n,1,2", "column 'day' .* missing at row 1"),
        ("2026-01-02,1,2", "1 session: returns need two"),
        ("2026-01-02,1,dear\n2026-01-05,1,2", "cannot be read as csv: .*'dear'"),
        ("soon,1,2\nlater,1,2", "give ISO times"),
    ],
)
def test_prices_that_make_no_returns_are_named(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(f"day,A,B\n{rows}\n")
    with pytest.raises(TraceError, match=message):
        load_trace(f"file:{path}?time=day&price=A,B")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("time=day&price=A,C", "no column 'C'"),
        ("time=day&price=A,A", "each once"),
        ("time=day&price=day", "none of them the time column"),
        ("time=when&price=A", "no column 'when'"),
        ("price=A", "no 'time'"),
        ("time=day&price=", "no 'price'"),
        ("time=day&price=A&output=B", "unknown option 'output'"),
        ("time=day&price=A&prompt=B", "both"),
    ],
)
def test_options_of_prices_are_checked(tmp_path: Path, options: str, message: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("day,A,B\n2026-01-02,1,2\n2026-01-05,1,2\n")
    with pytest.raises(TraceError, match=message):
        load_trace(f"file:{path}?{options}")
