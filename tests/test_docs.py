"""What README.md and CONTRIBUTING.md say is true: their code runs, their commands and links exist."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from shiftgym import evaluate

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md"]
COMMANDS = [*PAGES, "docs/shifts.md", "docs/quickstart.md", "docs/own.md"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def run_python(page: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "docs"}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec", dont_inherit=True), names)
    return names


@contextlib.contextmanager
def ran(page: str, folder: Path) -> Iterator[dict[str, Any]]:
    """What a page's code leaves behind when it runs beside a request log; registries are put back as they were."""
    from shiftgym.agents import base
    from shiftgym.data import registry
    from shiftgym.envs.shifts import registry as shifts
    from shiftgym.solvers import PROBLEMS

    rng = np.random.default_rng(0)
    seconds = np.cumsum(rng.exponential(4, 1500)).astype("timedelta64[s]") + np.datetime64("2026-01-05T08:00", "s")
    rows = [f"{time},{size},{size // 4}" for time, size in zip(seconds, rng.integers(50, 2000, 1500), strict=True)]
    (folder / "requests.csv").write_text("\n".join(["arrived,tokens_in,tokens_out", *rows]))
    kept = [base._REGISTRY, registry._own, shifts._SHIFTS, PROBLEMS, gymnasium.registry]
    before = [dict(names) for names in kept]
    with contextlib.chdir(folder):
        found = run_python(page)
    yield found
    for names, content in zip(kept, before, strict=True):
        names.clear()  # type: ignore[attr-defined]
        names.update(content)  # type: ignore[attr-defined]


def test_the_readme_runs(tmp_path: Path) -> None:
    with ran("README.md", tmp_path) as names:
        assert names["info"]["regret"] >= 0
        assert len(names["trace"]) > 60
        assert names["table"]["agent"].unique().tolist() == ["persistence", "recent-peak"]


def test_the_page_of_the_environments_runs() -> None:
    names = run_python("docs/environments.md")
    assert names["info"]["shifted"] == 1.0
    assert names["observation"].shape == (7 * 24 + 5,)
    assert names["settled"]["cost"] > names["settled"]["oracle_cost"] > 0


def test_the_page_of_the_diffusions_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run_python("docs/diffusion_dfl.md")
    assert capsys.readouterr().out == "(4, 1) (4, 50, 1)\n"


def test_the_code_on_reinforcement_learning_runs() -> None:
    names = run_python("docs/reinforcement_learning.md")
    assert names["estimate"].error > 0
    assert len(names["observations"]) == 8


def test_the_quickstart_runs(tmp_path: Path) -> None:
    with ran("docs/quickstart.md", tmp_path) as names:
        regret = names["table"].pivot(index="agent", columns="scenario", values="normalised_regret")
        assert (regret.loc["oracle"] == 0).all()
        assert (tmp_path / "my-agent" / "agent.json").is_file()


def test_what_people_bring_of_their_own_runs(tmp_path: Path) -> None:
    with ran("docs/own.md", tmp_path) as names:
        cost = names["ranked"].pivot(index="agent", columns="scenario", values="cost")
        assert cost["as it was"]["residual-saa"] < cost["as it was"]["persistence"]
        assert names["again"].days == 15
        assert (names["bought"].query("agent == 'oracle'")["regret"].abs() < 1e-3).all()
        assert (names["bought"].query("agent != 'oracle'")["regret"] > 1).all()


@pytest.fixture(scope="module")
def contributing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with ran("CONTRIBUTING.md", tmp_path_factory.mktemp("contributing")) as names:
        yield names


def test_the_contributors_agent_beats_persistence(contributing: dict[str, Any]) -> None:
    regret = contributing["table"].set_index("agent")["regret"]
    assert regret["oracle"] == pytest.approx(0)
    assert regret["same-weekday"] < regret["persistence"]


def test_the_contributors_shift_reads_back(contributing: dict[str, Any]) -> None:
    from shiftgym.envs.shifts import parse_shift

    shift = parse_shift("closed(share=0.5, onset=0.5)")
    assert parse_shift(str(shift)) == shift
    trace = contributing["bakery"]()
    shifted = shift.apply(trace, np.random.default_rng(0)).outcome
    assert np.flatnonzero((shifted != trace.outcome).any(1)).tolist() == list(range(140, 280, 7))


def test_the_contributors_environment_passes_gymnasiums_checks(contributing: dict[str, Any]) -> None:
    single = gymnasium.make("bakery/Newsvendor-v0")
    check_env(single.unwrapped, skip_render_check=True)
    vector = gymnasium.make_vec("bakery/Newsvendor-v0", num_envs=3)
    vector.reset(seed=0)
    single.reset(seed=0)
    for action in (0.3, 0.9, 1.5):
        alone = single.step(np.array([action], np.float32))
        together = vector.step(np.full((3, 1), action, np.float32))
        np.testing.assert_allclose(together[0][2], alone[0])
        np.testing.assert_allclose(together[1][2], alone[1])
        assert together[4]["violation_bounds"][2] == alone[4]["violation_bounds"]


@pytest.mark.parametrize("weighted", [False, True])
def test_the_contributors_problem_is_solved_exactly(contributing: dict[str, Any], weighted: bool) -> None:
    import torch

    rng = np.random.default_rng(1)
    problem = contributing["Newsvendor"](holding=1.0, backlog=2.5, high=0.9)
    scenarios = rng.uniform(0, 1.2, (20, 15, 1))
    weights = rng.uniform(0, 1, (20, 15)) if weighted else None
    decisions = problem.solve(scenarios, weights)

    def cost(at: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.average(problem.cost(scenarios, at[:, None]), axis=-1, weights=weights)

    grid = np.linspace(0, 0.9, 901)
    best = np.min([cost(np.full((20, 1), z)) for z in grid], axis=0)
    assert (cost(decisions) <= best + 1e-9).all()
    tensor = problem.solve(torch.as_tensor(scenarios), None if weights is None else torch.as_tensor(weights))
    np.testing.assert_allclose(tensor.numpy(), decisions)


def test_the_contributors_adjoint_is_the_gradient(contributing: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    problem = contributing["Newsvendor"](high=0.9)
    scenarios, pull = rng.uniform(0, 1.2, (20, 15, 1)), rng.normal(size=(20, 1))
    decisions = problem.solve(scenarios)
    adjoint = problem.adjoint(scenarios, decisions, pull)
    step, numeric = 1e-6, np.zeros_like(scenarios)
    for m in range(15):
        moved = scenarios.copy()
        moved[:, m] += step
        numeric[:, m] = pull * (problem.solve(moved) - decisions) / step
    np.testing.assert_allclose(adjoint.scenarios, numeric, atol=1e-6)


def test_the_contributors_score_gradient_points_where_the_decision_moves(contributing: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    problem = contributing["Newsvendor"](holding=1.0, backlog=3.0, high=10.0)
    noise = rng.normal(size=(1, 20_000, 1))  # y = mean + 0.5 noise: the quantile moves one to one with the mean
    scenarios = 5 + 0.5 * noise
    adjoint = problem.adjoint(scenarios, problem.solve(scenarios), np.ones((1, 1)))
    assert np.mean(adjoint.score * noise[..., 0] / 0.5) == pytest.approx(1.0, abs=0.05)


def test_the_example_of_an_attack_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "red_team.py"))
    header, *lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert header == ["scenario", "calm", "noise", "attack"]
    regrets = np.array([line[1:] for line in lines if len(line) == 4], float)
    assert regrets.shape == (2, 3)
    assert (np.diff(regrets, axis=1) > 0).all()  # an attack costs more than noise of its size


# ---------------------------------------------------------------------- commands, links, tables
def commands() -> list[str]:
    lines = [line for page in COMMANDS for block in blocks(page, "bash") for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


@pytest.mark.parametrize("line", commands())
def test_commands_exist(line: str) -> None:
    words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
    match words:
        case ["make", *targets]:
            known = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(targets) <= set(known)
        case ["python3", "-m", "venv", ".venv"] | [".", ".venv/bin/activate"]:
            pass
        case ["pip", "install", *rest]:
            assert "constraints.txt" in rest
            assert (ROOT / "constraints.txt").is_file()
        case ["python" | "python3", "-m", module, *_]:
            assert importlib.util.find_spec(module)
        case ["python", script, *_]:
            assert (ROOT / script).is_file()
        case ["shiftgym", *arguments]:
            options = evaluate._parser().parse_args(arguments)
            if options.command is evaluate._run:
                evaluate._suite(options).check()
        case [".venv/bin/pre-commit", "install"]:
            assert (ROOT / ".pre-commit-config.yaml").is_file()
        case _:
            pytest.fail(f"no test knows how to check {line!r}")


@pytest.mark.parametrize("page", [*PAGES, *(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    local = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    missing = [link for link in local if not ((ROOT / page).parent / link).exists()]
    assert not missing


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= set(re.findall(r"\]\(([^)/]+\.md)\)", index))


def test_the_readme_lists_all_there_is() -> None:
    code = (
        "import json, gymnasium, shiftgym, shiftgym.agents, shiftgym.data, shiftgym.envs\n"
        "from shiftgym.data.catalogue import catalogue\n"
        "from shiftgym.data.mixtures import generated\n"
        "from shiftgym.evaluation.scenario import list_suites\n"
        "print(json.dumps({'Environments': [n for n in gymnasium.registry if n.startswith('shiftgym/')],\n"
        "  'Agents': shiftgym.agents.list_agents(), 'Shifts': shiftgym.envs.list_shifts(),\n"
        "  'Real traces': list(catalogue()), 'Generated traces': list(generated()), 'Suites': list_suites()}))"
    )  # in a process of its own: other tests register things
    there_is = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    table = dict(re.findall(r"^\| (\w[\w ]*) \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {row: sorted(re.findall("`([^`]+)`", table[row])) for row in there_is} == {
        row: sorted(names) for row, names in there_is.items()
    }
