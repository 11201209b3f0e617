import math
import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from shiftgym.data.errors import ShiftgymError
from shiftgym.evaluation import plots_of_training
from shiftgym.evaluation.agent_spec import AgentSpec
from shiftgym.evaluation.drawing import frame, looks_of
from shiftgym.evaluation.listing import KINDS, listing
from shiftgym.evaluation.plots import plot_severity
from shiftgym.evaluation.plots_of_adversaries import plot_adversary
from shiftgym.evaluation.plots_of_days import plot_day
from shiftgym.evaluation.plots_of_steps import plot_distribution
from shiftgym.evaluation.plots_of_training import learning_curves, plot_effort, plot_learning
from shiftgym.evaluation.report import report
from shiftgym.evaluation.results import Run
from shiftgym.evaluation.run import execute
from shiftgym.evaluation.scenario import Published, Scenario, Suite
from shiftgym.evaluation.table import Cell, Table, number
from shiftgym.evaluation.tables import all_tables
from shiftgym.solvers.data_center import DataCenter


@pytest.fixture(scope="module", autouse=True)
def _no_page():
    """The page has tests of its own, and takes its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shiftgym.evaluation.report.write_html", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def compared(suite, executed, tmp_path_factory):
    """The run of the suite, with one agent more and what others published."""
    folder = shutil.copytree(executed, tmp_path_factory.mktemp("compared"), dirs_exist_ok=True)
    published = Published("a paper", {"DFL": {"home": 0.13}, "unheard of here": {"away": 0.2}})
    agents = (*suite.agents, AgentSpec("persistence"))
    return execute(replace(suite, agents=agents, published=published), folder).run.folder


@pytest.fixture
def run(compared, tmp_path):
    return Run(shutil.copytree(compared, tmp_path, dirs_exist_ok=True))


def test_the_first_table_has_scenarios_as_columns_and_the_best_in_bold(run):
    table = all_tables(run)[0]
    assert table.columns == ["agent", "home", "grown", "average", "maximum"]
    rows = {row[0].text: row for row in table.rows}
    assert list(rows) == ["oracle", "random", "saa", "persistence", "[published] DFL", "distance from training"]
    results = run.results.query("agent == 'saa'").groupby("scenario")["normalised_regret"].mean()
    assert rows["saa"][1].text.startswith(f"{results['home']:.3f} ±")
    assert rows["saa"][4].text == f"{max(results['home'], results['grown']):.3f}"
    assert not any(cell.best for cell in rows["oracle"])
    for column in range(1, 5):
        best = [name for name, row in rows.items() if row[column].best]
        regrets = {name: float(rows[name][column].text.split()[0]) for name in ("random", "saa", "persistence")}
        assert best == [min(regrets, key=regrets.get)]
    assert [cell.text for cell in rows["[published] DFL"][1:]] == ["0.130", "–", "–", "–"]


def test_sweeps_and_other_scores_have_tables_of_their_own(run):
    titles = {table.title.split(":")[0].split(",")[0]: table for table in all_tables(run)}
    assert titles["Normalised regret against severity"].columns == ["agent", "severity 0", "severity 1"]
    scores = titles["Other scores"]
    assert {"violated steps %", "service %", "CVaR95 of cost", "decision p50 ms", "fit s"} <= set(scores.columns)
    assert "bounds %" not in scores.columns
    assert scores.note == "Never broken: bounds."
    paired = next(table for title, table in titles.items() if title.startswith("Mean cost minus"))
    assert len(paired.rows) == 2
    assert all(re.fullmatch(r"[+-]\d\.\d+ ±\d\.\d+, \d+%", cell.text) for row in paired.rows for cell in row[1:])


def test_report_writes_markdown_and_pictures_with_text_as_text(run):
    markdown = report(run, Console(quiet=True)).with_suffix(".md").read_text()
    for wanted in ("Normalised regret", "DFL", "Machine:", "measured", "scale(factor=2.0, onset=0.5)", "Command:"):
        assert wanted in markdown
    assert "synthetic" not in markdown.replace("synthetic-", "")
    for name in ("regret", "severity", "cost_violation", "distribution", "replay"):
        assert f"plots/{name}.svg" in markdown
        png = (run.folder / "plots" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        drawn = ET.fromstring((run.folder / "plots" / f"{name}.svg").read_text())
        words = " ".join(element.text or "" for element in drawn.iter("{http://www.w3.org/2000/svg}text"))
        assert ("persistence" if name == "replay" else "saa") in words
        assert "synthetic" not in words


def test_no_pictures_of_training_where_nothing_was_trained(run):
    assert plot_learning(run) is None
    assert plot_effort(run) is None
    assert plot_adversary(run) is None
    assert not (run.folder / "exhibits").exists()


def test_pictures_of_training_have_a_panel_per_home_and_say_where_a_curve_is_lowest(
    suite, tmp_path, monkeypatch, sketched
):
    monkeypatch.setattr(plots_of_training, "_NOTICEABLE", 0.0)
    other = replace(suite.scenarios[0], name="short", env_kwargs={"lookback": 14})
    small = {"hidden": [8], "network": "mlp"}
    agents = (AgentSpec("dfl", {"epochs": 3, **small}), AgentSpec("two-stage", {"epochs": 1, **small}))
    trained = execute(replace(suite, scenarios=(*suite.scenarios[:2], other), agents=agents), tmp_path).run
    curves = learning_curves(trained)
    assert list(curves["home"].unique()) == ["home", "short"]
    assert set(curves["agent"]) == {"dfl"}
    assert len(curves) == 2 * 2 * 3  # homes, seeds, epochs
    figure = plot_learning(trained)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["home", "short"]
    mean = curves[curves["home"] == "home"].groupby("epoch")["loss"].mean()
    line, lowest = figure.axes[0].lines
    assert line.get_ydata() == pytest.approx(mean.to_numpy())
    assert (lowest.get_xdata()[0], lowest.get_ydata()[0]) == (mean.idxmin(), pytest.approx(mean.min()))
    assert [axes.get_xlabel() for axes in plot_effort(trained).axes] == ["seconds to fit", "memory to fit, MB"]
    assert "no line" not in figure.get_suptitle()
    refused = curves.assign(loss=curves["loss"].where(curves["epoch"] != 2))
    monkeypatch.setattr(plots_of_training, "learning_curves", lambda run: refused)
    figure = plot_learning(trained)
    assert "no line where samples" in " ".join(figure.get_suptitle().split())
    assert np.isnan(figure.axes[0].lines[0].get_ydata()).tolist() == [False, True, False]
    markdown = report(trained, Console(quiet=True)).with_suffix(".md").read_text()
    assert "plots/learning.svg" in markdown
    assert "plots/effort.svg" in markdown


def test_the_adversary_of_the_best_agent_is_drawn_wherever_its_fit_was_kept(scenario, tmp_path, sketched):
    chain = {"diffusion_steps": 20, "sampling_steps": 5, "tuned_steps": 3, "denoiser": [8], "reference_epochs": 1}
    three_d = {**chain, "epochs": 2, "hidden": [8, 8], "inner_epochs": 1}
    agents = (AgentSpec("persistence"), AgentSpec("three-d", three_d), AgentSpec("three-d", {**three_d, "passes": 1}))
    suite = Suite("hard", (scenario,), agents, seeds=(0, 1))
    run = execute(suite, tmp_path / "run", fits=tmp_path / "elsewhere").run
    shutil.rmtree(tmp_path / "elsewhere")
    figure = plot_adversary(run)
    best = run.contestants.set_index("agent")[run.score].drop("persistence").idxmin()
    assert f"What {best} is trained against" in " ".join(figure.get_suptitle().split())
    exhibits = [run.exhibits(run.find("home", best, seed)["fit"]) for seed in (0, 1)]
    loss, divergence, price, reference, worst = (axes for half in figure.subfigs for axes in half.axes)
    assert [axes.get_ylabel().split()[-1] for axes in (loss, divergence, price)] == ["loss", "nats", r"$\alpha$"]
    assert len(loss.lines) == 2 * 2  # seeds, and the reference of each
    budget = [line.get_ydata()[0] for line in divergence.lines]
    assert budget == [*(each["divergence"][0] for each in exhibits), exhibits[0]["budget"].item()]
    for axes, name in ((reference, "reference_paths"), (worst, "worst_case_paths")):
        paths = exhibits[0][name]
        assert paths.shape == (60, 28 + 1)
        assert len(axes.lines) == 60 + 1
        np.testing.assert_array_equal(axes.lines[7].get_ydata(), paths[7])
        np.testing.assert_allclose(axes.lines[-1].get_ydata(), paths.mean(0))
        assert axes.lines[0].get_xdata()[-1] == 0
    assert "plots/adversary.svg" in report(run, Console(quiet=True)).with_suffix(".md").read_text()


def test_intervals_that_would_hide_the_values_are_cut_off_and_the_reader_is_told():
    axes = Figure().add_subplot()
    assert "cut off" in frame(axes, [3.0, 4.0, 5.0], [0.1, 0.2, 40.0])
    assert 1.5 < axes.get_xlim()[0] < 3.0 < 5.0 < axes.get_xlim()[1] < 6.5
    assert "cut off" in frame(axes, [0.01, 1.0, 5.0], [math.nan, 0.2, 40.0], "y")
    assert 0 < axes.get_ylim()[0] < 0.01 < 5.0 < axes.get_ylim()[1] < 20.0
    assert not frame(axes, [3.0, 3.0, math.nan], [0.1, 0.1, math.nan])
    assert axes.get_xlim()[0] < 2.9 < 3.1 < axes.get_xlim()[1]  # of agents that are alike, intervals say how alike


def test_agents_look_different_however_many_there_are(run):
    many = tuple(AgentSpec("residual-saa", {"samples": 10 + i}) for i in range(21))
    object.__setattr__(run, "suite", replace(run.suite, agents=many))
    looks = looks_of(run).values()
    assert len({(look.color, look.line) for look in looks}) == len({look[:2] for look in looks}) == 21


def test_a_box_shows_quantiles_of_the_steps_of_all_seeds(run):
    figure = plot_distribution(run)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["home", "grown"]
    regret = np.concatenate([run.steps("home", "saa", seed)["regret"] for seed in (0, 1)])
    drawn = {round(float(y), 9) for line in figure.axes[0].lines for y in line.get_ydata()}
    for wanted in (*np.quantile(regret, [0.05, 0.5, 0.95]), regret.mean()):
        assert round(float(wanted), 9) in drawn


@pytest.mark.usefixtures("bare")
def test_a_sweep_over_anything_is_called_what_it_varies(suite, tmp_path):
    home = suite.scenarios[0]
    points = tuple(replace(home, name=f"M={m}", act={"samples": m}, sweep="samples", severity=m) for m in (2, 20, 200))
    published = Published("a paper", {"DFL": {"M=20": 0.13}, "unheard of here": {"home": 0.2}})
    run = execute(replace(suite, scenarios=(home, *points), seeds=(0,), published=published), tmp_path).run
    table = next(table for table in all_tables(run) if table.title == "Normalised regret against samples")
    assert table.columns == ["agent", "samples 2", "samples 20", "samples 200"]
    assert [cell.text for cell in table.rows[-1]] == ["[published] DFL", "–", "0.130", "–"]
    assert table.note == "[published]: a paper"
    axes = plot_severity(run).axes[0]
    assert axes.get_xlabel() == "samples"
    assert axes.get_xscale() == "log"
    assert "`samples=20`" in report(run, Console(quiet=True)).with_suffix(".md").read_text()


def test_synthetic_traces_are_called_synthetic_everywhere(tmp_path):
    trace = "synthetic-azure-2023-conv@10s"
    scenario = Scenario("home", "shiftgym/Provisioning-v0", f"{trace}[:0.5]", f"{trace}[0.5:]")
    suite = Suite("small", (scenario,), (AgentSpec("saa"), AgentSpec("oracle")), seeds=(0,))
    run = execute(suite, tmp_path).run
    target = report(run, Console(quiet=True))
    assert "synthetic" in all_tables(run)[0].title
    assert "Synthetic traces, generated and not measured: synthetic-azure-2023-conv." in target.read_text()
    for name in ("regret", "cost_violation", "replay"):
        assert "synthetic traces" in (run.folder / "plots" / f"{name}.svg").read_text()
    assert run.results["synthetic"].all()


@pytest.mark.usefixtures("sketched")
def test_an_unfinished_run_is_reported_as_such(run):
    for cell in run.cells[:5]:
        run.cell_file(cell["id"]).unlink()
    half = Run(run.folder)
    target = report(half, Console(quiet=True))
    assert "Only 27 of 32 cells are finished." in target.read_text()
    assert "–" in all_tables(half)[0].markdown()


def test_a_run_without_results_cannot_be_reported(run):
    for cell in run.cells:
        run.cell_file(cell["id"]).unlink()
    with pytest.raises(ShiftgymError, match="no finished cell"):
        report(Run(run.folder), Console(quiet=True))


def test_names_from_users_are_escaped(run):
    table = Table("a [b]title[/b]", ["agent", "x|y"], [[Cell("[red]mine[/]"), Cell("1", best=True)]])
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table.rich())
    assert "[red]mine[/]" in capture.get()
    assert "x\\|y" in table.markdown()
    assert "**1**" in table.markdown()


@pytest.mark.parametrize(
    ("value", "half", "expected"),
    [(0.05178, 0.0012, "0.052 ±0.001"), (1.5, math.nan, "1.500"), (math.nan, 1.0, "–"), (123456.0, 1.0, "1.23e+05")],
)
def test_numbers(value, half, expected):
    assert number(value, half) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_everything_there_is_can_be_listed(kind):
    table = listing(kind)
    assert table.row_count > 0
    first = {"envs": "Provisioning", "agents": "dfl", "shifts": "merge", "traces": "azure", "suites": "quick"}[kind]
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    assert first in capture.get()


def test_no_day_is_drawn_where_outcomes_are_too_wide_to_be_kept() -> None:
    scenario = SimpleNamespace(name="fleet", env="shiftgym/DataCenter-v0", env_kwargs={"action": "relative"})
    decisions = pd.DataFrame({f"decision_{i}": [1.0] for i in range(DataCenter(action="relative").decision_dim)})
    run: Any = SimpleNamespace(
        suite=SimpleNamespace(scenarios=[scenario]),
        contestants=pd.DataFrame({"scenario": ["fleet"], "agent": ["ppo"], "cost": [1.0]}),
        score="cost",
        seeds=lambda scenario, agent: [0],
        steps=lambda scenario, agent, seed: decisions,
    )
    assert plot_day(run) is None
