from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_all", FOLDER / "run_all.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def test_every_benchmark_is_run_or_left_out_for_a_reason(runner: ModuleType) -> None:
    scripts = {path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text()} - {"run_all"}
    assert scripts == runner.RUN.keys() | runner.LEFT_OUT.keys()
    assert not runner.RUN.keys() & runner.LEFT_OUT.keys()


def test_a_page_says_what_ran_where_and_what_failed(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fine.py").write_text('"""A head.\\n\\nMore."""\nimport sys; print("| 1.5x |", *sys.argv[1:])')
    (tmp_path / "broken.py").write_text('"""Another."""\nraise ValueError("no such thing")')
    (tmp_path / "endless.py").write_text('"""Sleeps."""\nimport time; print("began", flush=True); time.sleep(60)')
    monkeypatch.setattr(runner, "HERE", tmp_path)
    monkeypatch.setattr(runner, "RUN", {"fine": "--few 2", "broken": "", "endless": ""})
    reports = [runner.report(name) for name in ("fine", "broken")]
    monkeypatch.setattr(runner, "PATIENCE", 2)
    text = runner.page([*reports, runner.report("endless")], seconds=90.0, load=1.0)
    assert "## fine\n\nA head.\n\n`python benchmarks/fine.py --few 2`" in text
    assert "```text\n| 1.5x | --few 2\n```" in text
    assert "**Failed: ValueError: no such thing**" in text
    assert "**Stopped after 2 seconds.**\n\n```text\nbegan\n```" in text
    assert " cores, of which " in text
