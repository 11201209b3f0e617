from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftgym.data import TraceError, load_requests, read_requests, stream_slots, tables

COLUMNS: dict[str, Any] = {"time": "when", "prompt": "tokens_in", "output": "tokens_out"}
STAMPS = [
    "2026-01-01 00:00:00",
    "2026-01-01 00:00:01.5",
    "2026-01-01 00:00:01.5",
    "2026-01-01 00:00:04.1234567",
]
ROWS = [*zip(STAMPS, [10, 20, 30, 40], [1, 2, 3, 4], strict=True)]


def text(rows: Any = ROWS, header: str = "when,tokens_in,tokens_out,other") -> str:
    return "\n".join([header, *(",".join(map(str, (*row, "x"))) for row in rows)]) + "\n"


def write(path: Path, content: str | None = None) -> Path:
    """The same log in the format of the ending."""
    names = list(COLUMNS.values())
    content = text() if content is None else content
    objects = "".join(json.dumps(dict(zip(names, row, strict=True)) | {"other": [1]}) + "\n" for row in ROWS)
    if path.name.endswith(".csv"):
        path.write_text(content)
    elif path.name.endswith(".csv.gz"):
        path.write_bytes(gzip.compress(content.encode()))
    elif path.name.endswith(".jsonl"):
        path.write_text(objects)
    elif path.name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(objects.encode()))
    else:
        stamps = np.array(STAMPS, "datetime64[ns]")
        table = pa.table({"when": stamps, "tokens_in": [10, 20, 30, 40], "tokens_out": [1, 2, 3, 4]})
        pa.parquet.write_table(table, path)
    return path


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet"])
def test_every_format_gives_the_same_log(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"log{ending}")
    log = read_requests(path, **COLUMNS)
    assert log.name == "log"
    assert log.time.tolist() == np.array(STAMPS, "datetime64[ns]").tolist()
    assert log.prompt.tolist() == [10, 20, 30, 40]
    assert log.output.tolist() == [1, 2, 3, 4]
    assert read_requests(path, time="when", prompt="tokens_in").output.tolist() == [0, 0, 0, 0]
    trace = stream_slots(path, "2s", **COLUMNS)
    assert trace.outcome.tolist() == log.slots("2s").outcome.tolist() == [[66], [0]]


@pytest.mark.parametrize(
    ("values", "unit", "nanoseconds"),
    [
        (["0", "1.5"], "s", 1_500_000_000),
        (["0", "1500"], "ms", 1_500_000_000),
        (["0", "1500000"], "us", 1_500_000_000),
        (["1700000000000000000", "1700000000000000001"], "ns", 1),
        (["1700000000.000001", "1700000000.500001"], "s", 500_000_000),
        (["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.001Z"], None, 1_000_000),
        (["2026-01-01 01:00:00+01:00", "2026-01-01 00:00:01+00:00"], None, 1_000_000_000),
        (["2026-01-01", "2026-01-02"], None, 86_400_000_000_000),
    ],
)
def test_times_are_text_or_numbers_with_a_unit(
    tmp_path: Path, values: list[str], unit: str | None, nanoseconds: int
) -> None:
    path = write(tmp_path / "log.csv", text([(value, 1, 1) for value in values]))
    log = read_requests(path, **COLUMNS, unit=unit)
    assert (log.time[1] - log.time[0]).astype(int) == pytest.approx(nanoseconds, abs=300 if "." in values[0] else 0)


def test_integer_nanoseconds_of_parquet_are_exact(tmp_path: Path) -> None:
    table = pa.table({"when": [1_700_000_000_000_000_000, 1_700_000_000_000_000_001], "tokens_in": [1, 1]})
    pa.parquet.write_table(table, tmp_path / "log.parquet")
    log = read_requests(tmp_path / "log.parquet", time="when", prompt="tokens_in", unit="ns")
    assert np.diff(log.time).astype(int).tolist() == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (text([]), "header but no request"),
        (
            text(header="When,tokens_in,tokens_out,other"),
            "no column 'when'; did you mean 'When'.*Columns found: When, to",
        ),
        (text(header="when,tokenz_in,tokens_out,other"), "no column 'tokens_in'; did you mean 'tokenz_in'"),
        (text([(STAMPS[0], "", 1)]), "prompt tokens .* nan at row 0"),
        (text([(STAMPS[0], 1, 1), (STAMPS[1], 1, -7)]), "output tokens .* -7.0 at row 1"),
        (text([*ROWS, ("2200-01-01", 1, 1)]), "spans 2026-01-01.* to 2200-01-01.* slots of 1s"),
        (text([(STAMPS[0], "many", 1)]), "cannot be read as csv: .*many"),
        (text(ROWS[::-1]), "unsorted: row 1 .*sort=True"),
        (text([("1700000000", 1, 1)]), "column 'when' .*1700000000.*unit='s'"),
        (text([("01/02/2026 10:00", 1, 1)]), "give ISO times"),
        (text([(STAMPS[0], 1, 1), ("", 1, 1)]), "time .* missing at row 1"),
        ("when,tokens_in,tokens_out\n1,2\n", "cannot be read as csv"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_broken_files_name_what_is_wrong(tmp_path: Path, content: str, message: str, streamed: bool) -> None:
    path = write(tmp_path / "log.csv", content)
    with pytest.raises(TraceError, match=message):
        stream_slots(path, "1s", **COLUMNS) if streamed else read_requests(path, **COLUMNS).slots("1s")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.xlsx", b"x", "cannot tell its format"),
        ("gone.csv", None, "does not exist"),
        ("log.csv.gz", b"not a gzip", "cannot be read as csv"),
        ("log.jsonl.gz", b"not a gzip", "cannot be read as jsonl"),
        ("log.parquet", b"not parquet", "cannot be read as parquet"),
        ("log.jsonl", b"when: 1\n", "not JSON"),
        ("log.jsonl", b"[1, 2]\n", "no column 'when'"),
        ("log.jsonl", b'{"when": 1, "tokens_in": 2, "tokens_out": 3}\n', "unit='s'"),
        ("log.jsonl", b'{"when": "2026-01-01", "tokens_in": 2, "tokens_out": "x"}\n', "give numbers"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TraceError, match=message):
        read_requests(tmp_path / name, **COLUMNS)


def test_an_unknown_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"unit 'minutes' .* s, ms, us, ns"):
        read_requests(write(tmp_path / "log.csv"), **COLUMNS, unit="minutes")


def test_sort_mends_the_order_and_keeps_ties(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", text([ROWS[3], *ROWS[:3]]))
    log = read_requests(path, **COLUMNS, sort=True)
    assert log.prompt.tolist() == [10, 20, 30, 40]
    assert stream_slots(path, "2s", **COLUMNS, sort=True).outcome.tolist() == log.slots("2s").outcome.tolist()


@pytest.mark.parametrize(
    "read", [lambda p: read_requests(p, **COLUMNS).slots("1h"), lambda p: stream_slots(p, "1h", **COLUMNS)]
)
def test_a_slot_longer_than_the_log_is_an_error(tmp_path: Path, read: Any) -> None:
    with pytest.raises(TraceError, match=r"1h is longer than request log 'log' \(4.123 s\)"):
        read(write(tmp_path / "log.csv"))


requests = st.lists(
    st.tuples(st.integers(0, 10**10), st.integers(0, 10**6), st.integers(0, 10**6)), min_size=2, max_size=80
)


@settings(max_examples=40, deadline=None)
@given(requests, st.sampled_from([1.0, 0.3, 2.5]), st.sampled_from([64, 200, 1 << 20]), st.booleans())
def test_streaming_equals_reading_at_once(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], slot: float, block: int, sort: bool
) -> None:
    rows = [*(rows if sort else sorted(rows)), (2 * 10**10, 1, 1)]
    path = tmp_path_factory.mktemp("stream") / "log.csv"
    path.write_text("when,tokens_in,tokens_out\n" + "".join(f"{t},{p},{o}\n" for t, p, o in rows))
    options = COLUMNS | {"unit": "ns", "sort": sort}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BLOCK", block)  # many batches
        streamed = stream_slots(path, slot, **options)
    whole = read_requests(path, **options).slots(slot)
    assert np.array_equal(streamed.outcome, whole.outcome)
    assert np.array_equal(streamed.time, whole.time)


def test_a_stream_finds_the_row_of_a_later_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK", 200)
    good = [(f"2026-01-01 00:00:{i:02d}", 1, 1) for i in range(30)]
    path = write(tmp_path / "log.csv", text([*good, ("2026-01-01 00:01:00", 1, -1)]))
    with pytest.raises(TraceError, match=r"output tokens .* row 30"):
        stream_slots(path, "1s", **COLUMNS)
    path = write(tmp_path / "log.csv", text([*good, ("2025-01-01 00:01:00", 1, 1)]))
    with pytest.raises(TraceError, match="row 30 is earlier"):
        stream_slots(path, "1s", **COLUMNS)


@pytest.mark.real("azure-2023-conv", "azure-2023-code", "mooncake-conversation")
@pytest.mark.parametrize(
    ("name", "count", "mean_prompt", "mean_output"),
    [
        ("azure-2023-conv", 19366, 1155, 211),
        ("azure-2023-code", 8819, 2048, 28),
        ("mooncake-conversation", 12031, 12035, 343),
    ],
)
def test_real_logs_have_the_published_figures(name: str, count: int, mean_prompt: int, mean_output: int) -> None:
    log = load_requests(name)
    assert len(log) == count
    assert round(log.prompt.mean()) == mean_prompt
    assert round(log.output.mean()) == mean_output
    whole = log.slots("1s")
    end = whole.time[-1] + np.timedelta64(1, "s")
    inside = log.time < end
    assert whole.outcome.sum() == (log.prompt + log.output)[inside].sum()
