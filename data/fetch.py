"""Files of the catalogue: found where they lie, downloaded once where they do not."""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Literal

import platformdirs

from .catalogue import SYNTHETIC, PublicFile, catalogue, entry, public_files
from .errors import DownloadError, ShiftgymError
from .files import atomic_write

VARIABLE = "SHIFTGYM_DATA"
Status = Literal["ok", "recorded", "unknown", "differs", "corrupt", "missing"]


def cache_folder() -> Path:
    """Return the folder that downloads go to, in the user's cache."""
    return Path(platformdirs.user_cache_dir("shiftgym", appauthor=False))


def data_folder() -> Path | None:
    """Return the folder that ``SHIFTGYM_DATA`` names, None when it is not set.

    Raises
    ------
    ShiftgymError
        If it is set to something that is no folder.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise ShiftgymError(f"{VARIABLE} is {text!r}, which is no folder: correct it or unset it")
    return folder


def _places(file: PublicFile) -> Iterator[Path]:
    folder, relative = data_folder(), Path(file.path)
    places = [folder / relative, folder / relative.name] if folder else []
    for place in (*places, cache_folder() / relative):
        yield place
        yield place.with_name(f"{place.name}.gz")


def find(file: PublicFile) -> Path | None:
    """Return where a file lies, in ``SHIFTGYM_DATA`` (by path or bare name) or the cache; None if nowhere."""
    return next((place for place in _places(file) if place.is_file()), None)


@functools.lru_cache(maxsize=256)
def _digest(path: str, size: int, mtime: int) -> str:
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of(path: Path) -> str:
    """Return the checksum of a file; remembered until the file changes."""
    stat = path.stat()
    return _digest(str(path), stat.st_size, stat.st_mtime_ns)


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def status(file: PublicFile) -> Status:
    """Say how a file compares with the checksums that are known of it.

    Returns
    -------
    str
        "ok" as in the catalogue; "recorded" as on its first download, which was trusted; "unknown" with
        nothing to compare it with; "differs" for a derived file with another result than the known one;
        "corrupt"; "missing".
    """
    path = find(file)
    if path is None:
        return "missing"
    accepted = file.accepted(packed=path.suffix == ".gz")
    if sha256_of(path) in accepted:
        return "ok"
    if _record(path).is_file():
        return "recorded" if _record(path).read_text().split()[0] == sha256_of(path) else "corrupt"
    if file.derive or not accepted:
        return "differs" if accepted else "unknown"
    return "corrupt"


def fetch(file: PublicFile, progress: bool = True) -> Path:
    """Return the path of a file, downloading it when it is neither in ``SHIFTGYM_DATA`` nor in the cache.

    Parameters
    ----------
    file : PublicFile
        The file.
    progress : bool
        Draw a progress bar, on a terminal only.

    Raises
    ------
    DownloadError
        If the file in ``SHIFTGYM_DATA`` is not the one of the catalogue, or a download fails or is corrupt.
        The message names the ways out.
    ShiftgymError
        If the disk is full or ``SHIFTGYM_DATA`` is no folder.
    """
    path = find(file)
    target = cache_folder() / file.path
    accepted = file.accepted(packed=path is not None and path.suffix == ".gz")
    # Files without a published checksum are large; they are compared by `check`, not at each load.
    if path is not None and (not accepted or status(file) != "corrupt"):
        return path
    if path is not None and not path.is_relative_to(cache_folder()):
        raise DownloadError(
            f"{path} is not the file of the catalogue: sha256 expected {' or '.join(accepted)}, found "
            f"{sha256_of(path)}; replace it by {file.url}, or load your own with file:PATH?time=…&prompt=…"
        )
    try:
        return _derived(file, target, progress) if file.derive else _downloaded(file, target, progress)
    except DownloadError as error:
        raise DownloadError(f"{error}. {_ways_out(file)}") from error


def fetch_trace(name: str, progress: bool = True) -> tuple[Path, ...]:
    """Return the paths of the files behind a real trace, downloading them when needed (see :func:`fetch`)."""
    return tuple(fetch(file, progress) for file in entry(name).files)


def _ways_out(file: PublicFile) -> str:
    names = [
        info.name
        for info in catalogue().values()
        if file.key in {key for known in info.files for key in (known.key, *known.also)}
    ]
    return (
        f"Ways out: connect and run `python -m shiftgym.data fetch {names[0]}`, which resumes; or put the "
        f"file into a folder as {file.path} and name that folder in {VARIABLE}; or use the stand-in that "
        f"needs no download: {', '.join(SYNTHETIC + name for name in names)}"
    )


def _downloaded(file: PublicFile, target: Path, progress: bool) -> Path:
    from .download import download  # pooch and requests: only a download needs them

    download(file.url, target, file.sha256, progress)
    if not file.sha256:
        _write_record(target)
    return target


def _derived(file: PublicFile, target: Path, progress: bool) -> Path:
    from .download import download

    source = cache_folder() / "source" / f"{file.key}-{Path(file.url).name}"
    download(file.url, source, file.sha256, progress)
    others = [fetch(public_files()[key], progress) for key in file.also]
    import_module(f".{file.derive}", __package__).derive(source, target, *others)
    source.unlink()
    if sha256_of(target) not in file.sha256_derived:
        # ServeGen has more clients than the known result; elsewhere a library may round differently.
        warnings.warn(f"{target} differs from the known result of its derivation", stacklevel=3)
        _write_record(target)
    return target


def _write_record(path: Path) -> None:
    with atomic_write(_record(path)) as handle:
        handle.write(f"{sha256_of(path)}  {path.name}\n")
