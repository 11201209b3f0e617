"""One CPU thread for torch: faster for small networks, and the same rounding on every machine."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Keep torch, where something has imported it, to one thread inside the block.

    The networks here are too small to share among threads: two are slower than one, many times slower on a busy
    machine. Sums split over several threads are not reproducible bit by bit, and cells run side by side anyway.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
