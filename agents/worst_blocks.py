"""Blocks of a trace drawn where they hurt most: the worst-case diffusion model of 3D-Learning, turned on any agent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..envs.task import Layout
from .joint import Joint
from .trained import Samples, kept_generator
from .worst_case import Adversary, WorstCase

Array = NDArray[np.float64]

#: Of the inner maximisation: looks at the agent are dear, so steps are large; J is checked every few of them.
_SEARCH: dict[str, Any] = {
    "inner_epochs": 2,
    "adversary_rate": 5e-3,
    "dual_rate": 0.3,
    "multiplier": 0.1,
}
#: Training steps of the reference model, whatever the number of blocks; their number in a batch at most.
_STEPS, _BATCH = 1500, 64
#: Estimates of the divergence that are averaged before a model counts as within its budget.
_LOOKS = 8


def draw_worst(blocks: Array, losses: Callable[[Array], Array], *, budget: float, rounds: int, seed: int) -> Array:
    """Draw as many blocks as are given from the worst-case diffusion model of them.

    After every inner maximisation the model is asked for blocks. Those that cost most are returned, among those of
    models whose J(theta) - J(theta_0) is within the budget, as that of the reference model always is.

    Parameters
    ----------
    blocks : array, shape (n, block, D)
        What the reference model is trained on.
    losses : callable
        Losses (n,) of blocks (n, block, D) that follow one another.
    budget : float
        In nats per block.
    rounds : int
        Inner maximisations.
    seed : int
        Of everything random.
    """
    count, slots, columns = blocks.shape
    epochs = -(-_STEPS // -(-count // _BATCH))
    settings = Adversary(budget=budget, reference_epochs=epochs, **_SEARCH)
    # a block is a path: its last slot is the outcome of those before it
    layout = Layout(slots - 1, columns, context=0, previous=0, naive=())
    samples = _samples(blocks)
    joint = _coordinates(blocks)

    def value(drawn: Samples) -> Array:
        rows = torch.cat((drawn.observations.double(), drawn.outcomes.double()), 1)
        return np.asarray(rows.numpy().reshape(blocks.shape))

    def loss(drawn: Samples) -> torch.Tensor:
        return torch.as_tensor(losses(value(drawn)))

    with kept_generator(samples.observations):
        torch.manual_seed(seed)
        adversary = WorstCase(samples, joint, layout, settings, _BATCH, seed)
        worst = value(adversary.draw(adversary.reference))
        most = losses(worst).sum()
        for _ in range(rounds):
            adversary.maximise(loss)
            drawn = value(adversary.draw())
            if _spent(adversary) <= budget and (cost := losses(drawn).sum()) > most:
                worst, most = drawn, cost
    return worst


def _coordinates(blocks: Array) -> Joint:
    """White ones, in standard deviations of each column."""
    _, slots, columns = blocks.shape
    mean, spread = blocks.mean((0, 1)), blocks.std((0, 1))
    location, scale = (torch.tensor(np.tile(each, slots)).float() for each in (mean, np.where(spread > 0, spread, 1.0)))
    return Joint(
        (slots - 1) * columns, columns, location, scale, torch.eye(slots), torch.eye(slots), -math.inf, known=0
    )


def _samples(blocks: Array) -> Samples:
    flat = torch.tensor(blocks.reshape(len(blocks), -1))
    last = blocks.shape[2]
    return Samples(flat[:, :-last].float(), flat[:, -last:], None)


@torch.no_grad()
def _spent(adversary: WorstCase) -> float:
    """J(theta) - J(theta_0) of the model as it is now."""
    of: Any = (adversary.model, adversary.reference, adversary.rows, adversary.known, adversary.generator)
    return sum(float(adversary.chain.divergence(*of)) for _ in range(_LOOKS)) / _LOOKS
