import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from shiftgym.agents import Agent
from shiftgym.evaluation.agent_spec import AgentSpec
from shiftgym.evaluation.results import Run
from shiftgym.evaluation.run import execute
from shiftgym.evaluation.scenario import Scenario, Suite

ENV = "shiftgym/Provisioning-v0"


@pytest.fixture(scope="session")
def log(tmp_path_factory) -> str:
    """A request log of the user's own: 20 minutes, busier every five minutes."""
    rng = np.random.default_rng(0)
    time = np.sort(rng.uniform(0, 1200, 3000))
    prompt = np.round(rng.lognormal(6 + 0.5 * np.sin(time / 150), 0.5))
    path = tmp_path_factory.mktemp("log") / "log.csv"
    np.savetxt(path, np.stack((time, prompt), axis=1), delimiter=",", header="t,p", comments="", fmt="%.6f")
    return f"file:{path}?time=t&prompt=p&unit=s@4s"


@pytest.fixture(scope="session")
def scenario(log) -> Scenario:
    return Scenario("home", ENV, train=f"{log}[:0.5]", test=f"{log}[0.5:]")


@pytest.fixture(scope="session")
def suite(scenario) -> Suite:
    """Two scenarios and a sweep of two, three agents, two seeds: 24 cells from 6 fits."""
    noisy = {"env": ENV, "train": scenario.train, "test": scenario.test, "sweep": "noise"}
    scenarios = (
        scenario,
        Scenario("grown", ENV, scenario.train, scenario.test, shift="scale(factor=2.0, onset=0.5)"),
        Scenario("noise x0", **noisy, severity=0.0),
        Scenario("noise x1", **noisy, shift="gaussian(scale=0.2)", severity=1.0),
    )
    agents = tuple(map(AgentSpec, ("oracle", "random", "saa")))
    return Suite("small", scenarios, agents, seeds=(0, 1), title="A small suite")


@pytest.fixture(scope="session")
def executed(suite, tmp_path_factory) -> Path:
    """The folder of a run of the suite; not to be changed."""
    return execute(suite, tmp_path_factory.mktemp("executed")).run.folder


@pytest.fixture
def finished(executed, tmp_path) -> Run:
    """A run of the suite in a folder of the test's own."""
    return Run(shutil.copytree(executed, tmp_path, dirs_exist_ok=True))


@dataclass(kw_only=True, eq=False)
class Stumbling(Agent):
    """Holds half the capacity, unless told to fail."""

    fail: str = ""

    def _fit(self, task, progress, device):
        if self.fail == "fit":
            raise RuntimeError("stumbled while fitting")
        if self.fail == "never":
            time.sleep(600)

    def _act(self, observations):
        if self.fail == "act":
            raise RuntimeError("stumbled while acting")
        if self.fail == "interrupt":
            raise KeyboardInterrupt
        if self.fail == "slow":
            time.sleep(0.005)
        return np.full((len(observations), self.problem_.decision_dim), 0.5)


@pytest.fixture
def own_module(tmp_path, monkeypatch) -> str:
    """The name of a module in the working directory that holds an agent of the user's own."""
    lines = Path(__file__).read_text().split("@dataclass")[1].split("@pytest.fixture")[0]
    modules = "import time\nfrom dataclasses import dataclass\nimport numpy as np\n"
    head = f"{modules}from shiftgym.agents import Agent\n\n@dataclass"
    (tmp_path / "own_policy.py").write_text(head + lines)
    monkeypatch.chdir(tmp_path)
    return "own_policy"
