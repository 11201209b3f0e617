"""The agent under test as the opponent of an adversarial shift: a black box that is replayed on candidate traces."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..agents.threads import single_thread
from ..data.trace import Trace
from ..envs.shifts.adversarial import BlockLosses

if TYPE_CHECKING:
    from ..agents.base import Agent
    from .rollout import TestBench

Array = NDArray[np.float64]

#: Numbers of the observations that candidates replayed side by side have in all.
_NUMBERS = 2**25


class AgentUnderTest:
    """What an agent loses on traces, for :meth:`~shiftgym.envs.shifts.Shift.against`.

    The agent never learns that it is attacked: what decides is a copy of it, made anew for every look, so that it
    remembers nothing and draws what it will draw in the replay itself.

    Parameters
    ----------
    agent : Agent or None
        Fitted. None loses nothing on any trace: shifts then find nothing to follow.
    bench_of : callable
        The bench that replays a trace.
    """

    def __init__(self, agent: Agent | None, bench_of: Callable[[Trace], TestBench]) -> None:
        self._agent, self._bench_of = agent, bench_of
        self._bench: TestBench | None = None

    def losses(self, traces: Sequence[Trace], toward: str) -> Array:
        """What the agent loses at every slot, (N, T); candidates are replayed side by side."""
        losses = np.zeros((len(traces), len(traces[0])))
        if self._agent is None:
            return losses
        bench = self._meet(traces[0])
        room = max(1, _NUMBERS // (len(bench.env.task) * bench.env.task.layout.size))
        with single_thread():
            for first in range(0, len(traces), room):
                part = slice(first, first + room)
                self._replay(bench, traces[part], toward, losses[part])
        return losses

    def reach(self, trace: Trace) -> tuple[int, int]:
        """The other slots of a decision before, and the look-back after; how far a state carries is left out."""
        if self._agent is None:
            return 0, 0
        task = self._meet(trace).env.task
        columns = trace.outcome.shape[1]
        decided, seen = (width // columns for width in (task.problem.outcome_dim, task.lookback * task.layout.columns))
        return decided - 1, seen + decided - 1

    def worst_blocks(self, blocks: Array, losses: BlockLosses, budget: float, rounds: int, seed: int) -> Array:
        """Draw blocks (n, block, D) from the worst-case diffusion model of those given."""
        if self._agent is None:
            return blocks
        from ..agents.worst_blocks import draw_worst  # torch: only who draws waits for it

        with single_thread():
            return draw_worst(blocks, losses, budget=budget, rounds=rounds, seed=seed)

    def _meet(self, trace: Trace) -> TestBench:
        """The bench for traces of this length."""
        if self._bench is None or len(self._bench.env.task.trace) != len(trace):
            self._bench = self._bench_of(trace)
        return self._bench

    def _replay(self, bench: TestBench, traces: Sequence[Trace], toward: str, losses: Array) -> None:
        """Add what is lost on each trace to its row of ``losses``."""
        envs = [_showing(bench.env, trace) for trace in traces]
        seen = [env.reset(seed=0, options={"start": bench.starts})[0] for env in envs]
        begins = [trace.time.astype(np.int64) / 1e9 for trace in traces]
        agents = self._copies(len(envs), envs[0].foresight() if self._clairvoyant else seen[0])
        for _ in range(bench.steps):
            seen = [env.foresight() for env in envs] if self._clairvoyant else seen
            parts = np.array_split(np.concatenate(seen), len(agents))
            decisions = np.concatenate([agent.act(part) for agent, part in zip(agents, parts, strict=True)])
            for i, (env, mine) in enumerate(zip(envs, np.split(decisions, len(envs)), strict=True)):
                seen[i], _, _, _, info = env.step(mine)
                slots = np.searchsorted(begins[i], info["step_time"] + traces[i].slot / 2) - 1
                np.add.at(losses[i], slots, info[toward])

    def _copies(self, count: int, seen: Array) -> list[Agent]:
        """One copy of the agent for all of ``count`` candidates; one for each where decisions are drawn at random.

        Copies draw alike, so that candidates differ in what they are and not in what was drawn.
        """
        assert self._agent is not None
        rows = len(seen)
        twice = copy.deepcopy(self._agent).act(np.concatenate((seen, seen)))
        alike = np.allclose(twice[:rows], twice[rows:], rtol=1e-4, atol=1e-6)
        return [copy.deepcopy(self._agent) for _ in range(1 if alike else count)]

    @property
    def _clairvoyant(self) -> bool:
        return self._agent is not None and self._agent.clairvoyant


def _showing(env: Any, trace: Trace) -> Any:
    """A twin of a vector environment that replays another trace of the same length."""
    twin = copy.copy(env)
    twin.task = copy.copy(env.task)
    twin.task.source = trace
    twin.task.set_shift(None)
    return twin
