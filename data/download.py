"""Downloads that resume: pooch checks and renames, this module moves the bytes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pooch
import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from .errors import DownloadError
from .files import explain_full_disk

TIMEOUT = (10.0, 60.0)  # seconds: to connect, and between two pieces
RETRIES = 3  # how often a cut connection is taken up again within one call
CHUNK = 1 << 15  # bytes; what a cut connection loses at most

_CUT = (requests.exceptions.ChunkedEncodingError, requests.ConnectionError, requests.Timeout)


def download(url: str, target: Path, sha256: str = "", progress: bool = True) -> None:
    """Download a file, resume where an earlier try ended, and check it before it gets its name.

    Parameters
    ----------
    url : str
        Public address.
    target : Path
        Where the file goes. A partial download lies beside it as ``NAME.part``.
    sha256 : str
        Expected checksum; empty for none.
    progress : bool
        Draw a progress bar, on a terminal only.

    Raises
    ------
    DownloadError
        If the address cannot be reached or answers with an error, or the checksum is wrong (the file is
        removed).
    ShiftgymError
        If the disk is full; the partial download is kept.
    """
    pooch.get_logger().setLevel("WARNING")  # the progress bar says it already
    with explain_full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            try:
                pooch.retrieve(
                    url,
                    known_hash=f"sha256:{sha256}" if sha256 else None,
                    fname=target.name,
                    path=target.parent,
                    downloader=ResumingDownloader(target, blind=bool(sha256), progress=progress),
                )
            except requests.HTTPError as error:
                raise DownloadError(f"{url} cannot be had: {error}") from error
            except requests.RequestException as error:
                raise DownloadError(f"{url} cannot be reached: {_reason(error)}") from error
            except ValueError as error:  # pooch's word for a wrong checksum
                raise DownloadError(f"{url} arrived broken and was removed: {error}") from error


def _reason(error: BaseException) -> str:
    """Return the innermost message; the outer ones repeat the address and object ids."""
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke"
    reason = getattr(error.args[0], "reason", error.args[0]) if error.args else error
    return str(reason).rpartition(": ")[2]


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let one process at a time download a file; the others wait and then find it there."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class ResumingDownloader:
    """A downloader for pooch that continues a partial file with an HTTP range request.

    Parameters
    ----------
    target : Path
        The final place; the partial file and the validator of its version (ETag) lie beside it.
    blind : bool
        Resume even when the server gave no ETag, because a checksum will tell if the file changed in between.
    progress : bool
        Draw a progress bar, on a terminal only.
    """

    def __init__(self, target: Path, blind: bool, progress: bool) -> None:
        self.part = target.with_name(f"{target.name}.part")
        self.validator = target.with_name(f"{target.name}.part.etag")
        self.blind = blind
        self.progress = progress

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download ``url`` to ``output_file``; called by pooch, which then checks and renames it."""
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=console, disable=not (self.progress and console.is_terminal)) as bar:
            task = bar.add_task(self.part.stem, total=None)
            for attempt in range(RETRIES + 1):
                before = self._size()
                try:
                    self._receive(url, bar, task)
                    break
                except _CUT:
                    # no byte came: there is no connection, and asking again at once will not make one
                    if attempt == RETRIES or self._size() == before:
                        raise
        self.part.replace(output_file)
        self.validator.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _receive(self, url: str, bar: Progress, task: Any) -> None:
        validator = self.validator.read_text() if self.validator.exists() else ""
        have = self._size() if validator or self.blind else 0
        # Ranges count the bytes on the wire, so the server must not compress them.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-"} | ({"If-Range": validator} if validator else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self.part.unlink()  # longer than the file: of another version, start afresh
                raise requests.ConnectionError("the partial file does not belong to the public one")
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                have = 0
            etag = response.headers.get("ETag", "")
            self.validator.write_text("" if etag.startswith("W/") else etag)
            length = response.headers.get("Content-Length")
            bar.update(task, completed=have, total=have + int(length) if length else None)
            with self.part.open("ab" if have else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    bar.advance(task, len(chunk))
                file.flush()
                os.fsync(file.fileno())
