"""The agent: fitted on a training environment, then asked for a batch of decisions."""

from __future__ import annotations

import dataclasses
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ..data.errors import ShiftgymError, UnknownNameError
from ..data.files import atomic_write
from ..envs.task import Floats, Layout, Observations, Task
from ..solvers import PROBLEMS, DecisionProblem, make_problem

State = dict[str, NDArray[Any]]


class Epoch(NamedTuple):
    """A point of a learning curve.

    Attributes
    ----------
    stage : str
        "fit", or "focus" for a second stage that follows the cost of decisions.
    epoch : int
        Epochs of the stage so far; 0 is where it began.
    seconds : float
        Since the fit began.
    loss : float
        On held-out data; infinite where the weights are not to be kept.
    decision_cost : bool
        Whether the loss is the mean cost of decisions.
    """

    stage: str
    epoch: int
    seconds: float
    loss: float
    decision_cost: bool


@dataclass(kw_only=True, eq=False)
class Agent(ABC):
    """Decides for a batch of observations; hyper-parameters are the dataclass fields, set once.

    ``fit`` sees the training environment: its trace, its problem, nothing of a test. What it learns ends in an
    underscore. ``save`` and :func:`load_agent` keep a fitted agent as JSON and safetensors, without pickle.

    Parameters
    ----------
    seed : int
        Seed of everything random in fitting and acting.

    Attributes
    ----------
    name : str
        The name it is registered under.
    clairvoyant : bool
        True for the oracle alone: its ``act`` receives the outcomes to come, and the state, instead of observations.
    problems : tuple of str
        Names of the problems that it is made for; empty for an agent that decides any. Others refuse to be fitted.
    problem_ : DecisionProblem
        The problem it was fitted for.
    layout_ : Layout
        Where things are in an observation.
    history_ : list of Epoch
        The learning curve of the fit: what held-out data said after each epoch; empty for agents that hold nothing out.
        It is not saved with the agent.
    exhibits_ : dict of array
        What else of the fit a reader wants to see, small arrays by name; empty for most agents. Not saved with the
        agent: a run keeps them for its pictures.
    """

    name: ClassVar[str]
    clairvoyant: ClassVar[bool] = False
    problems: ClassVar[tuple[str, ...]] = ()
    seed: int = 0

    def fit(self, env: Any, *, progress: bool = False, device: str = "cpu") -> Self:
        """Learn from a training environment (single or vector).

        Parameters
        ----------
        env : gymnasium.Env or VectorEnv
            A shiftgym environment on the training trace.
        progress : bool
            Show a progress bar.
        device : str
            Torch device to train on, for agents that use torch.

        Raises
        ------
        ShiftgymError
            If the agent is not made for the problem of the environment.
        """
        task: Task = env.unwrapped.task
        self.check_problem(task.problem)
        self.problem_: DecisionProblem = task.problem
        self.layout_: Layout = task.layout
        self.history_: list[Epoch] = []
        self.exhibits_: State = {}
        self._fit(task, progress, device)
        return self

    @classmethod
    def check_problem(cls, problem: DecisionProblem) -> None:
        """Raise :class:`ShiftgymError` for a problem that the agent is not made for."""
        name = type(problem).__name__
        if cls.problems and name not in cls.problems:
            raise ShiftgymError(
                f"agent {cls.name!r} is made for {' and '.join(cls.problems)}, this environment poses {name}: take "
                f"shiftgym/{cls.problems[0]}-v0, or an agent that is made for any"
            )

    @abstractmethod
    def _fit(self, task: Task, progress: bool, device: str) -> None:
        """Learn what ``act`` needs."""

    def reset(self) -> None:
        """Begin a replay: the rows of the next ``act`` are new paths. Only agents that follow their path need it."""

    @property
    def promise_(self) -> dict[str, float]:
        """What it promises: by constraint family the largest share of steps that break it; empty for most agents.

        A measure of the problem that is a share (of slots, say) may stand for a family.
        """
        return {}

    @property
    def certified_(self) -> dict[str, bool]:
        """Whether the data were enough to certify each promise."""
        return {}

    def act(self, observations: Observations) -> Floats:
        """Decisions (B, d) for observations (B, size).

        Raises
        ------
        ShiftgymError
            If the agent was not fitted, or for observations of another width.
        """
        if not hasattr(self, "problem_"):
            raise ShiftgymError(f"agent {self.name!r} is not fitted: call fit(env) first")
        # wrappers and callers hand over float64 and lists, networks take float32; outcomes keep their precision
        observations = np.asarray(observations, np.float64 if self.clairvoyant else np.float32)
        foresight = self.problem_.outcome_dim + self.layout_.previous
        width = foresight if self.clairvoyant else self.layout_.size
        shape = observations.shape
        if len(shape) != 2 or shape[1] != width:
            raise ShiftgymError(f"observations have shape {shape}; agent {self.name!r} takes (batch, {width})")
        return self._act(observations)

    @abstractmethod
    def _act(self, observations: Observations) -> Floats:
        """Decisions for checked observations."""

    def state(self) -> State:
        """The learned arrays by name; empty for agents that learn none."""
        return {}

    def load_state(self, state: State) -> None:
        """Take back the arrays of :meth:`state`; ``problem_`` and ``layout_`` are set already."""

    def save(self, folder: str | Path) -> None:
        """Write ``agent.json`` and ``state.safetensors`` into a folder, each atomically."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        problem = self.problem_
        if PROBLEMS.get(type(problem).__name__) is not type(problem):
            raise ShiftgymError(f"problem {type(problem).__name__} is not registered in solvers.PROBLEMS: cannot save")
        about = {
            "agent": self.name,
            "class": f"{type(self).__module__}:{type(self).__qualname__}",
            "parameters": dataclasses.asdict(self),
            "problem": [type(problem).__name__, problem.parameters()],
            "layout": dataclasses.asdict(self.layout_),
        }
        with atomic_write(folder / "state.safetensors", "wb") as file:
            file.write(save({name: np.ascontiguousarray(array) for name, array in self.state().items()}))
        with atomic_write(folder / "agent.json") as file:
            json.dump(about, file, indent=2)


def load_agent(folder: str | Path, **parameters: Any) -> Agent:
    """Read an agent that :meth:`Agent.save` wrote. Nothing is unpickled; only registered agents are built.

    Parameters
    ----------
    folder : path
        Where it was saved.
    **parameters
        Hyper-parameters to decide with in place of those it was fitted with, such as ``samples``.

    Raises
    ------
    ShiftgymError
        If the folder holds no agent, or it does not take these hyper-parameters.
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / "agent.json").read_text())
        state = load_file(folder / "state.safetensors")
        saved = {key: about[key] for key in ("agent", "parameters", "problem", "layout")}
    except (OSError, json.JSONDecodeError, SafetensorError, KeyError) as error:
        raise ShiftgymError(
            f"{folder} holds no saved agent, or a damaged one: {error!r}; fit and save it again"
        ) from error
    agent = make_agent(saved["agent"], **{**saved["parameters"], **parameters})
    name, constants = saved["problem"]
    agent.problem_ = make_problem(name, **constants)
    layout = saved["layout"]
    places = {name: tuple(layout.get(name, ())) for name in ("naive", "known")}
    agent.layout_ = Layout(**{**layout, **places})
    agent.load_state(state)
    return agent


def check_samples(samples: int | None) -> None:
    """Raise unless a number of scenarios is None (all) or at least one."""
    if samples is not None and not (isinstance(samples, int) and samples >= 1):
        raise ShiftgymError(f"samples is {samples!r}: give a whole number of at least 1, or None for all")


def some_of(rows: Floats, samples: int | None, seed: int) -> Floats:
    """So many of the rows (K, ...), drawn without replacement, in their order; all for None or as many as there are."""
    if samples is None or samples >= len(rows):
        return rows
    keep = np.random.default_rng(seed).choice(len(rows), samples, replace=False)
    return rows[np.sort(keep)]


@dataclass(kw_only=True, eq=False)
class ScenarioAgent(Agent):
    """Decides by solving the problem for scenarios of the outcome; a point forecast is a single scenario.

    Outcomes that the observation tells beforehand (``Layout.known``) take the place of what a scenario says of them.
    """

    @abstractmethod
    def scenarios(self, observations: Observations) -> Floats:
        """Scenarios (B, M, D) of the outcomes after the observations (B, size)."""

    def _act(self, observations: Observations) -> Floats:
        scenarios = self.layout_.told(observations, self.scenarios(observations))
        state = self.layout_.state(observations)
        given = self.problem_.given(scenarios, None if state is None else state.astype(np.float64))
        decisions: Floats = self.problem_.solve(given)
        return decisions


_REGISTRY: dict[str, str | type[Agent]] = {
    "oracle": "baselines:Oracle",
    "random": "baselines:Random",
    "constant": "baselines:Constant",
    "persistence": "baselines:Persistence",
    "saa": "baselines:SampleAverage",
    "residual-saa": "residual_saa:ResidualSampleAverage",
    "two-stage": "two_stage:TwoStage",
    "dfl": "dfl:DecisionFocused",
    "bandit": "bandit:Bandit",
    "conformal": "conformal:Conformal",
    "kl-dro": "kl_dro:KullbackLeiblerRobust",
    "w-dro": "w_dro:WassersteinRobust",
    "three-d": "three_d:DiffusionRobust",
    "augment-cutout": "augmented:CutoutAugmented",
    "augment-gaussian": "augmented:GaussianAugmented",
    "augment-perlin": "augmented:PerlinAugmented",
    "two-stage-gaussian": "generative:TwoStageGaussian",
    "dfl-gaussian-reparam": "generative:GaussianReparameterised",
    "dfl-gaussian-score": "generative:GaussianScore",
    "two-stage-diffusion": "generative:TwoStageDiffusion",
    "diffusion-dfl-reparam": "generative:DiffusionReparameterised",
    "diffusion-dfl-score": "generative:DiffusionScore",
    "deterministic": "protective:Deterministic",
    "ulro-box": "ulro:UlroBox",
    "ulro-ellipsoid": "ulro:UlroEllipsoid",
    "aro-box": "aro:AroBox",
    "aro-ellipsoid": "aro:AroEllipsoid",
    "drcc": "drcc:DistributionallyRobust",
    "re-dro": "scenario_robust:ResidualRobust",
    "cvar-djcc": "scenario_robust:ConditionalValueRobust",
    "ppo": "ppo:ProximalPolicy",
    "sac": "sac:SoftActorCritic",
    "td3": "td3:TwinDelayed",
    "sb3": "sb3_zip:StableBaselinesZip",
}


def register_agent(name: str) -> Callable[[type[Agent]], type[Agent]]:
    """Class decorator that makes an agent of your own known by name."""

    def register(agent: type[Agent]) -> type[Agent]:
        agent.name = name
        _REGISTRY[name] = agent
        return agent

    return register


def list_agents() -> list[str]:
    """Names of all agents, simplest first."""
    return list(_REGISTRY)


def own_agents() -> dict[str, type[Agent]]:
    """Agents that were registered by class: those of the user's own."""
    return {name: entry for name, entry in _REGISTRY.items() if not isinstance(entry, str)}


def agent_class(name: str) -> type[Agent]:
    """Class of an agent; its module is imported now, so that listing agents stays light.

    Raises
    ------
    UnknownNameError
        If there is no such agent.
    """
    if name not in _REGISTRY:
        raise UnknownNameError("agent", name, _REGISTRY)
    entry = _REGISTRY[name]
    if isinstance(entry, str):
        module, _, attribute = entry.partition(":")
        found: type[Agent] = getattr(importlib.import_module(f".{module}", __package__), attribute)
        found.name = name
        return found
    return entry


def make_agent(name: str, **parameters: Any) -> Agent:
    """Build an agent from its name and hyper-parameters.

    Raises
    ------
    UnknownNameError
        For an unknown agent or hyper-parameter; the message lists the valid ones.
    """
    agent = agent_class(name)
    known = [item.name for item in dataclasses.fields(agent)]
    for parameter in parameters:
        if parameter not in known:
            raise UnknownNameError(f"parameter of agent {name!r}", parameter, known)
    return agent(**parameters)
