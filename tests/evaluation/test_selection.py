"""Settings are chosen on training data alone, with as many trials for everyone, before the suite itself is run."""

import copy
import json

import pytest

from shiftgym.data.errors import ShiftgymError
from shiftgym.evaluate import main
from shiftgym.evaluation.results import Run
from shiftgym.evaluation.run import execute
from shiftgym.evaluation.scenario import Suite, load_suite, parse_suite
from shiftgym.evaluation.tables import all_tables

TRACE = "synthetic-azure-2023-conv@10s"
CONTENT = {
    "seeds": [0, 1],
    "agents": ["persistence", "random", "residual-saa", "saa(samples=20)"],
    "defaults": {"env": "shiftgym/Provisioning-v0", "train": f"{TRACE}[:0.5]", "test": f"{TRACE}[0.5:]"},
    "scenarios": [{"name": "home"}, {"name": "grown", "shift": "scale(factor=2)"}],
    "selection": {
        "train": f"{TRACE}[:0.3]",
        "test": f"{TRACE}[0.3:0.5]",
        "shifts": ["none", "gaussian(scale=0.2)"],
        "trials": {
            "residual-saa": [{"samples": 2, "ridge": 1e6}, {"samples": 200}],
            "saa(samples=20)": [{"samples": 50}, {"samples": 1}],
        },
    },
}


def suite(**changes):
    content = copy.deepcopy(CONTENT)
    content["selection"].update(changes)
    return parse_suite(content, "mine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return execute(suite(), tmp_path_factory.mktemp("chosen")).run.folder


def test_every_trial_meets_every_copy_and_the_best_takes_part(folder):
    trials, run = Run(folder / "selection"), Run(folder)
    assert len(trials.results) == 4 * 2  # trials and copies; one seed
    assert set(trials.results["train"]) == {f"{TRACE}[:0.3]"}
    assert set(trials.results["test"]) == {f"{TRACE}[0.3:0.5]"}
    means = trials.results.groupby("agent")["normalised_regret"].mean()
    for choice in run.info["selection"]:
        name = choice["agent"].partition("(")[0]
        mine = {agent: score for agent, score in means.items() if agent.startswith(f"{name}(")}
        assert choice["scores"] == pytest.approx(mine)
        assert choice["chosen"] == min(mine, key=mine.get)
    agents = [str(agent) for agent in run.suite.agents]
    assert agents[:2] == ["persistence", "random"]  # nothing to choose: as they are
    assert agents[2:] == [choice["chosen"] for choice in run.info["selection"]]
    assert "residual-saa(samples=200)" in agents
    assert set(run.results["agent"]) == {"persistence", "random", "residual-saa", "saa"}
    assert len(run.results) == 4 * 2 * 2


def test_the_report_says_what_was_chosen_among_how_many(folder):
    table = all_tables(Run(folder))[-1]
    assert "2 per agent" in table.title
    assert [row[0].text for row in table.rows] == ["residual-saa", "saa(samples=20)"]
    assert table.rows[0][1].text == "residual-saa(samples=200)"


def test_a_second_run_computes_nothing(folder):
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("cells/*.json")}
    tally = execute(suite(), folder)
    assert (tally.computed, tally.reused) == (0, 16)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("cells/*.json")} == files


def test_a_trial_that_fails_ends_the_run_before_its_scenarios(tmp_path, monkeypatch):
    from shiftgym.agents.residual_saa import ResidualSampleAverage

    def fail(*_):
        raise RuntimeError("no luck")

    monkeypatch.setattr(ResidualSampleAverage, "_fit", fail)
    with pytest.raises(ShiftgymError, match=r"the trial 'residual-saa.samples=2.*did not finish: see .*failed"):
        execute(suite(), tmp_path)
    assert not (tmp_path / "run.json").exists()


def test_it_is_kept_with_the_suite():
    full = suite()
    assert Suite.from_dict(json.loads(json.dumps(full.to_dict()))) == full
    assert suite(seeds=[3, 4]).selection.seeds == (3, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": {"saa(samples=20)": [{}], "residual-saa": [{}, {}]}}, "give every agent the same number"),
        ({"trials": {"saa": []}}, "at least one"),
        ({"trials": {"sa": [{}]}}, "unknown agent in trials .*Valid: .*residual-saa"),
        ({"trials": {"residual-saa": [{"sampels": 3}]}}, "sampels"),
        ({"shifts": ["gausian(scale=1)"]}, "did you mean 'gaussian'"),
        ({"trails": {}}, "did you mean 'trials'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(changes, message):
    with pytest.raises(ShiftgymError, match=message):
        suite(**changes).check()


@pytest.mark.parametrize("changes", [{"test": f"{TRACE}[0.4:0.6]"}, {"train": "synthetic-azure-2023-code@10s[:0.3]"}])
def test_what_looks_at_other_data_than_those_trained_on_is_refused(changes, tmp_path):
    with pytest.raises(ShiftgymError, match=r"is no part of the training trace .*must not look at test data"):
        execute(suite(**changes), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_suite_may_choose_as_another_one_does():
    mine = {**CONTENT, "agents": ["w-dro", "saa"], "selection": {"of": "three-d/table1"}}
    theirs = load_suite("three-d/table1").selection
    chosen = parse_suite(mine, "mine").selection
    assert (chosen.train, chosen.shifts) == (theirs.train, theirs.shifts)
    assert chosen.trials == {"w-dro": theirs.trials["w-dro"]}
    for wrong in ({"of": "quick"}, {"of": "three-d/table1", "seeds": [1]}):
        with pytest.raises(ShiftgymError, match=r"'of' names a suite that has a .selection., and stands alone"):
            parse_suite({**mine, "selection": wrong}, "mine")


def test_scenarios_must_train_alike():
    content = copy.deepcopy(CONTENT)
    content["scenarios"][1]["train"] = f"{TRACE}[:0.4]"
    with pytest.raises(ShiftgymError, match="train in 2 ways"):
        parse_suite(content, "mine").check()


def test_an_agent_may_stand_twice_with_trials_of_its_own():
    content = copy.deepcopy(CONTENT)
    content["agents"] = ["saa(samples=20)", "saa"]
    content["selection"]["trials"] = {"saa(samples=20)": [{"samples": 3}], "saa": [{"samples": 4}]}
    full = parse_suite(content, "mine")
    tried = {name: list(map(str, specs)) for name, specs in full.selection.candidates(full).items()}
    assert tried == {"saa(samples=20)": ["saa(samples=3)"], "saa": ["saa(samples=4)"]}


@pytest.mark.parametrize(("trials", "kept"), [(1, 1), (0, None), (None, 2)])
def test_the_fast_form_can_do_with_fewer_trials(trials, kept):
    content = {**CONTENT, "fast": {} if trials is None else {"trials": trials}}
    full = parse_suite(content, "mine")
    short = full.fast.of(full)
    assert (short.selection and len(short.selection.trials["residual-saa"])) == kept
    assert (f"{trials} trials" in short.remark) == (trials is not None)


@pytest.mark.usefixtures("bare")
def test_agents_named_on_the_command_line_keep_their_trials(tmp_path, capsys):
    path, out = tmp_path / "mine.toml", tmp_path / "run"
    lines = ["seeds = [0]", 'agents = ["random", "saa"]', "[defaults]", 'env = "shiftgym/Provisioning-v0"']
    lines += [f'train = "{TRACE}[:0.5]"', f'test = "{TRACE}[0.5:]"', "[[scenarios]]", 'name = "home"', "[selection]"]
    lines += [f'train = "{TRACE}[:0.3]"', f'test = "{TRACE}[0.3:0.5]"', "[selection.trials]"]
    lines += ["saa = [{samples = 1}, {samples = 30}]", "random = [{}, {}]"]
    path.write_text("\n".join(lines))
    assert main(["run", str(path), "--agents", "saa", "--jobs", "1", "--out", str(out)]) == 0
    assert [choice["agent"] for choice in Run(out).info["selection"]] == ["saa"]
    assert "Settings chosen" in capsys.readouterr().out
