"""Networks that map observations to numbers: the stacked LSTM of 3D-Learning and a plain MLP."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..data.errors import UnknownNameError
from ..envs.task import Layout

NETWORKS = ("auto", "lstm", "mlp")


class Network(nn.Module):
    """Standardises observations with fixed statistics of the training set, then maps them to ``outputs`` numbers.

    Parameters
    ----------
    layout : Layout
        Where the history is in an observation.
    outputs : int
        Width of the output.
    observations : tensor, shape (K, size)
        The training observations, for their mean and spread only.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, layout: Layout, outputs: int, observations: Tensor) -> None:
        super().__init__()
        self.layout, self.outputs = layout, outputs
        mean, scale = observations.mean(0), observations.std(0)
        history = layout.lookback * layout.columns
        if history:  # one statistic per column for all lags, so that a level means the same at every lag
            past = layout.history(observations)
            mean[:history] = past.mean((0, 1)).repeat(layout.lookback)
            scale[:history] = past.std((0, 1)).repeat(layout.lookback)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(scale > 1e-8, scale, torch.ones_like(scale)))

    def forward(self, observations: Tensor) -> Tensor:
        """Raw outputs (B, outputs) for observations (B, size)."""
        return self._map((observations - self.mean) / self.scale)

    def _map(self, standard: Tensor) -> Tensor:
        raise NotImplementedError


class StackedLSTM(Network):
    """Two LSTM layers of 128 and 64 units over the history; other features join at the linear head.

    The predictor shared by all methods in 3D-Learning, Section V-B4.
    """

    def __init__(self, layout: Layout, outputs: int, observations: Tensor, hidden: Sequence[int] = (128, 64)) -> None:
        super().__init__(layout, outputs, observations)
        widths = [layout.columns, *hidden]
        pairs = pairwise(widths)
        self.layers = nn.ModuleList(nn.LSTM(before, after, batch_first=True) for before, after in pairs)
        self.head = nn.Linear(widths[-1] + layout.context + layout.previous, outputs)

    def _map(self, standard: Tensor) -> Tensor:
        sequence = self.layout.history(standard)
        for layer in self.layers:
            sequence, _ = layer(sequence)
        head: Tensor = self.head(torch.cat((sequence[:, -1], self.layout.rest(standard)), dim=-1))
        return head


class MLP(Network):
    """Fully connected layers with SiLU over the whole observation."""

    def __init__(self, layout: Layout, outputs: int, observations: Tensor, hidden: Sequence[int] = (128, 64)) -> None:
        super().__init__(layout, outputs, observations)
        widths = [layout.size, *hidden]
        pairs = pairwise(widths)
        layers = [layer for before, after in pairs for layer in (nn.Linear(before, after), nn.SiLU())]
        self.body = nn.Sequential(*layers, nn.Linear(widths[-1], outputs))

    def _map(self, standard: Tensor) -> Tensor:
        out: Tensor = self.body(standard)
        return out


def make_network(name: str, layout: Layout, outputs: int, observations: Tensor, hidden: Sequence[int]) -> Network:
    """Build a network by name; "auto" is an LSTM for the history of a single series and an MLP otherwise.

    Raises
    ------
    UnknownNameError
        For a name that is not in :data:`NETWORKS`.
    """
    if name not in NETWORKS:
        raise UnknownNameError("network", name, NETWORKS)
    if name == "auto":
        name = "lstm" if layout.columns == 1 and layout.lookback > 1 else "mlp"
    kind = StackedLSTM if name == "lstm" else MLP
    return kind(layout, outputs, observations, hidden)
