"""Rollouts of an agent as a Minari dataset, which offline reinforcement learning reads (extra ``offline``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from ..agents.base import Agent
from ..agents.behaviour import GaussianAround
from ..data.errors import ShiftgymError
from ..envs.vector import ReplayVectorEnv


def export_minari(
    dataset_id: str,
    env: Any,
    policy: Agent | GaussianAround,
    *,
    episodes: int | None = None,
    seed: int = 0,
    author: str | None = None,
) -> Any:
    """Replay the trace of an environment, window after window, and keep what happened as a Minari dataset.

    Parameters
    ----------
    dataset_id : str
        Such as ``"provisioning/persistence-v0"``; Minari keeps it under ``MINARI_DATASETS_PATH``.
    env : gymnasium.Env
        Made by ``gymnasium.make("shiftgym/…")``; the dataset records how, so that it can be made again.
    policy : Agent or GaussianAround
        Who decides; of a stochastic policy the logarithms of the densities are in ``infos["log_propensity"]``. Minari
        holds actions to the space of the environment: requests outside are clipped to it before they are executed, and
        the density is that of the request.
    episodes : int, optional
        The first so many windows; all by default.
    seed : int
        Of a stochastic policy.
    author : str, optional
        For the dataset's metadata.

    Returns
    -------
    minari.MinariDataset
        The dataset, written.

    Raises
    ------
    ShiftgymError
        If Minari is not installed, or there is a dataset of that name.
    """
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError as error:
        raise ShiftgymError(f"{error}: pip install 'shiftgym[offline]'") from error
    task = env.unwrapped.task
    stride = task.points.stride
    available = (len(task) - 1) // stride + 1
    steps = min(task.episode_steps or available, available)
    count = min(available // steps, episodes or available)
    record = _record(task, np.arange(count) * steps * stride, steps, policy, seed)
    buffers = [
        EpisodeBuffer(
            id=row,
            seed=seed,
            options={"start": int(row * steps * stride), "length": steps},
            observations=record["observations"][:, row],
            actions=record["actions"][:, row],
            rewards=list(record["rewards"][:, row]),
            terminations=list(record["terminations"][:, row]),
            truncations=list(record["truncations"][:, row]),
            infos={key: values[:, row] for key, values in record["infos"].items()},
        )
        for row in range(count)
    ]
    agent = policy.agent if isinstance(policy, GaussianAround) else policy
    try:
        return minari.create_dataset_from_buffers(
            dataset_id=dataset_id,
            buffer=buffers,
            env=env.spec,
            action_space=env.action_space,
            observation_space=env.observation_space,
            algorithm_name=agent.name,
            author=author,
            description=f"{agent.name} replays {task.title}",
        )
    except ValueError as error:
        raise ShiftgymError(f"dataset {dataset_id!r} cannot be written: {error}") from error


def _record(task: Any, starts: Any, steps: int, policy: Agent | GaussianAround, seed: int) -> dict[str, Any]:
    """What happens from each start on, steps first: observations and infos begin with those of the reset."""
    env = ReplayVectorEnv.of(task, len(starts), autoreset_mode=AutoresetMode.DISABLED)
    rng = np.random.default_rng(seed)
    low, high = env.single_action_space.low, env.single_action_space.high  # type: ignore[attr-defined]
    seen, info = env.reset(seed=seed, options={"start": starts, "length": steps})
    if isinstance(policy, Agent):
        policy.reset()
    columns: dict[str, list[Any]] = {name: [] for name in ("actions", "rewards", "terminations", "truncations")}
    observations, infos = [seen], [{**_plain(info), "log_propensity": np.zeros(len(starts))}]
    for _ in range(steps):
        if isinstance(policy, GaussianAround):
            actions, likely = policy.draw(seen, rng)
        else:
            known: Any = env.foresight() if policy.clairvoyant else seen
            actions = policy.act(known)
            likely = np.zeros(len(starts))
        actions = np.clip(actions, low, high).astype(np.float32)
        seen, rewards, terminated, truncated, info = env.step(actions)
        observations.append(seen)
        infos.append({**_plain(info), "log_propensity": likely})
        for name, values in zip(columns, (actions, rewards, terminated, truncated), strict=True):
            columns[name].append(values)
    return {
        "observations": np.stack(observations),
        "infos": {key: np.stack([one[key] for one in infos]) for key in infos[0]},
        **{name: np.stack(values) for name, values in columns.items()},
    }


def _plain(info: dict[str, Any]) -> dict[str, Any]:
    return {key: np.array(values) for key, values in info.items() if not key.startswith("_")}
