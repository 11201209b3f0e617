"""Wrappers that the field uses, for single environments and native vectors alike: ``wrap(env, Normalise(), …)``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from ..data.errors import ShiftgymError
from .replay import ReplayEnv
from .task import Floats, Observations, Task
from .transforms import (
    Forecast,
    Lagrangian,
    Normalise,
    PreviousAction,
    Project,
    RandomShift,
    SafetyCost,
    Transform,
)
from .vector import ReplayVectorEnv

__all__ = [
    "Forecast",
    "Lagrangian",
    "Normalise",
    "PreviousAction",
    "Project",
    "RandomShift",
    "SafetyCost",
    "Transform",
    "wrap",
]


def wrap(env: Any, *transforms: Transform) -> Any:
    """Wrap an environment of shiftgym, single or natively batched, in transforms; the first is next to it.

    Parameters
    ----------
    env : gymnasium.Env or VectorEnv
        What is wrapped; it may be wrapped already. Same-step autoreset, which shows the new episode in place of the
        end of the old one, is not supported.
    *transforms : Transform
        Each belongs to this environment from now on.

    Raises
    ------
    ShiftgymError
        For another environment, or a transform that does not fit it.

    Examples
    --------
    >>> import gymnasium
    >>> import shiftgym
    >>> from shiftgym.envs.wrappers import Normalise, PreviousAction, wrap
    >>> env = wrap(gymnasium.make("shiftgym/Inventory-v0"), Normalise(), PreviousAction())
    >>> env.observation_space.shape
    (2,)
    """
    inner = env.unwrapped
    if isinstance(inner, ReplayEnv):
        return Wrapped(env, transforms)
    if isinstance(inner, ReplayVectorEnv):
        return VectorWrapped(env, transforms)
    raise ShiftgymError(f"{inner} is no environment of shiftgym, single or natively batched")


class Chain:
    """Transforms one after the other."""

    def __init__(self, task: Task, transforms: tuple[Transform, ...]) -> None:
        self._transforms = transforms
        width = task.layout.size
        for transform in transforms:
            transform.fit(task)
            width = transform.width(width)
        self.shown = [key for transform in transforms for key in transform.shown]
        self.generator: np.random.Generator | None = None
        largest = float(np.finfo(np.float32).max)
        self.space = spaces.Box(-largest, largest, (width,), np.float32)

    def options(self, seed: Any, options: dict[str, Any] | None) -> dict[str, Any] | None:
        """Options of a reset of all rows: those of the transforms, then those given."""
        if self.generator is None or seed is not None:
            self.generator = seeding.np_random(seed if isinstance(seed, int) else None)[0]
            for transform in self._transforms:
                transform.restart()
        drawn: dict[str, Any] = {}
        for transform in self._transforms:
            drawn |= transform.options(self.generator)
        return {**drawn, **(options or {})} or None

    def act(self, actions: Any) -> Any:
        """From the outermost to the environment."""
        if not any(type(transform).act is not Transform.act for transform in self._transforms):
            return actions
        requested = np.asarray(actions, np.float64)
        for transform in reversed(self._transforms):
            requested = transform.act(requested)
        return requested

    def see(self, observations: Observations, decisions: Floats) -> Observations:
        """From the environment outwards."""
        for transform in self._transforms:
            observations = transform.see(observations, decisions)
        return observations.astype(np.float32, copy=False)

    def pay(self, rewards: Floats, info: dict[str, Floats]) -> Floats:
        """From the environment outwards."""
        for transform in self._transforms:
            rewards = transform.pay(rewards, info)
        return rewards


class Wrapped(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A single environment in transforms; see :func:`wrap`."""

    def __init__(self, env: Any, transforms: tuple[Transform, ...]) -> None:
        super().__init__(env)
        task = _task(env)
        self._chain = Chain(task, transforms)
        self.observation_space = self._chain.space
        self._nothing: Floats = np.full((1, task.problem.decision_dim), np.nan)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        seen, info = self.env.reset(seed=seed, options=self._chain.options(seed, options))
        return self._chain.see(seen[None], self._nothing)[0], {**info, **dict.fromkeys(self._chain.shown, 0.0)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Execute one decision."""
        requested = self._chain.act(np.asarray(action)[None])[0]
        seen, reward, terminated, truncated, info = self.env.step(requested)
        columns = {key: np.array([value]) for key, value in info.items()}
        paid = self._chain.pay(np.array([float(reward)]), columns).item()
        observation = self._chain.see(seen[None], _last_decision(self.env)[None])[0]
        return observation, paid, terminated, truncated, {key: values.item() for key, values in columns.items()}


class VectorWrapped(VectorWrapper[Any, Any, Any]):
    """A native vector environment in transforms; see :func:`wrap`."""

    def __init__(self, env: VectorEnv[Any, Any, Any], transforms: tuple[Transform, ...]) -> None:
        super().__init__(env)
        if env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP:
            raise ShiftgymError("autoreset_mode is 'SameStep': make it with 'NextStep' or 'Disabled' to wrap it")
        task = _task(env)
        self._chain = Chain(task, transforms)
        self.single_observation_space = self._chain.space
        self.observation_space = batch_space(self._chain.space, env.num_envs)
        self._decisions: Floats = np.full((env.num_envs, task.problem.decision_dim), np.nan)
        self._done = np.zeros(env.num_envs, bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every row, or in those of ``options["reset_mask"]``."""
        mask = (options or {}).get("reset_mask")
        if mask is None or np.all(mask):
            options, mask = self._chain.options(seed, options), np.ones(self.num_envs, bool)
        seen, info = self.env.reset(seed=seed, options=options)
        self._decisions[mask], self._done[mask] = np.nan, False
        for key in self._chain.shown:
            info[key], info[f"_{key}"] = np.zeros(self.num_envs), mask.copy()
        return self._chain.see(seen, self._decisions), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Execute one decision per row; rows that spend the step on starting anew are paid nothing."""
        began = self._done
        if began.all() and self.env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP:
            seen, info = self.reset()  # with options of the transforms, such as a shift, which rows alone cannot have
            over = np.zeros(self.num_envs, bool)
            return seen, np.zeros(self.num_envs), over, over.copy(), info
        seen, rewards, terminated, truncated, info = self.env.step(self._chain.act(np.asarray(actions)))
        self._done = terminated | truncated
        self._decisions = np.where(began[:, None], np.nan, _last_decision(self.env))
        columns = {key: values for key, values in info.items() if not key.startswith("_")}
        paid = self._chain.pay(rewards, columns)
        for key in self._chain.shown:
            info[key], info[f"_{key}"] = np.where(began, 0.0, columns[key]), np.ones(self.num_envs, bool)
        return self._chain.see(seen, self._decisions), np.where(began, 0.0, paid), terminated, truncated, info


def _task(env: Any) -> Task:
    """What an environment replays."""
    task: Task = env.unwrapped.task
    return task


def _last_decision(env: Any) -> Floats:
    """What was executed last: (d,), or (n, d)."""
    decision: Floats = env.unwrapped.last_decision
    return decision
