"""What a policy network sees and says, in its own units: fitted on training data, saved with the agent, then frozen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..data.errors import UnknownNameError
from ..envs.task import Floats, Layout, Observations, Task
from ..solvers import DecisionProblem
from .base import State
from .networks import Encoder

#: What actions are deviations from.
ANCHORS = ("persistence", "saa")
#: Standardised observations are cut off here, so that a shift does not throw the network off its feet.
CLIP = 10.0


@dataclass(frozen=True, eq=False)
class Scaling:
    """Observations in training standard deviations, and actions as deviations from a decision that is known to be fair.

    ``decision = anchor(x) + centre + reach * spread * action``, with the standard deviation over the training trace of
    what perfect decisions add to the anchor; the environment projects what breaks a constraint.

    Attributes
    ----------
    anchor : str
        "persistence": the best decision if the last outcome came again, and ``centre`` is what perfect decisions add
        to it on average; "saa": none, and ``centre`` is the best constant decision on the training trace.
    mean, scale : array of float32, shape (size,)
        Of observations; one statistic per column of the history, the same at every lag.
    centre, reach : array of float64, shape (d,)
        See above; ``reach`` is in the unit of the decision.
    unit : float
        Mean regret on the training trace of action zero: what rewards are measured in.
    """

    anchor: str
    mean: Observations
    scale: Observations
    centre: Floats
    reach: Floats
    unit: float

    @classmethod
    def fit(cls, task: Task, anchor: str, reach: float) -> Scaling:
        """Fit on a training task; ``reach`` is what action one stands for, in standard deviations."""
        if anchor not in ANCHORS:
            raise UnknownNameError("anchor", anchor, ANCHORS)
        observations, outcomes = task.dataset()
        encoder = Encoder(task.layout, torch.as_tensor(observations))
        problem, state = task.problem, _state(task.layout, observations)
        perfect = problem.perfect(outcomes, state)
        added = perfect - anchor_decisions(problem, task.layout, anchor, observations)
        centre = problem.solve(outcomes[None])[0] if anchor == "saa" else added.mean(0)
        blank = cls(anchor, encoder.mean.numpy(), encoder.scale.numpy(), centre, reach * added.std(0), 1.0)
        decisions = problem.project(blank.decide(problem, task.layout, observations, np.zeros_like(added)))
        regret = problem.objective(outcomes, decisions, state) - problem.objective(outcomes, perfect, state)
        return cls(anchor, blank.mean, blank.scale, blank.centre, blank.reach, max(float(regret.mean()), 1e-12))

    def see(self, observations: Observations) -> Observations:
        """Standardised observations (B, size)."""
        return np.clip((observations - self.mean) / self.scale, -CLIP, CLIP)

    def decide(self, problem: DecisionProblem, layout: Layout, observations: Observations, actions: Floats) -> Floats:
        """Decisions (B, d) for actions (B, d), not yet projected."""
        anchor = anchor_decisions(problem, layout, self.anchor, observations)
        decisions: Floats = anchor + self.centre + self.reach * actions
        return decisions

    def state(self) -> State:
        """The fitted arrays by name."""
        numbers = {"anchor": np.array([ANCHORS.index(self.anchor)]), "unit": np.array([self.unit])}
        return numbers | {name: getattr(self, name) for name in ("mean", "scale", "centre", "reach")}

    @classmethod
    def of_state(cls, state: State) -> Scaling:
        """Take back the arrays of :meth:`state`."""
        arrays = {name: state[name] for name in ("mean", "scale", "centre", "reach")}
        return cls(anchor=ANCHORS[int(state["anchor"][0])], unit=float(state["unit"][0]), **arrays)


def anchor_decisions(problem: DecisionProblem, layout: Layout, anchor: str, observations: Observations) -> Floats:
    """What actions are deviations from: decisions (B, d)."""
    if anchor == "saa":
        return np.zeros((len(observations), problem.decision_dim))
    forecast = np.maximum(layout.persistence(observations).astype(np.float64), problem.outcome_low)
    decisions: Floats = problem.perfect(forecast, _state(layout, observations))
    return decisions


def _state(layout: Layout, observations: Observations) -> Floats | None:
    state = layout.state(observations)
    return None if state is None else state.astype(np.float64)
