"""Training by stable-baselines3, watched: scaled environment, judgements on held-out data, checkpoints."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnvWrapper
from torch import Tensor

from ..data.errors import ShiftgymError
from ..data.files import atomic_write
from ..envs.sb3 import to_sb3
from ..envs.task import Floats, Observations, Task
from ..envs.vector import ReplayVectorEnv
from .actor import Actor
from .scaling import CLIP, Scaling

#: The least reward of a step in training, in units of what action zero regrets on average: costs that grow fast without
#: bound, met while exploring, would be all that a critic learns. The policy is chosen by what it costs, uncut.
WORST = -10.0


class ScaledVecEnv(VecEnvWrapper):
    """Replays as a policy network sees them: scaled observations, actions in [-1, 1], scaled rewards.

    The reward is the problem's objective of the perfect decision in the state that episodes begin in, less that of the
    decision: minus the regret, unless decisions change the state. It is cut off at :data:`WORST`.

    Parameters
    ----------
    env : ReplayVectorEnv
        What is replayed.
    scaling : Scaling
        Fitted on its task.
    """

    def __init__(self, env: ReplayVectorEnv, scaling: Scaling) -> None:
        problem, layout = env.task.problem, env.task.layout
        super().__init__(
            to_sb3(env),
            spaces.Box(-CLIP, CLIP, (layout.size,), np.float32),
            spaces.Box(-1.0, 1.0, (problem.decision_dim,), np.float32),
        )
        self._problem, self._layout, self._scaling = problem, layout, scaling
        self._replays = env
        self._seen: Any = None

    def reset(self) -> Any:
        """Start an episode in every row."""
        self._seen = self.venv.reset()
        return self._scaling.see(self._seen)

    def step_async(self, actions: Any) -> None:
        """Hand the decisions on."""
        self.venv.step_async(self._scaling.decide(self._problem, self._layout, self._seen, actions))

    def step_wait(self) -> Any:
        """Scaled results of the step."""
        self._seen, _, done, infos = self.venv.step_wait()
        met, replays = self._replays.last_outcome, self._replays
        # not the best from the state at hand, which is what decisions change
        best = self._problem.perfect(met) if replays.task.oracle_follows_path else replays.last_oracle
        objective = self._problem.objective
        regret = objective(met, replays.last_decision, replays.last_state) - objective(met, best)
        rewards = np.maximum(-regret / self._scaling.unit, WORST).astype(np.float32)
        for row in np.flatnonzero(done):
            infos[row]["terminal_observation"] = self._scaling.see(infos[row]["terminal_observation"])
        return self._scaling.see(self._seen), rewards, done, infos


def replayed_objective(task: Task, act: Callable[[Observations], Floats]) -> float:
    """Mean objective of a policy at the decision points of a task: its cost, where that leaves nothing out.

    Where the problem hands a state on, the points are replayed in paths side by side, of the length of an episode.
    """
    problem, points, stride = task.problem, task.points, task.points.stride
    steps = min(task.episode_steps or 28, (len(task) - 1) // stride + 1) if problem.stateful else 1
    rows = np.arange(0, len(task) - (steps - 1) * stride, steps * stride if problem.stateful else 1)
    state: Any = np.full((len(rows), problem.state_dim), np.nan)
    total = 0.0
    for step in range(steps):
        place = rows + step * stride
        decisions, outcomes = problem.project(act(task.observe(place, state))), points.outcomes[place]
        total += float(problem.objective(outcomes, decisions, state).mean())
        if problem.stateful:
            state = problem.carry(outcomes, decisions, state)
    return total / steps


class Coach(BaseCallback):
    """Judges the policy from time to time, keeps the best one, stops when none is better, writes checkpoints.

    Parameters
    ----------
    judge : callable, optional
        Mean cost of an actor on held-out data; without one the last policy is kept.
    every : int
        Steps between judgements.
    patience : int, optional
        Judgements without a better one after which training stops.
    folder : path, optional
        Of the checkpoint.
    settings : dict
        What the training depends on: a checkpoint of other settings is refused.
    advance : callable
        Told the number of steps so far.

    Attributes
    ----------
    steps, seconds, costs : list
        Of the judgements: after how many steps and seconds, and what the policy cost.
    """

    def __init__(
        self,
        judge: Callable[[Actor], float] | None,
        *,
        every: int,
        patience: int | None,
        folder: str | None,
        settings: dict[str, Any],
        advance: Callable[[int], None],
    ) -> None:
        super().__init__()
        self._judge, self._every, self._patience = judge, every, patience
        self._file = None if folder is None else Path(folder) / "checkpoint.pt"
        self._settings = json.dumps(settings, sort_keys=True, default=list)
        self._advance = advance
        self._began = time.perf_counter()
        self._kept: dict[str, Tensor] | None = None
        self.steps: list[int] = []
        self.seconds: list[float] = []
        self.costs: list[float] = []

    def best(self, model: BaseAlgorithm) -> Actor:
        """The best policy so far; the last one where nothing is held out."""
        actor = _actor(model)
        if self._kept is not None:
            actor.load_state_dict(self._kept)
        return actor

    @property
    def over(self) -> bool:
        """Whether so many of the last judgements, as patience allows, were no better than one before them."""
        waited = len(self.costs) - 1 - int(np.argmin(self.costs)) if self.costs else 0
        return self._judge is not None and self._patience is not None and waited >= self._patience

    # ------------------------------------------------------------------ what SB3 calls
    def _on_training_start(self) -> None:
        if not self.steps:
            self._look()

    def _on_step(self) -> bool:
        self._advance(self.num_timesteps)
        if self.num_timesteps >= self.steps[-1] + self._every:
            self._look()
        return not self.over

    def _on_training_end(self) -> None:
        if self.num_timesteps > self.steps[-1]:
            self._look()

    def _look(self) -> None:
        """Judge the policy as it is, and write a checkpoint."""
        actor = _actor(self.model)
        cost = np.nan if self._judge is None else self._judge(actor)
        if self._judge is not None and cost < min(self.costs, default=np.inf):
            self._kept = actor.state_dict()
        self.steps.append(self.num_timesteps)
        self.seconds.append(time.perf_counter() - self._began)
        self.costs.append(cost)
        self.logger.record("validation/cost", cost)
        if self._file is not None:
            self._save(self._file)

    # ------------------------------------------------------------------ checkpoints
    def _save(self, file: Path) -> None:
        """Write everything that training goes on from, except what a replay buffer holds."""
        _, variables = self.model._get_torch_save_params()
        content = {
            "settings": self._settings,
            "parameters": self.model.get_parameters(),
            "variables": {name: getattr(self.model, name).data for name in variables},
            "kept": self._kept,
            "judgements": [self.steps, self.seconds, self.costs],
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file, "wb") as stream:
            torch.save(content, stream)

    def resume(self, model: BaseAlgorithm) -> None:
        """Go on from the checkpoint, if there is one.

        Raises
        ------
        ShiftgymError
            For a file that is no checkpoint, or one of other settings.
        """
        if self._file is None or not self._file.is_file():
            return
        try:  # tensors and numbers only: nothing in the file is executed
            content = torch.load(self._file, map_location=model.device, weights_only=True)
            settings, judgements = content["settings"], content["judgements"]
        except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise ShiftgymError(f"{self._file} is no checkpoint, or a damaged one: {error}; remove it") from error
        if settings != self._settings:
            raise ShiftgymError(
                f"{self._file} is of another training, {settings} and not {self._settings}: name another folder"
            )
        model.set_parameters(content["parameters"], exact_match=True, device=model.device)
        for name, value in content["variables"].items():
            getattr(model, name).data = value
        self._kept = content["kept"]
        self.steps, self.seconds, self.costs = judgements
        self._began -= self.seconds[-1]
        model.num_timesteps = self.steps[-1]


def _actor(model: BaseAlgorithm) -> Actor:
    """A copy of the policy, on the processor, as it acts without noise."""
    return Actor.of_policy({name: weight.detach().cpu().clone() for name, weight in model.policy.state_dict().items()})
