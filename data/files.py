"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .errors import ShiftgymError


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 1e6:.1f} MB free"
    except OSError:
        return "free space unknown"


@contextlib.contextmanager
def explain_full_disk(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the OSError of a full disk, or of a spent quota, into a message that says what to do.

    Raises
    ------
    ShiftgymError
        If the disk fills inside the block; other errors pass through.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        folder = Path(path).parent
        raise ShiftgymError(
            f"no space left to write {path} ({_free(folder)} in {folder}): free some space and run again; "
            "files written before are complete"
        ) from error


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w", encoding: str = "utf-8") -> Iterator[IO[Any]]:
    r"""Open a temporary file that takes the place of ``path`` when the block ends without an error.

    The temporary file lies in the same folder (a rename across file systems is not atomic), is flushed to the
    disk before the rename, and is removed on any error, Ctrl-C included. The folder is made when missing.

    Parameters
    ----------
    path : path
        The file to write or replace.
    mode : {"w", "wb"}
        Text (``\n`` line ends everywhere) or bytes. Libraries that want a path use ``handle.name``.
    encoding : str
        Of the text.

    Raises
    ------
    ShiftgymError
        If the disk is full.

    Examples
    --------
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_write(folder / "scores.csv") as handle:
    ...     _ = handle.write("regret")
    >>> (folder / "scores.csv").read_text()
    'regret'
    """
    target = Path(path)
    with explain_full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        text = {} if "b" in mode else {"encoding": encoding, "newline": "\n"}
        try:
            os.close(descriptor)
            with Path(name).open(mode, **text) as handle:  # type: ignore[call-overload]
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            Path(name).chmod(_mode())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _mode() -> int:
    """Permission bits of an ordinary new file; mkstemp makes files that only their owner can read."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
