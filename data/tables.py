"""Named columns of CSV, Parquet and JSONL files, whole or batch by batch."""

from __future__ import annotations

import contextlib
import difflib
import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from numpy.typing import NDArray

from .errors import TraceError

BLOCK = 1 << 22  # bytes of text parsed at a time: large enough for full speed, small against the memory

_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def file_format(path: Path) -> str:
    """Return "csv", "parquet" or "jsonl" by the ending, of the file or of what the gzip holds.

    Raises
    ------
    TraceError
        For any other ending, or a file that is missing or empty.
    """
    endings = {
        ".csv": "csv",
        ".txt": "csv",
        ".parquet": "parquet",
        ".pq": "parquet",
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
    }
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if plain.suffix.lower() not in endings:
        raise TraceError(
            f"file {path}: cannot tell its format; use one of {', '.join(endings)} (or .csv.gz, .jsonl.gz)"
        )
    if not path.is_file():
        raise TraceError(f"file {path} does not exist")
    if path.stat().st_size == 0:
        raise TraceError(f"file {path} is empty: it needs a header and at least one row")
    return endings[plain.suffix.lower()]


def check_columns(path: Path, found: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise a TraceError that lists the columns found, and the closest one, when a wanted one is missing."""
    for name in wanted:
        if name not in found:
            lower = {column.lower(): column for column in found}
            close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.4)
            hint = f"; did you mean {lower[close[0]]!r}?" if close else "."
            raise TraceError(f"file {path} has no column {name!r}{hint} Columns found: {', '.join(found)}")


def batches(
    path: Path,
    columns: Sequence[str],
    types: dict[str, Any],
    *,
    header: Sequence[str] | None = None,
    delimiter: str = ",",
) -> Iterator[pa.RecordBatch]:
    """Yield the named columns of a file, batch by batch, in the order of the rows.

    Parameters
    ----------
    path : Path
        CSV, Parquet or JSONL, the text formats also behind gzip.
    columns : sequence of str
        The columns to read; the others are skipped.
    types : dict of str to pyarrow type
        Type of each column of a text file; a Parquet file has its own.
    header : sequence of str, optional
        Names of all columns of a CSV file that has none.
    delimiter : str
        What separates the cells of a CSV file.

    Raises
    ------
    TraceError
        If the file is missing, empty or malformed, or a column is missing.
    """
    kind = file_format(path)
    with _explained(path, kind):
        if kind == "csv":
            yield from _csv_batches(path, list(columns), types, header, delimiter)
        elif kind == "parquet":
            yield from _parquet_batches(path, list(columns))
        else:
            yield from _jsonl_batches(path, list(columns))


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a file with a header, in its order.

    Raises
    ------
    TraceError
        If the file is missing, empty or malformed.
    """
    kind = file_format(path)
    with _explained(path, kind):
        if kind == "csv":
            with pa.csv.open_csv(path, read_options=pa.csv.ReadOptions(block_size=BLOCK)) as reader:
                return list(reader.schema.names)
        if kind == "parquet":
            with pa.parquet.ParquetFile(path) as file:
                return list(file.schema_arrow.names)
        return list(_first_row(path))


@contextlib.contextmanager
def _explained(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeDecodeError, EOFError, OSError) as error:
        # a broken gzip is an OSError
        first = str(error).strip().splitlines()[0]
        raise TraceError(f"file {path} cannot be read as {kind}: {first}") from error


def whole(path: Path, columns: Sequence[str], types: dict[str, Any], **form: Any) -> pa.Table:
    """Return the named columns of a file at once, each in one piece; see :func:`batches`.

    Raises
    ------
    TraceError
        As :func:`batches`, or if the file has no row.
    """
    parts = list(batches(path, columns, types, **form))
    if not any(part.num_rows for part in parts):
        raise TraceError(f"file {path} has a header but no row")
    return pa.Table.from_batches(parts).combine_chunks()


def _csv_batches(
    path: Path, columns: list[str], types: dict[str, Any], header: Sequence[str] | None, delimiter: str
) -> Iterator[pa.RecordBatch]:
    read = pa.csv.ReadOptions(block_size=BLOCK, column_names=header)
    parse = pa.csv.ParseOptions(delimiter=delimiter)
    # Strings need no type of their own: with one, pyarrow would not read an empty cell as missing.
    convert = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
    if header is None:
        with pa.csv.open_csv(path, read_options=read, parse_options=parse, convert_options=convert) as reader:
            header = reader.schema.names
    check_columns(path, header, columns)
    convert.include_columns = columns
    with pa.csv.open_csv(path, read_options=read, parse_options=parse, convert_options=convert) as reader:
        yield from reader


def _parquet_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with pa.parquet.ParquetFile(path) as file:
        check_columns(path, file.schema_arrow.names, columns)
        yield from file.iter_batches(columns=columns)


def _jsonl_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    row = _first_row(path)
    check_columns(path, list(row), columns)
    # a number may be a time of any unit, a text is an ISO stamp: the first row tells
    schema = [(n, pa.string() if isinstance(row[n], str) else pa.float64()) for n in columns]
    parse = pa.json.ParseOptions(explicit_schema=pa.schema(schema), unexpected_field_behavior="ignore")
    with pa.input_stream(path) as stream:  # unpacks a .gz
        table = pa.json.read_json(stream, parse_options=parse)
    yield from table.select(columns).to_batches()


def _first_row(path: Path) -> dict[str, Any]:
    open_text = gzip.open if path.suffix == ".gz" else open
    with open_text(path, "rt", encoding="utf-8") as lines:
        first = next((line for line in lines if line.strip()), "")
    try:
        row = json.loads(first)
    except json.JSONDecodeError as error:
        raise TraceError(f"file {path}: its first line is not JSON ({error}); one object a line is expected") from None
    return row if isinstance(row, dict) else {}


def check_unit(unit: str | None, where: str) -> None:
    """Raise a TraceError for an unknown unit of time."""
    if unit is not None and unit not in _NANOSECONDS:
        raise TraceError(f"unit {unit!r} of {where}: use one of {', '.join(_NANOSECONDS)}")


def nanoseconds(column: pa.Array, unit: str | None, where: str) -> NDArray[np.int64]:
    """Return times as nanoseconds since 1970-01-01 UTC; a missing one is NaT (the smallest integer).

    Parameters
    ----------
    column : pyarrow Array
        Time stamps, ISO text (with or without a zone; without one it is taken for UTC) or numbers.
    unit : {"s", "ms", "us", "ns"} or None
        Unit of numbers, counted from any origin.
    where : str
        File and column, for the messages.

    Raises
    ------
    TraceError
        If text is no ISO time, numbers have no unit, or the unit is unknown.
    """
    check_unit(unit, where)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = _parse_iso(column, where)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        if unit is None:
            raise TraceError(
                f"{where} holds numbers ({column[0]}): say what they count with unit='s', 'ms', 'us' or 'ns'"
            )
        return _scale(column, _NANOSECONDS[unit])
    elif not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise TraceError(f"{where} has the type {kind}: give time stamps, ISO text or numbers with a unit")
    column = column.cast(pa.timestamp("ns", getattr(column.type, "tz", None)))
    return _to_numpy(column.cast(pa.int64()), np.iinfo(np.int64).min)


def has_zone(column: pa.Array) -> bool:
    """Whether the times of a column say how they relate to UTC: numbers do, text and time stamps may."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        first = column.drop_null()[:1]
        return len(first) > 0 and pc.match_substring_regex(first, r":\d.*(Z|[+-]\d{2}(:?\d{2})?)$")[0].as_py()
    if pa.types.is_timestamp(column.type):
        return column.type.tz is not None
    return not pa.types.is_date(column.type)


def _parse_iso(column: pa.Array, where: str) -> pa.Array:
    try:
        return column.cast(pa.timestamp("ns", "UTC" if has_zone(column) else None))
    except pa.ArrowInvalid as error:
        raise TraceError(
            f"{where} holds {error.args[0].splitlines()[0]}: give ISO times such as 2026-01-31 12:00:00.5, "
            "the zone in all rows or in none, or numbers with unit='s', 'ms', 'us' or 'ns'"
        ) from None


def _scale(column: pa.Array, factor: int) -> NDArray[np.int64]:
    missing = _to_numpy(column.is_null(nan_is_null=True).cast(pa.uint8())).astype(bool)
    if pa.types.is_integer(column.type):  # exact, which matters for nanoseconds since 1970
        values = _to_numpy(column.cast(pa.int64()), 0) * factor
    else:
        decimals = np.where(missing, 0.0, _to_numpy(column.cast(pa.float64()), 0.0))
        whole = np.floor(decimals)  # in two parts: seconds since 1970 times 1e9 exceed the 53 bits of a float
        values = whole.astype(np.int64) * factor + np.rint((decimals - whole) * factor).astype(np.int64)
    values[missing] = np.iinfo(np.int64).min
    return values


def floats(column: pa.Array, where: str) -> NDArray[np.float64]:
    """Return numbers as float64, a missing one as NaN.

    Raises
    ------
    TraceError
        If the column does not hold numbers.
    """
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type)):
        raise TraceError(f"{where} has the type {column.type}: give numbers")
    return _to_numpy(column.cast(pa.float64(), safe=False), np.nan)


def _to_numpy(column: pa.Array, missing: float = 0) -> NDArray[Any]:
    """Copy numbers to NumPy, with a value for missing ones.

    Arrow's own ``to_numpy`` and ``fill_null`` load pandas, which takes longer than reading most files.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        array = array.fill_null(missing)
    return np.array(np.from_dlpack(array))
