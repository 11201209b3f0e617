import contextlib
import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shiftgym.data.errors import ShiftgymError, UnknownNameError
from shiftgym.evaluation import results as results_module
from shiftgym.evaluation import run as run_module
from shiftgym.evaluation import tasks as tasks_module
from shiftgym.evaluation.agent_spec import AgentSpec
from shiftgym.evaluation.effort import measure
from shiftgym.evaluation.progress import LineProgress, Progress
from shiftgym.evaluation.results import EFFORT, KEYS, Run, summary
from shiftgym.evaluation.run import Interrupted, StoppedError, execute
from shiftgym.evaluation.scenario import Suite


class Listener(Progress):
    def __init__(self):
        self.labels, self.errors = [], []

    def advance(self, label, error=""):
        self.labels.append(label)
        self.errors += [error] if error else []


def outcome(run):
    """What a run found, without what depends on the machine."""
    return run.results.drop(columns=list(EFFORT))


def test_one_row_per_cell_and_one_fit_per_agent_and_seed(suite, tmp_path):
    told = Listener()
    tally = execute(suite, tmp_path, progress=told)
    table = tally.run.results
    assert (tally.cells, tally.computed, tally.reused, tally.failed) == (24, 24, 0, {})
    assert len(table) == 24
    assert not table.duplicated(["scenario", "agent", "seed"]).any()
    assert sum(label.startswith("fit") for label in told.labels) == 6
    assert list(table["scenario"].unique()) == [s.name for s in suite.scenarios]
    assert (table.loc[table["clairvoyant"].astype(bool), "normalised_regret"].abs() < 1e-9).all()
    steps = tally.run.steps("home", "saa", 1)
    row = table.query("scenario == 'home' and agent == 'saa' and seed == 1").iloc[0]
    assert steps["cost"].mean() == pytest.approx(row["cost"])
    assert len(steps) == row["steps"]


def test_files_of_a_run(suite, finished, tmp_path):
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "results.parquet"), finished.results)
    assert len(pd.read_csv(tmp_path / "results.csv")) == 24
    assert len(pd.read_csv(tmp_path / "summary.csv")) == 12
    info = json.loads((tmp_path / "run.json").read_text())
    assert {"python", "numpy", "torch", "shiftgym"} <= set(info["versions"])
    assert info["machine"]["usable_cores"] >= 1
    assert info["suite"]["seeds"] == [0, 1]
    assert info["finished"]
    assert [trace["synthetic"] for trace in info["traces"].values()] == [False, False]
    assert Run.open(tmp_path).suite == suite
    assert not list(tmp_path.rglob("*.tmp"))


def test_resuming_computes_only_what_is_missing(suite, finished, tmp_path):
    before, stamps = outcome(finished), {p: p.stat().st_mtime_ns for p in tmp_path.glob("cells/*")}
    lost = finished.cells[5]["id"]
    finished.cell_file(lost).unlink()
    told = Listener()
    tally = execute(suite, tmp_path, progress=told)
    assert (tally.computed, tally.reused) == (1, 23)
    assert len(told.labels) == 1
    changed = {p.stem for p in tmp_path.glob("cells/*") if stamps[p] != p.stat().st_mtime_ns}
    assert changed == {lost}
    pd.testing.assert_frame_equal(outcome(Run(tmp_path)), before)


def test_more_seeds_and_scenarios_reuse_cells_and_fits(suite, tmp_path):
    execute(replace(suite, scenarios=suite.scenarios[:1], seeds=(0,)), tmp_path)
    told = Listener()
    tally = execute(replace(suite, scenarios=suite.scenarios[:2]), tmp_path, progress=told)
    assert (tally.reused, tally.computed) == (3, 9)
    assert sum(label.startswith("fit") for label in told.labels) == 3  # seed 1 only


def test_fits_can_be_shared_between_runs(suite, tmp_path):
    suite = replace(suite, scenarios=suite.scenarios[:1])
    execute(suite, tmp_path / "a", fits=tmp_path / "fits")
    told = Listener()
    execute(suite, tmp_path / "b", fits=tmp_path / "fits", progress=told)
    assert not any(label.startswith("fit") for label in told.labels)
    pd.testing.assert_frame_equal(Run(tmp_path / "a").results["fit_seconds"].to_frame(),
                                  Run(tmp_path / "b").results["fit_seconds"].to_frame())  # fmt: skip


def test_settings_code_and_data_change_the_names_of_cells(suite, finished, monkeypatch):
    suite = replace(suite, scenarios=suite.scenarios[:1], seeds=(0,))
    assert execute(suite, finished.folder).reused == 3
    other = replace(suite.scenarios[0], env_kwargs={"lookback": 14})
    assert execute(replace(suite, scenarios=(other,)), finished.folder).reused == 0
    monkeypatch.setattr("shiftgym.evaluation.cells.code_digest", lambda packages: "new code")
    assert execute(suite, finished.folder).reused == 0


def test_a_failing_fit_or_cell_leaves_the_others_alone(suite, own_module, tmp_path):
    agents = (
        AgentSpec("saa"),
        AgentSpec(f"{own_module}:Stumbling", {"fail": "fit"}),
        AgentSpec(f"{own_module}:Stumbling", {"fail": "act"}),
        AgentSpec(f"{own_module}:Stumbling"),
    )
    told = Listener()
    few = replace(suite, scenarios=suite.scenarios[:2], agents=agents, seeds=(0,))
    tally = execute(few, tmp_path / "run", progress=told)
    assert sorted(tally.run.results["agent"].unique()) == [f"{own_module}:Stumbling", "saa"]
    assert len(tally.run.results) == 4
    assert len(tally.failed) == 1 + 2
    assert any("stumbled while fitting" in error for error in tally.failed.values())
    assert len(told.errors) == 1 + 2 + 2  # the fit, its cells, and those that stumble themselves
    reports = [path.read_text() for path in (tmp_path / "run" / "failed").iterdir()]
    assert all("Traceback" in text for text in reports)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["failed"] == tally.failed


def test_names_that_do_not_exist_stop_the_run_before_any_work(suite, tmp_path):
    wrong = replace(suite.scenarios[0], env_kwargs={"lokback": 3})
    for bad in (
        replace(suite, agents=(AgentSpec("saaa"),)),
        replace(suite, scenarios=(replace(suite.scenarios[0], test="file:missing.csv?time=t&prompt=p"),)),
        replace(suite, scenarios=(wrong,)),
    ):
        with pytest.raises((ShiftgymError, OSError)):
            execute(bad, tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_an_agent_made_for_another_problem_stops_the_run_before_any_work(suite, tmp_path):
    with pytest.raises(ShiftgymError, match="'ulro-box' is made for DataCenter, this environment poses Provisioning"):
        execute(replace(suite, agents=(*suite.agents, AgentSpec("ulro-box"))), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_here_stops_the_run_before_any_work(suite, tmp_path):
    with pytest.raises(ShiftgymError, match=r"device is 'abacus', which cannot be used here.*give 'cpu'"):
        execute(suite, tmp_path / "run", device="abacus")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_ends_the_run_with_one_message_and_readable_cells(suite, tmp_path, monkeypatch):
    writes = []
    real = results_module.atomic_write

    @contextlib.contextmanager
    def filling(path, *arguments, **keywords):
        writes.append(path)
        if len(writes) > 20:
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                raise ShiftgymError(f"no space left to write {path}: free some space") from error
        with real(path, *arguments, **keywords) as file:
            yield file

    for module in (results_module, run_module, tasks_module):
        monkeypatch.setattr(module, "atomic_write", filling)
    with pytest.raises(StoppedError, match=r"no space left.*of 24 cells are finished.*resumes"):
        execute(suite, tmp_path)
    monkeypatch.undo()
    run = Run.open(tmp_path)
    assert 0 < len(run.cells) < 24
    for cell in run.cells:
        assert len(run.steps(*(cell["keys"][key] for key in ("scenario", "agent", "seed")))) > 0
    assert execute(suite, tmp_path).reused == len(run.cells)


def test_ctrl_c_keeps_what_is_finished(suite, own_module, tmp_path):
    agents = (AgentSpec("saa"), AgentSpec(f"{own_module}:Stumbling", {"fail": "interrupt"}))
    with pytest.raises(Interrupted, match=r"2 of 16 cells are finished.*resumes"):
        execute(replace(suite, agents=agents), tmp_path / "run")
    assert len(Run.open(tmp_path / "run").results) == 2


def test_summary_joins_seeds_and_time(finished):
    results = finished.results
    table = summary(results).set_index(["scenario", "agent"])
    mine = results.query("scenario == 'home' and agent == 'random'")
    row = table.loc[("home", "random")]
    assert row["cost"] == pytest.approx(mine["cost"].mean())
    assert row["seeds"] == 2
    assert row["cost_half"] == pytest.approx(np.hypot(row["cost_half_time"], row["cost_half_seeds"]))
    assert table.loc[("home", "saa"), "cost_half_seeds"] == pytest.approx(0)  # nothing random in it
    assert set(KEYS) - {"seed"} <= set(table.reset_index().columns)


def test_lines_in_a_log_say_what_failed(capsys):
    from rich.console import Console

    lines = LineProgress(Console(width=80))
    with lines.show(2, reused=3):
        lines.advance("saa in home, seed 0")
        lines.advance("dfl in home, seed 0", error="ValueError: [red]no[/]")
    out = capsys.readouterr().out
    assert "3 cells were finished before" in out
    assert "[2/2] dfl in home, seed 0: FAILED: ValueError: [red]no[/]" in out


def test_lost_steps_and_a_run_of_another_version_are_named(finished, tmp_path):
    run = finished
    run.cell_file(run.cells[0]["id"]).with_suffix(".parquet").unlink()
    with pytest.raises(ShiftgymError, match=r"missing or damaged.*delete .*\.json and run again"):
        run.steps("home", run.cells[0]["keys"]["agent"], 0)
    info = json.loads((tmp_path / "run.json").read_text())
    info["suite"]["scenarios"][0]["climate"] = "mild"
    (tmp_path / "run.json").write_text(json.dumps(info))
    with pytest.raises(ShiftgymError, match=r"another form.*climate.*shiftgym \d"):
        _ = Run(tmp_path).suite


def test_seeds_with_data_of_their_own_are_trained_and_replayed_on_it(scenario, log, tmp_path):
    own = replace(scenario, train=f"{log}[{{seed}}00:{{seed}}90]", test=f"{log}[{{seed}}90:290]")
    suite = Suite("own", (own, replace(own, name="shared", test=scenario.test)), (AgentSpec("saa"),), seeds=(0, 1))
    run = execute(suite, tmp_path).run
    home = run.results.query("scenario == 'home'").set_index("seed")
    assert home["train"].to_dict() == {seed: f"{log}[{seed}00:{seed}90]" for seed in (0, 1)}
    assert home["test"].to_dict() == {seed: f"{log}[{seed}90:290]" for seed in (0, 1)}
    assert home.loc[0, "steps"] > home.loc[1, "steps"]
    table = summary(run.results).set_index("scenario")
    assert np.isnan(table.loc["home", "cost_half_time"])
    assert table.loc["home", "cost_half"] == table.loc["home", "cost_half_seeds"]
    assert table.loc["shared", "cost_half"] > table.loc["shared", "cost_half_seeds"]
    assert table.loc["home", "test"] == f"{log}[090:290], {log}[190:290]"
    beyond = replace(suite, seeds=(0, 9))
    with pytest.raises(ShiftgymError):
        execute(beyond, tmp_path / "beyond")
    assert not (tmp_path / "beyond").exists()


def test_the_number_of_samples_to_decide_with_needs_no_other_fit(scenario, tmp_path):
    few = replace(scenario, name="few", act={"samples": 3})
    agents = (AgentSpec("residual-saa", {"samples": 50}), AgentSpec("persistence"))
    told = Listener()
    run = execute(Suite("m", (scenario, few), agents, seeds=(0,)), tmp_path / "a", progress=told).run
    assert sum(label.startswith("fit") for label in told.labels) == 2
    fitted = execute(Suite("m", (scenario,), (AgentSpec("residual-saa", {"samples": 3}),), (0,)), tmp_path / "b").run
    costs = run.results.set_index(["agent", "scenario"])["cost"]
    assert costs["residual-saa", "few"] == fitted.results["cost"].iloc[0]
    assert costs["residual-saa", "few"] != costs["residual-saa", "home"]
    assert costs["persistence", "few"] == costs["persistence", "home"]


def test_a_scenario_may_say_what_agents_are_fitted_with_and_agents_may_know_better(scenario, tmp_path):
    short = replace(scenario, name="short", fit={"epochs": 1, "hidden": [8]})
    agents = (AgentSpec("two-stage", {"epochs": 2}), AgentSpec("two-stage"), AgentSpec("persistence"))
    run = execute(Suite("m", (short,), agents, seeds=(0,)), tmp_path / "a").run
    epochs = {cell["keys"]["agent"]: len(cell["history"]) for cell in run.cells}
    assert epochs == {"two-stage(epochs=2)": 2, "two-stage": 1, "persistence": 0}
    saved = json.loads((tmp_path / "a" / "fits" / run.cells[0]["fit"] / "agent.json").read_text())
    assert (saved["parameters"]["epochs"], saved["parameters"]["hidden"]) == (2, [8])
    Suite("m", (replace(short, fit={"sampling_steps": 3}),), agents, seeds=(0,)).check()  # of an agent left out
    with pytest.raises(UnknownNameError, match="hyper-parameter in fit of scenario 'short'"):
        Suite("m", (replace(short, fit={"depth": 3}),), agents, seeds=(0,)).check()


def test_learning_curves_are_kept_beside_the_agent_and_in_its_cells(scenario, tmp_path):
    agents = (AgentSpec("dfl", {"epochs": 2, "hidden": [8]}), AgentSpec("saa"))
    run = execute(Suite("m", (scenario,), agents, seeds=(0,)), tmp_path / "a", fits=tmp_path / "fits").run
    learned, plain = run.cells
    assert plain["history"] == []
    assert [(e["stage"], e["epoch"], e["decision_cost"]) for e in learned["history"]] == [("fit", 1, True),
                                                                                         ("fit", 2, True)]  # fmt: skip
    beside = json.loads((tmp_path / "fits" / learned["fit"] / "history.json").read_text())
    assert beside["epochs"] == learned["history"]
    assert 0 < learned["history"][0]["seconds"] < learned["history"][1]["seconds"] < learned["scores"]["fit_seconds"]


def test_memory_is_what_the_block_needs_above_its_start():
    with measure() as effort:
        np.ones(10_000_000)  # 80 MB
    assert 70 < effort.memory_mb < 120 or not Path("/proc/self/clear_refs").exists()
    with measure() as effort:
        pass
    assert effort.memory_mb < 10


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ShiftgymError, match="is no run"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ShiftgymError, match="damaged"):
        _ = Run.open(Path(tmp_path)).suite
