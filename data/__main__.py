"""The command line of the traces: ``python -m shiftgym.data {list,info,fetch,check}``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .catalogue import PublicFile, catalogue, entry, long_stand_ins, public_files
from .errors import ShiftgymError
from .fetch import fetch, find, status
from .mixtures import generated
from .registry import trace_info
from .trace import format_duration


def list_command(console: Console) -> int:
    """Print the traces and where their files lie."""
    table = Table(title="Traces", title_justify="left")
    table.add_column("name", no_wrap=True)
    for header in ("slot", "counts", "file", "what it is"):
        table.add_column(header)
    for info in catalogue().values():
        kind = "default " if info.kind == "requests" else ""
        where = "found" if all(map(find, info.files)) else "not downloaded"
        slot = kind + format_duration(info.slot)
        table.add_row(info.name, slot, info.quantity, where, info.title)
    console.print(table)
    longer = ", ".join(long_stand_ins())
    console.print(f"Each has a stand-in that needs no download: put synthetic- before its name. Longer: {longer}")
    console.print(f"Generated, with a law that is known: {', '.join(generated())}", soft_wrap=True)
    return 0


def info_command(console: Console, name: str) -> int:
    """Print what the catalogue says of one trace."""
    info = trace_info(name)
    table = Table(show_header=False, title=info.name, title_justify="left")
    rows = {
        "what it is": info.title,
        "kind": f"{info.kind}, synthetic" if info.synthetic else info.kind,
        "slot": f"{format_duration(info.slot)}{' by default' if info.kind == 'requests' else ''}",
        "counts": f"{info.quantity} per slot",
        "span": info.span,
        "columns": "\n".join(f"{column}: {meaning}" for column, meaning in info.columns.items()),
        "licence": info.licence,
        "cite": info.citation,
        "notes": info.notes,
    }
    described = [*rows.items()]
    for file in info.files:
        described += [
            ("url", file.url),
            ("sha256", file.sha256 or "not published; recorded on the first download"),
            ("made by", f"shiftgym.data.{file.derive}.derive" if file.derive else ""),
            ("file", str(find(file) or "not downloaded")),
        ]
    for key, value in described:
        if value:
            table.add_row(key, escape(value))
    console.print(table)
    return 0


def fetch_command(console: Console, names: Sequence[str]) -> int:
    """Download the files of the named traces, all when none is named; go on after a failure."""
    files: dict[str, PublicFile] = {}
    for name in names or catalogue():
        if trace_info(name).synthetic:
            console.print(f"{name}: synthetic, nothing to download")
            continue
        files |= {file.key: file for file in entry(name).files}
    failures = 0
    for file in files.values():
        try:
            console.print(f"{file.key}: {fetch(file)}", soft_wrap=True, highlight=False, markup=False)
        except ShiftgymError as error:
            failures += 1
            console.print(f"[red]{file.key}[/red]: {escape(str(error))}", soft_wrap=True, highlight=False)
    return 1 if failures else 0


def check_command(console: Console) -> int:
    """Compare every file that is found with its checksum."""
    meaning = {
        "ok": "as in the catalogue",
        "recorded": "as on its first download",
        "unknown": "no checksum to compare with",
        "differs": "another result of the derivation than the known one",
        "corrupt": "[red]wrong checksum: remove it and fetch again[/red]",
        "missing": "not downloaded",
    }
    table = Table("file", "status", "meaning", "path", title="Files", title_justify="left")
    found = {key: status(file) for key, file in public_files().items()}
    for key, state in found.items():
        table.add_row(key, state, meaning[state], str(find(public_files()[key]) or ""))
    console.print(table)
    return 1 if "corrupt" in found.values() else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shiftgym.data", description="Traces: what exists, download, check")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the traces and where their files lie")
    commands.add_parser("info", help="origin, licence, units, defects of one trace").add_argument("name")
    fetching = commands.add_parser("fetch", help="download the files of traces")
    which = fetching.add_mutually_exclusive_group(required=True)
    which.add_argument("names", nargs="*", default=[], metavar="NAME")
    which.add_argument("--all", action="store_true", help="all of them, about 2.5 GB")
    commands.add_parser("check", help="compare the files with their checksums")
    options = parser.parse_args(arguments)
    console = Console()
    try:
        if options.command == "list":
            return list_command(console)
        if options.command == "info":
            return info_command(console, options.name)
        if options.command == "fetch":
            return fetch_command(console, options.names)
        return check_command(console)
    except ShiftgymError as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True, highlight=False)
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; a partial download resumes")
        return 130


if __name__ == "__main__":
    sys.exit(main())
