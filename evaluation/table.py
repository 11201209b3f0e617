"""A table of a report, made once and shown on a terminal or in Markdown, and how its numbers are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table as RichTable

NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """A text, possibly the best of its column, possibly from elsewhere."""

    text: str
    best: bool = False
    muted: bool = False


@dataclass
class Table:
    """Title, column heads (the first one is that of the row labels), rows of cells, and a note underneath."""

    title: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    note: str = ""

    def rich(self) -> RichTable:
        """For a terminal; the best of a column is bold."""
        table = RichTable(
            title=escape(self.title), caption=escape(self.note), box=box.SIMPLE_HEAD, title_justify="left",
            caption_justify="left", title_style="bold", pad_edge=False,
        )  # fmt: skip
        for index, name in enumerate(self.columns):
            table.add_column(escape(name), justify="right" if index else "left", no_wrap=not index, overflow="fold")
        for row in self.rows:
            styles = ("bold" if cell.best else "dim" if cell.muted else "" for cell in row)
            table.add_row(
                *(
                    f"[{style}]{escape(cell.text)}[/]" if style else escape(cell.text)
                    for cell, style in zip(row, styles, strict=True)
                )
            )
        return table

    def markdown(self) -> str:
        """For a file; the best of a column is bold."""
        lines = [
            f"### {self.title}",
            "",
            _line(self.columns),
            _line(["---", *["---:"] * (len(self.columns) - 1)]),
        ]
        for row in self.rows:
            marks = ("**" if cell.best else "_" if cell.muted and cell.text else "" for cell in row)
            lines.append(_line([f"{mark}{cell.text}{mark}" for cell, mark in zip(row, marks, strict=True)]))
        return "\n".join([*lines, *(["", self.note] if self.note else []), ""])


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def number(value: float, half: float = math.nan, decimals: int = 3) -> str:
    """Write a number with so many decimals, and the half-width of its interval when there is one."""
    if not math.isfinite(value):
        return NOTHING
    if abs(value) >= 1000:
        return f"{value:.3g}"
    return f"{value:.{decimals}f}" + (f" ±{half:.{decimals}f}" if math.isfinite(half) else "")


def decimals_of(values: pd.DataFrame) -> int:
    """As many decimals as the typical value of a table needs to show three digits, at least two."""
    sizes = np.abs(values.to_numpy(float))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return 3 if not len(sizes) else int(np.clip(2 - np.floor(np.log10(np.median(sizes))), 2, 9))


def short(value: float) -> str:
    """Write a number with three digits."""
    if not math.isfinite(value):
        return NOTHING
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.0e}"


def pivot(table: pd.DataFrame, score: str, scenarios: list[str]) -> pd.DataFrame:
    """A score by agent and scenario."""
    return table.set_index(["agent", "scenario"])[score].unstack("scenario", sort=False)[scenarios]
