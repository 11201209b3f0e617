"""Replaying an agent over a whole test trace, all episodes side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from ..data.errors import ShiftgymError
from ..data.trace import Trace
from ..envs.shifts import parse_shift
from .red_team import AgentUnderTest
from .scenario import Scenario
from .scores import ForecastScores, cvar, forecast_scores, normalised_regret, sharpe_ratio
from .statistics import time_interval

if TYPE_CHECKING:
    from ..agents.base import Agent
    from ..envs.shifts.report import ShiftReport
    from ..envs.vector import ReplayVectorEnv

Array = NDArray[np.float64]

#: Columns of the steps that a picture of the replay shows, each with the number of the slot appended.
SHOWN = ("shown_outcome", "shown_decision", "shown_oracle")
#: Numbers of a decision or an outcome that are kept with the steps; wider ones are left out.
_WIDEST = 512
#: How many single decisions are timed, and for how long at most.
_LATENCY_CALLS, _LATENCY_SECONDS = 50, 0.2
#: Forecast numbers (steps x scenarios x columns) that are scored at most, for the sake of memory and time.
_FORECAST_NUMBERS = 1_000_000


@dataclass(frozen=True)
class Rollout:
    """What happened, step by step and in time order: T = episodes x steps of an episode.

    Attributes
    ----------
    episodes : int
        Windows that the test trace was cut into; a rest at its end that fills no window is left out.
    time : array, shape (T,)
        Epoch seconds.
    cost, oracle_cost, regret : array, shape (T,)
        As in ``info``.
    violated, shifted : array of bool, shape (T,)
        Whether any family was violated; whether a shift was active.
    violations : dict of str to array, shape (T,)
        Magnitude by constraint family.
    measures : dict of str to array, shape (T,)
        What the problem reports of a step besides its cost.
    decisions, oracle_decisions : array, shape (T, d)
        What was executed, and the perfect-information decision from the same state.
    outcomes : array, shape (T, D)
        What was revealed.
    shown : tuple of array, shape (T, w)
        Outcome, decision and oracle as a picture shows them, one value per slot.
    latency : array, shape (calls,)
        Seconds that single decisions took.
    forecast : ForecastScores or None
        For agents that forecast.
    """

    episodes: int
    time: Array
    cost: Array
    oracle_cost: Array
    regret: Array
    violated: NDArray[np.bool_]
    shifted: NDArray[np.bool_]
    violations: dict[str, Array]
    measures: dict[str, Array]
    decisions: Array
    oracle_decisions: Array
    outcomes: Array
    shown: tuple[Array, Array, Array]
    latency: Array
    forecast: ForecastScores | None

    def columns(self) -> dict[str, NDArray[Any]]:
        """Flat columns of length T, as they are stored.

        Decisions and outcomes of more than 512 numbers (whole schedules) are left out: a replay can be repeated, and
        its table stays small.
        """
        columns: dict[str, NDArray[Any]] = {
            "episode": np.repeat(np.arange(self.episodes), len(self.cost) // self.episodes),
            "step_time": self.time,
            "cost": self.cost,
            "oracle_cost": self.oracle_cost,
            "regret": self.regret,
            "violation": self.violated,
            **{f"violation_{family}": magnitude for family, magnitude in self.violations.items()},
            **self.measures,
            "shifted": self.shifted,
        }
        for name, values in zip(SHOWN, self.shown, strict=True):
            columns |= {f"{name}_{i}": values[:, i] for i in range(values.shape[1])}
        for name in ("decision", "oracle_decision", "outcome"):
            table = getattr(self, f"{name}s")
            if table.shape[1] > _WIDEST:
                continue
            columns |= {f"{name}_{i}": table[:, i] for i in range(table.shape[1])}
        return columns

    def scores(self) -> dict[str, float]:
        """Compute all scores; 95% intervals over time are in ``_low`` and ``_high``."""
        regret = np.stack((self.cost, self.oracle_cost), axis=1)
        intervals = {
            "cost": time_interval(self.cost),
            "regret": time_interval(self.regret),
            "normalised_regret": time_interval(regret, lambda mean: normalised_regret(mean[:, 0], mean[:, 1])),
            "violation_rate": time_interval(self.violated.astype(float)),
        }
        scores: dict[str, float] = {
            "steps": len(self.cost),
            "episodes": self.episodes,
            "cost": float(self.cost.mean()),
            "oracle_cost": float(self.oracle_cost.mean()),
            "regret": float(self.regret.mean()),
            "normalised_regret": float(normalised_regret(self.cost.mean(), self.oracle_cost.mean())),
            "cvar95": cvar(self.cost),
            "violation_rate": float(self.violated.mean()),
        }
        for family, magnitude in self.violations.items():
            broken = magnitude[magnitude > 0]
            scores[f"violation_rate_{family}"] = len(broken) / len(magnitude)
            scores[f"violation_mean_{family}"] = float(broken.mean()) if len(broken) else 0.0
            scores[f"violation_max_{family}"] = float(broken.max(initial=0.0))
        scores |= {f"mean_{name}": float(values.mean()) for name, values in self.measures.items()}
        if "return" in self.measures:
            scores["sharpe_ratio"] = sharpe_ratio(self.measures["return"], self.time)
        for name, interval in intervals.items():
            scores[f"{name}_low"], scores[f"{name}_high"] = interval
        scores |= (self.forecast or ForecastScores(*[np.nan] * 4))._asdict()
        p50, p99 = np.quantile(self.latency, [0.5, 0.99]) * 1e3
        return scores | {"latency_p50_ms": float(p50), "latency_p99_ms": float(p99)}


def make_training_env(env: str, train: str, env_kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    """Make the environment that an agent is fitted on.

    Raises
    ------
    ShiftgymError
        If the environment does not exist, or does not take these keywords.
    """
    return _made(gymnasium.make, env, trace=train, disable_env_checker=True, **env_kwargs)


@dataclass(frozen=True)
class TestBench:
    """A test trace cut into episodes that are replayed side by side.

    Attributes
    ----------
    env : vector environment
        One row per episode; autoreset is disabled; capacity and scalers are those of the training trace.
    starts : array of int, shape (episodes,)
        The decision point at which each episode starts.
    steps : int
        Steps of an episode.
    shift_report : ShiftReport
        What the shift did, and how far the test trace is from the training trace.
    """

    __test__ = False  # not a test case

    env: ReplayVectorEnv
    starts: NDArray[np.int64]
    steps: int
    shift_report: ShiftReport

    @classmethod
    def make(cls, scenario: Scenario, seed: int, agent: Agent | None = None) -> TestBench:
        """Make the bench of a scenario.

        Parameters
        ----------
        scenario : Scenario
            What is replayed.
        seed : int
            That of the shift.
        agent : Agent, optional
            Whom adversarial shifts are against. Without one they change nothing, which is enough to see whether the
            scenario can be replayed.

        Raises
        ------
        ShiftgymError
            If the environment is no replay environment, or does not take the scenario's keywords.
        """
        keywords: dict[str, Any] = {"reference": scenario.train, **scenario.env_kwargs}

        def unshifted(trace: Trace) -> TestBench:
            return cls._of(scenario.env, {**keywords, "trace": trace})

        shift = parse_shift(scenario.shift or None).against(AgentUnderTest(agent, unshifted))
        return cls._of(scenario.env, {**keywords, "trace": scenario.test, "shift": shift, "shift_seed": seed})

    @classmethod
    def _of(cls, name: str, keywords: Mapping[str, Any]) -> TestBench:
        """The bench of an environment with these keywords."""
        made = _made(gymnasium.make_vec, name, vectorization_mode="vector_entry_point", **keywords).unwrapped
        task = made.task
        stride = task.points.stride
        available = (len(task) - 1) // stride + 1
        steps = min(task.episode_steps or available, available)
        episodes = available // steps
        env = type(made).of(task, episodes, autoreset_mode=AutoresetMode.DISABLED)
        return cls(env, np.arange(episodes) * steps * stride, steps, task.shift_report)


def _made(make: Callable[..., Any], env: str, **keywords: Any) -> Any:
    """Make an environment; what it does not take is an error that a user can mend."""
    try:
        return make(env, **keywords)
    except (TypeError, gymnasium.error.Error) as error:
        raise ShiftgymError(f"environment {env!r} cannot be made: {error}") from error


def rollout(agent: Agent, bench: TestBench) -> Rollout:
    """Let a fitted agent decide every step of every episode."""
    env = bench.env
    agent.reset()
    observations, _ = env.reset(seed=0, options={"start": bench.starts})
    records: list[dict[str, NDArray[Any]]] = []
    for _ in range(bench.steps):
        seen: Any = env.foresight() if agent.clairvoyant else observations
        observations, _, _, _, info = env.step(agent.act(seen))
        record = {key: np.array(values) for key, values in info.items() if not key.startswith("_")}
        record |= {
            "decision": env.last_decision,
            "oracle": env.last_oracle,
            "outcome": env.last_outcome,
            "seen": seen,
        }
        records.append(record)
    # (steps, episodes, ...) -> time order
    table = {key: np.stack([record[key] for record in records], axis=1) for key in records[0]}
    table = {key: values.reshape(-1, *values.shape[2:]) for key, values in table.items()}
    return Rollout(
        episodes=len(bench.starts),
        time=table["step_time"],
        cost=table["cost"],
        oracle_cost=table["oracle_cost"],
        regret=table["regret"],
        violated=table["violation"] > 0,
        shifted=table["shifted"] > 0,
        violations={family: table[f"violation_{family}"] for family in env.task.problem.families},
        measures={name: table[name] for name in env.task.problem.measures},
        decisions=table["decision"],
        oracle_decisions=table["oracle"],
        outcomes=table["outcome"],
        shown=env.task.drawn(table["outcome"], table["decision"], table["oracle"]),
        latency=_latency(agent, table["seen"]),
        forecast=_forecast(agent, table["seen"], table["outcome"]),
    )


def _latency(agent: Agent, seen: NDArray[Any]) -> Array:
    """Seconds of single decisions, as an operator takes them, after one to warm up."""
    agent.act(seen[:1])
    seconds: list[float] = []
    for row in np.linspace(0, len(seen) - 1, _LATENCY_CALLS).astype(int):
        agent.problem_.forget()
        start = time.perf_counter()
        agent.act(seen[row : row + 1])
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > _LATENCY_SECONDS:
            break
    return np.array(seconds)


def _forecast(agent: Agent, seen: NDArray[Any], outcomes: Array) -> ForecastScores | None:
    """Score the forecast, if there is one, at steps spread evenly over the replay."""
    if agent.clairvoyant or not hasattr(agent, "scenarios"):
        return None
    per_step = agent.scenarios(seen[:1]).size
    count = min(len(seen), max(50, _FORECAST_NUMBERS // per_step))
    rows = np.linspace(0, len(seen) - 1, count).astype(int)
    return forecast_scores(agent.layout_.told(seen[rows], agent.scenarios(seen[rows])), outcomes[rows])
