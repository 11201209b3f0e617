"""The offline contextual bandit: a policy network trained on the cost of its own decisions, known or logged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.errors import ShiftgymError, UnknownNameError
from ..envs.task import Floats, Observations, Task
from ..envs.vector import ReplayVectorEnv
from .base import State, make_agent
from .behaviour import BanditLog, GaussianAround, log_density
from .learner import Learner, costs
from .off_policy import CostModel
from .trained import Samples

#: What the policy is told of costs.
FEEDBACK = ("full", "ips", "dr")


@dataclass(kw_only=True, eq=False)
class Bandit(Learner):
    """Offline bandit (Diffusion-DFL, Section 6): min_w E[f(y, phi_w(x))], without a forecast and without a solver.

    With full information the outcome of every training step is known, so the cost of any decision is. With logged
    feedback only the costs of requests are that another policy made, and how likely they were: the cost of one's own
    is then estimated by inverse propensities or doubly robustly, as that of requests spread around phi_w(x) by
    ``narrower`` times the spread of the log; what is decided is phi_w(x), between the 2nd and the 98th percentile of
    the requests in the log. The policy respects the box [low, high] by a sigmoid and other constraints only through the
    projection.

    Parameters
    ----------
    feedback : {"full", "ips", "dr"}
        Full information, inverse propensities, or doubly robust (Dudik et al., 2014).
    log : str or None
        File of a :class:`~shiftgym.agents.behaviour.BanditLog`; without one, ``behaviour`` makes one on the training
        trace.
    behaviour : str
        Name of the agent whose decisions the requests of that log are spread around.
    exploration : float
        By which share of the standard deviation of perfect decisions.
    narrower : float
        See above; less than one, so that no weight is large where the two policies are close.
    pessimism : float
        Standard errors of the estimated cost that are added to it (Swaminathan and Joachims, 2015).
    clip : float
        Largest importance weight.
    """

    feedback: str = "full"
    log: str | None = None
    behaviour: str = "saa"
    exploration: float = 1.0
    narrower: float = 0.5
    pessimism: float = 0.0
    clip: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feedback not in FEEDBACK:
            raise UnknownNameError("feedback", self.feedback, FEEDBACK)
        if not 0 < self.narrower <= 1:
            raise ShiftgymError(f"narrower is {self.narrower}: give a share in (0, 1]")
        if self.pessimism < 0:
            raise ShiftgymError(f"pessimism is {self.pessimism}: give a number that is not negative")

    @property
    def decision_focused(self) -> bool:
        """The loss is the mean cost of decisions, known or estimated."""
        return True

    @property
    def outputs(self) -> int:
        """One output per decision."""
        return self.problem_.decision_dim

    # ------------------------------------------------------------------ learning
    def _fit(self, task: Task, progress: bool, device: str) -> None:
        if self.feedback == "full":
            super()._fit(task, progress, device)
            return
        policy = GaussianAround.of(
            make_agent(self.behaviour, seed=self.seed).fit(ReplayVectorEnv.of(task, 1)), task, self.exploration
        )
        log = BanditLog.collect(task, policy, self.seed) if self.log is None else BanditLog.load(self.log)
        wanted = (self.layout_.size, self.problem_.decision_dim)
        if (log.observations.shape[1], log.decisions.shape[1]) != wanted:
            raise ShiftgymError(
                f"the log holds observations and decisions of {log.observations.shape[1]} and {log.decisions.shape[1]} "
                f"numbers, this environment has {wanted[0]} and {wanted[1]}"
            )
        self._spread = torch.as_tensor(self.narrower * policy.spread, device=device)
        self._usual = float(log.costs.mean())
        # beyond what was tried nothing is known, least of all by the model of costs
        self.tried_ = np.clip(np.quantile(log.decisions, (0.02, 0.98), axis=0), self.problem_.low, self.problem_.high)
        if self.feedback == "dr":
            self._model = CostModel.fit(log, seed=self.seed).to(device)
        logged = np.column_stack((log.decisions, log.log_propensity, log.costs))
        seen, told = (torch.as_tensor(array, device=device) for array in (log.observations, logged))
        self._learn(task, Samples(seen, told, None), progress)

    def start(self, outcomes: Floats) -> tuple[Floats, Floats]:
        """Start at the best constant decision, as logits of its place in the box; at the mean one of a log."""
        low, high = self._range()
        full = self.feedback == "full"
        begin = self.problem_.solve(outcomes[None])[0] if full else outcomes[:, : self.outputs].mean(0)
        share = np.clip((begin - low) / np.maximum(high - low, 1e-12), 0.01, 0.99)
        return np.log(share / (1 - share)), np.ones_like(share)

    def risk(self, samples: Samples) -> Tensor:
        """Mean loss, and so many standard errors of it as pessimism says."""
        losses = self.sample_losses(samples)
        if self.feedback == "full" or not self.pessimism or len(losses) < 2:
            return losses.mean()
        return losses.mean() + self.pessimism * losses.std() / len(losses) ** 0.5

    def sample_losses(self, samples: Samples) -> Tensor:
        """Cost (B,) of the decisions, known or estimated."""
        if self.feedback == "full":
            return super().sample_losses(samples)
        x, output = samples.observations, self.output(samples.observations).double()
        told = samples.outcomes
        requests, propensity, cost = told[:, : self.outputs], told[:, -2:-1], told[:, -1:]
        density = log_density((requests - output) / self._spread, self._spread)
        weight = (density - propensity[:, 0]).exp().clamp(max=self.clip)
        if self.feedback == "dr":
            direct: Tensor = self._model(x, output)
            return direct + weight * (cost[:, 0] - self._model(x, requests))
        # what is usual costs no variance: weights are one on average
        return self._usual + weight * (cost[:, 0] - self._usual)

    def losses(self, output: Tensor, outcomes: Tensor, state: Tensor | None) -> Tensor:
        """Cost of the decisions."""
        return costs(self.problem_, output, outcomes, state)

    # ------------------------------------------------------------------ deciding
    def link(self, raw: Tensor) -> Tensor:
        """Decisions inside the box, and inside what a log has tried."""
        low, high = (torch.as_tensor(bound, device=raw.device) for bound in self._range())
        return low + (high - low) * torch.sigmoid(super().link(raw))

    def _range(self) -> tuple[Floats, Floats]:
        if self.feedback == "full":
            return self.problem_.low, self.problem_.high
        return self.tried_[0], self.tried_[1]

    def _act(self, observations: Observations) -> Floats:
        return self.predict(observations)

    # ------------------------------------------------------------------ keeping
    def state(self) -> State:
        """As of all learners, and what a log has tried."""
        return super().state() if self.feedback == "full" else {**super().state(), "tried": self.tried_}

    def load_state(self, state: State) -> None:
        """Rebuild the network around its weights."""
        super().load_state(state)
        self.tried_ = state.get("tried", np.empty(0))
