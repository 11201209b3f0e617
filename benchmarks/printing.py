"""Tables of figures, as all benchmarks print them."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def figures(title: str, *headings: str, words: int = 1) -> Table:
    """Begin a table whose first columns are words, to the left, and the others figures, to the right."""
    table = Table(title=title)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i < words else "right")
    return table


def show(table: Table) -> None:
    """Print a table, as wide as it needs to be."""
    Console(width=160).print(table)
