"""Train PPO under random shifts, and see what that is worth where the trace has changed.

    python examples/ppo_with_random_shifts.py [--fast] [--steps 60000]

trains two policies by stable-baselines3 to provision for LLM conversations: one on the trace as it is, one on a trace
that is shifted in another way in every episode (domain randomisation). Both then replay what neither has seen: the next
half hour as it was, more of it, noise, and a code service. It prints mean regrets, those of persistence beside them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

import shiftgym  # noqa: F401 (registers the environments)
from shiftgym.agents import make_agent
from shiftgym.envs.wrappers import Normalise, RandomShift, wrap

TRAIN = "synthetic-azure-2023-conv@10s[:0.5]"
HOME = "synthetic-azure-2023-conv@10s[0.5:]"
#: What an episode of the second training may look like.
SHIFTS = [None, "scale(factor=0.3)", "scale(factor=2)", "gaussian(scale=0.2)", "perlin(scale=0.3)", "cutout(p=0.3)"]
#: What both policies replay: trace and shift by the name in the table.
TESTS = {
    "at home": (HOME, None),
    "half as much": (HOME, "scale(factor=0.5)"),
    "noise": (HOME, "gaussian(scale=0.1)"),
    "code service": ("synthetic-azure-2023-code@10s", None),
}
Policy = Callable[[Any], Any]


def world(trace: str, shift: str | None = None, **keywords: Any) -> Any:
    """The environment, whose capacity is that of the training trace."""
    return gymnasium.make("shiftgym/Provisioning-v0", trace=trace, reference=TRAIN, shift=shift, **keywords)


def train(shifts: list[str | None], steps: int) -> Policy:
    """Train on windows of the training trace from anywhere, each episode under one of the shifts."""
    rows = [lambda: wrap(world(TRAIN, order="random"), Normalise(), RandomShift(shifts)) for _ in range(8)]
    model = PPO(
        "MlpPolicy",
        DummyVecEnv(rows),
        n_steps=min(128, steps // 8),
        batch_size=min(256, steps),
        gamma=0.0,  # what is held now does not change what comes
        learning_rate=1e-3,
        policy_kwargs={"log_std_init": -3.0, "net_arch": [32, 32]},  # good shares of the capacity are a few percent
        seed=0,
        device="cpu",
    )
    model.learn(steps)
    return lambda observation: model.predict(observation, deterministic=True)[0]


def regret(policy: Policy, env: Any) -> float:
    """Mean regret of a step, over the whole trace."""
    observation, _ = env.reset(seed=0, options={"start": 0, "length": len(env.unwrapped.task)})
    total, done = [], False
    while not done:
        observation, _, terminated, truncated, info = env.step(policy(observation))
        total.append(info["regret"])
        done = terminated or truncated
    return float(np.mean(total))


def main() -> None:
    """Read the command line, train, replay, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fast", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--steps", type=int, default=60_000, help="of each training")
    options = parser.parse_args()
    steps = 256 if options.fast else options.steps
    persistence = make_agent("persistence").fit(world(TRAIN))
    policies: dict[str, tuple[Policy, bool]] = {
        "persistence": (lambda observation: persistence.act(observation[None])[0], False),
        "ppo": (train([None], steps), True),
        "ppo, random shifts": (train(SHIFTS, steps), True),
    }
    print("mean regret" + " " * 9 + "".join(f"{name:>16}" for name in TESTS))
    for name, (policy, normalised) in policies.items():
        envs = [world(*test) for test in TESTS.values()]
        told = [regret(policy, wrap(env, Normalise()) if normalised else env) for env in envs]
        print(f"{name:<20}" + "".join(f"{value:>16.4f}" for value in told))


if __name__ == "__main__":
    main()
