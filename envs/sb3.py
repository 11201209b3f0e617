"""A stable-baselines3 ``VecEnv`` over a natively batched environment: SB3 trains on many replays without processes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from ..data.errors import ShiftgymError
from .vector import ReplayVectorEnv

#: What a row is asked for under one name and the vector environment has under another.
_OF_A_ROW = {"observation_space": "single_observation_space", "action_space": "single_action_space"}
#: Attributes and methods of the vector environment whose rows belong to the rows.
_BY_ROW = frozenset(("last_outcome", "last_decision", "last_oracle", "foresight"))


def to_sb3(env: VectorEnv[Any, Any, Any]) -> ReplayVecEnv:
    """Hand a natively batched environment over to stable-baselines3.

    It behaves like SB3's ``DummyVecEnv`` over as many single environments, each in a ``Monitor``: the same
    observations, rewards (float32) and ends; ``info`` holds the flat keys of the environment,
    ``TimeLimit.truncated`` and, at the end of an episode, ``terminal_observation`` and ``episode``. Row i is seeded
    with ``seed + i``. The adapter restarts the rows that ended itself, so it switches autoreset off.

    Parameters
    ----------
    env : VectorEnv
        What ``gymnasium.make_vec("shiftgym/…", num_envs=64)`` returns; wrapped, if it is to be.

    Raises
    ------
    ShiftgymError
        For anything but a natively batched environment of shiftgym, which may be wrapped.

    Examples
    --------
    >>> import gymnasium
    >>> import shiftgym
    >>> from shiftgym.envs import to_sb3
    >>> env = to_sb3(gymnasium.make_vec("shiftgym/Inventory-v0", num_envs=8))
    >>> env.reset().shape
    (8, 1)
    """
    return ReplayVecEnv(env)


class ReplayVecEnv(VecEnv):
    """See :func:`to_sb3`.

    Attributes
    ----------
    env : VectorEnv
        What is stepped.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        inner = env.unwrapped
        if not isinstance(inner, ReplayVectorEnv):
            raise ShiftgymError(
                f"{inner} is no vector environment of shiftgym: use gymnasium.make_vec('shiftgym/…', num_envs=…)"
            )
        inner.autoreset_mode = AutoresetMode.DISABLED
        inner.metadata = {**inner.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._began = time.time()
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._actions: Any = None

    # ------------------------------------------------------------------ stepping
    def reset(self) -> Any:
        """Start an episode in every row, with the seeds and options that were set for it."""
        seeds: Any = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        observations, info = self.env.reset(seed=seeds, options=self._merged_options())
        self._returns[:] = self._lengths[:] = 0
        self.reset_infos = _by_row(info)
        self._reset_seeds()
        self._reset_options()
        return observations

    def _merged_options(self) -> dict[str, Any] | None:
        """Options for all rows at once: the start of a window may differ from row to row."""
        merged = dict(self._options[0])
        for options in self._options[1:]:
            if {**options, "start": None} != {**self._options[0], "start": None}:
                raise ShiftgymError("options differ from row to row: rows of one environment differ in start only")
        if any(options.get("start") is not None for options in self._options):
            merged["start"] = [options.get("start") for options in self._options]
        return merged or None

    def step_async(self, actions: Any) -> None:
        """Keep the actions for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Execute one decision per row; rows that end start anew, what they saw last is in their info."""
        observations, rewards, terminated, truncated, info = self.env.step(self._actions)
        done = terminated | truncated
        infos = _by_row({**info, "TimeLimit.truncated": truncated & ~terminated})
        self._returns += rewards
        self._lengths += 1
        if done.any():
            rows = np.flatnonzero(done)
            elapsed = round(time.time() - self._began, 6)
            for row in rows:
                total, length = round(float(self._returns[row]), 6), int(self._lengths[row])
                infos[row]["episode"] = {"r": total, "l": length, "t": elapsed}
                infos[row]["terminal_observation"] = observations[row].copy()
            self._returns[rows] = self._lengths[rows] = 0
            observations, fresh = self.env.reset(options={"reset_mask": done})
            begun = _by_row({key: values[rows] for key, values in fresh.items()})
            for row, told in zip(rows, begun, strict=True):
                self.reset_infos[row] = told
        return observations, rewards.astype(np.float32), done, infos

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    # ------------------------------------------------------------------ asking and telling rows
    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute as each row has it; of ``last_outcome`` and its like the part that is the row's.

        Raises
        ------
        AttributeError
            If the environment has no such attribute.
        """
        rows = list(self._get_indices(indices))
        value = _found(self.env, _OF_A_ROW.get(attr_name, attr_name))
        return [value[row] if attr_name in _BY_ROW else value for row in rows]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the environment, for all rows at once."""
        self._check_all(attr_name, indices)
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method, once for all rows, and return each row's result."""
        rows = list(self._get_indices(indices))
        if method_name not in _BY_ROW:
            self._check_all(method_name, indices)
        result = _found(self.env, method_name)(*method_args, **method_kwargs)
        return [result[row] if method_name in _BY_ROW else result for row in rows]

    def _check_all(self, name: str, indices: Any) -> None:
        rows = list(self._get_indices(indices))
        if len(set(rows)) != self.num_envs:
            raise ShiftgymError(f"{name!r} of rows {rows} alone: all rows are one environment, leave indices out")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Whether rows have a wrapper; every row counts its episodes as one in a ``Monitor`` does."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[Any]:
        """The picture of row 0, and none of the others."""
        drawn = self.env.render() if self.render_mode == "rgb_array" else None
        if drawn is None:
            warnings.warn("get_images() needs render_mode='rgb_array' in gymnasium.make_vec", stacklevel=2)
            return []
        return list(drawn)


def _found(env: VectorEnv[Any, Any, Any], name: str) -> Any:
    """An attribute of a vector environment, wrapped or not."""
    return getattr(env, name) if hasattr(env, name) else getattr(env.unwrapped, name)


def _by_row(info: dict[str, Any]) -> list[dict[str, Any]]:
    """A dictionary per row of a vector environment's info, without the masks."""
    columns = {key: values.tolist() for key, values in info.items() if not key.startswith("_")}
    rows = zip(*columns.values(), strict=True)
    return list(map(dict, map(zip, repeat(tuple(columns)), rows)))  # no step of Python's own for each row
