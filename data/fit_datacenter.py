"""Fit the stand-ins of data centers; called by ``python -m shiftgym.data.fit_synthetic``.

Each column by itself: its values are brought back through the link, and the latent signal is fitted like the load of a
grid (:func:`~shiftgym.data.fit_grid.fit_signal`). Then the factors: principal axes of the correlation of the residuals,
corrected for what the links and the different memories of the columns lose of it.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fit_grid import fit_signal
from .sampling import Floats
from .synthetic_datacenter import SIGNAL, datacenter_model, stepped, sun
from .synthetic_grid import Signal, annual
from .trace import Trace

Table = dict[str, Any]
DAYLIGHT = 0.15  # sine of the elevation over which a plant tells how clear the sky is
CLEAR = 1.25  # ceiling of a solar plant over the clearest sky: its logarithm should not have a one-sided tail
EDGE = 0.005  # share of a ceiling that values keep away from it, and from zero
ROUNDS = 4  # corrections of the correlations


def fit_datacenter(trace: Trace, table: Table) -> Table:
    """Return the parameters of a trace; ``table`` says which columns it has, their links and terms."""
    table = copy.deepcopy(table)
    table |= {"start": str(trace.time[0].astype("datetime64[s]")), "count": len(trace)}
    values = np.concatenate((trace.outcome, trace.context), axis=1)
    residuals = np.empty_like(values)
    for i, (name, series) in enumerate(zip(table["columns"], values.T, strict=True)):
        table["columns"][name], residuals[:, i] = fit_column(trace.time, series, table["columns"][name])
    real: Floats = np.asarray(np.corrcoef(residuals.T))
    target, factors = real, len(table["columns"][name]["loadings"])
    for _ in range(ROUNDS):
        for fields, loadings in zip(table["columns"].values(), principal_axes(target, factors), strict=True):
            fields["loadings"] = [_short(x) for x in loadings]
        made = datacenter_model(table).draw(np.random.Generator(np.random.PCG64(0)))
        again = np.stack(
            [
                residual(trace.time, latent(trace.time, series, fields), fields)
                for series, fields in zip(made.T, table["columns"].values(), strict=True)
            ],
            axis=1,
        )
        target = np.asarray(target + real - np.corrcoef(again.T)).clip(-1, 1)
    return table


def fit_column(time: NDArray[np.datetime64], values: Floats, fields: Table) -> tuple[Table, Floats]:
    """Return the parameters of a column and the residual of its latent signal, shape (T,)."""
    fields = dict(fields)
    if fields["link"] == "solar":
        height = _height(time, fields)
        ratio = values[height > DAYLIGHT] / height[height > DAYLIGHT]
        fields["ceiling"], fields["high"] = _short(CLEAR * np.quantile(ratio, 0.995)), _short(values.max())
    elif fields["link"] == "logistic":
        fields["ceiling"], fields["high"] = _short(1.05 * values.max()), _short(values.max())
    elif fields["link"] == "sinh":
        fields["ceiling"] = _short(np.median(np.abs(values)))
    if fields["link"] in ("sinh", "log"):  # nothing is drawn far from what there was
        fields["low"], fields["high"] = (_short(x) for x in (min(2 * values.min(), values.min() / 2), 2 * values.max()))
    signal = latent(time, values, fields)
    fitted, _ = fit_signal(time, signal, {key: fields[key] for key in SIGNAL})
    fields |= fitted
    fields["centre"] = 0.0
    rest = residual(time, signal, fields, even=False)
    fields["centre"] = _short(rest.mean())
    return fields, residual(time, signal, fields)


def latent(time: NDArray[np.datetime64], values: Floats, fields: Table) -> Floats:
    """Latent signal behind the values of a column, shape (T,); of a solar plant interpolated over the nights."""
    if fields["link"] == "log":
        return np.asarray(np.log(values.clip(max(fields["low"], 1e-9))))
    if fields["link"] == "sinh":
        return np.asarray(np.arcsinh(values / fields["ceiling"]))
    if fields["link"] == "logistic":
        return _logit(values / fields["ceiling"])
    height = _height(time, fields)
    day = np.flatnonzero(height > DAYLIGHT)
    return np.interp(np.arange(len(time)), day, _logit(values[day] / height[day] / fields["ceiling"]))


def residual(time: NDArray[np.datetime64], signal: Floats, fields: Table, even: bool = True) -> Floats:
    """What the cycles leave of a latent signal, shape (T,), by default over the spread of the season."""
    model = Signal(**{key: fields[key] for key in SIGNAL})
    rest = signal - fields["centre"] - Signal.design(time, vars(model)) @ model.amplitudes()
    spread = np.exp(annual(time, len(model.spread) // 2) @ np.array(model.spread))
    return np.asarray(rest / spread if even else rest)


def principal_axes(correlation: Floats, factors: int, rounds: int = 200) -> Floats:
    """Loadings of a factor model, shape (C, factors), by iterated principal axes (Harman, Modern Factor Analysis)."""
    common = np.full(len(correlation), 0.7)
    for _ in range(rounds):
        reduced = correlation.copy()
        np.fill_diagonal(reduced, common)
        strengths, axes = np.linalg.eigh(reduced)
        loadings = axes[:, -factors:] * np.sqrt(strengths[-factors:].clip(0))
        common = np.square(loadings).sum(axis=1).clip(max=0.99)
    total = np.sqrt(np.square(loadings).sum(axis=1, keepdims=True) / 0.99).clip(1.0)
    return np.asarray(loadings / total)


def _height(time: NDArray[np.datetime64], fields: Table) -> Floats:
    return stepped(sun(time, *fields["site"]), fields.get("hours", 1))


def _logit(share: Floats) -> Floats:
    share = share.clip(EDGE, 1 - EDGE)
    return np.asarray(np.log(share / (1 - share)))


def _short(value: float) -> float:
    return float(f"{value:.4g}")
