"""A small made-up world for every environment, and the variants of it that the contract tests walk through."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from shiftgym.data import Trace, register_trace
from shiftgym.solvers.data_center.fleet import Fleet

START = np.datetime64("2026-01-01T00:00", "ns")


def workload(slots: int = 120, seed: int = 0, context: bool = False) -> Trace:
    """Tokens of an LLM service in slots of 2 s, with silences."""
    rng = np.random.default_rng(seed)
    features = {"context": rng.random((slots, 2)), "context_names": ("a", "b"), "context_units": ("", "")}
    return Trace(
        name="made-up",
        time=START + np.arange(slots) * np.timedelta64(2, "s"),
        outcome=rng.lognormal(9.0, 0.7, slots) * (rng.random(slots) > 0.2),
        slot=2.0,
        outcome_names=("tokens",),
        outcome_units=("tokens/2 s",),
        outcome_low=0.0,
        **(features if context else {}),  # type: ignore[arg-type]
    )


def load(days: int = 40, seed: int = 0) -> Trace:
    """Hourly load of a grid with its temperature; begins at 5 in the morning, so the first day is not whole."""
    rng = np.random.default_rng(seed)
    hour = np.arange(24 * days) + 5
    temperature = 55 + 15 * np.sin(2 * np.pi * hour / 24) + rng.normal(0, 4, len(hour))
    rhythm = 1.5 + 0.4 * np.sin(2 * np.pi * (hour - 8) / 24)
    return Trace(
        name="grid",
        time=START + hour * np.timedelta64(1, "h"),
        outcome=rhythm + 0.004 * (temperature - 55) + rng.normal(0, 0.03, len(hour)),
        slot=3600.0,
        outcome_names=("load",),
        outcome_units=("GW",),
        outcome_low=0.0,
        context=temperature[:, None],
        context_names=("temperature",),
        context_units=("degF",),
    )


def market(sessions: int = 90, assets: int = 6, seed: int = 0, volume: bool = True) -> Trace:
    """Returns of the assets of an exchange that closes at weekends, and how volumes changed the day before."""
    rng = np.random.default_rng(seed)
    days = START.astype("datetime64[D]") + np.arange(2 * sessions)
    open_days = days[np.is_busday(days)][:sessions]
    names = tuple(f"A{i}" for i in range(assets))
    features = {
        "context": rng.normal(0, 0.3, (sessions, assets)),
        "context_names": tuple(f"volume:{name}" for name in names),
        "context_units": ("",) * assets,
    }
    return Trace(
        name="market",
        time=open_days,
        outcome=0.01 * (rng.standard_t(5, (sessions, 1)) + rng.standard_t(5, (sessions, assets))).clip(-9, 9),
        slot=86400.0,
        sessions=True,
        outcome_names=names,
        outcome_units=("1",) * assets,
        outcome_low=-1.0,
        **(features if volume else {}),  # type: ignore[arg-type]
    )


def demand(steps: int = 120, seed: int = 0) -> Trace:
    """Daily demand with two modes."""
    rng = np.random.default_rng(seed)
    return Trace(
        name="demand",
        time=START + np.arange(steps) * np.timedelta64(1, "D"),
        outcome=np.where(rng.random(steps) < 0.5, 5.0, 14.0) + rng.random(steps),
        slot=86400.0,
        outcome_low=0.0,
    )


def products(steps: int = 90, count: int = 4, seed: int = 0) -> Trace:
    """Values of products, which are disastrous at times."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((steps, count)) < 0.8, 1.0, -3.0) + rng.normal(0, 0.15, (steps, count))
    names = tuple(f"p{i}" for i in range(count))
    return Trace(
        name="products",
        time=START + np.arange(steps) * np.timedelta64(1, "D"),
        outcome=values,
        slot=86400.0,
        outcome_names=names,
        outcome_units=("",) * count,
    )


def fleet_days(days: int = 40, seed: int = 0, period: int = 4) -> Trace:
    """Hours of a fleet of two centers with one service and one training class; its days have only four of them."""
    rng = np.random.default_rng(seed)
    hour = np.arange(period * days)
    wave = np.sin(2 * np.pi * hour / period)[:, None]
    sun = np.maximum(wave, 0.0)
    outcome = (
        900 * sun * rng.uniform(0.3, 1.0, (len(hour), 1)),
        600 * rng.uniform(0.1, 1.0, (len(hour), 1)),
        (150 + 50 * wave) * rng.lognormal(0, 0.1, (len(hour), 1)),
        700 * rng.lognormal(0, 0.2, (len(hour), 1)),
    )
    prices = 0.08 + 0.05 * rng.standard_normal((len(hour), 2))  # at times negative
    return Trace(
        name="fleet",
        time=START + hour * np.timedelta64(1, "h"),
        outcome=np.concatenate(outcome, axis=1),
        slot=3600.0,
        outcome_names=("renewable:CA", "renewable:NL", "requests:conv", "training:V100"),
        outcome_units=("kW", "kW", "req/s", "GPU h/h"),
        outcome_low=0.0,
        context=np.concatenate((prices, rng.uniform(0.1, 0.5, (len(hour), 2)), sun), axis=1),
        context_names=("price:CA", "price:NL", "carbon:CA", "carbon:NL", "forecast:irradiance:CA"),
        context_units=("$/kWh", "$/kWh", "kg/kWh", "kg/kWh", "W/m2"),
    )


#: The fleet that goes with them.
FLEET = Fleet.of_size(
    2,
    centers=("CA", "NL"),
    services=("conv",),
    classes=("V100",),
    training_power=(0.25,),
    utilisation=(0.8,),
    windows=(2,),
    slots=4,
).to_dict()

WORLDS = {
    "Provisioning": workload,
    "PowerScheduling": load,
    "Portfolio": market,
    "ProductAllocation": products,
    "Inventory": demand,
    "DataCenter": fleet_days,
    "DataCenterHourly": fleet_days,
}
for _name, _world in WORLDS.items():
    register_trace(f"small-{_name}", _world)

#: Hyper-parameters that keep a fit short, by agent.
BUDGETS: dict[str, dict[str, Any]] = {
    name: {"epochs": 3, "hidden": (16, 8)} for name in ("two-stage", "dfl", "bandit", "conformal")
}
for _name in ("two-stage-gaussian", "dfl-gaussian-reparam", "dfl-gaussian-score"):
    BUDGETS[_name] = {"epochs": 2, "hidden": (16, 8), "focus_epochs": 1, "samples": 8, "train_samples": 4}
for _name in ("kl-dro", "w-dro", "augment-cutout", "augment-gaussian", "augment-perlin"):
    BUDGETS[_name] = {"epochs": 1, "hidden": (8, 8)}
BUDGETS["w-dro"]["steps"] = 2
_chain = {"diffusion_steps": 20, "sampling_steps": 5, "tuned_steps": 3, "denoiser": (16,)}
BUDGETS["three-d"] = {"epochs": 2, "hidden": (8, 8), **_chain, "reference_epochs": 2, "inner_epochs": 2}
for _name in ("two-stage-diffusion", "diffusion-dfl-reparam", "diffusion-dfl-score"):
    BUDGETS[_name] = {**BUDGETS["two-stage-gaussian"], "steps": 20, "sampling_steps": 3, "timesteps": 3}

for _name in ("deterministic", "ulro-box", "ulro-ellipsoid", "aro-box", "aro-ellipsoid", "drcc", "re-dro", "cvar-djcc"):
    BUDGETS[_name] = {"epochs": 2, "hidden": (8,), "batch_size": 256}
for _name in ("ppo", "sac", "td3"):
    BUDGETS[_name] = {"steps": 64, "replays": 8, "hidden": (8,), "validation": 0.0}  # else the anchor may be kept
for _name in ("sac", "td3"):
    BUDGETS[_name]["warm_up"] = 16
BUDGETS["ppo"]["rollout"] = 8

SMALL: dict[str, dict[str, Any]] = {
    "PowerScheduling": {"lookback": 2},
    "Portfolio": {"assets": 5, "components": 4, "window": 3},
    "DataCenter": {"fleet": FLEET, "integer": False, "episode_steps": 6},
    "DataCenterHourly": {"fleet": FLEET, "lookback": 4, "ahead": 3, "episode_steps": 12},
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("Provisioning", {}),
    ("Provisioning", {"shift": "gaussian(scale=0.1) | scale(factor=1.3, onset=0.5)"}),
    ("Provisioning", {"order": "random"}),
    ("Provisioning", {"switching_cost": 0.05}),
    ("Provisioning", {"horizon": 28}),
    ("Provisioning", {"horizon": 4, "episode_slots": 8, "switching_cost": 0.05, "order": "random"}),
    ("Provisioning", {"episode_slots": None, "lookback": 80}),  # 41 decisions until the data ends
    ("PowerScheduling", {}),
    ("PowerScheduling", {"lookback": 1, "context": ["temperature"], "order": "random"}),
    ("Portfolio", {"shift": "scale(factor=2.0, onset=0.5)"}),
    ("Portfolio", {"transaction_cost": 0.002, "risk_aversion": 5.0, "assets": ["A3", "A1", "A4"]}),
    ("ProductAllocation", {}),
    ("Inventory", {"order": "random"}),
    ("Inventory", {"carry": True, "lookback": 3, "episode_steps": 9}),
    ("DataCenter", {}),
    ("DataCenter", {"action": "relative", "fleet": {**FLEET, "carry_over": True, "terminal": "free"}}),
    ("DataCenter", {"action": "schedule", "order": "random"}),
    ("DataCenterHourly", {}),
    ("DataCenterHourly", {"lookback": 3, "oracle": False, "fleet": {**FLEET, "carry_over": True, "terminal": "free"}}),
    ("DataCenterHourly", {"action": "schedule", "order": "random"}),
]


def steps(name: str, usual: int) -> int:
    """How many steps a test takes in a world: few where each solves linear programs, but more than an episode has."""
    return usual if name != "DataCenter" else max(8, usual // 6)


def make(name: str, **keywords: Any) -> Any:
    """The single environment of a small world."""
    return gymnasium.make(f"shiftgym/{name}-v0", **{"trace": f"small-{name}", **SMALL.get(name, {}), **keywords})


def make_vec(name: str, count: int, native: bool = True, mode: str = "NextStep", **keywords: Any) -> Any:
    """The native vector environment of a small world, or Gymnasium's vector of single ones."""
    keywords = {"trace": f"small-{name}", **SMALL.get(name, {}), **keywords}
    spec = f"shiftgym/{name}-v0"
    if native:
        return gymnasium.make_vec(spec, num_envs=count, autoreset_mode=mode, **keywords)
    options = {"autoreset_mode": AutoresetMode(mode)}
    return gymnasium.make_vec(spec, num_envs=count, vectorization_mode="sync", vector_kwargs=options, **keywords)
