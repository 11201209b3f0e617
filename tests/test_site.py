"""The documentation's site: nothing that is registered lacks a page, and what is made from the code is right."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import gymnasium
import pytest

from shiftgym.agents import agent_class, list_agents
from shiftgym.envs.shifts import list_shifts
from shiftgym.evaluation.scenario import list_suites

pytest.importorskip("mkdocs", reason="the site needs the extra [docs]")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs" / "site")
        return importlib.import_module("hooks")


def test_everything_that_is_registered_has_a_page(site: ModuleType) -> None:
    pages = set(site.made())
    assert {f"agents/{name}.md" for name in list_agents()} <= pages
    assert {f"shifts/{name}.md" for name in list_shifts()} <= pages
    names = [name for name in gymnasium.registry if name.startswith("shiftgym/")]
    assert {f"environments/{name.removeprefix('shiftgym/')[:-3]}.md" for name in names} <= pages
    assert sorted(re.findall(r"^## (\S+) {#suite", site.made()["gallery.md"](), re.MULTILINE)) == list_suites()


def test_notes_are_about_something() -> None:
    modules = {agent_class(name).__module__ for name in list_agents()}
    known = {
        "agents": {*list_agents(), *(name.rpartition(".")[2] for name in modules)},
        "shifts": set(list_shifts()),
        "environments": {path.stem for path in (ROOT / "envs").glob("*.py")},
    }
    for note in (ROOT / "docs" / "notes").rglob("*.md"):
        assert note.stem in known[note.parent.name], f"{note} is shown nowhere"


@pytest.mark.parametrize("kind", ["agents", "environments"])
def test_whatever_ships_is_explained(site: ModuleType, kind: str) -> None:
    wanted = {"agents": ("## Algorithm", "## When to use it"), "environments": ("## What it models",)}[kind]
    common = importlib.import_module("common")
    modules = {
        "agents": {  # those that are made in a function are registered by tests
            name: agent.__module__
            for name, agent in ((name, agent_class(name)) for name in list_agents())
            if hasattr(importlib.import_module(agent.__module__), agent.__name__)
        },
        "environments": {
            name: entry.entry_point.split(":")[0]  # type: ignore[union-attr]
            for name, entry in gymnasium.registry.items()
            if name.startswith("shiftgym/")
        },
    }[kind]
    for name, module in modules.items():
        if module.startswith("shiftgym."):  # others are registered by tests
            file = module.rpartition(".")[2]
            note = common.note(kind, name, file)
            assert all(heading in note for heading in wanted), f"docs/notes/{kind}/{file}.md does not explain {name}"


def test_the_page_of_an_agent_says_what_it_takes(site: ModuleType) -> None:
    page = site.made()["agents/kl-dro.md"]()
    assert "## Algorithm" in page
    assert "## When to use it" in page
    row = next(line for line in page.splitlines() if line.startswith("| `budget` |"))
    assert "`2.0`" in row
    assert "nats" in row
    assert "Seed of everything random" in page  # said by the base class alone
    assert "`shiftgym run three-d/table1`" in page


def test_the_page_of_a_shift_says_what_it_takes(site: ModuleType) -> None:
    page = site.made()["shifts/clip.md"]()
    assert "| `quantile` | `None` |" in page
    assert "../img/shifts/clip.svg" in page


def test_the_page_of_an_environment_says_its_spaces(site: ModuleType) -> None:
    page = site.made()["environments/Inventory.md"]()
    assert "| Action | float32, shape (1,), in [0, 20] |" in page
    assert "`violation_bounds`" in page
    assert "| `lookback` |" in page


def test_a_picture_shows_the_shift(site: ModuleType) -> None:
    picture = site.made()["img/shifts/gaussian.svg"]()
    assert ET.fromstring(picture).tag.endswith("svg")
    before, after = importlib.import_module("shift_pages").shifted("gaussian")
    assert (before.outcome != after.outcome).mean() > 0.9


def test_the_gallery_draws_the_tables_of_the_findings(site: ModuleType) -> None:
    findings = importlib.import_module("gallery").findings()
    table = next(finding for finding in findings if "three-d/table1" in finding.suites)
    columns, rows = table.figures[0]
    assert columns[:2] == ["23V", "23D"]
    assert rows["persistence"][0].tolist() == [0.103, 0.011]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_equations_can_be_shown(site: ModuleType, page: Path) -> None:
    from markdown import markdown

    extensions = ["tables", "fenced_code", "pymdownx.arithmatex"]
    options = {"pymdownx.arithmatex": {"generic": True}}
    text = page.read_text(encoding="utf-8")
    shown = site.mathml.with_mathml(markdown(text, extensions=extensions, extension_configs=options))
    assert "arithmatex" not in shown
    for equation in re.findall(r"<math.*?</math>", shown, re.DOTALL):
        ET.fromstring(equation)
    assert "<math" in shown or "$$" not in text


def test_an_equation_that_cannot_be_shown_is_refused(site: ModuleType) -> None:
    with pytest.raises(site.mathml.EquationError, match="foo"):
        site.mathml.mathml(r"x + \foo{y}")


def test_docstrings_become_markdown(site: ModuleType) -> None:
    markdown = importlib.import_module("docstrings").markdown
    assert 'identifier="shiftgym.envs.task.Task" optional><code>Task</code>' in markdown(
        "See :class:`~shiftgym.envs.task.Task`."
    )
    table = "Before.\n\n=====  ======\na|b    here\n=====  ======\nc_i    outcome\n=====  ======\n\nAfter."
    assert "| a\\|b | here |\n| --- | --- |\n| c_i | outcome |\n" in markdown(table)


@pytest.mark.slow
def test_the_site_asks_nothing_of_any_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT)
    asked = re.compile(r"""<(?:script|img|link)[^>]*(?:src|href)=["']?(https?:)?//""")
    for page in tmp_path.rglob("*.html"):
        assert not asked.search(page.read_text(encoding="utf-8")), page
    assert len(list((tmp_path / "img" / "shifts").glob("*.svg"))) == len(list_shifts())
    assert all(picture.stat().st_size for picture in (tmp_path / "img").rglob("*.*"))
