"""The stand-ins of data centers: columns, calendar, sun and how the columns hang together."""

from __future__ import annotations

import numpy as np
import pytest

from shiftgym.data import list_traces, load_trace, trace_info
from shiftgym.data.fit_datacenter import fit_column, latent, principal_axes, residual
from shiftgym.data.synthetic import _parameters
from shiftgym.data.synthetic_datacenter import SIGNAL, datacenter_model, sun

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


def test_factors_are_found_again() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(-0.6, 0.6, (12, 2))
    correlation = truth @ truth.T
    np.fill_diagonal(correlation, 1)
    found = principal_axes(correlation, 2)
    assert found @ found.T == pytest.approx(truth @ truth.T, abs=1e-3)  # loadings are unique up to a rotation
    assert np.square(principal_axes(np.ones((3, 3)), 1)).max() < 1  # nothing is left of a column of its own: almost


def test_a_refit_of_the_stand_in_finds_its_signals() -> None:
    table = _parameters()["datacenter"]["datacenter-2021"]
    trace, columns = load_trace("synthetic-datacenter"), table["columns"]
    model = datacenter_model({**table, "count": len(trace)})
    values = dict(zip(columns, np.concatenate((trace.outcome, trace.context), axis=1).T, strict=True))
    for name in ("price:NL", "forecast:irradiance:NL"):
        truth, column = columns[name], model.columns[name]
        signal = latent(trace.time, values[name], truth)
        again = column.values(trace.time, signal)
        assert np.abs(again - values[name]).mean() < 0.005 * values[name].max()  # at dawn and dusk it cannot be told
        found, rest = fit_column(trace.time, values[name], truth)
        assert {key: np.shape(found[key]) for key in SIGNAL} == {key: np.shape(truth[key]) for key in SIGNAL}
        assert rest.std() == pytest.approx(residual(trace.time, signal, truth).std(), rel=0.25)
        assert abs(rest.mean()) < 0.05
