"""Errors that name the field, the value and the fix, shared by every layer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ShiftgymError(ValueError):
    """Base of the errors that a user can mend; the message says how."""


class UnknownNameError(ShiftgymError, LookupError):
    """A name that nothing is registered under.

    Parameters
    ----------
    kind : str
        What was looked up, in the singular ("trace", "shift", "agent", …).
    name : str
        The name that was not found.
    valid : iterable of str
        The names that exist.
    """

    def __init__(self, kind: str, name: str, valid: Iterable[str]) -> None:
        names = sorted(valid)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
        super().__init__(f"unknown {kind} {name!r}{hint} Valid: {', '.join(names)}")
        self.kind, self.name, self.valid = kind, name, names


class TraceError(ShiftgymError):
    """A trace or request log that cannot be replayed as it is."""


class DownloadError(ShiftgymError):
    """A file that could not be downloaded, or arrived broken."""
