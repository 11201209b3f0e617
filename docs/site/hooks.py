"""What MkDocs calls: pages and pictures that are made from the code are added to those of the folder."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agent_pages
import api_pages
import environment_pages
import gallery
import mathml
import shift_pages
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
#: Pages that stay where people look for them, in the root of the repository.
_FROM_ROOT = ("CONTRIBUTING.md", "CHANGELOG.md")
#: A page or picture by its place, and what makes it.
Made = dict[str, Callable[[], str | bytes]]


def made() -> Made:
    """Everything that is not written by hand."""
    pages: Made = {name: lambda name=name: from_root(name) for name in _FROM_ROOT}
    for maker in (environment_pages, agent_pages, shift_pages, gallery, api_pages):
        pages.update(maker.made())
    return pages


def from_root(name: str) -> str:
    """Return a page of the root as it reads in ``docs/``: links into that folder lose it, others their target."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = text.replace("](docs/", "](")
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#|[\w/]+\.md)[^)]*\)", r"\1", text)


def on_startup(**_: Any) -> None:
    """Lay the links by which the reference finds the package, whatever the name of this folder.

    Before plugins are configured: one that finds no folder then does not look again.
    """
    package = ROOT / "build" / "api" / "shiftgym"
    package.mkdir(parents=True, exist_ok=True)
    for name in ("__init__.py", "evaluate.py", *api_pages.ROOMS):
        link = package / name
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(ROOT / name, package))


def on_files(files: Files, config: Any) -> Files:
    """Add what is made from the code, and list the pages of each folder in the navigation."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    pages = made()
    for uri, make in pages.items():
        content = make() if config.extra["pictures"] or uri.endswith(".md") else b""
        files.append(File.generated(config, uri, content=content, inclusion=InclusionLevel.INCLUDED))
    config.nav = [_listed(entry, list(pages)) for entry in config.nav]
    return files


def _listed(entry: Any, pages: list[str]) -> Any:
    """Return an entry of the navigation in which the name of a folder has become its pages."""
    if isinstance(entry, dict):
        return {title: _listed(value, pages) for title, value in entry.items()}
    if isinstance(entry, str) and entry.endswith("/"):
        return [page for page in pages if page.startswith(entry) and page.endswith(".md")]
    if isinstance(entry, list):
        parts = [_listed(part, pages) for part in entry]
        return [page for part in parts for page in (part if isinstance(part, list) else [part])]
    return entry


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """On the site the root's pages are beside those of ``docs/``."""
    return re.sub(r"\]\(\.\./(\w+\.md)", r"](\1", markdown) if "/" not in page.file.src_uri else markdown


def on_page_content(html: str, **_: Any) -> str:
    """Turn equations into MathML."""
    return mathml.with_mathml(html)
