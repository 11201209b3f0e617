"""``shiftgym/Portfolio-v0``: spread wealth over assets before the session that decides their returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data.errors import ShiftgymError, TraceError
from ..data.trace import Trace
from ..solvers.portfolio import Portfolio
from .replay import ReplayEnv
from .rows import Rows, RowTask
from .shifts import Shift
from .task import Floats, Layout, check_constants, check_count
from .vector import ReplayVectorEnv

VOLUME = "volume:"


class PortfolioTask(RowTask):
    """Daily mean-variance rebalancing (Diffusion-DFL, A.11) on any trace of returns.

    One step decides the share of wealth in each asset for one session. The observation is the returns of the last
    ``lookback`` sessions, then ``components`` principal components of the returns and volume changes of the last
    ``window`` sessions, then the shares held before if trading costs something. Means, deviations and components are
    fitted on the reference.

    Parameters
    ----------
    trace, shift, shift_seed, reference, lookback
        See :class:`~shiftgym.envs.task.Task`; ``lookback`` counts sessions.
    episode_steps : int or None
        Sessions of an episode; None replays to the end of the data.
    assets : int or sequence of str
        How many, the first ones of the reference, or which.
    window, components : int
        Sessions that the principal components look back on, and their number; 0 components for none.
    **problem
        Constants of :class:`~shiftgym.solvers.portfolio.Portfolio`: ``risk_aversion``, ``transaction_cost``.
    """

    axes = ("session", "return: mean asset, portfolio")

    def __init__(
        self,
        trace: str | Trace = "synthetic-sp500",
        shift: str | Mapping[str, Any] | Shift | None = None,
        shift_seed: int = 0,
        reference: str | Trace | None = None,
        lookback: int = 1,
        episode_steps: int | None = 21,
        assets: int | Sequence[str] = 50,
        window: int = 5,
        components: int = 28,
        **problem: float,
    ) -> None:
        check_constants(type(self), Portfolio, problem, own=("assets",))
        self.window, self.components = check_count("window", window), check_count("components", components, low=0)
        self._wanted, self._constants = assets, problem
        super().__init__(trace, shift, shift_seed, reference, lookback, episode_steps)

    def _define(self) -> tuple[Portfolio, Layout]:
        self._check_comparable()
        self.assets = self._choose()
        self._volumes = tuple(VOLUME + asset for asset in self.assets)
        if not set(self._volumes) <= set(self.reference.context_names):
            self._volumes = ()
        self.source, self.reference = self._restricted(self.source), self._restricted(self.reference)
        if self.components:
            self._fit_components(self._panel(self.reference))
        count = len(self.assets)
        problem = Portfolio(assets=count, **self._constants)
        previous = problem.state_dim if problem.stateful else 0
        return problem, Layout(self.lookback, count, self.components, previous, self._last_row(count))

    def _choose(self) -> tuple[str, ...]:
        """Names of the assets, all of them in trace and reference."""
        known = self.reference.outcome_names
        if isinstance(self._wanted, int):
            if not 2 <= self._wanted <= len(known):
                raise ShiftgymError(
                    f"assets is {self._wanted}: give 2 to {len(known)}, the number of assets in {self.reference.name!r}"
                )
            chosen = known[: self._wanted]
        else:
            chosen = tuple(self._wanted)
            if len(set(chosen)) != len(chosen) or len(chosen) < 2:
                raise ShiftgymError(f"assets are {list(chosen)}: name at least two, each once")
        for trace in (self.reference, self.source):
            for name in chosen:
                if name not in trace.outcome_names:
                    from ..data.market import why_absent  # reads files

                    others = f"{', '.join(trace.outcome_names[:5])} … ({len(trace.outcome_names)} in all)"
                    raise TraceError(f"assets: {why_absent(trace.name, name)}: choose among {others}")
        return chosen

    def _restricted(self, trace: Trace) -> Trace:
        """The trace with the chosen assets only, so that shifts and distances are those of what is decided about."""
        columns = [trace.outcome_names.index(name) for name in self.assets]
        return trace.replace(
            outcome=trace.outcome[:, columns],
            observed=trace.observed[:, columns],
            outcome_names=self.assets,
            outcome_units=tuple(trace.outcome_units[column] for column in columns),
            context=self._context_of(trace, self._volumes),
            context_names=self._volumes,
            context_units=("",) * len(self._volumes),
        )

    def _panel(self, trace: Trace) -> Floats:
        """What is known before each session (R, window * columns): the windows of returns and volume changes.

        Windows that begin before the trace are filled with its first row.
        """
        returns = np.concatenate((trace.observed[:1], trace.observed[:-1]))  # of the session before
        known = np.concatenate((returns, trace.context), axis=1)
        padded = np.concatenate((np.repeat(known[:1], self.window - 1, axis=0), known))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.window, axis=0)
        return windows.reshape(len(known), -1)

    def _fit_components(self, panel: Floats) -> None:
        """Mean, deviation and principal axes of the reference's panel, which scale the scores to deviation one."""
        from scipy.sparse.linalg import svds  # heavy, and needed by this task only

        if self.components >= min(panel.shape):
            raise ShiftgymError(
                f"components is {self.components}: give less than {min(panel.shape)}, the smaller side of the "
                f"{panel.shape[0]} sessions x {panel.shape[1]} features of the reference"
            )
        self._centre = panel.mean(0)
        deviation = panel.std(0)
        self._scale = np.where(deviation > 0, deviation, 1.0)
        standard = (panel - self._centre) / self._scale
        _, size, axes = svds(standard, self.components, v0=np.ones(min(panel.shape)))
        order = np.argsort(-size)
        axes = axes[order] * np.sign(axes[order].sum(1, keepdims=True))  # the sign of an axis means nothing: fix it
        self._axes = (axes * np.sqrt(len(panel)) / np.maximum(size[order, None], 1e-12)).T

    def _rows(self, trace: Trace) -> Rows:
        context = None
        if self.components:
            context = (self._panel(trace) - self._centre) / self._scale @ self._axes
        return Rows.of_slots(trace, context)

    def drawn(self, outcomes: Floats, decisions: Floats, oracle: Floats) -> tuple[Floats, Floats, Floats]:
        """Returns of a session (..., 1): of all assets alike, of the portfolio, of the oracle's."""
        alike = outcomes.mean(-1, keepdims=True)
        ours, best = ((outcomes * shares).sum(-1, keepdims=True) for shares in (decisions, oracle))
        return alike, ours, best


class PortfolioEnv(ReplayEnv):
    """``gymnasium.make("shiftgym/Portfolio-v0", …)``; keywords as in :class:`PortfolioTask`."""

    task_class = PortfolioTask


class PortfolioVectorEnv(ReplayVectorEnv):
    """``gymnasium.make_vec("shiftgym/Portfolio-v0", num_envs=…)``; keywords as in :class:`PortfolioTask`."""

    task_class = PortfolioTask
