"""``sb3:path.zip``: a policy that stable-baselines3 saved, rebuilt from its weights without unpickling anything."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.errors import ShiftgymError
from ..envs.task import Floats, Observations, Task
from .actor import Actor
from .base import Agent, State
from .threads import single_thread

#: Settings of a policy that are read, or change nothing about how it acts without noise.
_KNOWN = {
    *("net_arch", "activation_fn", "log_std_init", "ortho_init", "optimizer_class", "optimizer_kwargs", "n_critics"),
    *(":type:", ":serialized:", "use_sde", "share_features_extractor", "normalize_images"),
}


@dataclass(kw_only=True, eq=False)
class StableBaselinesZip(Agent):
    """A policy from a zip of stable-baselines3, acting without noise; nothing is trained.

    A zip holds pickled objects, which could run any code when they are loaded. Of the zip only ``policy.pth`` is
    read, tensors alone, and the plain parts of its JSON; the network is rebuilt from these. Policies of fully
    connected layers can be rebuilt (``MlpPolicy`` of PPO, A2C, SAC, TQC, TD3 and DDPG), others are refused. A policy
    that was trained behind a wrapper that scales what it sees, such as ``VecNormalize``, needs that wrapper again:
    see :func:`~shiftgym.agents.policy_agent`.

    Parameters
    ----------
    path : str
        Of the zip. It was trained on the environment that the agent is used in, or one of the same spaces.
    """

    path: str = ""

    def _fit(self, task: Task, progress: bool, device: str) -> None:
        actor = read_actor(self.path)
        wanted = [task.layout.size, task.problem.decision_dim]
        if [actor.widths[0], actor.widths[-1]] != wanted:
            raise ShiftgymError(
                f"{self.path}: the policy maps {actor.widths[0]} numbers to {actor.widths[-1]}, this environment needs "
                f"{wanted[0]} to {wanted[1]}: take one that was trained on it, with the same keywords"
            )
        self.actor_ = actor

    def _act(self, observations: Observations) -> Floats:
        with torch.no_grad(), single_thread():
            actions = self.actor_(torch.as_tensor(observations)).double().numpy()
        low, high = self.problem_.low, self.problem_.high
        if self.actor_.bounded:  # SB3 spreads [-1, 1] over the action space
            actions = low + (high - low) * (actions + 1) / 2
        decisions: Floats = self.problem_.project(np.clip(actions, low, high))
        return decisions

    def state(self) -> State:
        """The network: a saved agent needs the zip no more."""
        return self.actor_.state()

    def load_state(self, state: State) -> None:
        """Rebuild the network."""
        self.actor_ = Actor.of_state(state)


def read_actor(path: str | Path) -> Actor:
    """Rebuild the network of a policy that ``model.save(path)`` of stable-baselines3 wrote.

    Raises
    ------
    ShiftgymError
        If there is no such file, it is no such zip, or its policy cannot be rebuilt from weights alone.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("data"))
            weights = torch.load(io.BytesIO(archive.read("policy.pth")), map_location="cpu", weights_only=True)
    except (OSError, KeyError, zipfile.BadZipFile, json.JSONDecodeError, RuntimeError, pickle.UnpicklingError) as error:
        raise ShiftgymError(f"{path} is no policy that stable-baselines3 saved: {error}") from error
    try:
        return Actor.of_policy(weights, _activation(about))
    except ShiftgymError as error:
        raise ShiftgymError(f"{path}: {error}") from error


def _activation(about: dict[str, Any]) -> str | None:
    """Name of the activation that was asked for, if any, from the plain parts of the JSON.

    Raises
    ------
    ShiftgymError
        For anything else that changes how the policy acts.
    """
    home = str((about.get("policy_class") or {}).get("__module__", ""))
    if not home.startswith(("stable_baselines3.", "sb3_contrib.")):
        raise ShiftgymError(f"the policy cannot be rebuilt: its class is from {home or 'nowhere'}, not of SB3's own")
    if about.get("use_sde"):
        raise ShiftgymError("the policy cannot be rebuilt: it was trained with use_sde=True")
    settings = about.get("policy_kwargs") or {}
    others = set(settings) - _KNOWN
    if others:
        raise ShiftgymError(f"the policy cannot be rebuilt: it sets {', '.join(sorted(others))}")
    asked = re.search(r"(\w+)'>$", str(settings.get("activation_fn", "")))
    return asked[1] if asked else None
