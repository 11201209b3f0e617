"""Time and memory of a training iteration of Diffusion-DFL, against the authors' public code, in the same run.

    git clone https://github.com/GT-KOALA/Diffusion_DFL CHECKOUT && git -C CHECKOUT checkout ca8e8d5
    python benchmarks/diffusion_dfl_training.py CHECKOUT [--cases power-score-k100 ...] [--keep FILE]
    python benchmarks/diffusion_dfl_training.py --theirs-from FILE

The second form takes their figures from an earlier run on the same machine, which ``--keep`` wrote: theirs needs up to
some minutes per iteration. Without a checkout and a file, ours are measured alone.

Both sides train the same network, 3 x 1024 units, on the same decision points with the same B, M, T and k, on one
thread, each case in a process of its own. Ours does equal work, a chain of all T steps, in float32, with the inner
layers in bfloat16, and, for the score function, which does not differentiate the chain, with those of the chain in
integers of 8 bits; then it takes the sampler that we choose, a chain of ten steps and likelihoods at ten timesteps,
those drawn by importance, in bfloat16. At equal work both multiply the same matrices, so how much faster a lower
precision can be is what the machine makes of it, which is printed below the table. It needs hardware that multiplies
bfloat16 ("amx_bf16" or "avx512_bf16" in /proc/cpuinfo) and integers ("avx512_vnni"): without it, it is no faster than
float32 or slower. An iteration is what a pass of the training loop does: draw samples, decide, differentiate, step.
After a short one to warm up each side runs two to eight, as many as a minute has room for, and the fastest counts: on a
shared host a product in bfloat16 may take three times as long from one moment to the next. Seconds are those of the
CPU, which on a busy machine repeat better than those on the wall.

Memory is the largest resident size during the iteration above that before it, which holds the model, its gradients and
Adam's moments (Linux only). Ours is read in an iteration of its own, in which the allocator gives blocks of 256 KiB and
more back at once; left to itself it scatters what is kept of a chain among what is freed, and the process stays several
times larger than its tensors.

Their folders are imported as they are, into a process in which

- ``wandb``, and ``qpth``, ``autograd``, ``functorch`` and ``tqdm`` where they are not installed, are empty modules:
  what is timed imports names from them and calls none but ``wandb.log``;
- the counters of ``torch.cuda`` do nothing, and ``constants.DEVICE`` is "cpu", not "cuda:7";
- ``joblib.Parallel`` solves one problem after another in this process, not on 64 others, and sets the solver up once;
- MOSEK, which allocation asks for, is Clarabel: it needs no licence;
- the loader of their training loop yields a few batches and stops it.

Their network, like ours, is trained for a moment beforehand, lest the chain of an untrained one gives their solver
numbers far from any load.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from statistics import median
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import gymnasium
import joblib
import torch
from printing import figures, show
from rich.progress import track
from rich.table import Table
from torch import Tensor

from shiftgym.agents import make_agent
from shiftgym.agents.diffusion import Diffusion
from shiftgym.agents.linear import Linear
from shiftgym.agents.mixed_precision import Integers, Layer, has_integers
from shiftgym.agents.trained import Samples

#: Steps of our own chain, and timesteps of a likelihood, as in the suites.
SAMPLING_STEPS, TIMESTEPS = 10, 10
#: Iterations measured, of which the fastest counts: at least, at most, and seconds that allow another one.
LEAST, MOST, ENOUGH = 2, 8, 60.0
NAN = math.nan
HIDDEN = (1024, 1024, 1024)
SCORE_MEMORY = 0.13e9
#: What a row of the whole chain keeps per timestep without checkpointing (bytes), and the share of it that is meant.
ROW_MEMORY, ROW_SHARE = 39e3, 20

ENVIRONMENTS = {
    "power": ("shiftgym/PowerScheduling-v0", {"trace": "synthetic-pjm-duq[0:12000]"}),
    "allocation": ("shiftgym/ProductAllocation-v0", {"trace": "allocation[0:500]"}),
}
#: As their scripts set them.
CONSTANTS = {"power": {"n": 24, "c_ramp": 0.4, "gamma_under": 50, "gamma_over": 0.5}, "allocation": {"n": 10, "C": 2.0}}
FOLDERS = {"power": "power_sched", "allocation": "synthetic_example"}


@dataclass(frozen=True)
class Case:
    """B decision points, M samples each, T steps of diffusion, k timesteps of the likelihood (0: reparameterised)."""

    task: str
    batch: int
    samples: int
    steps: int
    timesteps: int = 0
    sampling_steps: int = 0
    eta: float = 0.0
    precision: str = "float32"

    @property
    def name(self) -> str:
        estimator = f"score k={self.timesteps}" if self.timesteps else "reparam"
        return f"{self.task} {estimator} B={self.batch} M={self.samples} T={self.steps}"

    @property
    def memory_goal(self) -> float:
        """Bytes above the model; nan where none is set."""
        if not self.timesteps:
            return ROW_MEMORY / ROW_SHARE * self.batch * self.samples * self.steps
        return SCORE_MEMORY if self.task == "power" and self.samples * self.timesteps <= 250 else NAN


CASES = {
    "power-score-k100": Case("power", 64, 10, 1000, 100),
    "power-score-m50": Case("power", 64, 50, 1000, 10),
    "power-reparam": Case("power", 64, 10, 100),
    "allocation-score": Case("allocation", 32, 10, 1000, 10, eta=0.8),
}


def chosen(case: Case) -> Case:
    """A case with the sampler that we choose."""
    fewer = min(case.timesteps, TIMESTEPS)
    return replace(case, sampling_steps=SAMPLING_STEPS, timesteps=fewer, precision="bfloat16")


#: What ours does with each case, and how many times faster than theirs it is meant to be.
WAYS: dict[str, tuple[Callable[[Case], Case], int]] = {
    "equal work, float32": (lambda case: case, 5),
    "equal work, bfloat16": (lambda case: replace(case, precision="bfloat16"), 5),
    "equal work, chain in int8": (lambda case: replace(case, precision="int8"), 5),
    f"{SAMPLING_STEPS} steps, k <= {TIMESTEPS}, bfloat16": (chosen, 30),
}
#: Cases of ours alone, for the memory's goal: it must not depend on T.
MEMORY = [Case("power", 64, 25, steps, 10, SAMPLING_STEPS) for steps in (100, 1000)]


# ---------------------------------------------------------------------- measuring
@dataclass
class Lap:
    """CPU seconds, and bytes of memory above what there was before."""

    seconds: float
    memory: float


def resident(field: str) -> float:
    """Bytes of "VmRSS", now, or "VmHWM", the most since :func:`start`; nan where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(field)), NAN)


def start() -> Lap:
    """Begin a lap, with what was freed given back to the system."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return Lap(time.process_time(), resident("VmRSS"))


def since(begun: Lap) -> Lap:
    return Lap(time.process_time() - begun.seconds, resident("VmHWM") - begun.memory)


def more(laps: list[Lap]) -> bool:
    """Whether to measure another iteration."""
    return len(laps) < LEAST or (len(laps) < MOST and sum(lap.seconds for lap in laps) < ENOUGH)


def give_back_from(size: int) -> None:
    """Let glibc give blocks from this size on back when they are freed, instead of scattering small ones among them.

    What it keeps of smaller ones is twice that size, as where it finds the size itself.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(-3, size)  # M_MMAP_THRESHOLD
        ctypes.CDLL(None).mallopt(-1, 2 * size)  # M_TRIM_THRESHOLD


def decision_points(case: Case) -> Any:
    """The environment whose decision points both sides learn from."""
    spec, keywords = ENVIRONMENTS[case.task]
    return gymnasium.make(spec, **keywords)


# ---------------------------------------------------------------------- ours
def ours(case: Case) -> Lap:
    """The fastest of some iterations of our agent, and the memory of one before."""
    torch.set_num_threads(1)
    give_back_from(2**18)  # before fitting, which would leave holes to scatter into
    agent: Any = make_agent(
        "diffusion-dfl-score" if case.timesteps else "diffusion-dfl-reparam",
        hidden=HIDDEN,
        epochs=5,
        learning_rate=1e-3,
        focus_epochs=1,
        batch_size=512,
        validation=0.0,
        train_samples=1,
        samples=1,
        schedule="linear",
        around="mean",  # one network, as theirs
        precision=case.precision,
        steps=case.steps,
        sampling_steps=2,
        eta=case.eta,
        timesteps=1,
    )
    env = decision_points(case)
    agent.fit(env)
    agent.train_samples = case.samples
    x, y = (torch.as_tensor(array[: case.batch]) for array in env.unwrapped.task.dataset())
    optimiser = torch.optim.Adam(agent.predictor.parameters(), lr=agent.focus_rate)

    def lap() -> Lap:
        begun = start()
        optimiser.zero_grad()
        agent._focused_loss(Samples(x, y, None)).backward()
        optimiser.step()
        return since(begun)

    lap()  # warms up, with a short chain as in fitting: the whole one would take longer than all the rest
    for module in agent.predictor.modules():
        if isinstance(module, Diffusion):
            module.sampling_steps, module.timesteps = case.sampling_steps or case.steps, case.timesteps or 1
    memory = lap().memory
    give_back_from(2**25)
    laps: list[Lap] = []
    while more(laps):
        laps.append(lap())
    return Lap(min(lap.seconds for lap in laps), memory)


# ---------------------------------------------------------------------- theirs
class EnoughError(Exception):
    """Leaves their training loop."""


class Here:
    """What their code needs of ``joblib.Parallel``, one task after another in this process."""

    ready: ClassVar[set[Any]] = set()

    def __init__(self, *_: Any, initializer: Callable[..., None] | None = None, initargs: Any = (), **__: Any) -> None:
        self.initialise, self.arguments = initializer, initargs

    def __enter__(self) -> Here:
        if self.initialise is not None and self.initialise not in Here.ready:
            self.initialise(*self.arguments)
            Here.ready.add(self.initialise)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, tasks: Any) -> list[Any]:
        return [function(*arguments, **keywords) for function, arguments, keywords in tasks]


class Empty(ModuleType):
    """A module whose every name is a function that does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


class Emptied(MetaPathFinder, Loader):
    """Imports some packages, and all modules in them, as empty ones."""

    def __init__(self, packages: list[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in self.packages else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def stand_ins() -> None:
    """Make their code importable and runnable on a CPU with current libraries (see the top of this file)."""
    optional = ("qpth", "autograd", "functorch", "tqdm")
    absent = [name for name in optional if importlib.util.find_spec(name) is None]
    sys.meta_path.insert(0, Emptied(["wandb", *absent]))
    for name in ("reset_peak_memory_stats", "max_memory_allocated", "synchronize", "empty_cache"):
        setattr(torch.cuda, name, lambda *_, **__: 0)
    joblib.Parallel = Here
    import cvxpy

    if "MOSEK" not in cvxpy.installed_solvers():
        cvxpy.MOSEK = cvxpy.CLARABEL


def their_training(case: Case, diffusion: Any, nets: ModuleType, batches: Iterator[Any]) -> None:
    """Run their training loop over some batches."""
    solver = importlib.import_module("solver_distribution_kkt" if case.timesteps else "solver_reparam")
    constants = CONSTANTS[case.task]
    timesteps = {"num_iter": case.timesteps} if case.timesteps else {}
    layer = solver.DiffusionCvxpyModule(diffusion, constants, case.samples, **timesteps)
    options = SimpleNamespace(lr=1e-5, interval=1, pretrain_epochs=1, mc_samples=case.samples, cuda_device=0)
    with contextlib.suppress(EnoughError):
        nets.run_task_net_diffusion(diffusion, batches, [], [], layer, constants, options, "diffusion", "")


def theirs(case: Case, checkout: str) -> Lap:
    """The fastest of some iterations of their training loop, and the memory of the first."""
    torch.set_num_threads(1)
    stand_ins()
    sys.path.insert(0, str(Path(checkout) / FOLDERS[case.task]))
    importlib.import_module("constants").DEVICE = "cpu"
    nets = importlib.import_module("nets" if case.task == "power" else "nets_toy")
    x, y = (torch.as_tensor(array, dtype=torch.float32) for array in decision_points(case).unwrapped.task.dataset())
    x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
    model = importlib.import_module("diffusion_opt").Diffsion(x.shape[1], y.shape[1], timesteps=case.steps)
    optimiser = torch.optim.Adam(model.model_net.parameters(), lr=1e-3)
    for _ in range(30):
        optimiser.zero_grad()
        model.diffusion_loss(y, torch.randint(case.steps, (len(y),)), x).backward()
        optimiser.step()
    laps: list[Lap] = []

    def batches() -> Iterator[Any]:
        yield x[:2], y[:2]
        while more(laps):
            begun = start()
            yield x[: case.batch], y[: case.batch]
            laps.append(since(begun))
        raise EnoughError

    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        their_training(case, model, nets, batches())
    return Lap(min(lap.seconds for lap in laps), laps[0].memory)


# ---------------------------------------------------------------------- comparing
def apart(function: Callable[..., Lap], *arguments: Any) -> Lap:
    """Run in a fresh process: their folders share names of modules, and memory is that of a process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def told(value: float, form: str) -> str:
    return "" if value != value else format(value, form)


def row(table: Table, name: str, lap: Lap, peer: Lap | None = None, goal: int | None = None, most: float = NAN) -> None:
    faster = peer.seconds / lap.seconds if peer else NAN
    sizes = (told(lap.memory / 1e9, ".3f"), told(most / 1e9, ".3f"))
    table.add_row(name, f"{lap.seconds:.2f}", told(faster, ",.1f"), str(goal or ""), *sizes)


def compare(names: list[str], checkout: str | None, known: dict[str, Lap]) -> tuple[Table, dict[str, Lap]]:
    """A table of all cases, and what theirs took."""
    table = figures(
        f"One training iteration, network {' x '.join(map(str, HIDDEN))}, one thread",
        "",
        "CPU s",
        "faster by",
        "goal",
        "GB",
        "goal, GB",
    )
    for name in track(names, "cases, some minutes each", transient=True):
        case = CASES[name]
        ways = {way: change(case) for way, (change, _) in WAYS.items()}
        # a chain that is differentiated is in bfloat16 all the same
        laps = {way: apart(ours, mine) for way, mine in ways.items() if case.timesteps or mine.precision != "int8"}
        if checkout is not None and name not in known:
            known[name] = apart(theirs, case, checkout)
        peer = known.get(name)
        if peer is not None:
            row(table, f"{case.name}: theirs", peer)
        for way, lap in laps.items():
            row(table, f"{case.name}: {way}", lap, peer, WAYS[way][1], case.memory_goal)
        table.add_section()
    return table, known


def rates(rows: int = 640, width: int = HIDDEN[0]) -> str:
    """What the machine makes of a layer's product in each precision, in a line."""
    torch.set_num_threads(1)
    of_pytorch, layer, x = torch.nn.Linear(width, width), Linear(width, width), torch.rand(rows, width)
    rounded, rounded_x = Layer.of(layer), x.bfloat16()
    products: dict[str, Callable[[], Tensor]] = {
        "float32 of PyTorch": lambda: of_pytorch(x),
        "float32": lambda: layer(x),
        "bfloat16": lambda: rounded.times(rounded_x),
    }
    if has_integers(layer):
        whole = Integers.of(layer)
        products["int8"] = lambda: whole.times(x.clone())
    found = {}
    with torch.no_grad():
        for name, product in products.items():
            laps = []
            for _ in range(20):
                began = time.perf_counter()
                product()
                laps.append(time.perf_counter() - began)
            found[name] = [2e-9 * rows * width**2 / seconds for seconds in sorted(laps)]
    listed = ", ".join(f"{median(each):,.0f} (at best {each[0]:,.0f}) in {name}" for name, each in found.items())
    return f"Billions of operations a second in a layer of {rows} x {width} x {width} here: {listed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", nargs="?", help="a checkout of GT-KOALA/Diffusion_DFL")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--theirs-from", type=Path, metavar="FILE", help="their figures from an earlier run")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="where to keep their figures")
    given = parser.parse_args()
    # before the processes that measure import anything
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    known = {}
    if given.theirs_from is not None:
        known = {name: Lap(**lap) for name, lap in json.loads(given.theirs_from.read_text()).items()}
    elif given.checkout is None:
        print("no checkout of GT-KOALA/Diffusion_DFL is given: theirs is left out (see --help)")
    elif not (Path(given.checkout) / FOLDERS["power"] / "nets.py").exists():
        parser.error(f"{given.checkout} is no checkout of GT-KOALA/Diffusion_DFL: it has no {FOLDERS['power']}/nets.py")
    table, known = compare(given.cases, given.checkout, known)
    if given.keep is not None:
        given.keep.write_text(json.dumps({name: vars(lap) for name, lap in known.items()}, indent=1))
    for case in MEMORY:
        row(table, f"{case.name}: {SAMPLING_STEPS} steps, float32", apart(ours, case), most=SCORE_MEMORY)
    table.caption = rates()
    show(table)


if __name__ == "__main__":
    main()
