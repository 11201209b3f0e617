"""The training benchmark measures ours without a checkout, and their code as it is with one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "diffusion_dfl_training.py"
    spec = importlib.util.spec_from_file_location("diffusion_dfl_training", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(path.parent)  # as for a script
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("timesteps", [0, 2])
def test_measures_an_iteration_of_ours(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, timesteps: int) -> None:
    monkeypatch.setattr(bench, "HIDDEN", (8, 8))
    lap = bench.ours(bench.Case("allocation", 4, 3, 10, timesteps))
    assert lap.seconds > 0


def measure(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str]:
    """Names of the functions that a call of the benchmark would run, ours and theirs taking no time."""
    called: list[str] = []

    def apart(function: Any, *_: Any) -> Any:
        called.append(function.__name__)
        return bench.Lap(8.0 if function.__name__ == "theirs" else 2.0, 1e9)

    monkeypatch.setattr(bench, "apart", apart)
    monkeypatch.setattr(bench.os, "environ", {})
    monkeypatch.setattr(sys, "argv", ["diffusion_dfl_training.py", *arguments])
    bench.main()
    return called


def test_says_that_theirs_is_left_out(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "theirs" not in measure(bench, monkeypatch, "--cases", "power-reparam")
    assert "theirs is left out" in capsys.readouterr().out


def test_reuses_their_figures(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "co" / "power_sched").mkdir(parents=True)
    (tmp_path / "co" / "power_sched" / "nets.py").touch()
    kept = str(tmp_path / "theirs.json")
    first = ["--cases", "power-reparam", "--keep", kept]
    assert measure(bench, monkeypatch, str(tmp_path / "co"), *first).count("theirs") == 1
    assert "4.0" in capsys.readouterr().out
    again = measure(bench, monkeypatch, "--cases", "power-reparam", "--theirs-from", kept)
    assert "theirs" not in again
    assert "4.0" in capsys.readouterr().out


def test_a_folder_that_is_no_checkout_is_refused(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        measure(bench, monkeypatch, str(tmp_path))
    assert "is no checkout" in capsys.readouterr().err


def test_what_their_code_does_not_call_is_empty(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [bench.Emptied(["nobody_has_this"]), *sys.meta_path])
    spec = importlib.util.find_spec("nobody_has_this.part")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    assert module.anything(1, b=2) is None
    assert importlib.util.find_spec("nobody_has_that") is None
    for name in [name for name in sys.modules if name.startswith("nobody_has_this")]:
        del sys.modules[name]


def test_their_pool_sets_up_once_and_keeps_the_order(bench: ModuleType) -> None:
    ready: list[int] = []

    def prepare(value: int) -> None:
        ready.append(value)

    for _ in range(2):
        with bench.Here(n_jobs=64, initializer=prepare, initargs=(3,)) as pool:
            assert pool((lambda a, b=0: a + b, (i,), {"b": 1}) for i in range(3)) == [1, 2, 3]
    assert ready == [3]
