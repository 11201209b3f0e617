import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from shiftgym import evaluate as module
from shiftgym.agents.baselines import SampleAverage
from shiftgym.data.errors import ShiftgymError
from shiftgym.evaluate import Scenario, evaluate, main
from shiftgym.evaluation.results import EFFORT, Run

TRACE = "synthetic-azure-2023-conv@10s"
HOME = Scenario("home", "shiftgym/Provisioning-v0", f"{TRACE}[:0.2]", f"{TRACE}[0.2:0.4]")
SMALL = ["run", "--train", HOME.train, "--test", HOME.test, "--agents", "saa", "--seeds", "0", "--jobs", "1"]


def shell(*arguments, cwd=None):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, timeout=120)


def test_evaluate_returns_a_tidy_table_and_leaves_nothing_behind():
    table = evaluate(["oracle", "saa(samples=20)"], [HOME], seeds=(0, 1), jobs=1)
    assert table[["agent", "seed"]].to_numpy().tolist() == [["oracle", 0], ["oracle", 1], ["saa", 0], ["saa", 1]]
    assert table.loc[table["agent"] == "oracle", "normalised_regret"].abs().max() < 1e-9
    again = evaluate(["oracle", "saa(samples=20)"], [HOME], seeds=(0, 1), jobs=1)
    effort = list(EFFORT)
    assert table.drop(columns=effort).equals(again.drop(columns=effort))


def test_a_scenario_that_cannot_be_replayed_is_found_before_any_work():
    broken = Scenario("x", HOME.env, HOME.train, HOME.test, shift="merge(trace=synthetic-azure-2024-conv-10min)")
    with pytest.raises(ShiftgymError, match=r"scenario 'x' cannot be replayed: .*slot"):
        evaluate(["saa"], [broken], jobs=1)


@pytest.mark.usefixtures("sketched")
def test_the_script_lists_and_reports_like_the_console_script(tmp_path, capsys, monkeypatch):
    script = str(Path(module.__file__))
    listed = shell(script, "list", "suites", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "quick" in listed.stdout
    assert "three-d/table1" in listed.stdout
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *SMALL, "--shifts", "none", "scale(factor=2)", "--out", "mine"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(script, run_name="__main__")
    ran = capsys.readouterr()
    assert "Normalised regret (synthetic traces)" in ran.out
    assert f"[3/3] saa in {HOME.test} | scale(factor=2)" in ran.out
    assert (tmp_path / "mine" / "report.md").is_file()
    assert not ran.err
    assert main(["report", str(tmp_path / "mine")]) == 0
    again = capsys.readouterr()
    assert "saa" in again.out
    assert not again.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quik"], "did you mean 'quick'"),
        (["run", "quick", "--test", "x"], "--test and suite 'quick' exclude each other"),
        (["run", "--agents", "dlf"], "did you mean 'dfl'"),
        (["run", "--agents", "saa", "--shifts", "gausian(scale=1)"], "did you mean 'gaussian'"),
        (["run", "--agents", "saa", "--test", "azure-2023-con"], "did you mean 'azure-2023-conv'"),
        (["run", "--agents", "saa", "--env", "shiftgym/Provision-v0"], "did you mean 'shiftgym/Provisioning-v0'"),
        (["run", "--agents", "saa", "--set", "lookback"], "has no form such as"),
        (["run", "--agents", "saa", "--set", "lokback=3"], "lokback"),
        (["run", "--agents", "saa", "--seeds", "-1"], "--seeds '-1'"),
        (["report", "nowhere"], "is no run"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("bare")
def test_settings_severities_and_suites_of_ones_own(tmp_path, capsys):
    assert main([*SMALL, "--set", "lookback=14", "--shifts", "gaussian(scale=0.2)", "--severities", "0", "1",
                 "--out", str(tmp_path / "a")]) == 0  # fmt: skip
    assert "against severity" in capsys.readouterr().out
    run = module.Run.open(tmp_path / "a")
    assert run.suite.scenarios[1].env_kwargs == {"lookback": 14}
    assert sorted(run.results["severity"]) == [0.0, 1.0]
    (tmp_path / "mine.toml").write_text(
        f'seeds = [3]\nagents = ["saa"]\n[[scenarios]]\nname = "s"\nenv = "{HOME.env}"\n'
        f'train = "{HOME.train}"\ntest = "{HOME.test}"\n'
    )
    assert main(["run", str(tmp_path / "mine.toml"), "--jobs", "1", "--out", str(tmp_path / "b")]) == 0
    assert module.Run.open(tmp_path / "b").suite.name == "mine"


@pytest.mark.usefixtures("bare")
def test_some_scenarios_of_a_suite(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["run", "quick", "--scenarios", "growth", "--agents", "saa", "--seeds", "0", "--out", str(out)]) == 0
    assert set(Run.open(out).results["scenario"]) == {"growth"}
    assert main(["run", "quick", "--scenarios", "grwth"]) == 2
    assert "unknown scenario in --scenarios: 'grwth'" in capsys.readouterr().err


@pytest.mark.usefixtures("bare")
def test_another_environment_brings_its_own_trace(tmp_path):
    out = ["--jobs", "1", "--out", str(tmp_path)]
    assert main(["run", "--env", "shiftgym/Inventory-v0", "--agents", "saa", "--seeds", "0", *out]) == 0
    scenario = module.Run.open(tmp_path).suite.scenarios[0]
    assert (scenario.train, scenario.test) == ("inventory-k3[:0.5]", "inventory-k3[0.5:]")


@pytest.mark.parametrize("texts", [["0", "1", "2"], ["0,1,2"], ["0-2"], ["0", "1-2"]])
def test_seeds_in_every_form(texts):
    assert module._seeds(texts) == (0, 1, 2)


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_a_number_of_processes_that_is_none_is_refused(jobs, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--jobs", jobs])
    assert "give 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["trace=x", "shift_seed=3"])
def test_settings_that_belong_to_the_scenario_are_refused(setting, tmp_path, capsys):
    assert main([*SMALL, "--set", setting, "--out", str(tmp_path)]) == 2
    assert f"sets '{setting.partition('=')[0]}': traces and shifts are" in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("bare")
def test_a_failing_cell_is_exit_code_1(tmp_path, capsys, monkeypatch):
    def act(self, observations):
        raise RuntimeError("stumbled")

    monkeypatch.setattr(SampleAverage, "_act", act)
    assert main([*SMALL, "--agents", "saa", "persistence", "--out", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert "Failed: saa in" in out


def test_importing_shiftgym_and_asking_for_help_load_nothing_heavy():
    code = "import sys, shiftgym; print([m for m in ('torch', 'pandas', 'matplotlib', 'scipy') if m in sys.modules])"
    assert shell("-c", code).stdout.strip() == "[]"
    code = "import sys; import shiftgym.evaluate; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    assert shell("-c", code).stdout.strip() == "[]"
