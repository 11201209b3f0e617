"""A stochastic policy around an agent, and the logged bandit feedback that it leaves: true propensities, own costs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..data.errors import ShiftgymError
from ..data.files import atomic_write
from ..envs.task import Floats, Observations, Task
from .base import Agent


@dataclass(frozen=True, eq=False)
class GaussianAround:
    """Requests that are spread around what an agent decides, independently in every column.

    Parameters
    ----------
    agent : Agent
        Fitted; the mean of the requests.
    spread : array of float64, shape (d,)
        Their standard deviations, in the unit of the decisions.
    """

    agent: Agent
    spread: Floats

    def __post_init__(self) -> None:
        if not (np.isfinite(self.spread).all() and np.all(self.spread > 0)):
            raise ShiftgymError(f"spread is {self.spread}: give positive standard deviations, one per decision")

    @classmethod
    def of(cls, agent: Agent, task: Task, exploration: float) -> GaussianAround:
        """Spread as a share of the standard deviation of perfect decisions over a task.

        A column in which these never change is spread by that share of its range.
        """
        if not exploration > 0:
            raise ShiftgymError(f"exploration is {exploration}: give a positive share")
        observations, outcomes = task.dataset()
        state = task.layout.state(observations)
        deviation = task.problem.perfect(outcomes, None if state is None else state.astype(np.float64)).std(0)
        spread = np.where(deviation > 0, deviation, task.problem.high - task.problem.low)
        return cls(agent, exploration * spread)

    def draw(self, observations: Observations, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Requests (B, d), and the logarithm of their density (B,)."""
        noise = rng.standard_normal((len(observations), len(self.spread)))
        return self.agent.act(observations) + self.spread * noise, log_density(noise, self.spread)

    def log_density(self, observations: Observations, decisions: Floats) -> Floats:
        """Logarithm of the density (B,) of requests (B, d)."""
        return log_density((decisions - self.agent.act(observations)) / self.spread, self.spread)


def log_density(standard: Any, spread: Any) -> Any:
    """Logarithm of the Gaussian density (B,) of deviations (B, d) in units of ``spread`` (d,); NumPy or torch."""
    constant = len(spread) * math.log(2 * math.pi) / 2
    logarithm = np.log(spread).sum() if isinstance(spread, np.ndarray) else spread.log().sum()
    return -(standard**2).sum(-1) / 2 - logarithm - constant


@dataclass(frozen=True, eq=False)
class BanditLog:
    """Logged bandit feedback: what was seen, what was requested and how likely that was, what it cost.

    Attributes
    ----------
    observations : array of float32, shape (K, size)
        Contexts; the state is a part of them where a problem has one.
    decisions : array of float64, shape (K, d)
        Requests, before the projection onto the feasible set.
    log_propensity : array of float64, shape (K,)
        Logarithm of the density of each request under the policy that made it.
    costs : array of float64, shape (K,)
        Of the executed projections; what other requests would have cost is not told.
    """

    observations: Observations
    decisions: Floats
    log_propensity: Floats
    costs: Floats

    @classmethod
    def collect(cls, task: Task, policy: GaussianAround, seed: int) -> BanditLog:
        """Let a policy decide at every decision point of a task once."""
        observations, outcomes = task.dataset()
        decisions, log_propensity = policy.draw(observations, np.random.default_rng(seed))
        return cls(observations, decisions, log_propensity, _costs(task, observations, outcomes, decisions))

    def __len__(self) -> int:
        return len(self.costs)

    def save(self, path: str | Path) -> None:
        """Write the arrays as safetensors, atomically."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in self.__dataclass_fields__}
        with atomic_write(Path(path), "wb") as file:
            file.write(save(arrays, {"shiftgym": json.dumps({"kind": "bandit log"})}))

    @classmethod
    def load(cls, path: str | Path) -> BanditLog:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ShiftgymError
            If that is something else.
        """
        try:
            with safe_open(Path(path), "numpy") as file:
                return cls(**{name: file.get_tensor(name) for name in cls.__dataclass_fields__})
        except (OSError, SafetensorError) as error:
            raise ShiftgymError(f"{path} is no log of bandit feedback: {error}") from error


def true_value(task: Task, policy: GaussianAround, draws: int = 100, seed: int = 0) -> float:
    """Mean cost of a policy at the decision points of a task, which the replay of known outcomes tells."""
    observations, outcomes = task.dataset()
    rng = np.random.default_rng(seed)
    costs = [_costs(task, observations, outcomes, policy.draw(observations, rng)[0]).mean() for _ in range(draws)]
    return float(np.mean(costs))


def _costs(task: Task, observations: Observations, outcomes: Floats, decisions: Floats) -> Floats:
    state = task.layout.state(observations)
    cost: Floats = task.problem.cost(
        outcomes, task.problem.project(decisions), None if state is None else state.astype(np.float64)
    )
    return cost
