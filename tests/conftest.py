"""Rules and fixtures for all tests."""

from __future__ import annotations

import pytest

from shiftgym.data.catalogue import entry
from shiftgym.data.fetch import find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip a test marked ``real`` when a file it needs is neither in SHIFTGYM_DATA nor in the cache.

    ``@pytest.mark.real`` needs the two Azure 2023 logs, ``@pytest.mark.real("NAME", …)`` those traces.
    """
    for item in items:
        marker = item.get_closest_marker("real")
        names = (marker.args or ("azure-2023-conv", "azure-2023-code")) if marker else ()
        missing = [name for name in names if (file := entry(name).file) is None or find(file) is None]
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"needs the real trace {', '.join(missing)}"))
