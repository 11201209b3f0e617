"""Forecasts of pure noise from a table of returns that is reshaped wrongly: how some 3 % "a day" come about.

    python benchmarks/noise_portfolio.py [--figure docs/img/reshape.png]

Prices of 50 assets are independent random walks, so nothing about tomorrow can be known. Features of an asset are its
last five returns, the target is its next one; a ridge regression from the features of all assets to the targets of all
assets is fitted on the first 70 % of the days and tested on the last 20 %. The rows (asset, day) are in the order of
a table that is sorted by asset, then by day. Read back as (assets, days, features) and then transposed, they are what
they were. Reshaped to (days, assets, features), a "day" holds 50 days in a row of one asset, so that the target of one
"asset" is a feature of the next.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from printing import figures, show

Floats = NDArray[np.float64]

ASSETS, DAYS, LAGS = 50, 2500, 5
#: Standard deviation of a daily return.
SPREAD = 0.015
TRAIN, TEST = 0.7, 0.8
RIDGE = 10.0


def noise_table(seed: int, assets: int = ASSETS, days: int = DAYS) -> tuple[Floats, Floats]:
    """Features (assets * days, lags) and next returns (assets * days,) of random walks, by asset, then by day."""
    returns = np.random.default_rng(seed).normal(0.0, SPREAD, (assets, days + LAGS))
    windows = np.lib.stride_tricks.sliding_window_view(returns, LAGS + 1, axis=1)
    rows = windows.reshape(assets * days, LAGS + 1)
    return rows[:, :-1], rows[:, -1]


def right(rows: Floats, assets: int) -> Floats:
    """Rows of the table (assets * days, F) as (days, assets, F)."""
    return rows.reshape(assets, -1, rows.shape[-1]).swapaxes(0, 1)


def symbol_major(rows: Floats, assets: int) -> Floats:
    """The same shape from the wrong rows: what a reshape alone gives."""
    return rows.reshape(-1, assets, rows.shape[-1])


@dataclass
class Forecast:
    """Test targets and what a ridge regression says of them, both (days, assets)."""

    target: Floats
    forecast: Floats

    @property
    def r2(self) -> float:
        """Explained share of the test variance."""
        return float(1 - ((self.target - self.forecast) ** 2).sum() / ((self.target - self.target.mean(0)) ** 2).sum())

    @property
    def earned(self) -> Floats:
        """Return of the asset with the best forecast, day by day."""
        best = self.forecast.argmax(1, keepdims=True)
        return np.take_along_axis(self.target, best, 1)[:, 0]


def ridge(features: Floats, targets: Floats, order: NDArray[np.int64] | None = None) -> Forecast:
    """Fit on features (days, assets, F) and targets (days, assets, 1), and forecast the last days.

    With ``order`` the assets change places between the fit and the test.
    """
    days, assets, _ = features.shape
    train, test = slice(int(TRAIN * days)), slice(int(TEST * days), None)
    x, y = features.reshape(days, -1), targets[..., 0]
    level, scale, mean = x[train].mean(0), x[train].std(0), y[train].mean(0)
    standard = (x[train] - level) / scale
    weights = np.linalg.solve(standard.T @ standard + RIDGE * np.eye(x.shape[1]), standard.T @ (y[train] - mean))
    places = np.arange(assets) if order is None else order
    moved, y = features[test][:, places].reshape(-1, x.shape[1]), y[test][:, places]
    return Forecast(y, mean + (moved - level) / scale @ weights)


def forecasts(seed: int = 0) -> dict[str, Forecast]:
    """What the same regression finds in the same noise, by layout."""
    features, targets = noise_table(seed)
    order = np.random.default_rng(seed + 1).permutation(ASSETS)
    wrong = symbol_major(features, ASSETS), symbol_major(targets[:, None], ASSETS)
    return {
        "right": ridge(right(features, ASSETS), right(targets[:, None], ASSETS)),
        "symbol-major reshape": ridge(*wrong),
        "symbol-major reshape, other places in the test": ridge(*wrong, order),
    }


def draw(found: dict[str, Forecast], path: Path) -> None:
    """Wealth, were the forecasts tradable, and the forecasts beside what came."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, (wealth, points) = plt.subplots(1, 2, figsize=(7.2, 2.9), layout="constrained")
        styles = zip(found.items(), ("#0072B2", "#D55E00", "#595959"), ("-", "-", "--"), strict=True)
        for (name, one), colour, line in styles:
            wealth.plot(np.cumprod(1 + one.earned), line, color=colour, label=name)
        for name, colour, size in (("symbol-major reshape", "#D55E00", 3), ("right", "#0072B2", 2)):
            one = found[name]
            points.plot(
                one.target[::5].ravel() * 100, one.forecast[::5].ravel() * 100, ".", ms=size, color=colour, mew=0
            )
        wealth.set(
            yscale="log", xlabel='test "day"', ylabel="wealth, log scale", title="Best-forecast asset, every day"
        )
        points.set(xlabel="next return, %", ylabel="forecast, %", title="Forecasts of pure noise")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        figure.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="draws of prices (default 10)")
    parser.add_argument("--figure", type=Path, help="where to draw the first of them (PNG, SVG or PDF)")
    given = parser.parse_args()
    runs = [forecasts(seed) for seed in range(given.seeds)]
    table = figures(
        f"Independent random walks, {ASSETS} assets x {DAYS} days, mean over {given.seeds} draws (range)",
        "layout",
        "test R2",
        'best-forecast asset, % a "day"',
    )
    for name in runs[0]:
        r2 = np.array([run[name].r2 for run in runs])
        earned = np.array([100 * run[name].earned.mean() for run in runs])
        table.add_row(name, *(f"{a.mean():.3f} ({a.min():.3f} .. {a.max():.3f})" for a in (r2, earned)))
    show(table)
    if given.figure is not None:
        draw(runs[0], given.figure)


if __name__ == "__main__":
    main()
