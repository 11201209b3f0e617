"""The replay environment: one decision at a time, judged against the oracle."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from ..data.errors import ShiftgymError, TraceError, UnknownNameError
from .render import RENDER_MODES, Trail, render_array, render_text
from .task import Floats, Observations, Task

ORDERS = ("sequential", "random")


class Windows:
    """Options of an episode, read the same way by the single and the vector environment."""

    KNOWN: ClassVar[tuple[str, ...]] = ("start", "length", "shift", "shift_seed", "reset_mask")

    @staticmethod
    def check_order(order: str) -> str:
        """Return ``order`` if it is one."""
        if order not in ORDERS:
            raise UnknownNameError("order", order, ORDERS)
        return order

    @classmethod
    def check_options(cls, options: dict[str, Any] | None) -> dict[str, Any]:
        """Return the options that are set, all of them known; None sets none, except for no shift.

        Raises
        ------
        UnknownNameError
            For an option that does not exist.
        """
        for name in options or {}:
            if name not in cls.KNOWN:
                raise UnknownNameError("reset option", name, cls.KNOWN)
        return {name: value for name, value in (options or {}).items() if value is not None or name == "shift"}

    @staticmethod
    def check_length(length: Any) -> int:
        """Return a window length in steps, at least one."""
        number = isinstance(length, int | float | np.integer | np.floating)
        if not number or not length >= 1 or length % 1 != 0:
            raise TraceError(f"length={length!r}: a window needs a whole number of at least 1 step")
        return int(length)


class ReplayEnv(gymnasium.Env[Observations, Any]):
    """Replays the decision points of a task; a concrete environment only names its task class.

    Every episode starts where the last one ended (``order="sequential"``, the first at the start of the trace, as
    after any ``reset(seed=…)``) or at a place drawn from the environment's generator (``order="random"``).
    ``reset(options={"start": …, "length": …})`` picks the window instead: a decision point or ISO time, and a
    number of steps. ``options={"shift": …, "shift_seed": …}`` changes the shift from then on. A horizon of the
    task terminates an episode, the end of the window or of the data truncates it.

    ``info`` has the same flat keys in ``reset`` and ``step``: cost, oracle_cost, regret, violation,
    violation_<family>, the problem's measures, step_time, shifted.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 4}  # noqa: RUF012 (Gymnasium's form)
    task_class: ClassVar[type[Task]]

    def __init__(self, *, render_mode: str | None = None, order: str = "sequential", **task: Any) -> None:
        self.render_mode = render_mode
        self.order = Windows.check_order(order)
        self.task = self.task_class(**task)
        self.observation_space, self.action_space = self.task.spaces
        problem = self.task.problem
        self._scalar = problem.outcome_dim == problem.decision_dim == 1
        self._shape = (problem.decision_dim,)
        self._families = [(f"violation_{family}", family) for family in problem.families]
        self._kept = dict.fromkeys((key for key, _ in self._families), 0.0)
        self._point = self._stop = self._steps = 0
        self._over = True
        self._trail = Trail(self.task.title, self.task.axes)
        self._horizon = self.task.episode_steps
        self._nothing: Any = np.nan if self._scalar else np.full(problem.state_dim, np.nan)
        self._previous: Any = self._nothing
        self._measures, self._follows = problem.measures, self.task.oracle_follows_path
        self._remembers = problem.stateful or bool(problem.measures)
        self._last: tuple[Any, Any, Any] = (np.nan, np.nan, np.nan)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode; see the class for the options."""
        super().reset(seed=seed)
        options = Windows.check_options(options)
        task = self.task
        if "shift" in options or "shift_seed" in options:
            task.set_shift(options.get("shift", task.shift), options.get("shift_seed", task.shift_seed))
        if "start" in options:
            point = task.find_point(options["start"])
        elif self.order == "random":
            point = int(self.np_random.integers(len(task)))
        else:
            point = 0 if seed is not None or self._point >= len(task) else self._point
        self._point, self._steps, self._over = point, 0, False
        if self.render_mode is not None:
            self._trail = Trail(task.title, task.axes)
        self._stop = len(task)
        if "length" in options:
            self._stop = min(self._stop, point + Windows.check_length(options["length"]) * task.points.stride)
        self._previous = self._nothing
        info = {"cost": 0.0, "oracle_cost": 0.0, "regret": 0.0, "violation": 0.0}
        info.update(self._kept)
        info.update((key, 0.0) for key in self._measures)
        info["step_time"] = task.points.time.item(point)
        info["shifted"] = task.points.shifted.item(point)
        return task.observe(point, self._previous), info

    def step(self, action: NDArray[Any]) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Execute one decision; an infeasible request is measured and its projection executed.

        Raises
        ------
        ActionError
            For an action of another shape, or one that is not finite.
        ShiftgymError
            When the episode is over.
        """
        if self._over:
            raise ShiftgymError("the episode is over: call reset() before step()")
        task, point = self.task, self._point
        problem, points = task.problem, task.points
        requested: Any = task.requested(action, self._shape)
        outcome: Any = points.outcomes[point]
        previous = self._previous
        if self._scalar:
            requested, outcome = requested.item(), outcome.item()
        decision = problem.project(requested)
        if self._remembers:
            price, measures, broken, self._previous = problem.judge(outcome, decision, previous)
        else:
            price, measures, broken = problem.cost(outcome, decision), {}, problem.shortfall(outcome, decision)
        cost = float(price)
        if self._follows:
            oracle = problem.perfect(outcome, previous)
            oracle_cost = float(problem.least_cost(outcome, oracle, previous))
        else:
            oracle, oracle_cost = task.oracle_decisions[point], task.oracle_costs.item(point)
        info = {"cost": cost, "oracle_cost": oracle_cost, "regret": cost - oracle_cost, "violation": 0.0}
        if decision is requested and not problem.soft_families:
            info.update(self._kept)
        else:
            magnitudes = problem.excess(requested, decision) | broken
            for key, family in self._families:
                info[key] = magnitude = float(magnitudes[family])
                if magnitude > 0.0:
                    info["violation"] = 1.0
        for key in self._measures:
            info[key] = float(measures[key])
        info["step_time"] = points.time.item(point)
        info["shifted"] = points.shifted.item(point)
        self._last = outcome, decision, oracle
        self._point = point + points.stride
        self._steps += 1
        terminated = self._steps == self._horizon
        truncated = not terminated and self._point >= self._stop
        self._over = terminated or truncated
        if self.render_mode is not None:
            self._trail.add(task.drawn(*map(np.atleast_1d, self._last)), info)
        return task.observe(self._point, self._previous), -cost, terminated, truncated, info

    @property
    def last_outcome(self) -> Floats:
        """The outcome (D,) that the last decision met."""
        return np.atleast_1d(self._last[0])

    @property
    def last_decision(self) -> Floats:
        """The decision (d,) that was executed last."""
        return np.atleast_1d(self._last[1])

    @property
    def last_oracle(self) -> Floats:
        """The perfect-information decision (d,) of the last step."""
        return np.atleast_1d(self._last[2])

    def foresight(self) -> Floats:
        """The outcome that the next decision will be judged by and the state it starts from: (1, D + S).

        For clairvoyant agents only; S is 0 unless the problem is stateful.
        """
        point = np.array([min(self._point, len(self.task) - 1)])
        return self.task.foresee(point, np.reshape(self._previous, (1, -1)))

    def render(self) -> Any:
        """Draw the episode so far: an RGB array, or text with ``render_mode="ansi"``."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs render_mode='rgb_array' or 'ansi' in gymnasium.make")
            return None
        return (render_array if self.render_mode == "rgb_array" else render_text)(self._trail)
