"""The natively batched replay environment: n replays in one step, without a Python loop over them."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from ..data.errors import ShiftgymError
from .render import RENDER_MODES, Trail, render_array, render_text
from .replay import Windows
from .task import Floats, Indices, Observations, Task

Bools = NDArray[np.bool_]
#: An end that no replay reaches.
_NEVER = 2**62


class ReplayVectorEnv(VectorEnv[Observations, Any, Any]):
    """The same replays as ``num_envs`` copies of :class:`ReplayEnv`, row i seeded with ``seed + i``.

    All autoreset modes of Gymnasium and the ``reset_mask`` option are supported. ``options["start"]`` may hold one
    decision point per row, which is how a whole trace is replayed at once, an episode per row.

    Parameters
    ----------
    num_envs : int
        Number of rows n.
    autoreset_mode : AutoresetMode or str
        ``"NextStep"``, ``"SameStep"`` or ``"Disabled"``.
    render_mode, order, **task
        As in the single environment; ``render`` draws row 0.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 4}  # noqa: RUF012
    task_class: ClassVar[type[Task]]

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        order: str = "sequential",
        **task: Any,
    ) -> None:
        self._set_up(self.task_class(**task), num_envs, AutoresetMode(autoreset_mode), render_mode, order)

    @classmethod
    def of(
        cls,
        task: Task,
        num_envs: int,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        order: str = "sequential",
    ) -> Self:
        """Replay a task that there is already, such as a part of another."""
        env = cls.__new__(cls)
        env._set_up(task, num_envs, AutoresetMode(autoreset_mode), None, order)
        return env

    def _set_up(
        self, task: Task, num_envs: int, autoreset_mode: AutoresetMode, render_mode: str | None, order: str
    ) -> None:
        if num_envs < 1:
            raise ShiftgymError(f"num_envs is {num_envs}: give at least 1")
        self.num_envs, self.render_mode = num_envs, render_mode
        self.order = Windows.check_order(order)
        self.autoreset_mode = autoreset_mode
        self.metadata = {**type(self).metadata, "autoreset_mode": autoreset_mode}
        self.task = task
        self.single_observation_space, self.single_action_space = self.task.spaces
        problem = self.task.problem
        self._shape = (num_envs, problem.decision_dim)
        self._families = [(f"violation_{family}", family) for family in problem.families]
        self._horizon = self.task.episode_steps
        self._remembers = problem.stateful or bool(problem.measures)
        self._point: Indices = np.zeros(num_envs, np.int64)
        self._stop: Indices = np.full(num_envs, len(self.task))
        self._end: Indices = np.full(num_envs, _NEVER)
        self._done: Bools = np.zeros(num_envs, bool)
        self._calm = 0
        # rows at one point may share its outcome; a single column is copied as fast, and states differ by row
        self._shares = problem.outcome_dim > 1 and not problem.stateful
        self._in_step = False
        self._trail = Trail(self.task.title, self.task.axes)
        self._previous: Floats = np.full((num_envs, problem.state_dim), np.nan)
        #: States (n, S) that the last decisions started from, NaN where an episode began.
        self.last_state: Floats = self._previous
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._last_outcome: Floats = np.full((num_envs, problem.outcome_dim), np.nan)
        self.last_decision: Floats = np.full(self._shape, np.nan)
        self._last_point: Indices = self._point
        self._last_oracle: Floats | None = np.full(self._shape, np.nan)

    @cached_property
    def observation_space(self) -> spaces.Space[Observations]:  # type: ignore[override]
        """Observations of all rows; made when asked for, as it takes longer than the rest of a small environment."""
        return batch_space(self.single_observation_space, self.num_envs)

    @cached_property
    def action_space(self) -> spaces.Space[Any]:  # type: ignore[override]
        """Actions of all rows."""
        return batch_space(self.single_action_space, self.num_envs)

    # ------------------------------------------------------------------ starting episodes
    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode in every row, or in those of ``options["reset_mask"]``."""
        seeds = self._seeds(seed)
        options = Windows.check_options(options)
        mask = self._mask(options.get("reset_mask"))
        task = self.task
        if "shift" in options or "shift_seed" in options:
            if not mask.all():
                raise ShiftgymError("reset_mask leaves rows out, but all rows replay one trace: reset all to shift it")
            task.set_shift(options.get("shift", task.shift), options.get("shift_seed", task.shift_seed))
        for row in np.flatnonzero(mask):
            if seeds[row] is not None:
                self._generators[row] = seeding.np_random(seeds[row])[0]
        rewound = np.array([value is not None for value in seeds])
        self._start(mask, rewound, options.get("start"), options.get("length"))
        return self._observe(), self._blank_info(mask)

    def _seeds(self, seed: int | list[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int):
            return [seed + row for row in range(self.num_envs)]
        seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ShiftgymError(f"seed is a list of {len(seeds)}: give one per row, {self.num_envs}")
        return seeds

    def _mask(self, mask: Any) -> Bools:
        if mask is None:
            return np.ones(self.num_envs, bool)
        if not (isinstance(mask, np.ndarray) and mask.shape == (self.num_envs,) and mask.dtype == np.bool_):
            raise ShiftgymError(f"reset_mask is {mask!r}: give a boolean array of shape ({self.num_envs},)")
        if not mask.any():
            raise ShiftgymError("reset_mask selects no row: at least one must be True")
        return mask

    def _start(self, mask: Bools, rewound: Bools, start: Any = None, length: Any = None) -> None:
        """Put the rows of ``mask`` at the start of an episode."""
        task = self.task
        if start is not None:
            places = np.asarray(start, dtype=object)
            if places.shape not in ((), (self.num_envs,)):
                raise ShiftgymError(f"start has shape {places.shape}: give one decision point, or one per row")
            places = np.broadcast_to(places, (self.num_envs,))
            point = np.array([task.find_point(place) for place in places], np.int64)
        elif self.order == "random":
            point = self._point.copy()
            for row in np.flatnonzero(mask):  # every row has a generator of its own, as single environments have
                generator = self._generators[row] or seeding.np_random()[0]
                self._generators[row] = generator
                point[row] = generator.integers(len(task))
        else:
            point = np.where(rewound | (self._point >= len(task)), 0, self._point)
        self._point = np.where(mask, point, self._point)
        stop: Any = len(task)
        if length is not None:
            stop = np.minimum(stop, point + Windows.check_length(length) * task.points.stride)
        self._stop = np.where(mask, stop, self._stop)
        horizon = _NEVER if self._horizon is None else self._horizon * task.points.stride
        self._end = np.where(mask, self._point + horizon, self._end)
        self._done = self._done & ~mask
        self._previous = np.where(mask[:, None], np.nan, self._previous)
        if mask[0] and self.render_mode is not None:
            self._trail = Trail(task.title, task.axes)
        self._measure_calm()

    def _observe(self) -> Observations:
        return self.task.observe(self._point, self._previous)

    # ------------------------------------------------------------------ one step of every row
    def step(self, actions: NDArray[Any]) -> tuple[Observations, Floats, Bools, Bools, dict[str, Any]]:
        """Execute one decision per row.

        Raises
        ------
        ActionError
            For actions of another shape, or not finite.
        ShiftgymError
            With autoreset disabled, when a row's episode is over and it was not reset.
        """
        requested = self.task.requested(actions, self._shape)
        waking = self._done
        restart = self._calm <= 0 and bool(waking.any())
        if restart and self.autoreset_mode is AutoresetMode.DISABLED:
            raise ShiftgymError(
                "autoreset is disabled and an episode is over: reset(options={'reset_mask': done}) first"
            )
        if restart:  # next-step mode: these rows spend the step on starting a new episode
            self._start(waking, np.zeros(self.num_envs, bool))
            if waking.all():  # nothing to settle
                return self._observe(), np.zeros(self.num_envs), ~waking, ~waking, self._blank_info(waking)
        info, cost = self._settle(requested)
        if restart:
            cost = np.where(waking, 0.0, cost)
            blank = self._blank_info(waking)
            info = {key: np.where(waking, blank[key], values) for key, values in info.items()}
            self._previous = np.where(waking[:, None], np.nan, self._previous)
            self._point = self._point + self.task.points.stride * ~waking
            self._in_step = False
        else:
            self._point = self._point + self.task.points.stride
        terminated, truncated = self._ends()
        if self.render_mode is not None and not (restart and waking[0]):
            first = {key: values[0] for key, values in info.items()}
            shown = self.task.drawn(self._last_outcome[0], self.last_decision[0], self.last_oracle[0])
            self._trail.add(shown, first)
        observations = self._observe()
        info = _with_masks(info, self.num_envs)
        if self._calm <= 0 and self.autoreset_mode is AutoresetMode.SAME_STEP and self._done.any():
            observations, info = self._restart_now(observations, info)
        return observations, -cost, terminated, truncated, info

    def _ends(self) -> tuple[Bools, Bools]:
        """Which rows terminate and which are cut off here; nothing to look at while no row can end."""
        self._calm -= 1
        if self._calm > 0:
            return np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        terminated = self._point == self._end
        truncated = (self._point >= self._stop) & ~terminated
        self._done = terminated | truncated
        self._measure_calm()
        return terminated, truncated

    def _measure_calm(self) -> None:
        """Count the steps until the first row ends, and see whether all are in step: neither changes until then."""
        left = np.where(self._done, 0, np.minimum(self._end, self._stop) - self._point)
        self._calm = -(-int(left.min()) // self.task.points.stride)
        self._in_step = self._shares and bool((self._point == self._point[0]).all())

    def _settle(self, requested: Floats) -> tuple[dict[str, Any], Floats]:
        """Costs, violations and the oracle of one decision per row."""
        task, points, point = self.task, self.task.points, self._point
        problem = task.problem
        decision = problem.project(requested)
        outcome = points.outcomes[point[0], None] if self._in_step else points.outcomes.take(point, axis=0)
        judged = problem.judge(outcome, decision, self._previous)
        cost = judged.cost
        if task.oracle_follows_path:
            oracle = problem.perfect(outcome, self._previous)
            oracle_cost = problem.least_cost(outcome, oracle, self._previous)
        else:
            oracle, oracle_cost = None, task.oracle_costs.take(point)  # decisions are looked up when asked for
        info: dict[str, Any] = {"cost": cost, "oracle_cost": oracle_cost, "regret": cost - oracle_cost}
        if decision is requested and not problem.soft_families:
            info["violation"] = np.zeros(self.num_envs)
            magnitudes = {family: np.zeros(self.num_envs) for family in problem.families}
        else:
            magnitudes = problem.excess(requested, decision) | judged.shortfall
            broken, *others = magnitudes.values()
            for magnitude in others:
                broken = broken + magnitude
            info["violation"] = (broken > 0).astype(np.float64)
        for key, family in self._families:
            info[key] = magnitudes[family]
        info.update(judged.measures)
        info["step_time"], info["shifted"] = points.time.take(point), points.shifted.take(point)
        self._last_outcome, self.last_decision, self.last_state = outcome, decision, self._previous
        self._last_point, self._last_oracle = point, oracle
        if self._remembers:
            self._previous = judged.state
        return info, cost

    def _restart_now(self, final: Observations, info: dict[str, Any]) -> tuple[Observations, dict[str, Any]]:
        """Same-step mode: keep what ended in ``final_obs`` and ``final_info``, and show the new episode."""
        done = self._done
        keys = [key for key in info if not key.startswith("_")]
        blank = np.zeros(self.num_envs)
        final_info = _with_masks({key: np.where(done, info[key], blank) for key in keys}, self.num_envs, done)
        self._start(done, np.zeros(self.num_envs, bool))
        fresh = self._blank_info(done)
        info = _with_masks({key: np.where(done, fresh[key], info[key]) for key in keys}, self.num_envs)
        info["final_obs"] = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(done):
            info["final_obs"][row] = final[row]
        info["final_info"] = final_info
        info["_final_obs"], info["_final_info"] = done.copy(), done.copy()
        return self._observe(), info

    def _blank_info(self, mask: Bools) -> dict[str, Any]:
        """The info of a reset: nothing has happened yet in the rows of ``mask``; zeros elsewhere."""
        families = [key for key, _ in self._families]
        keys = ["cost", "oracle_cost", "regret", "violation", *families, *self.task.problem.measures]
        info: dict[str, Any] = {key: np.zeros(self.num_envs) for key in keys}
        points = self.task.points
        info["step_time"] = np.where(mask, points.time[self._point], 0.0)
        info["shifted"] = np.where(mask, points.shifted[self._point], 0.0)
        return _with_masks(info, self.num_envs, mask)

    # ------------------------------------------------------------------ looking
    @property
    def last_outcome(self) -> Floats:
        """The outcomes (n, D) that the last decisions met."""
        return np.broadcast_to(self._last_outcome, (self.num_envs, self._last_outcome.shape[1]))

    @property
    def last_oracle(self) -> Floats:
        """The perfect-information decisions (n, d) of the last step."""
        oracle = self._last_oracle
        return self.task.oracle_decisions[self._last_point] if oracle is None else oracle

    def foresight(self) -> Floats:
        """The outcomes that the next decisions will be judged by and the states they start from: (n, D + S).

        For clairvoyant agents only; S is 0 unless the problem is stateful.
        """
        return self.task.foresee(np.minimum(self._point, len(self.task) - 1), self._previous)

    def render(self) -> Any:
        """Draw row 0: an RGB array, or text with ``render_mode="ansi"``; a tuple of one, as Gymnasium asks."""
        if self.render_mode is None:
            return None
        return ((render_array if self.render_mode == "rgb_array" else render_text)(self._trail),)


def _with_masks(info: dict[str, Any], rows: int, mask: Bools | None = None) -> dict[str, Any]:
    """Add Gymnasium's ``_key`` masks, which say for which rows a key holds."""
    held = np.ones(rows, bool) if mask is None else mask.copy()
    return info | {f"_{key}": held for key in info}
