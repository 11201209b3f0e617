"""Agents that stable-baselines3 trains by reinforcement on the native vector environment."""

from __future__ import annotations

import contextlib
import importlib.util
import random
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

from ..data.errors import ShiftgymError
from ..envs.task import Floats, Observations, Task
from ..envs.vector import ReplayVectorEnv
from .actor import Actor
from .base import Agent, Epoch, State
from .coach import Coach, ScaledVecEnv, replayed_objective
from .scaling import Scaling
from .threads import single_thread
from .tuned import tuned

#: Settings that change nothing about what is learned.
_FREE = ("checkpoint", "tensorboard")


@dataclass(kw_only=True, eq=False)
class Reinforcement(Agent):
    """Trains a policy by stable-baselines3 on random windows of the training trace, replayed side by side.

    The last part of the training trace is held out: the policy is judged there from time to time, acting without noise,
    and the best one is kept, which may be the anchor that training begins with. The reward is minus the objective of a
    step (its cost, where that leaves nothing out) and what perfect information would have paid at an episode's start,
    which no decision changes: it has the same best policy with less noise. Where decisions do not change what comes
    next, the return of a decision is its own reward (``gamma=0``). What the network sees and says is scaled, see
    :class:`~shiftgym.agents.scaling.Scaling`.

    A setting that is None takes the value that was tuned for the environment, see :mod:`~shiftgym.agents.tuned`.

    Parameters
    ----------
    steps : int or None
        Decisions to learn from, of all replays together.
    replays : int
        Replays side by side.
    hidden : tuple of int or None
        Widths of the layers of actor and critic.
    learning_rate, gamma : float or None
        Of Adam; the discount.
    anchor : {"persistence", "saa"} or None
        What actions are deviations from: the best reply to the last outcome, or the best constant decision.
    reach : float or None
        What action one stands for, in standard deviations of what perfect decisions add to the anchor.
    validation : float
        Share of the training trace, at its end, that chooses the policy; 0 keeps the last one.
    evaluations : int
        How often the policy is judged.
    patience : int or None
        Judgements without a better one after which training stops; None never stops.
    checkpoint : str or None
        Folder for checkpoints, one after each judgement; a fit that finds its own there resumes. What a replay buffer
        held is collected anew.
    tensorboard : str or None
        Folder for the logs of TensorBoard.
    """

    steps: int | None = None
    replays: int = 64
    hidden: tuple[int, ...] | None = None
    learning_rate: float | None = None
    gamma: float | None = None
    anchor: str | None = None
    reach: float | None = None
    validation: float = 0.15
    evaluations: int = 20
    patience: int | None = 8
    checkpoint: str | None = None
    tensorboard: str | None = None

    def __post_init__(self) -> None:
        if self.hidden is not None:
            self.hidden = tuple(self.hidden)
        if not 0 <= self.validation < 1:
            raise ShiftgymError(f"validation is {self.validation}: give a share in [0, 1)")
        if self.gamma is not None and not 0 <= self.gamma <= 1:
            raise ShiftgymError(f"gamma is {self.gamma}: give a discount in [0, 1]")
        for field in ("steps", "replays", "learning_rate", "reach", "evaluations", "patience"):
            value = getattr(self, field)
            if value is not None and value <= 0:
                raise ShiftgymError(f"{field} is {value}: give a positive number")

    @abstractmethod
    def _model(self, env: ScaledVecEnv, common: dict[str, Any]) -> BaseAlgorithm:
        """The algorithm, not yet trained, given the keywords that all of them take."""

    def settings(self, task: Task) -> dict[str, Any]:
        """Hyper-parameters that a training on the task depends on: those that are set, else those that were tuned."""
        own = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _FREE}
        chosen = tuned(self.name, task.problem)
        return {name: chosen[name] if value is None and name in chosen else value for name, value in own.items()}

    # ------------------------------------------------------------------ fitting
    @property
    def _stride(self) -> int:
        """Steps from one update to the next: judging more often would wait for nothing, and lose patience."""
        return self.replays

    def _fit(self, task: Task, progress: bool, device: str) -> None:
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ShiftgymError("tensorboard is not installed: pip install 'shiftgym[rl]', or leave the setting out")
        settings = self.settings(task)
        count = len(task) - int(len(task) * self.validation)
        train = task.part(0, count)
        self.scaling_ = Scaling.fit(train, settings["anchor"], settings["reach"])
        held = task.part(count, len(task)) if count < len(task) else None

        def judge(actor: Actor) -> float:
            assert held is not None
            return replayed_objective(held, lambda observations: self._decide(actor, observations))

        with _kept_generators(), single_thread(), warnings.catch_warnings(), Progress(disable=not progress) as bar:
            warnings.filterwarnings("ignore", ".* on the GPU", UserWarning)  # who asks for one knows
            shown = bar.add_task(f"fit {self.name}", total=settings["steps"])
            env = ScaledVecEnv(ReplayVectorEnv.of(train, self.replays, order="random"), self.scaling_)
            model = self._model(env, self._common(settings, device))
            _begin_at_anchor(model)
            coach = Coach(
                judge if held else None,
                every=max(self._stride, settings["steps"] // self.evaluations),
                patience=self.patience,
                folder=self.checkpoint,
                settings=settings,
                advance=lambda steps: bar.update(shown, completed=steps),
            )
            coach.resume(model)
            if settings["steps"] > model.num_timesteps and not coach.over:
                left = settings["steps"] - model.num_timesteps
                model.learn(left, coach, reset_num_timesteps=False, tb_log_name=self.name)
            self.actor_ = coach.best(model)
        if held:
            self.history_ += [
                Epoch("fit", steps, seconds, cost, True)
                for steps, seconds, cost in zip(coach.steps, coach.seconds, coach.costs, strict=True)
            ]

    def _common(self, settings: dict[str, Any], device: str) -> dict[str, Any]:
        """Keywords that all algorithms take."""
        return {
            "policy": "MlpPolicy",
            "learning_rate": settings["learning_rate"],
            "gamma": settings["gamma"],
            "policy_kwargs": {"net_arch": list(settings["hidden"])},
            "tensorboard_log": self.tensorboard,
            "seed": self.seed,
            "device": device,
        }

    # ------------------------------------------------------------------ deciding
    def _decide(self, actor: Actor, observations: Observations) -> Floats:
        with torch.no_grad():
            actions = actor(torch.as_tensor(self.scaling_.see(observations))).clamp(-1.0, 1.0).double().numpy()
        return self.scaling_.decide(self.problem_, self.layout_, observations, actions)

    def _act(self, observations: Observations) -> Floats:
        with single_thread():
            decisions: Floats = self.problem_.project(self._decide(self.actor_, observations))
        return decisions

    # ------------------------------------------------------------------ keeping
    def state(self) -> State:
        """The weights of the actor, its kind, and the scaling."""
        scaling = {f"scaling.{name}": array for name, array in self.scaling_.state().items()}
        return scaling | self.actor_.state()

    def load_state(self, state: State) -> None:
        """Rebuild scaling and actor."""
        arrays = {name.removeprefix("scaling."): array for name, array in state.items() if name.startswith("scaling.")}
        self.scaling_ = Scaling.of_state(arrays)
        self.actor_ = Actor.of_state({name: array for name, array in state.items() if not name.startswith("scaling.")})


@dataclass(kw_only=True, eq=False)
class OffPolicy(Reinforcement):
    """Learns from transitions that are remembered, whoever chose their actions.

    Parameters
    ----------
    batch_size : int
        Transitions per update.
    updates : int
        Updates after each step of all replays.
    buffer : int
        Transitions that are remembered.
    warm_up : int
        Steps with random actions before the first update.
    """

    batch_size: int = 256
    updates: int = 4
    buffer: int = 100_000
    warm_up: int = 2_000

    def _common(self, settings: dict[str, Any], device: str) -> dict[str, Any]:
        return {
            **super()._common(settings, device),
            "batch_size": self.batch_size,
            "gradient_steps": self.updates,
            "buffer_size": self.buffer,
            "learning_starts": self.warm_up,
        }


def _begin_at_anchor(model: BaseAlgorithm) -> None:
    """Let the actor begin with action zero everywhere, so that no policy is kept that is worse than the anchor."""
    policy: Any = model.policy
    head = policy.action_net if isinstance(policy, ActorCriticPolicy) else policy.actor.mu
    *_, last = (layer for layer in head.modules() if isinstance(layer, torch.nn.Linear))
    for weights in last.parameters():
        torch.nn.init.zeros_(weights)


@contextlib.contextmanager
def _kept_generators() -> Iterator[None]:
    """Give the generators that SB3 seeds for the whole process back as they were."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng([]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
