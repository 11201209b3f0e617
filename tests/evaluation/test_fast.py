import pytest

from shiftgym.data.errors import ShiftgymError
from shiftgym.evaluate import main
from shiftgym.evaluation.fast import Fast
from shiftgym.evaluation.results import Run
from shiftgym.evaluation.scenario import Suite, load_suite, parse_suite

TRACE = "synthetic-azure-2023-conv@10s"
FULL = {
    "seeds": [4, 5],
    "agents": ["oracle", "saa", "residual-saa(samples=50)", "two-stage"],
    "defaults": {"env": "shiftgym/Provisioning-v0", "train": f"{TRACE}[:0.5]", "test": f"{TRACE}[0.5:]"},
    "scenarios": [{"name": "home"}, {"name": "grown", "shift": "scale(factor=2)"}],
    "sweeps": [{"name": "noise", "shift": "gaussian(scale=0.1)", "severities": [0, 1]}],
}
FAST = {"seeds": [7], "agents": ["saa", "residual-saa(ridge=0.1)"], "scenarios": ["home", "noise"],
        "settings": {"samples": 9}}  # fmt: skip


def suite(**fast):
    return parse_suite({**FULL, "fast": fast}, "mine")


def test_the_fast_form_has_its_own_seeds_agents_scenarios_and_settings():
    full = suite(**FAST)
    full.check()
    short = full.fast.of(full)
    assert short.name == "mine-fast"
    assert short.seeds == (7,)
    assert list(map(str, short.agents)) == ["saa(samples=9)", "residual-saa(ridge=0.1, samples=9)"]
    assert [s.name for s in short.scenarios] == ["home", "noise x0", "noise x1"]
    assert short.remark == (
        "Fast form of suite 'mine': seeds 7 instead of 4, 5; agents saa, residual-saa(ridge=0.1) instead of oracle, "
        "saa, residual-saa(samples=50), two-stage; scenarios home, noise instead of home, grown, noise; samples=9 "
        "where an agent has such a setting."
    )
    assert Suite.from_dict(short.to_dict()) == short
    assert Suite.from_dict(full.to_dict()) == full


def test_without_a_table_it_is_the_first_seed():
    full = parse_suite(FULL, "mine")
    short = full.fast.of(full)
    assert (short.seeds, short.agents, short.scenarios) == ((4,), full.agents, full.scenarios)
    assert "seeds 4 instead of 4, 5." in short.remark


@pytest.mark.parametrize(
    ("fast", "message"),
    [
        ({"seed": [1]}, "did you mean 'seeds'"),
        ({"seeds": [-1]}, "seed -1"),
        ({"scenarios": ["hom"]}, "did you mean 'home'.*Valid: .*noise"),
        ({"agents": ["dlf"]}, "did you mean 'dfl'"),
        ({"settings": {"epoch": 3}}, "unknown hyper-parameter in settings of .fast.*did you mean 'epochs'"),
        ({"settings": {"focus_epochs": 3}}, "unknown hyper-parameter"),
        ({"settings": {"seed": 3}}, "unknown hyper-parameter"),
        ({"settings": {"epochs": 0}}, "epochs is 0"),
    ],
)
def test_what_is_wrong_in_it_is_named_before_any_work(fast, message):
    with pytest.raises(ShiftgymError, match=message):
        suite(**fast).check()


@pytest.mark.usefixtures("bare")
def test_the_command_runs_it_in_a_folder_of_its_own_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(
        f'seeds = [0, 1]\nagents = ["oracle", "saa", "random"]\n'
        f'[[scenarios]]\nname = "s"\nenv = "shiftgym/Provisioning-v0"\n'
        f'train = "{TRACE}[:0.2]"\ntest = "{TRACE}[0.2:0.4]"\n'
        f"[fast]\nseeds = [3]\nsettings = {{ samples = 5 }}\n"
    )
    assert main(["run", "mine.toml", "--fast", "--jobs", "1"]) == 0
    remark = "Fast form of suite 'mine': seeds 3 instead of 0, 1; samples=5"
    assert remark in capsys.readouterr().out
    run = Run.open(tmp_path / "runs" / "mine-fast")
    assert remark in (run.folder / "report.md").read_text()
    assert run.suite.remark.startswith(remark)
    assert sorted(run.results["agent"]) == ["oracle", "random", "saa"]
    assert set(run.results["seed"]) == {3}
    # what the command line names has the last word, except for settings
    assert main(["run", "mine.toml", "--fast", "--jobs", "1", "--agents", "saa", "--seeds", "1", "2"]) == 0
    again = Run.open(tmp_path / "runs" / "mine-fast")
    assert [str(agent) for agent in again.suite.agents] == ["saa(samples=5)"]
    assert set(again.results["seed"]) == {1, 2}


def test_the_quick_suite_has_a_fast_form_that_is_smaller():
    full = load_suite("quick")
    short = full.fast.of(full)
    assert full.fast != Fast()
    short.check()
    assert len(short.seeds) * len(short.scenarios) < len(full.seeds) * len(full.scenarios)
