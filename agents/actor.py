"""The network of an SB3 policy, rebuilt from its weights alone: nothing is unpickled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.errors import ShiftgymError

#: Activations by the name of their class.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (nn.Tanh, nn.ReLU, nn.ELU, nn.LeakyReLU, nn.SiLU, nn.GELU)
}
#: How stable-baselines3 names the layers of an actor, by the kind of policy.
_LAYERS = {
    "gaussian": re.compile(r"(mlp_extractor\.policy_net\.\d+|action_net)\.(weight|bias)"),  # PPO, A2C
    "squashed": re.compile(r"actor\.(latent_pi\.\d+|mu)\.(weight|bias)"),  # SAC, TQC
    "deterministic": re.compile(r"actor\.mu\.\d+\.(weight|bias)"),  # TD3, DDPG
}
#: The activation that stable-baselines3 gives each kind by default.
DEFAULTS = {"gaussian": "Tanh", "squashed": "ReLU", "deterministic": "ReLU"}
#: Weights that a deterministic decision does not need.
_UNUSED = re.compile(r"value_net\.|mlp_extractor\.value_net\.|log_std$|actor\.log_std\.|actor_target\.|critic")


class Actor(nn.Module):
    """Fully connected layers that map an observation (B, size) to an action (B, d).

    Parameters
    ----------
    widths : sequence of int
        From the input to the output.
    activation : str
        Between layers, a name in :data:`ACTIVATIONS`.
    bounded : bool
        Whether a tanh brings the output into [-1, 1].

    Attributes
    ----------
    widths : list of int
        See above.
    """

    def __init__(self, widths: list[int], activation: str, bounded: bool) -> None:
        super().__init__()
        self.widths, self.activation, self.bounded = widths, activation, bounded
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.between = ACTIVATIONS[activation]()

    def forward(self, observations: Tensor) -> Tensor:
        """Actions (B, d)."""
        *inner, last = self.layers
        hidden = observations
        for layer in inner:
            hidden = self.between(layer(hidden))
        out: Tensor = last(hidden)
        return torch.tanh(out) if self.bounded else out

    @classmethod
    def of_policy(cls, weights: Mapping[str, Tensor], activation: str | None = None) -> Actor:
        """Rebuild the actor of an SB3 policy from ``policy.state_dict()``.

        Parameters
        ----------
        weights : mapping of str to tensor
            All of them; those of critics are left alone.
        activation : str, optional
            Name of the activation; SB3's own choice for the kind of policy by default.

        Raises
        ------
        ShiftgymError
            If these are no weights of fully connected layers over flat observations, for continuous actions.
        """
        used = {name: weight for name, weight in weights.items() if not _UNUSED.match(name)}
        kind = next((kind for kind, pattern in _LAYERS.items() if used and all(map(pattern.fullmatch, used))), None)
        if kind is None:
            other = sorted({name.rsplit(".", 1)[0] for name in used})
            raise ShiftgymError(
                "the policy cannot be rebuilt: it needs fully connected layers over flat observations as those of "
                f"'MlpPolicy', and has {', '.join(other[:6]) or 'no actor'}"
            )
        if kind == "gaussian" and "log_std" not in weights:
            raise ShiftgymError("the policy cannot be rebuilt: its actions are not continuous, ours are")
        layers = [name.removesuffix(".weight") for name in used if name.endswith(".weight")]
        layers.sort(key=_depth)
        name = activation or DEFAULTS[kind]
        if name not in ACTIVATIONS:
            raise ShiftgymError(f"the policy cannot be rebuilt: its activation {name!r} is none of {list(ACTIVATIONS)}")
        widths = [used[f"{layers[0]}.weight"].shape[1], *(used[f"{layer}.weight"].shape[0] for layer in layers)]
        actor = cls(widths, name, bounded=kind != "gaussian")
        for layer, own in zip(layers, actor.layers, strict=True):
            own.load_state_dict({part: used[f"{layer}.{part}"] for part in ("weight", "bias")})
        return actor

    def state(self) -> dict[str, NDArray[Any]]:
        """Weights and kind, as arrays by name."""
        kind = np.array([list(ACTIVATIONS).index(self.activation), int(self.bounded)])
        return {"actor.kind": kind} | {f"actor.{key}": value.numpy() for key, value in self.state_dict().items()}

    @classmethod
    def of_state(cls, state: Mapping[str, NDArray[Any]]) -> Actor:
        """Take back the arrays of :meth:`state`."""
        weights = {key.removeprefix("actor."): torch.as_tensor(array) for key, array in state.items()}
        activation, bounded = weights.pop("kind").tolist()
        count = len(weights) // 2
        widths = [weights["layers.0.weight"].shape[1]]
        widths += [weights[f"layers.{layer}.weight"].shape[0] for layer in range(count)]
        actor = cls(widths, list(ACTIVATIONS)[activation], bool(bounded))
        actor.load_state_dict(weights)
        return actor


def _depth(layer: str) -> int:
    """Place of a layer among its like; the output, which has no number, comes last."""
    number = layer.rsplit(".", 1)[-1]
    return int(number) if number.isdigit() else 10**6
