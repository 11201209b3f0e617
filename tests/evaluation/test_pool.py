"""Pools of every kind: what a task sees, and what becomes of the run when something is killed."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import psutil
import pytest

from shiftgym.data.errors import ShiftgymError
from shiftgym.evaluation.agent_spec import AgentSpec
from shiftgym.evaluation.local_processes import LocalProcesses
from shiftgym.evaluation.pool import TRIES, make_pool
from shiftgym.evaluation.results import EFFORT, Run
from shiftgym.evaluation.run import execute

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")
BACKENDS = ["local", pytest.param("ray", marks=[needs_ray, pytest.mark.slow])]


def outcome(run):
    """What a run found, without what depends on the machine."""
    return run.results.drop(columns=list(EFFORT))


@pytest.fixture(scope="module")
def two():
    """Two processes for all tests here: what one test does to them must not harm the next."""
    with LocalProcesses(2) as pool:
        yield pool


@pytest.fixture
def quiet_ray():
    """Ray leaves open what it started, which is no warning of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


LEARNER = "dfl(epochs=1, hidden=[8])"  # loads torch in every process


@pytest.mark.usefixtures("quiet_ray")
@pytest.mark.parametrize(
    ("backend", "agent"),
    [
        ("local", "residual-saa"),
        pytest.param("local", LEARNER, marks=pytest.mark.slow),
        pytest.param("ray", LEARNER, marks=[needs_ray, pytest.mark.slow]),
    ],
)
def test_the_same_seeds_give_the_same_table_everywhere(backend, agent, suite, tmp_path):
    agents = (AgentSpec("random"), AgentSpec.parse(agent))
    suite = replace(suite, scenarios=suite.scenarios[2:], agents=agents)
    one = execute(suite, tmp_path / "one")
    with make_pool(backend, jobs=2) as pool:
        two = execute(suite, tmp_path / "two", pool=pool)
    assert two.computed == one.computed == 8
    pd.testing.assert_frame_equal(outcome(one.run), outcome(two.run), check_exact=True)


def dying(folder, deadly):
    """Return a function that notes each call in a folder, and kills its own process where that is asked for.

    It is defined in here so that it reaches the workers as code: they need not know this file.
    """

    def call(task):
        tries = len(list(folder.glob(f"{task}-*")))
        (folder / f"{task}-{tries}").touch()
        if tries < deadly.get(task, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        return task * 10

    return call


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.usefixtures("quiet_ray")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_worker_loses_nothing_and_its_task_runs_again_but_not_forever(backend, tmp_path):
    with make_pool(backend, jobs=2) as pool:
        outcomes = {o.task: o for o in pool.run(dying(tmp_path, {2: 1, 4: 99}), range(8))}
    assert sorted(outcomes) == list(range(8))
    assert [outcomes[i].result for i in range(8)] == [0, 10, 20, 30, None, 50, 60, 70]
    assert f"its worker died {TRIES} times" in outcomes[4].error
    calls = {i: len(list(tmp_path.glob(f"{i}-*"))) for i in range(8)}
    assert calls == {**dict.fromkeys(range(8), 1), 2: 2, 4: TRIES}


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("quiet_ray")
def test_a_lost_node_of_a_cluster_loses_nothing():
    from ray.cluster_utils import Cluster

    def call(task):
        time.sleep(0.5)
        return task

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    try:
        with make_pool("ray", address=cluster.address) as pool:
            outcomes = pool.run(call, range(12))
            found = [next(outcomes).result for _ in range(4)]
            cluster.remove_node(nodes[0], allow_graceful=False)
            found += [o.result for o in outcomes]
    finally:
        cluster.shutdown()
    assert sorted(found) == list(range(12))


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_worker_that_was_killed_while_idle_is_replaced(two):
    pids = {o.result for o in two.run(lambda task: os.getpid(), range(4))}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    again = [o.result for o in two.run(lambda task: os.getpid(), range(4))]
    assert len(again) == 4
    assert not pids & set(again)


def test_a_worker_whose_memory_grew_is_replaced_without_a_word_and_loses_nothing(two):
    def grow(task):
        sys.kept = [*getattr(sys, "kept", []), np.ones(20_000_000)]  # 160 MB
        time.sleep(1.0)  # loky looks once a second
        return os.getpid(), len(sys.kept)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = [o.result for o in two.run(grow, range(10))]
    assert len(found) == 10
    assert not told
    assert max(kept for _, kept in found) <= 4
    assert len({pid for pid, _ in found}) > 2


def test_workers_have_one_thread_and_what_ends_one_task_ends_no_other(two):
    def call(task):
        if task == 1:
            sys.exit(3)
        return os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]

    outcomes = {o.task: o for o in two.run(call, range(3))}
    assert outcomes[0].result == outcomes[2].result == ("1", "1")
    assert "SystemExit" in outcomes[1].error


def test_a_pool_that_is_closed_early_warns_of_nothing_and_can_go_on(two, recwarn):
    outcomes = two.run(time.sleep, [0.01] * 60)
    next(outcomes)
    time.sleep(0.2)  # some outcomes are ready by now, others are not
    outcomes.close()
    assert len(list(two.run(abs, [-1, -2]))) == 2
    assert not recwarn.list


SCRIPT = '''
import dataclasses, sys
import gymnasium, numpy as np
from shiftgym.agents import Agent, register_agent
from shiftgym.data import Trace, register_trace
from shiftgym.envs.provisioning import ProvisioningEnv, ProvisioningVectorEnv
from shiftgym.envs.shifts import ArrayShift, parameter, register
from shiftgym.evaluate import Scenario, evaluate

LEVEL = 0.5


@register_agent("level")
@dataclasses.dataclass(kw_only=True, eq=False)
class Level(Agent):
    def _fit(self, task, progress, device):
        pass

    def _act(self, observations):
        return np.full((len(observations), self.problem_.decision_dim), LEVEL)


@register("dim")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Dim(ArrayShift):
    """Less of everything."""

    share: float = parameter(0.5, identity=0.0, low=0.0, high=1.0, doc="share that is lost")

    def distort(self, values, scene):
        return values * (1 - self.share)


class Mine(ProvisioningEnv):
    pass


class Mines(ProvisioningVectorEnv):
    pass


def hours():
    time = np.datetime64("2026-01-01", "ns") + np.arange(200) * np.timedelta64(1, "h")
    return Trace("hours", time, 1.0 + np.arange(200) % 24, 3600.0, outcome_low=0.0)


register_trace("hours", hours)
register_trace("unused", lambda stream=sys.stdin: hours())  # nothing that another process could have
gymnasium.register("own/Mine-v0", entry_point=Mine, vector_entry_point=Mines)
scenario = Scenario("own", "own/Mine-v0", train="hours[:0.5]", test="hours[0.5:]", shift="dim(share=0.3)")
costs = [evaluate(["level"], [scenario], seeds=[0, 1], **how)["cost"].tolist()
         for how in (dict(jobs=1), dict(jobs=2, backend=sys.argv[1]))]
assert costs[0] == costs[1], costs
print("the same")
'''


@pytest.mark.parametrize("backend", BACKENDS)
def test_workers_know_what_a_script_has_registered(backend, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py", backend], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.endswith("the same\n"), done.stdout + done.stderr


def test_what_a_pool_needs_is_asked_for_before_any_work(monkeypatch):
    with pytest.raises(ShiftgymError, match=r"backend 'slurm'.*local, ray"):
        make_pool("slurm")
    with pytest.raises(ShiftgymError, match="address 'auto' is for backend 'ray'"):
        make_pool("local", address="auto")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ShiftgymError, match=r"pip install .shiftgym\[ray\]"):
        make_pool("ray")


# ---------------------------------------------------------------------- runs that are stopped
def start(log, module, *options, agents=("slow",), seeds="0-2"):
    """Begin a run in two processes and a process group of its own; return it at its first line of progress."""
    command = [sys.executable, "-m", "shiftgym.evaluate", "run", "--train", f"{log}[:0.5]", "--test", f"{log}[0.5:]"]
    command += ["--agents", *(f"{module}:Stumbling(fail='{how}')" for how in agents), "--seeds", seeds]
    child = subprocess.Popen(
        [*command, "--jobs", "2", "--out", "run", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # what a shell runs in the background is told to ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert child.stdout.readline(), child.stderr.read()
    return child


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for a child")
def test_ctrl_c_in_a_pool_of_processes(log, own_module):
    child = start(log, own_module, agents=("", "never"))
    with child:
        os.killpg(child.pid, signal.SIGINT)  # what a terminal does: every process of the group
        try:
            _, errors = child.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # what did not stop would be waited for without end
    assert child.returncode == 130, errors
    assert "resumes" in errors
    assert "Traceback" not in errors


@pytest.fixture
def heard():
    """SIGINT raises, as in a terminal, and not as where tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to oneself")
@pytest.mark.usefixtures("heard")
def test_ctrl_c_is_raised_between_two_outcomes_and_nowhere_else(two):
    outcomes = two.run(abs, [-1, -2, -3])
    next(outcomes)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):  # it was noted alone until now
        list(outcomes)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert {outcome.result for outcome in two.run(abs, [-1, -2])} == {1, 2}


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signals to block")
def test_a_worker_is_deaf_to_ctrl_c_from_its_birth_on(tmp_path):
    (tmp_path / "blocked.py").write_text(
        "import signal\ndef blocked(task):\n    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])"
    )
    script = (
        "from blocked import blocked; from shiftgym.evaluation.local_processes import LocalProcesses\n"
        "with LocalProcesses(2) as pool: print([outcome.result for outcome in pool.run(blocked, [1, 2])])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "[True, True]\n", done.stdout + done.stderr


def stamps(folder):
    """When every finished fit and cell was written."""
    return {path: path.stat().st_mtime_ns for name in ("cells/*.json", "fits/*") for path in folder.glob(name)}


def workers_of(child):
    workers = []
    for one in psutil.Process(child.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end while it is looked at
            if any(sign in " ".join(one.cmdline()) for sign in ("popen_loky", "ray::shiftgym")):
                workers.append(one)
    return workers


def kill(child, what):
    """Kill a driver, a worker or both with no chance to say goodbye; no worker must be left of a killed driver."""
    workers = workers_of(child)
    if what == "worker":
        while not workers and child.poll() is None:
            workers = workers_of(child)
        workers[0].kill()
        return child
    with child:
        (child.kill if what == "driver" else lambda: os.killpg(child.pid, signal.SIGKILL))()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    return None


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize(
    ("kills", "seeds", "backend"),
    [
        (1, "0-2", "local"),
        pytest.param(10, "0-29", "local", marks=pytest.mark.slow),
        pytest.param(3, "0-29", "ray", marks=[needs_ray, pytest.mark.slow]),
    ],
)
def test_a_run_that_is_killed_resumes_and_computes_nothing_twice(kills, seeds, backend, log, own_module, tmp_path):
    rng, folder, child, before = np.random.default_rng(kills), tmp_path / "run", None, {}
    for i in range(kills):
        child = child or start(log, own_module, "--backend", backend, seeds=seeds)
        while not list(folder.glob("cells/*.json")):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.7))
        child = kill(child, ("driver", "group", "worker")[i % 3])
        kept = stamps(folder)
        assert before.items() <= kept.items()
        before = kept
    if child:
        with child:
            child.communicate(timeout=120)
    suite = Run.open(folder).suite
    tally = execute(suite, folder)
    assert before.items() <= stamps(folder).items()
    assert tally.reused + tally.computed == tally.cells == len(suite.seeds)
    assert not tally.failed
    pd.testing.assert_frame_equal(outcome(tally.run), outcome(execute(suite, tmp_path / "whole").run), check_exact=True)
