"""Promised against realised: verdicts, and a ranking among those that break no promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from shiftgym.evaluation.agent_spec import AgentSpec
from shiftgym.evaluation.promises import accounts, promises
from shiftgym.evaluation.report import report
from shiftgym.evaluation.results import Run
from shiftgym.evaluation.run import execute


@pytest.fixture(scope="module")
def run(suite, tmp_path_factory) -> Run:
    settings = "epochs=3, hidden=[8], network='mlp'"
    texts = (
        "saa",
        f"conformal(epsilon=0.1, {settings})",
        f"conformal(epsilon=0.2, {settings}, calibration='tracking')",
        f"conformal(epsilon=0.001, {settings})",
    )
    agents = tuple(map(AgentSpec.parse, texts))
    return execute(replace(suite, agents=agents, scenarios=suite.scenarios[:2]), tmp_path_factory.mktemp("run")).run


def test_rates_are_those_of_the_steps_and_verdicts_follow(run: Run) -> None:
    results = run.results.groupby(["scenario", "agent"])["violation_rate_service"].mean()
    found = accounts(run)
    assert len(found) == 8
    for account in found:
        rate = account.realised["service"]
        assert rate.rate == pytest.approx(results[account.scenario, account.agent])
        assert account.kept == (bool(account.promised) and not rate.interval.low > account.promised["service"])
        assert account.certified == ("0.001" not in account.agent)
    assert {account.verdict("service") for account in found if not account.promised} == {""}


@pytest.mark.usefixtures("bare")
def test_the_report_ranks_those_that_keep_their_promises(run: Run) -> None:
    shown = promises(run)
    assert [table.title for table in shown] == [f"Promised against realised: {name}" for name in ("home", "grown")]
    for table in shown:
        ranks = [row[-1].text for row in table.rows]
        kept = [account for account in accounts(run) if account.scenario in table.title and account.kept]
        assert ranks == [*(str(i + 1) for i in range(len(kept))), *["–"] * (4 - len(kept))]
        costs = [float(row[-2].text) for row in table.rows if row[-1].text != "–"]
        assert costs == sorted(costs)
        rows = {row[0].text: [cell.text for cell in row] for row in table.rows}
        assert {row[1] for row in rows.values()} == {"–", "10", "20", "0.1 *"}
        assert not rows["saa"][2].endswith(("kept", "broken", "open"))
    assert "Promised against realised: home" in report(run, Console(quiet=True)).with_suffix(".md").read_text()


def test_runs_in_which_nobody_promises_have_no_such_table(executed: Path) -> None:
    assert promises(Run(executed)) == []
