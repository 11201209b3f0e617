"""What wrappers change: normalisation, previous action, forecasts, projection, safety cost, domain randomisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..data.errors import ShiftgymError, UnknownNameError
from .shifts import Shift, parse_shift
from .task import Floats, Observations, Task


class Transform:
    """One change of what an agent sees, does or is paid; arrays have a row per replay. The base changes nothing.

    What is fitted is fitted on the training trace (``reference``) of the environment, so the same transform around a
    test environment with ``reference=`` the training trace is the same function: frozen, with nothing to save.

    Attributes
    ----------
    shown : tuple of str
        What :meth:`pay` puts into info.
    """

    shown: tuple[str, ...] = ()

    def fit(self, task: Task) -> None:
        """Look at the task once, when the environment is wrapped."""

    def width(self, width: int) -> int:
        """Width of an observation, given that before the transform."""
        return width

    def options(self, generator: np.random.Generator) -> dict[str, Any]:
        """Options of a reset of all rows."""
        return {}

    def restart(self) -> None:
        """Forget what steps have taught: a reset with a seed begins anew, so that the same seed gives the same."""

    def act(self, actions: Floats) -> Floats:
        """What is requested (n, d) in place of the actions (n, d)."""
        return actions

    def see(self, observations: Observations, decisions: Floats) -> Observations:
        """What is seen in place of observations, after ``decisions`` (n, d): NaN where an episode begins."""
        return observations

    def pay(self, rewards: Floats, info: dict[str, Floats]) -> Floats:
        """What is paid in place of rewards (n,); ``info`` holds columns (n,), to which those of ``shown`` are added."""
        return rewards


class Normalise(Transform):
    """Observations in standard deviations of the training trace, one statistic per column of the history.

    Parameters
    ----------
    clip : float
        Where they are cut off.
    """

    def __init__(self, clip: float = 10.0) -> None:
        self.clip = clip

    def fit(self, task: Task) -> None:
        """Mean and deviation over the decision points of the training trace."""
        observations = task.training().dataset()[0]
        self.mean, self.scale = observations.mean(0), observations.std(0)
        layout = task.layout
        history = layout.lookback * layout.columns
        past = layout.history(observations)  # a level means the same at every lag
        self.mean[:history] = np.tile(past.mean((0, 1)), layout.lookback)
        self.scale[:history] = np.tile(past.std((0, 1)), layout.lookback)
        self.scale[self.scale < 1e-8] = 1.0

    def see(self, observations: Observations, decisions: Floats) -> Observations:
        """Those of the environment come first; what other transforms have added stays as it is."""
        _check_first(self, observations, len(self.mean))
        seen: Observations = np.clip((observations - self.mean) / self.scale, -self.clip, self.clip)
        return seen


class PreviousAction(Transform):
    """The decision that was executed last, at the end of the observation; zeros where an episode begins."""

    def fit(self, task: Task) -> None:
        """Width of a decision."""
        self._added = task.problem.decision_dim

    def width(self, width: int) -> int:
        """One more number per decision."""
        return width + self._added

    def see(self, observations: Observations, decisions: Floats) -> Observations:
        """Appended."""
        return np.concatenate((observations, np.nan_to_num(decisions).astype(np.float32)), axis=1)


class Forecast(Transform):
    """What a forecaster says of the next outcome, at the end of the observation; the first of the transforms.

    Parameters
    ----------
    scenarios : callable, or agent with a method of that name
        Maps observations (n, size) of the environment to scenarios (n, M, D) of the outcomes.
    quantiles : sequence of float
        Which quantiles of the scenarios are shown; none shows their mean.
    """

    def __init__(self, scenarios: Any, quantiles: Sequence[float] = ()) -> None:
        self._scenarios: Callable[[Observations], Floats] = getattr(scenarios, "scenarios", scenarios)
        self.quantiles = tuple(quantiles)

    def fit(self, task: Task) -> None:
        """Width of an outcome."""
        self._size, self._added = task.layout.size, task.problem.outcome_dim * max(1, len(self.quantiles))

    def width(self, width: int) -> int:
        """A number per outcome and quantile more."""
        return width + self._added

    def see(self, observations: Observations, decisions: Floats) -> Observations:
        """Appended, quantile after quantile."""
        _check_first(self, observations, self._size)
        scenarios = self._scenarios(observations)
        shown = np.quantile(scenarios, self.quantiles, axis=1) if self.quantiles else scenarios.mean(1)[None]
        features = np.concatenate(list(shown), axis=1).astype(np.float32)
        return np.concatenate((observations, features), axis=1)


class Project(Transform):
    """Requests are projected onto the feasible set before the environment sees them, so none breaks a hard constraint.

    ``info["correction"]`` is the Euclidean distance from what was asked for.

    Parameters
    ----------
    penalty : float
        Price of a unit of that distance.
    """

    shown: tuple[str, ...] = ("correction",)

    def __init__(self, penalty: float = 0.0) -> None:
        self.penalty = penalty

    def fit(self, task: Task) -> None:
        """The feasible set is that of the problem."""
        self._problem = task.problem

    def act(self, actions: Floats) -> Floats:
        """The nearest feasible ones."""
        feasible: Floats = self._problem.project(actions)
        self._moved = np.linalg.norm(feasible - actions, axis=1)
        return feasible

    def pay(self, rewards: Floats, info: dict[str, Floats]) -> Floats:
        """Less the price of the correction."""
        info["correction"] = self._moved
        return rewards - self.penalty * self._moved


class SafetyCost(Transform):
    """``info["safety_cost"]``: 1.0 where a constraint family is broken, as Safety-Gymnasium counts its cost.

    Parameters
    ----------
    families : sequence of str, optional
        Which count; all by default.
    """

    shown: tuple[str, ...] = ("safety_cost",)

    def __init__(self, families: Sequence[str] | None = None) -> None:
        self._families = families

    def fit(self, task: Task) -> None:
        """Check the names of the families."""
        known = task.problem.families
        for family in self._families or ():
            if family not in known:
                raise UnknownNameError("constraint family", family, known)
        self.families = tuple(self._families or known)

    def pay(self, rewards: Floats, info: dict[str, Floats]) -> Floats:
        """As before; the cost is shown beside."""
        broken = sum(info[f"violation_{family}"] > 0 for family in self.families)
        info["safety_cost"] = np.asarray(broken > 0, np.float64)
        return rewards


class Lagrangian(SafetyCost):
    """Rewards less a multiplier times the safety cost, which rises while the cost is above its limit, and falls below.

    Dual ascent on max E[reward] subject to E[safety cost] <= limit: after each step the multiplier moves by
    ``learning_rate`` times the mean excess. ``info["multiplier"]`` shows it. Zero learning rate freezes it. It goes on
    rising or falling over episodes, until a reset with a seed, which begins where it began.

    Parameters
    ----------
    limit : float
        Share of steps that may break a constraint.
    learning_rate, multiplier : float
        Of the ascent; where it begins.
    families
        See :class:`SafetyCost`.
    """

    shown: tuple[str, ...] = ("safety_cost", "multiplier")

    def __init__(
        self,
        limit: float,
        learning_rate: float = 0.01,
        multiplier: float = 0.0,
        families: Sequence[str] | None = None,
    ) -> None:
        super().__init__(families)
        self.limit, self.learning_rate, self.start = limit, learning_rate, multiplier
        self.restart()

    def restart(self) -> None:
        """The multiplier goes back to its start."""
        self.multiplier = self.start

    def pay(self, rewards: Floats, info: dict[str, Floats]) -> Floats:
        """Less the price of what is broken, at the multiplier that the step began with."""
        rewards = super().pay(rewards, info) - self.multiplier * info["safety_cost"]
        info["multiplier"] = np.full(len(rewards), self.multiplier)
        excess = float(info["safety_cost"].mean()) - self.limit
        self.multiplier = max(0.0, self.multiplier + self.learning_rate * excess)
        return rewards


class RandomShift(Transform):
    """Domain randomisation: every episode replays the trace under another shift, drawn with a seed of its own.

    The rows of a native vector look up one replay, so that the shift changes where all of them start anew together,
    as they do while their episodes are of one length. For a shift per row, wrap single environments:
    ``gymnasium.make_vec(…, vectorization_mode="sync", wrappers=[lambda env: wrap(env, RandomShift(shifts))])``.

    Parameters
    ----------
    shifts : sequence
        To draw from, with equal chances; ``None`` among them leaves the trace as it is.
    visible : bool
        Whether the observation ends with which one it is, as a number for each that is 1 or 0.
    """

    def __init__(self, shifts: Sequence[str | Shift | None], visible: bool = False) -> None:
        if not shifts:
            raise ShiftgymError("shifts is empty: give at least one to draw from")
        self.shifts = [parse_shift(shift) for shift in shifts]
        self.visible, self._drawn = visible, 0

    def width(self, width: int) -> int:
        """A number per shift more, where they are visible."""
        return width + len(self.shifts) * self.visible

    def options(self, generator: np.random.Generator) -> dict[str, Any]:
        """Draw a shift and its seed."""
        self._drawn = int(generator.integers(len(self.shifts)))
        return {"shift": self.shifts[self._drawn], "shift_seed": int(generator.integers(2**31))}

    def see(self, observations: Observations, decisions: Floats) -> Observations:
        """With the shift, where it is visible."""
        if not self.visible:
            return observations
        which = np.zeros((len(observations), len(self.shifts)), np.float32)
        which[:, self._drawn] = 1.0
        return np.concatenate((observations, which), axis=1)


def _check_first(transform: Transform, observations: Observations, width: int) -> None:
    if observations.shape[1] != width:
        raise ShiftgymError(
            f"{type(transform).__name__} takes the environment's own observations ({width} numbers), not "
            f"{observations.shape[1]}: name it before the transforms that add to them"
        )
