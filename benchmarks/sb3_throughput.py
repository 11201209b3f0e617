"""Frames per second that stable-baselines3 gets: the native adapter against its own vectors of single environments.

    python benchmarks/sb3_throughput.py [--seconds 3] [--rounds 5] [--env Provisioning] [--rows 64] [--frames 16384]

First environment stepping alone, with the same actions, info on, episodes restarted: ``to_sb3`` over the native
vector, ``DummyVecEnv`` and ``SubprocVecEnv`` over as many single environments in ``Monitor``, in turns, so that a
change of the machine's speed hits all alike; ratios are medians over the rounds. Then PPO with equal settings and seeds
on the adapter and on ``DummyVecEnv``: frames per second of training, and the mean return per iteration, which is the
same curve.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import gymnasium
import numpy as np
from printing import figures, show
from rich.progress import track
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from shiftgym.envs import to_sb3

TRACES = {"Provisioning": "synthetic-azure-2023-conv@2s", "PowerScheduling": "synthetic-pjm-duq"}
GOALS = {"DummyVecEnv": 10.0, "SubprocVecEnv": 5.0}


def make(kind: str, name: str, rows: int, **keywords: Any) -> Any:
    spec, keywords = f"shiftgym:shiftgym/{name}-v0", {"trace": TRACES[name], **keywords}
    if kind == "native":
        return to_sb3(gymnasium.make_vec(spec, num_envs=rows, vectorization_mode="vector_entry_point", **keywords))
    kinds = {"DummyVecEnv": DummyVecEnv, "SubprocVecEnv": SubprocVecEnv}
    # steps take as long in forked processes as in spawned ones, which would each import torch first
    how = {"start_method": "fork"} if kind == "SubprocVecEnv" else {}
    return make_vec_env(spec, rows, env_kwargs=keywords, vec_env_cls=kinds[kind], vec_env_kwargs=how)


def frames_per_second(env: Any, seconds: float) -> float:
    env.seed(0)
    env.reset()
    low, high = env.action_space.low, env.action_space.high
    rng = np.random.default_rng(0)
    actions = [rng.uniform(low, high, (env.num_envs, *low.shape)).astype(np.float32) for _ in range(28)]
    frames, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        for action in actions:
            env.step(action)
        frames += len(actions) * env.num_envs
    return frames / elapsed


def stepping(name: str, rows: int, rounds: int, seconds: float) -> None:
    envs = {kind: make(kind, name, rows) for kind in ("native", *reversed(GOALS))}
    try:
        speeds = [
            {kind: frames_per_second(env, seconds) for kind, env in envs.items()}
            for _ in track(range(rounds), description="stepping", transient=True)
        ]
    finally:
        for env in envs.values():
            env.close()
    table = figures(
        f"Stepping {rows} replays of {name}, median of {rounds} rounds",
        "vector",
        "frames/s",
        "native is faster by",
        "goal",
    )
    for kind in envs:
        ratio = median(one["native"] / one[kind] for one in speeds)
        goal = f">= {GOALS[kind]:g}" if kind in GOALS else ""
        table.add_row(kind, f"{median(one[kind] for one in speeds):,.0f}", f"{ratio:.1f}", goal)
    show(table)


def training(name: str, rows: int, frames: int) -> None:
    curves = {}
    for kind in ("native", "DummyVecEnv"):
        env = make(kind, name, rows, order="random")
        model = PPO("MlpPolicy", env, n_steps=32, batch_size=512, n_epochs=4, seed=0, device="cpu")
        returns, start = [], time.perf_counter()
        while model.num_timesteps < frames:
            model.learn(32 * rows, reset_num_timesteps=False)
            returns.append(np.mean([episode["r"] for episode in model.ep_info_buffer]))
        print(f"PPO on {kind}: {model.num_timesteps / (time.perf_counter() - start):,.0f} frames/s")
        curves[kind] = np.array(returns)
    print("mean return per iteration:", np.array2string(curves["native"], precision=3))
    print(f"largest difference between the curves: {np.abs(curves['native'] - curves['DummyVecEnv']).max():.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="per vector and round (default 3)")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each vector takes (default 5)")
    parser.add_argument("--env", choices=TRACES, default="Provisioning", help="default Provisioning")
    parser.add_argument("--rows", type=int, default=64, help="replays side by side (default 64)")
    parser.add_argument("--frames", type=int, default=16384, help="of the training that is compared (default 16384)")
    options = parser.parse_args()
    stepping(options.env, options.rows, options.rounds, options.seconds)
    training(options.env, options.rows, options.frames)


if __name__ == "__main__":
    main()
