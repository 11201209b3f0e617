"""Rules and fixtures for all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from shiftgym.data.catalogue import entry
from shiftgym.data.fetch import find

# The same examples every time, so that a commit passes or fails for good. To look for new ones:
# HYPOTHESIS_PROFILE=search pytest --hypothesis-seed=random
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

gc.disable()  # until all is collected, none of which is garbage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip a test marked ``real`` when a file it needs is neither in SHIFTGYM_DATA nor in the cache.

    ``@pytest.mark.real`` needs the two Azure 2023 logs, ``@pytest.mark.real("NAME", …)`` those traces.
    """
    for item in items:
        marker = item.get_closest_marker("real")
        names = (marker.args or ("azure-2023-conv", "azure-2023-code")) if marker else ()
        missing = [name for name in names if not all(map(find, entry(name).files))]
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"needs the real trace {', '.join(missing)}"))


def pytest_collection_finish() -> None:
    """Whatever is imported stays: to look through it again and again takes a tenth of the time of the tests."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _nothing_registered() -> Iterator[None]:
    """Workers of a pool are not sent what all the tests have registered, for which each would import half of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shiftgym.evaluation.registered._own", dict)
        yield


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are laid out, not written, which takes a fourth of the time."""

    def sketch(figure: Any, path: Path) -> Path:
        figure.draw_without_rendering()
        return path.with_suffix(".png")

    monkeypatch.setattr("shiftgym.evaluation.plots.save", sketch)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are tables alone: pictures and pages have tests of their own, and take most of the time."""
    monkeypatch.setattr("shiftgym.evaluation.report.draw_plots", lambda run: [])
    monkeypatch.setattr("shiftgym.evaluation.report.write_html", lambda *_: None)
