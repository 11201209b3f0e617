"""How near each gradient estimator comes to the true gradient: against dimension, timesteps and samples.

    python benchmarks/gradient_quality.py [--out FOLDER] [--fast]

Outcomes follow N(W x, v I), the decision minimises mean_m |z - y_m|^2 / 2 and costs |z - y|^2 / 2, so the gradient in W
is known: (W x - y) x', averaged over the contexts of a batch. Four estimators see it through samples:

- Gaussian, reparameterised: y = W x + sqrt(v) eps;
- Gaussian, score: the closed-form likelihood, weighted by the adjoint solve;
- diffusion, reparameterised: through a DDIM chain;
- diffusion, score: the evidence lower bound at k timesteps in place of the likelihood.

The diffusion's denoiser is the best one for N(W x, v I), linear in y_t and x with W as its weights, so all four have
the same truth. Two more rows take the adjoint away: the score of the whole decision, its cost times the likelihood of
all samples; and the bound's gradient for a single outcome against its true score, in whose place it stands.
Cosine similarities are means over seeds with their standard errors. Source: Diffusion-DFL, Figs. 2 and 6, A.5.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from printing import figures, show
from rich.progress import track
from torch import Tensor, nn

from shiftgym.agents.diffusion import Diffusion
from shiftgym.agents.generative import score_weights
from shiftgym.agents.learner import scenario_loss
from shiftgym.agents.networks import Encoder
from shiftgym.envs.task import Layout
from shiftgym.solvers import PowerScheduling

FEATURES, VARIANCE = 8, 0.5
DIMENSIONS, TIMESTEPS, SAMPLES = (2, 4, 8, 16, 32, 64), (1, 3, 10, 30, 100), (5, 10, 25, 50, 100, 200)
USUAL = {"dimension": 16, "timesteps": 10, "samples": 25}
SWEEPS = {"dimension": DIMENSIONS, "timesteps": TIMESTEPS, "samples": SAMPLES}


class LinearDiffusion(Diffusion):
    """The best denoiser for outcomes from N(W x, v I), with W as its weights."""

    def __init__(self, weight: Tensor, timesteps: int) -> None:
        layout = Layout(lookback=0, columns=1, context=FEATURES, previous=0, naive=())
        parameters = {"steps": 1000, "schedule": "cosine", "sampling_steps": 20, "eta": 0.0, "timesteps": timesteps}
        super().__init__(Encoder(layout, torch.zeros(2, FEATURES)), (1,), len(weight), **parameters)  # type: ignore[arg-type]
        self.truth = nn.Parameter(weight)

    def context(self, observations: Tensor) -> Tensor:
        return observations @ self.truth.T

    def velocity(self, context: Tensor, noisy: Tensor, step: Tensor) -> Tensor:
        signal = self.signal[step][..., None]
        moved = (1 - VARIANCE) * signal.sqrt() * noisy - context
        return (1 - signal).sqrt() * moved / (signal * VARIANCE + 1 - signal)


class Case:
    """A batch of contexts with outcomes, and every estimator's gradient in W on it."""

    def __init__(self, seed: int, batch: int, dimension: int, timesteps: int, samples: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(dimension, FEATURES, generator=self.generator) / math.sqrt(FEATURES)
        self.model, self.samples = LinearDiffusion(weight, timesteps), samples
        self.x = torch.randn(batch, FEATURES, generator=self.generator)
        away = 0.3 * torch.randn(dimension, FEATURES, generator=self.generator) / math.sqrt(FEATURES)
        rest = math.sqrt(VARIANCE) * torch.randn(batch, dimension, generator=self.generator)
        self.outcomes = (self.x @ (weight + away).T + rest).double()
        self.problem = PowerScheduling(hours=dimension, shortage=0.0, excess=0.0, ramp=1e6, low=-np.inf)
        with torch.no_grad():
            self._learn_odds()
            self.true = (self.mean() - self.outcomes.float()).T @ self.x / batch

    def _learn_odds(self) -> None:
        """Let the timestep sampler see terms, as training does."""
        for _ in range(3):
            copies = self.outcomes.float()[:, None].expand(-1, max(1, 30_000 // len(self.x)), -1)
            self.model.train().log_likelihood(self.x, copies, self.generator)
        self.model.eval()

    def mean(self) -> Tensor:
        return self.model.context(self.x)

    def gaussian(self) -> Tensor:
        mean = self.mean()[:, None]
        shape = (len(self.x), self.samples, mean.shape[2])
        return mean + math.sqrt(VARIANCE) * torch.randn(shape, generator=self.generator)

    def gradient(self, value: Tensor) -> Tensor:
        return torch.autograd.grad(value, self.model.truth)[0]

    def through(self, scenarios: Tensor) -> Tensor:
        return self.gradient(scenario_loss(self.problem, scenarios.double(), self.outcomes, None))

    def weights(self, scenarios: Tensor) -> Tensor:
        return score_weights(self.problem, scenarios.double(), self.outcomes, None).float()

    def gaussian_reparameterised(self) -> Tensor:
        return self.through(self.gaussian())

    def diffusion_reparameterised(self) -> Tensor:
        return self.through(self.model.sample(self.x, self.samples, self.generator))

    def likelihood(self, y: Tensor) -> Tensor:
        return -((y - self.mean()[:, None]) ** 2).sum(-1) / (2 * VARIANCE)

    def gaussian_score(self) -> Tensor:
        y = self.gaussian().detach()
        return self.gradient((self.weights(y) * self.likelihood(y)).mean())

    def diffusion_score(self) -> Tensor:
        with torch.no_grad():
            y = self.model.sample(self.x, self.samples, self.generator)
        return self.gradient((self.weights(y) * self.model.log_likelihood(self.x, y, self.generator)).mean())

    def whole_decision(self) -> Tensor:
        y = self.gaussian().detach()
        costs = self.problem.cost(self.outcomes, self.problem.solve(y.double())).float()
        return self.gradient(((costs - costs.mean()) * self.likelihood(y).sum(1)).mean())

    def similarity(self, gradient: Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(gradient.flatten(), self.true.flatten(), dim=0))

    def bound(self) -> float:
        """Cosine similarity of the bound's gradient with the true score, for the outcome of the first context."""
        x, y = self.x[:1], self.outcomes[:1, None].float()
        estimate = self.gradient(self.model.log_likelihood(x, y, self.generator).sum())
        truth = self.gradient(-((y - self.model.context(x)[:, None]) ** 2).sum() / (2 * VARIANCE))
        return float(torch.nn.functional.cosine_similarity(estimate.flatten(), truth.flatten(), dim=0))


ESTIMATORS: dict[str, Callable[[Case], float]] = {
    "Gaussian, reparameterised": lambda case: case.similarity(case.gaussian_reparameterised()),
    "Gaussian, score": lambda case: case.similarity(case.gaussian_score()),
    "diffusion, reparameterised": lambda case: case.similarity(case.diffusion_reparameterised()),
    "diffusion, score": lambda case: case.similarity(case.diffusion_score()),
    "score of the whole decision": lambda case: case.similarity(case.whole_decision()),
    "bound, one outcome": lambda case: case.bound(),
}
Found = dict[str, dict[str, list[tuple[float, float]]]]


def measure(sweep: str, values: Iterable[int], seeds: int, batch: int) -> dict[str, list[tuple[float, float]]]:
    """Mean similarity and standard error of every estimator at every value of what is swept."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ESTIMATORS}
    for value in track(list(values), description=sweep, transient=True):
        cases = [Case(seed, batch, **{**USUAL, sweep: value}) for seed in range(seeds)]
        for name, estimator in ESTIMATORS.items():
            similarities = np.array([estimator(case) for case in cases])
            found[name].append((similarities.mean(), similarities.std(ddof=1) / math.sqrt(seeds)))
    return found


def print_tables(found: Found, settings: str) -> None:
    for sweep, rows in found.items():
        others = ", ".join(f"{name} {value}" for name, value in USUAL.items() if name != sweep)
        title = f"Cosine similarity with the true gradient; {others}; {settings}"
        table = figures(title, sweep, *map(str, SWEEPS[sweep]))
        for name, cells in rows.items():
            table.add_row(name, *(f"{mean:.3f} ± {error:.3f}" for mean, error in cells))
        show(table)


def draw(found: Found, folder: Path) -> Path:
    """Draw a panel per sweep, a line per estimator."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(found), figsize=(4.2 * len(found), 3.6), sharey=True, layout="constrained")
    for panel, (sweep, rows) in zip(panels, found.items(), strict=True):
        for name, cells in rows.items():
            mean, error = np.array(cells).T
            (line,) = panel.plot(SWEEPS[sweep], mean, marker="o", markersize=3, label=name)
            panel.fill_between(SWEEPS[sweep], mean - error, mean + error, color=line.get_color(), alpha=0.2)
        panel.set(xscale="log", xlabel=sweep, ylim=(min(0, panel.get_ylim()[0]), 1.02))
        panel.set_xticks(SWEEPS[sweep], [str(value) for value in SWEEPS[sweep]], minor=False)
        panel.minorticks_off()
    panels[0].set_ylabel("cosine with the true gradient")
    handles: Any = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "gradient_quality.png"
    figure.savefig(path, dpi=150)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the figure; none is drawn without it")
    parser.add_argument("--fast", action="store_true", help="fewer seeds and smaller batches, in a minute")
    arguments = parser.parse_args()
    seeds, batch = (4, 32) if arguments.fast else (10, 64)
    torch.set_num_threads(1)
    found = {sweep: measure(sweep, values, seeds, batch) for sweep, values in SWEEPS.items()}
    fast = " (fast: fewer seeds, smaller batches)" if arguments.fast else ""
    print_tables(found, f"batch {batch}, {seeds} seeds{fast}")
    if arguments.out:
        print(f"figure: {draw(found, arguments.out)}")


if __name__ == "__main__":
    main()
