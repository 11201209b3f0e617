"""The examples run as their heads say, and print what they promise."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def table(printed: str, title: str) -> dict[str, list[float]]:
    """Rows of numbers below a title, by their first word."""
    lines = printed.partition(title)[2].splitlines()[3:]
    rows = [line.split() for line in lines]
    stop = rows.index([]) if [] in rows else len(rows)
    return {row[0]: [float(cell) for cell in row[1:]] for row in rows[:stop]}


def test_agents_compared_on_a_csv_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("compare_on_your_csv.py")
    cost = table(capsys.readouterr().out, "cost of a day")
    as_it_was, more, _noise, meter_fails = range(4)
    assert cost["residual-saa"][as_it_was] < min(cost["saa"][as_it_was], cost["persistence"][as_it_was])
    assert cost["persistence"][more] < cost["residual-saa"][more]  # what has learned a level is wrong about another
    assert cost["saa"][meter_fails] == cost["saa"][as_it_was]  # it does not look
    file = tmp_path / "mine.csv"
    runpy.run_path(str(EXAMPLES / "compare_on_your_csv.py"))["made_up"](file, days=20)
    file.write_text(file.read_text().replace("hour,load", "when,MW"))
    run("compare_on_your_csv.py", str(file), "--time", "when", "--load", "MW", "--agents", "saa")
    assert set(table(capsys.readouterr().out, "regret of a day")) == {"saa"}


def test_a_robust_week_of_data_centers(capsys: pytest.CaptureFixture[str]) -> None:
    run("robust_data_center_week.py", "--fast", "--epsilon", "0.1")
    ordinary, shifted = capsys.readouterr().out.split("\n\n")[:2]
    paid, energy, work, requests = range(4)
    for part in (ordinary, shifted):
        rows = {line.split()[0]: [float(cell) for cell in line.split()[1:]] for line in part.splitlines()[2:]}
        assert rows["ulro-box"][paid] > rows["deterministic"][paid]  # a promise is not for nothing
        for unserved in (energy, work, requests):
            assert rows["ulro-box"][unserved] <= rows["deterministic"][unserved]
        assert rows["deterministic"][work] > 1000


def test_ppo_under_random_shifts(capsys: pytest.CaptureFixture[str]) -> None:
    run("ppo_with_random_shifts.py", "--fast")
    head, *lines = capsys.readouterr().out.splitlines()
    assert "code service" in head
    regrets = {line[:20].strip(): [float(cell) for cell in line[20:].split()] for line in lines}
    assert set(regrets) == {"persistence", "ppo", "ppo, random shifts"}
    assert all(value >= 0 for row in regrets.values() for value in row)
    assert regrets["ppo"] != regrets["ppo, random shifts"]
