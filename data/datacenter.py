"""Data centers of several zones: plants, services, training, prices, carbon intensity, forecasts, hour by hour, UTC.

One trace is put together from many public files: what the wind and the sun of a zone gave, what its electricity cost
and emitted, what a weather service forecast the day before, and demand that is resampled from measured weeks
(:mod:`shiftgym.data.demand`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .catalogue import TraceInfo
from .clock import HOUR, Floats, Times, utc_clock
from .demand import CLASSES, resampled, service_days, training_days
from .errors import TraceError
from .tables import floats, nanoseconds, whole
from .trace import Trace

DAY = np.timedelta64(24, "h")
EURO = 1.07764  # $: one rate throughout, so that no shift of prices is one of currencies
NAMEPLATE = {"CA": 1470.0, "NL": 1550.0, "DE": 1580.0}  # kW
SERVICES = {"code": 10.0, "conv": 10.0}  # what the measured requests are multiplied by
TRAINING = dict(zip(CLASSES, (900.0, 500.0, 700.0), strict=True))  # mean GPU·h per hour
SEED = 2021  # of the demand: the same in all traces, so that those of one span share it
RUNS_FROM = np.datetime64("2019-01-01", "ns")  # first row of the forecasts; two rows of December 2021 bear one date


@dataclass(frozen=True)
class Source:
    """How one kind of file becomes a series.

    Attributes
    ----------
    column : str
        Column of the trace that it is for.
    time, value : str
        Columns of the file.
    scale : float
        What values are multiplied by.
    zone : str
        Zone of a local clock; empty for UTC.
    form : str
        Form of the stamps, as in strptime; empty for ISO.
    late : bool
        Whether stamps are the end of the hour.
    """

    column: str
    time: str
    value: str
    scale: float = 1.0
    zone: str = ""
    form: str = ""
    late: bool = False


_PRICE, _CARBON = "Price ({}/MWh)", "Carbon Intensity gCO₂eq/kWh (direct)"
_NED, _DATED = "validfrom (UTC)", "%m/%d/%Y %H:%M:%S"
# By the key of the file without its year. Of two sources of a column the earlier one counts where both have the hour.
SOURCES = {
    "solar-ca": Source("renewable:CA", "UTC time", "solar", form=_DATED),
    "solar-ca-eia": Source("renewable:CA", "timestamp", "SUN", late=True),
    "solar-nl": Source("renewable:NL", _NED, "volume (kWh)"),
    "wind-de": Source("renewable:DE", "UTC time", "wind", late=True),
    "price-ca": Source("price:CA", "Datetime", _PRICE.format("USD"), 1e-3),
    "price-nl": Source("price:NL", "Datetime", _PRICE.format("EUR"), 1e-3 * EURO, "Europe/Amsterdam"),
    "price-de": Source("price:DE", "Datetime", _PRICE.format("EUR"), 1e-3 * EURO, "Europe/Berlin"),
    "carbon-ca": Source("carbon:CA", "Datetime (UTC)", _CARBON, 1e-3),
    "carbon-nl": Source("carbon:NL", _NED, "emissionfactor (kg CO2/kWh)"),
    "carbon-de": Source("carbon:DE", "Datetime (UTC)", _CARBON, 1e-3),
}
FORECASTS = {
    "gfs-sun-ca": "forecast:irradiance:CA",
    "gfs-sun-nl": "forecast:irradiance:NL",
    "gfs-wind-de": "forecast:wind:DE",
}
UNITS = {"price": "$/kWh", "carbon": "kg/kWh", "forecast:irradiance": "W/m2", "forecast:wind": "m/s"}


def read_datacenter(paths: Sequence[Path], info: TraceInfo) -> Trace:
    """Put a trace of data centers together.

    Parameters
    ----------
    paths : sequence of path
        The files, in the order of ``info.files``, whose keys say what they are.
    info : TraceInfo
        The entry; ``info.reading`` has the span (``start``, ``stop``), the ``zones``, the share of the ``demand``
        that they serve, and the days by which prices and carbon intensity are taken later (``market_lag``).

    Returns
    -------
    Trace
        The columns, their order and their units are those of ``docs/data.md``. An hour that a file lacks has the
        value of the same hour of the day before; the history of the provenance counts these hours.

    Raises
    ------
    TraceError
        If a file or a column is missing or malformed, or a file does not reach over the span.
    """
    how = info.reading
    start, stop = (np.datetime64(how[place], "ns") for place in ("start", "stop"))
    time: Times = np.arange(start, stop, HOUR)
    files: dict[str, list[Path]] = {}
    for file, path in zip(info.files, paths, strict=True):
        files.setdefault(file.key.rstrip("0123456789").rstrip("-"), []).append(path)
    lag = how.get("market_lag", 0) * DAY
    series, filled = _measured(files, time, lag)
    zones = how["zones"]
    plants = np.stack([_plant(series[f"renewable:{zone}"], time, NAMEPLATE[zone]) for zone in zones], axis=1)
    demand = _demand(files, time) * how.get("demand", 1.0)
    known = {f"{kind}:{zone}": series[f"{kind}:{zone}"] for kind in ("price", "carbon") for zone in zones}
    known |= {column: _forecast(files[key][0], time) for key, column in FORECASTS.items() if key in files}
    outcome = np.concatenate((plants, demand), axis=1)
    trace = Trace(
        name=info.name,
        time=time,
        outcome=outcome,
        slot=float(info.slot),
        outcome_names=(
            *(f"renewable:{zone}" for zone in zones),
            *(f"requests:{service}" for service in SERVICES),
            *(f"training:{kind}" for kind in CLASSES),
        ),
        outcome_units=("kW",) * len(zones) + ("req/s",) * len(SERVICES) + ("GPU·h/h",) * len(CLASSES),
        outcome_low=0.0,
        context=np.stack(list(known.values()), axis=1),
        context_names=tuple(known),
        context_units=tuple(UNITS[column.rpartition(":")[0]] for column in known),
        provenance=info.provenance,
    )
    return trace.replace(note="; ".join(f"{column} {n} hours of the day before" for column, n in filled.items()))


def _measured(
    files: Mapping[str, Sequence[Path]], time: Times, lag: np.timedelta64
) -> tuple[dict[str, Floats], dict[str, int]]:
    """Each measured column, shape (T,), and how many hours of it were filled."""
    series: dict[str, Floats] = {}
    for key, source in SOURCES.items():
        when: Times = time + lag if source.column.startswith(("price", "carbon")) else time
        for path in files.get(key, ()):
            found = _read(path, source, when)
            known = series.get(source.column, found)
            series[source.column] = np.where(np.isnan(known), found, known)
    filled = {column: int(np.isnan(values).sum()) for column, values in series.items()}
    for column, values in series.items():
        series[column] = _filled(values, column)
    return series, {column: count for column, count in filled.items() if count}


def _read(path: Path, source: Source, time: Times) -> Floats:
    """Values at the hours of ``time``, shape (T,), NaN where the file has none."""
    where = f"column {source.time!r} of {path}"
    table = whole(path, [source.time, source.value], {source.time: pa.string(), source.value: pa.float64()})
    column = table[source.time]
    try:
        stamped = pc.strptime(column, format=source.form, unit="s") if source.form else column
    except pa.ArrowInvalid as error:
        raise TraceError(f"{where} does not hold times of the form {source.form}: {error}") from error
    stamps: Times = nanoseconds(stamped.combine_chunks(), None, where).view("datetime64[ns]")
    if source.zone:
        stamps = utc_clock(stamps, source.zone)
    if source.late:
        stamps = np.subtract(stamps, HOUR)
    values = floats(table[source.value].combine_chunks(), f"column {source.value!r} of {path}") * source.scale
    there = ~np.isnat(stamps) & (stamps >= time[0]) & (stamps <= time[-1])
    found = np.full(len(time), np.nan)
    places = ((stamps[there] - time[0]) // HOUR)[::-1]  # backwards: of a doubled hour the first one stays
    found[places] = values[there][::-1]
    return found


def _filled(values: Floats, column: str) -> Floats:
    """Give missing hours the value of the same hour of the day before, those of the first day that of the next."""
    days = values.reshape(-1, 24).copy()
    if np.isnan(days).sum() > 0.05 * days.size:
        raise TraceError(f"{column}: {np.isnan(values).sum()} of {len(values)} hours are missing; check the files")
    for day in range(1, len(days)):
        days[day] = np.where(np.isnan(days[day]), days[day - 1], days[day])
    for day in range(len(days) - 2, -1, -1):
        days[day] = np.where(np.isnan(days[day]), days[day + 1], days[day])
    return days.ravel()


def _plant(grid: Floats, time: Times, nameplate: float) -> Floats:
    """Power of a plant on site: that of all plants of the grid, brought to its nameplate by the maximum of the year."""
    years = time.astype("datetime64[Y]").astype(np.int64)
    largest = np.array([grid[years == year].max() for year in range(years[0], years[-1] + 1)])
    return np.asarray(nameplate * (grid / largest[years - years[0]]).clip(0.0))


def _demand(files: Mapping[str, Sequence[Path]], time: Times) -> Floats:
    """Requests per second of each service and GPU·h per hour of each training class, shape (T, 5)."""
    (week,), (pods,), (nodes,) = (files[key] for key in ("azure-2024-10min", "openb-pods", "openb-nodes"))
    streams = np.random.default_rng(SEED).spawn(len(SERVICES) + 1)
    parts = []
    for (service, scale), rng in zip(SERVICES.items(), streams, strict=False):
        parts.append(scale * resampled(*service_days(week, service), time, rng))
    days, kind = training_days(pods, nodes)
    scale = np.array(list(TRAINING.values())) / days.mean(axis=(0, 1))
    return np.concatenate((*parts, resampled(days * scale, kind, time, streams[-1])), axis=1)


def _forecast(path: Path, time: Times) -> Floats:
    """Forecast of the run of 00 UTC of the day before, leads of 24 to 48 hours, shape (T,).

    Fluxes are means of the first three and of all six hours of each six; the hours of three get their mean. Speeds
    are given every three hours and are interpolated to the middle of each hour.
    """
    day = ((time[::24] - RUNS_FROM) // DAY - 1).astype(np.int64)
    if "DSWRF" in path.name:
        blocks = range(24, 48, 6)
        names = [f"{lead}-{lead + span} hr avg" for lead in blocks for span in (3, 6)]
        first, both = _rows(path, names, day).reshape(-1, 4, 2).transpose(2, 0, 1)
        thirds = np.stack((first, 2 * both - first), axis=2).reshape(-1, 8)
        return np.asarray(thirds.clip(0.0).repeat(3, axis=1).ravel())
    speeds = _rows(path, [f"{lead} hr fcst" for lead in range(24, 49, 3)], day)
    place = np.arange(0.5, 24) / 3
    low = place.astype(int)
    return np.asarray((speeds[:, low] * (1 - place + low) + speeds[:, low + 1] * (place - low)).ravel())


def _rows(path: Path, names: Sequence[str], rows: NDArray[np.int64]) -> Floats:
    table = whole(path, list(names), dict.fromkeys(names, pa.float64()))
    if not 0 <= rows[0] <= rows[-1] < table.num_rows:
        raise TraceError(f"file {path} has {table.num_rows} runs from {RUNS_FROM} on, which do not cover the span")
    columns = [floats(table[name].combine_chunks(), f"column {name!r} of {path}") for name in names]
    return np.stack(columns, axis=1)[rows]
