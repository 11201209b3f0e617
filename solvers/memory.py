"""A memory of what was computed last, by a key of the numbers that it was computed from."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any, TypeVar

import numpy as np

Kept = TypeVar("Kept")


def digest(*parts: Any) -> bytes:
    """A key of numbers and arrays."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(np.ascontiguousarray(part, dtype=np.float64).tobytes())
    return state.digest()


def keep(memory: OrderedDict[bytes, Kept], key: bytes, value: Kept, size: int) -> None:
    """Remember a value, and forget the oldest one where there are more than ``size``."""
    memory[key] = value
    if len(memory) > size:
        memory.popitem(last=False)
