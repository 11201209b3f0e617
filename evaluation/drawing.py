"""How the pictures of a report look: style, colours and markers of agents, axes, legends."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..data.files import atomic_write
from .results import Run

WIDTH = 7.2
"""Inches: the text width of a two-column page."""

# Okabe & Ito (2008) without the yellow, too faint for lines; markers tell apart what colours alone do not
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#595959")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
#: Where the colours begin again.
_LINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.5)))
STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "shiftgym",
}
#: A linear axis hides the small values when the largest is this many times the smallest.
_LOG_RANGE = 20.0


class Look(NamedTuple):
    """How an agent is drawn, in every picture of a run alike."""

    color: str
    marker: str
    line: Any = "-"


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as SVG and PNG; return the path of the PNG."""
    layout = figure.get_layout_engine()
    assert layout is not None
    layout.execute(figure)  # once, for both
    figure.set_layout_engine("none")
    vector, pixels = io.BytesIO(), io.BytesIO()
    # what savefig calls, after a first drawing that is for layouts
    FigureCanvasSVG(figure).print_svg(vector, metadata={"Date": None})  # type: ignore[no-untyped-call]
    figure.set_dpi(200)
    FigureCanvasAgg(figure).print_png(pixels)  # type: ignore[no-untyped-call]
    for suffix, buffer in ((".svg", vector), (".png", pixels)):
        with atomic_write(path.with_suffix(suffix), "wb") as file:
            file.write(buffer.getvalue())
    return path.with_suffix(".png")


def looks_of(run: Run) -> dict[str, Look]:
    """Give each agent a look; a clairvoyant is black, whoever else takes part."""
    names = [run.suite.label(agent) for agent in run.suite.agents]
    all_knowing = set(run.results.loc[run.results["clairvoyant"].astype(bool), "agent"])
    looks, index = {}, 0
    for name in names:
        if name in all_knowing:
            looks[name] = Look("black", "*")
        else:
            again, colour = divmod(index, len(_COLOURS))
            looks[name] = Look(_COLOURS[colour], _MARKERS[index % len(_MARKERS)], _LINES[again % len(_LINES)])
            index += 1
    return looks


def title(run: Run, text: str) -> str:
    """Return the text, which says so where traces are synthetic."""
    return f"{text}, synthetic traces" if run.synthetic else text


def finite(values: Sequence[float]) -> np.ndarray[Any, Any]:
    """Return the values without NaN and infinity."""
    return np.array([value for value in values if math.isfinite(value)])


def logarithmic(values: Sequence[float]) -> bool:
    """Whether a linear axis would hide the small values, and none is zero or less."""
    sizes = finite(values)
    return bool(len(sizes) and sizes.min() > 0 and sizes.max() > _LOG_RANGE * sizes.min())


def scale(axes: Axes, values: Sequence[float], axis: str = "x") -> None:
    """Make the axis logarithmic where a linear one would hide the small values."""
    sizes = finite(values)
    if logarithmic(values):
        getattr(axes, f"set_{axis}scale")("log")
        drawn = getattr(axes, f"{axis}axis")
        # no more labels than there is room for
        drawn.set_major_locator(LogLocator(subs=(1, 2, 5) if sizes.max() < 300 * sizes.min() else (1,), numticks=6))
        drawn.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        drawn.set_minor_formatter(NullFormatter())
    else:
        axes.set(**{f"{axis}lim": (min(0.0, *sizes, *getattr(axes, f"get_{axis}lim")()), None)})


def lower(value: np.ndarray[Any, Any], half: np.ndarray[Any, Any], shown: Sequence[float]) -> np.ndarray[Any, Any]:
    """Return the lower end of intervals; on a logarithmic axis one that reaches zero would have none."""
    return np.maximum(value - half, 0.05 * value) if logarithmic(shown) else value - half


def frame(axes: Axes, values: Sequence[float], halves: Sequence[float], axis: str = "x") -> str:
    """Limit an axis, before :func:`scale`, to the values and the nearer part of their intervals.

    The intervals over two seeds are many times as wide as what there is to see. Returns words for the reader where one
    leaves the picture.
    """
    pairs = [(value, half) for value, half in zip(values, halves, strict=True) if math.isfinite(value)]
    if not pairs:
        return ""
    value, half = np.array(pairs).T
    half = np.nan_to_num(half)
    least, most = float(lower(value, half, values).min()), float((value + half).max())
    if logarithmic(values):
        low, high = max(least, value.min() / 3), min(most, 3 * value.max())
        edges = low / 1.1, high * 1.1
    else:
        # half their range on either side, or the typical interval where all are alike
        room = max(float(np.ptp(value)) / 2, float(np.median(half)))
        low, high = max(least, value.min() - room), min(most, value.max() + room)
        edges = low - 0.05 * (high - low), high + 0.05 * (high - low)
    if low < high:
        axes.set(**{f"{axis}lim": edges})
    return ", cut off where they leave the picture" if least < low or most > high else ""


def legend(figure: Figure, looks: dict[str, Look], names: Sequence[str], lines: bool = False) -> None:
    """Put one legend for all panels below them; the figure grows when it is long."""
    handles = [
        Line2D(
            [],
            [],
            color=looks[name].color,
            marker=looks[name].marker,
            ls=looks[name].line if lines else "none",
            label=name,
        )
        for name in looks
        if name in names
    ]
    longest = max(len(str(handle.get_label())) for handle in handles)
    fit = int(figure.get_figwidth() / (0.5 + 0.07 * longest))  # inches: the marker, a letter
    columns = max(1, min(len(handles), 5, fit))
    beyond = math.ceil(len(handles) / columns) - 2  # two lines are allowed for; the panels must not pay for more
    figure.set_figheight(figure.get_figheight() + 0.18 * max(0, beyond))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handletextpad=0.4)


def grid(count: int, columns: int, height: float, **sharing: Any) -> tuple[Figure, list[Axes]]:
    """Make a figure of so many panels in at most so many columns, each so many inches high."""
    columns = min(count, columns)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH if columns > 1 else 5.2, 0.8 + height * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, **sharing).flat)
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]


def headline(figure: Figure, run: Run, text: str) -> None:
    """Say above all panels what they show."""
    wrapped = textwrap.fill(title(run, text), int(12.5 * figure.get_figwidth()))  # letters to an inch
    figure.suptitle(wrapped, x=0.01, ha="left", fontsize=10)
