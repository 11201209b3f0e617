"""The Azure 2024 series: the figures of Azure's notebook, read back into numbers."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import TraceError
from .files import atomic_write

Floats = NDArray[np.float64]

DAYS, MINUTES, STEP = 7, 7 * 1440, 10
HALF_LINE = 1.04  # pixels: half of a line of 1.5 pt at 100 dpi
GRID_GREY = 176  # of matplotlib's grid lines


@dataclass(frozen=True)
class Panel:
    """Where one service lies among the figures of Azure's notebook, counted from 0.

    Attributes
    ----------
    service, start : str
        Name and first day.
    requests, tokens : int
        Number of the figure with requests, and with tokens, per minute.
    unit : float
        Tokens per minute from one grid line to the next.
    legend : tuple of int
        First and last row and column of the legend, which has ink of the colours of the lines.
    output : bool
        Whether the output tokens can be read; those of the code service are thinner than a pixel.
    """

    service: str
    start: str
    requests: int
    tokens: int
    unit: float
    legend: tuple[int, int, int, int]
    output: bool


PANELS = (
    Panel("code", "2024-05-10", 6, 8, 2e6, (36, 90, 64, 170), output=False),
    Panel("conv", "2024-05-12", 7, 9, 1e6, (36, 90, 434, 542), output=True),
)


def figures(notebook: Path) -> list[Floats]:
    """Return the pictures of a notebook as arrays of shape (rows, columns, 3), 0 to 255."""
    from PIL import Image

    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    pictures = [base64.b64decode(item["image/png"]) for item in data if "image/png" in item]
    return [np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float) for png in pictures]


def frame_of(picture: Floats) -> tuple[int, int, int, int]:
    """Return top row, bottom row, left column and right column of the frame of a plot."""
    black = picture.sum(2) < 60
    rows = np.flatnonzero(black.sum(1) > 0.5 * picture.shape[1])
    columns = np.flatnonzero(black.sum(0) > 0.5 * picture.shape[0])
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def grid_rows(picture: Floats) -> list[int]:
    """Return the rows of the grid lines inside the frame, from the bottom up."""
    top, bottom, left, right = frame_of(picture)
    grey = np.abs(picture - GRID_GREY).max(2) <= 3
    rows = np.flatnonzero(grey[:, left:right].mean(1) > 0.05)
    return sorted((int(row) for row in rows if top < row < bottom), reverse=True)


def ink_of(picture: Floats, colour: str) -> Floats:
    """Return how much of each pixel has matplotlib's first ("blue") or second ("orange") colour, 0 to 1."""
    red, blue = picture[..., 0], picture[..., 2]
    return np.clip((blue - red) / 149 if colour == "blue" else (red - blue) / 241, 0, 1)


def read_line(picture: Floats, colour: str, unit: float, legend: tuple[int, int, int, int] | None = None) -> Floats:
    """Read a line off a plot of seven days.

    Parameters
    ----------
    picture : array of float64, shape (rows, columns, 3)
        The plot.
    colour : {"blue", "orange"}
        Colour of the line.
    unit : float
        Value from one grid line to the next; the frame's bottom is zero.
    legend : tuple of int, optional
        Rows and columns to leave out.

    Returns
    -------
    array of float64, shape (3, 1008)
        Mean height of the line, its lower and its upper edge (the range of the one-minute values), in the
        middle of each 10 minutes.
    """
    top, bottom, left, right = frame_of(picture)
    lines = np.array([bottom, *grid_rows(picture)], float)
    slope, offset = np.polyfit(lines, unit * np.arange(len(lines)), 1)
    ink = ink_of(picture, colour)
    ink[: top + 1] = ink[bottom:] = 0
    if legend is not None:
        ink[legend[0] : legend[1], legend[2] : legend[3]] = 0
    points = []
    for column in range(left + 1, right):
        drawn = np.where(ink[:, column] > 0.1, ink[:, column], 0)
        if drawn.sum() < 0.5:
            continue
        solid = np.flatnonzero(drawn > 0.5)
        solid = solid if len(solid) else np.flatnonzero(drawn)
        middle = (drawn * np.arange(len(drawn))).sum() / drawn.sum()
        # an edge lies half a line inside the drawn one, and rows count downwards
        low = max(solid[-1] + 0.5 - HALF_LINE, middle)
        high = min(solid[0] - 0.5 + HALF_LINE, middle)
        minute = (column - left) / (right - left) * MINUTES
        points.append((minute, *(max(slope * row + offset, 0) for row in (middle, low, high))))
    minutes, *values = np.array(points).T
    centres = np.arange(0, MINUTES, STEP) + STEP / 2
    return np.stack([np.interp(centres, minutes, value) for value in values])


def derive(notebook: Path, target: Path) -> None:
    """Write requests and tokens per minute of the Azure 2024 week, read off the figures of Azure's notebook.

    One pixel is 7 minutes by about 16 requests per minute, or 20 minutes by 44 000 (code) or 23 500
    (conversation) tokens per minute.

    Parameters
    ----------
    notebook : Path
        ``AzureLLMInferenceDataset2024.ipynb`` of Azure/AzurePublicDataset.
    target : Path
        The CSV file to write.

    Raises
    ------
    TraceError
        If the notebook has fewer figures than expected.
    """
    pictures = figures(notebook)
    if len(pictures) <= max(panel.tokens for panel in PANELS):
        raise TraceError(f"notebook {notebook} has {len(pictures)} figures, expected at least 10: it has changed")
    names = [f"{what}_per_min{edge}" for what in ("req", "input_tok") for edge in ("", "_low", "_high")]
    with atomic_write(target) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("service", "utc", *names, "output_tok_per_min"))
        for panel in PANELS:
            writer.writerows(_panel_rows(panel, pictures))


def _panel_rows(panel: Panel, pictures: list[Floats]) -> Iterator[tuple[Any, ...]]:
    tokens = pictures[panel.tokens]
    values = [
        *read_line(pictures[panel.requests], "blue", 1000),
        *read_line(tokens, "blue", panel.unit, panel.legend),
    ]
    if panel.output:
        values.append(read_line(tokens, "orange", panel.unit, panel.legend)[0])
    time = np.datetime64(panel.start, "s") + np.arange(0, MINUTES, STEP) * np.timedelta64(1, "m")
    rest = () if panel.output else ("",)
    for stamp, row in zip(time, np.rint(np.stack(values, axis=1)).astype(np.int64), strict=True):
        yield panel.service, str(stamp).replace("T", " "), *row.tolist(), *rest
