"""The stand-ins of data centers: columns, calendar, sun and how the columns hang together."""

from __future__ import annotations

import numpy as np

from shiftgym.data import list_traces, load_trace, trace_info
from shiftgym.data.synthetic_datacenter import sun

OUTCOMES = (
    *("renewable:CA", "renewable:NL", "renewable:DE", "requests:code", "requests:conv"),
    *("training:V100", "training:T4", "training:P100"),
)
CONTEXT = (
    *(f"{kind}:{zone}" for kind in ("price", "carbon") for zone in ("CA", "NL", "DE")),
    *("forecast:irradiance:CA", "forecast:irradiance:NL", "forecast:wind:DE"),
)


def test_the_long_stand_in_has_every_column_for_three_years() -> None:
    trace = load_trace("synthetic-datacenter")
    assert (trace.outcome_names, trace.context_names) == (OUTCOMES, CONTEXT)
    assert trace.outcome_units == ("kW",) * 3 + ("req/s",) * 2 + ("GPU·h/h",) * 3
    assert trace.context_units == ("$/kWh",) * 3 + ("kg/kWh",) * 3 + ("W/m2",) * 2 + ("m/s",)
    assert (len(trace), trace.slot, trace.outcome_low) == (3 * 8760, 3600, 0)
    assert str(trace.time[0]).startswith("2021-01-01T00:00")
    assert trace.synthetic
    assert "synthetic-datacenter" in list_traces()
    assert trace_info("synthetic-datacenter").synthetic
    assert len(load_trace("synthetic-datacenter[2021-01-01:2021-07-01]")) == 181 * 24


def test_the_sun_is_highest_at_noon_and_in_june() -> None:
    time = np.datetime64("2021-01-01", "ns") + np.arange(8760) * np.timedelta64(1, "h")
    for latitude, longitude, noon in ((36.5, -119.5, 19.97), (52.2, 5.3, 11.65)):
        days = sun(time, latitude, longitude).reshape(365, 24)
        assert abs(int(np.argmax(days.mean(axis=0))) + 0.5 - noon) <= 0.5
        assert abs(int(np.argmax(days.max(axis=1))) - 171) <= 5
        assert abs(np.degrees(np.arcsin(days.max())) - (90 - latitude + 23.44)) < 2  # it is seen at half past only
        assert days.min() == 0
