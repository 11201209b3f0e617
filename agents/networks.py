"""Networks over observations: an encoder, the stacked LSTM of 3D-Learning or none, and fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..data.errors import UnknownNameError
from ..envs.task import Layout
from .linear import Linear

NETWORKS = ("auto", "lstm", "mlp")
#: Widths of the LSTM where ``hidden`` describes other layers (3D-Learning, Section V-B4).
RECURRENT = (128, 64)


class Standardised(nn.Module):
    """Features that are the inputs (B, F) themselves, less a fixed mean (F,) and over a fixed scale (F,).

    Where the scale is next to nothing, inputs never changed in training: they are only moved.

    Attributes
    ----------
    width : int
        Number of features F.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.width = len(mean)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(scale > 1e-8, scale, torch.ones_like(scale)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (B, F)."""
        return self._encode((inputs - self.mean) / self.scale)

    def _encode(self, standard: Tensor) -> Tensor:
        return standard


class Encoder(Standardised):
    """Features of observations, standardised with fixed statistics of the training set: all of them.

    Parameters
    ----------
    layout : Layout
        Where the history is in an observation.
    observations : tensor, shape (K, size)
        The training observations, for their mean and spread only.
    """

    def __init__(self, layout: Layout, observations: Tensor) -> None:
        mean, scale = observations.mean(0), observations.std(0)
        history = layout.lookback * layout.columns
        if history:  # one statistic per column for all lags, so that a level means the same at every lag
            past = layout.history(observations)
            mean[:history] = past.mean((0, 1)).repeat(layout.lookback)
            scale[:history] = past.std((0, 1)).repeat(layout.lookback)
        super().__init__(mean, scale)
        self.layout = layout


class RecurrentEncoder(Encoder):
    """LSTM layers over the history, of 128 and 64 units by default; other features join at the end."""

    def __init__(self, layout: Layout, observations: Tensor, hidden: Sequence[int] = RECURRENT) -> None:
        super().__init__(layout, observations)
        pairs = pairwise([layout.columns, *hidden])
        self.layers = nn.ModuleList(nn.LSTM(before, after, batch_first=True) for before, after in pairs)
        self.width = hidden[-1] + layout.context + layout.previous

    def _encode(self, standard: Tensor) -> Tensor:
        sequence = self.layout.history(standard)
        for layer in self.layers:
            sequence, _ = layer(sequence)
        return torch.cat((sequence[:, -1], self.layout.rest(standard)), dim=-1)


class Regressor(nn.Module):
    """An encoder and fully connected layers with SiLU that map its features to ``outputs`` numbers."""

    def __init__(self, encoder: Encoder, hidden: Sequence[int], outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.body = layers(encoder.width, hidden, outputs, dropout)

    def forward(self, observations: Tensor) -> Tensor:
        """Raw outputs (B, outputs) for observations (B, size)."""
        out: Tensor = self.body(self.encoder(observations))
        return out


def layers(width: int, hidden: Sequence[int], outputs: int, dropout: float = 0.0) -> nn.Sequential:
    """Fully connected layers from ``width`` numbers to ``outputs``, with SiLU and, in training, dropout between."""
    widths = [width, *hidden]
    after_each = (nn.SiLU(), nn.Dropout(dropout)) if dropout else (nn.SiLU(),)
    inner = [layer for before, after in pairwise(widths) for layer in (Linear(before, after), *after_each)]
    return nn.Sequential(*inner, Linear(widths[-1], outputs))


def is_recurrent(name: str, layout: Layout) -> bool:
    """Whether a network reads the history step by step: "auto" does where the history is that of a single series.

    Raises
    ------
    UnknownNameError
        For a name that is not in :data:`NETWORKS`.
    """
    if name not in NETWORKS:
        raise UnknownNameError("network", name, NETWORKS)
    return name == "lstm" or (name == "auto" and layout.columns == 1 and layout.lookback > 1)


def make_encoder(name: str, layout: Layout, observations: Tensor) -> Encoder:
    """Build an encoder by the name of the network."""
    return (RecurrentEncoder if is_recurrent(name, layout) else Encoder)(layout, observations)


def make_network(name: str, layout: Layout, outputs: int, observations: Tensor, hidden: Sequence[int]) -> Regressor:
    """Build a network by name; ``hidden`` are its LSTM layers if it has any, its fully connected ones otherwise."""
    if is_recurrent(name, layout):
        return Regressor(RecurrentEncoder(layout, observations, hidden), (), outputs)
    return Regressor(Encoder(layout, observations), hidden, outputs)
