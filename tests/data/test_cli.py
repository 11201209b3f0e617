from __future__ import annotations

from pathlib import Path

import pytest

from shiftgym.data import DownloadError
from shiftgym.data import __main__ as cli
from shiftgym.data import fetch as fetching
from shiftgym.data.catalogue import PublicFile, catalogue, public_files


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No file of the catalogue, in a terminal that is wide enough."""
    monkeypatch.setattr(fetching, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("SHIFTGYM_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def test_list_shows_every_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in catalogue())
    assert shown.count("not downloaded") == len(catalogue())
    assert "synthetic-datacenter" in shown


def test_names_are_whole_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cli.main(["list"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in catalogue())


@pytest.mark.parametrize("name", [*catalogue(), "synthetic-azure-2023-conv", "synthetic-datacenter"])
def test_info_shows_origin_and_licence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", name]) == 0
    shown = capsys.readouterr().out
    assert name in shown
    assert "licence" in shown
    assert "cite" in shown


def test_unknown_names_are_errors_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", "azure-2023-con"]) == 1
    assert "did you mean 'azure-2023-conv'" in capsys.readouterr().err
    assert cli.main(["fetch", "azure-2023-con"]) == 1


def test_fetch_goes_on_after_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fetch(file: PublicFile) -> Path:
        if file.key == "azure-2023-conv":
            raise DownloadError("offline [now]")
        return tmp_path / file.path

    monkeypatch.setattr(cli, "fetch", fetch)
    assert cli.main(["fetch", "azure-2023-conv", "azure-2023-code", "synthetic-azure-2023-conv"]) == 1
    shown = capsys.readouterr().out
    assert "azure-2023-conv: offline [now]" in shown
    assert f"azure-2023-code: {tmp_path}" in shown
    assert "nothing to download" in shown
    monkeypatch.setattr(cli, "fetch", lambda file: tmp_path / file.path)
    assert cli.main(["fetch", "--all"]) == 0
    assert all(key in capsys.readouterr().out + shown for key in ("servegen",))


def test_fetch_wants_a_name_or_all() -> None:
    with pytest.raises(SystemExit):
        cli.main(["fetch"])


def test_ctrl_c_has_its_own_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(file: PublicFile) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "fetch", interrupted)
    assert cli.main(["fetch", "--all"]) == 130


def test_check_finds_a_wrong_file(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check"]) == 0
    assert capsys.readouterr().out.count("not downloaded") == len(public_files())
    path = nowhere / "cache" / public_files()["azure-2023-conv"].path
    path.parent.mkdir(parents=True)
    path.write_text("broken")
    assert cli.main(["check"]) == 1
    assert "wrong checksum" in capsys.readouterr().out


@pytest.mark.real
def test_check_accepts_the_real_files(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.undo()
    assert cli.main(["check"]) == 0
