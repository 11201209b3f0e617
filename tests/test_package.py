"""The package as a stranger gets it: light, complete, in nobody's way, with nothing in it that should not be."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from itertools import chain
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import shiftgym

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = [name.replace(".", "/") for name in PYPROJECT["tool"]["setuptools"]["packages"]]
HEAVY = ["torch", "pandas", "scipy", "matplotlib", "pyarrow", "stable_baselines3", "cvxpy", "ray"]
TRACE = "synthetic-azure-2023-conv@10s[:0.2]"


def modules() -> list[str]:
    rooms = [name for name in PYPROJECT["tool"]["setuptools"]["packages"] if name != "shiftgym"]
    found = [f"{room}.{m.name}" for room in rooms for m in pkgutil.iter_modules(importlib.import_module(room).__path__)]
    return ["shiftgym", "shiftgym.evaluate", *rooms, *(name for name in found if name not in rooms)]


# ---------------------------------------------------------------------- importing
@pytest.mark.parametrize("statement", ["import shiftgym", "import shiftgym.envs", "import shiftgym.data"])
def test_importing_is_light(statement: str) -> None:
    code = f"import json, sys; {statement}; print(json.dumps(sorted(set({HEAVY!r}) & set(sys.modules))))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert json.loads(loaded) == []


@pytest.mark.parametrize("name", modules())
def test_every_module_imports_and_its_examples_hold(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_rooms_are_attributes_of_the_package() -> None:
    assert {"agents", "data", "envs", "evaluate", "solvers"} <= set(dir(shiftgym))
    assert shiftgym.agents.list_agents()
    with pytest.raises(AttributeError, match="nonsense"):
        shiftgym.nonsense  # noqa: B018


def test_the_version_is_said_once() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = {
        shiftgym.__version__,
        metadata.version("shiftgym"),
        PYPROJECT["project"]["version"],
        *re.findall(r"^version: (\S+)$", citation, re.MULTILINE),
        re.findall(r"^## \[(\d\S*)\]", changes, re.MULTILINE)[0],
    }
    assert len(versions) == 1


def test_the_command_is_registered() -> None:
    (command,) = metadata.entry_points(group="console_scripts", name="shiftgym")
    assert command.load() is importlib.import_module("shiftgym.evaluate").main


# ---------------------------------------------------------------------- environments by name
def test_environments_can_be_made_by_module_and_id() -> None:
    env = gymnasium.make("shiftgym.envs:shiftgym/Provisioning-v0", trace=TRACE)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)


def test_an_environment_survives_its_json_form() -> None:
    made = gymnasium.make("shiftgym/Provisioning-v0", trace=TRACE, shift="gaussian(scale=0.1)", shift_seed=3)
    assert made.spec is not None
    again = gymnasium.make(EnvSpec.from_json(made.spec.to_json()))
    first, second = (env.reset(seed=0)[0] for env in (made, again))
    np.testing.assert_array_equal(first, second)
    action = made.action_space.sample()
    assert made.step(action)[4] == again.step(action)[4]


# ---------------------------------------------------------------------- the wheel
@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs")
    shutil.copytree(ROOT, folder / "source", ignore=left_out)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "source")
    return next(folder.glob("*.whl"))


def pip(*arguments: str | Path) -> None:
    # none of the settings of whoever runs the tests, and no way to download anything
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith("shiftgym-")}
        about = {name.partition("/")[2] for name in archive.namelist() if name.startswith("shiftgym-")}
    rooms = [package.removeprefix("shiftgym").strip("/") for package in PACKAGES]
    code = {path for room in rooms for path in (ROOT / room).glob("*.py")}
    data = {path for room in ("data", "suites") for path in (ROOT / room).rglob("*.toml")} | {ROOT / "py.typed"}
    data |= set((ROOT / "evaluation" / "templates").iterdir())
    assert names == {f"shiftgym/{path.relative_to(ROOT).as_posix()}" for path in code | data}
    assert "licenses/LICENSE" in about


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_an_installed_package_works_beside_folders_named_like_its_rooms(wheel: Path, tmp_path: Path, jobs: str) -> None:
    site, project = tmp_path / "site", tmp_path / "project"
    pip("install", "--no-deps", "--target", site, wheel)
    for room in ("agents", "data", "envs", "evaluation", "solvers", "suites", "tests"):
        (project / room).mkdir(parents=True)
        (project / room / "__init__.py").write_text("raise RuntimeError('a folder of the user was imported')")
    (project / "evaluate.py").write_text("raise RuntimeError('a file of the user was imported')")
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = "import shiftgym.agents, shiftgym.envs, shiftgym.evaluate; print(shiftgym.__file__)"
    assert Path(run(sys.executable, "-c", code).strip()).is_relative_to(site)
    run(sys.executable, site / "bin" / "shiftgym", "run", "--agents", "oracle", "saa", "--seeds", "0", "--jobs", jobs,
        "--train", TRACE, "--test", TRACE, "--out", tmp_path / "run")  # fmt: skip
    assert (tmp_path / "run" / "report.md").is_file()


# ---------------------------------------------------------------------- the repository
@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_data_is_committed(tracked: list[Path]) -> None:
    data = {".csv", ".parquet", ".npz", ".npy", ".jsonl", ".gz", ".zip", ".pkl", ".pt", ".safetensors", ".xlsx", ".h5"}
    assert [path.name for path in tracked if path.suffix.lower() in data] == []


def test_no_file_names_a_package_registry_or_a_place_on_someones_machine(tracked: list[Path]) -> None:
    registry = r"pypi\.org|pythonhosted|download\.pytorch|anaconda\.org|index[-_]url|find[-_]links"
    place = r"(?<![\w.}~])/(?:home|Users|root|work|mnt|workspace)/\w|[A-Z]:\\\\Users"
    found = []
    for path in tracked:
        if path == Path(__file__) or path.suffix in {".png", ".gif"}:
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.search(f"{registry}|{place}", line):
                found.append(f"{path.relative_to(ROOT)}: {line.strip()}")
    assert found == []


def test_constraints_are_names_and_versions_and_cover_what_is_needed() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    pinned = {canonical(pin.partition("==")[0]) for pin in pins}
    project = PYPROJECT["project"]
    needed = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    assert {canonical(re.split(r"[<>=!~\[; ]", name)[0]) for name in needed} - {"shiftgym"} <= pinned


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
