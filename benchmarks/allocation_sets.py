"""What decisions about product allocation cost exactly, and how far apart test sets of 200 points are.

    python benchmarks/allocation_sets.py         the laws: best decision, sample averages, spread over sets
    python benchmarks/allocation_sets.py RUN     a run of diffusion-dfl/table1: the exact cost of what agents decided

Source: Diffusion-DFL, section 6.1, A.9 and Table 1.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from shiftgym.data import load_trace
from shiftgym.data.mixtures import GaussianMixture, mixture
from shiftgym.data.spec import parse_spec
from shiftgym.evaluation.results import Run
from shiftgym.evaluation.statistics import combined_half
from shiftgym.solvers import ProductAllocation

SETS, POINTS = 4000, 200


def best_decision(law: GaussianMixture) -> NDArray[np.float64]:
    """Return what costs least on average; the columns follow one law, so all hold the same."""

    def cost(amount: float) -> float:
        return float(law.laplace(np.full(law.columns, amount)))

    return np.full(law.columns, minimize_scalar(cost, bounds=(0, 2), method="bounded").x)


def exact_costs(run: Run) -> None:
    """Print what each agent decided costs exactly, with 95 % intervals over seeds, which are seeds of the data too."""
    for scenario in run.suite.scenarios:
        if not scenario.env.startswith("shiftgym/ProductAllocation"):
            continue
        law = mixture(parse_spec(scenario.for_seed(0).test).name)
        least = float(law.laplace(best_decision(law)))
        print(f"{scenario.name}: the best decision costs {least:.4f}")
        cells = [cell["keys"] for cell in run.cells if cell["keys"]["scenario"] == scenario.name]
        for agent in dict.fromkeys(keys["agent"] for keys in cells):
            columns = [f"decision_{i}" for i in range(law.columns)]
            seeds = [keys["seed"] for keys in cells if keys["agent"] == agent]
            costs = np.array([law.laplace(run.steps(scenario.name, agent, s, columns)).mean() for s in seeds])
            half = combined_half(0.0, costs)
            print(
                f"  {agent:32s} {costs.mean():10.4f} ± {half:.4f}   {100 * (costs.mean() / least - 1):8.2f} % above, "
                f"{len(seeds)} seeds"
            )


def main() -> None:
    """Print what the command line asks for."""
    if len(sys.argv) > 1:
        exact_costs(Run.open(sys.argv[1]))
    else:
        describe_laws()


def describe_laws() -> None:
    """Print, for both laws, the population optimum, sample averages against it, and the spread over sets."""
    for name in ("allocation", "allocation-paper"):
        law, outcomes = mixture(name), load_trace(name).outcome
        products = outcomes.shape[1]
        problem = ProductAllocation(products=products)
        best = best_decision(law)
        print(f"{name}: the best decision holds {best[0]:.4f} of each product and costs {law.laplace(best):.4f}")
        for count in (50, 200, 1000, 5000, 20000):
            print(f"  sample average of {count:5d}: {law.laplace(problem.solve(outcomes[None, :count])[0]):10.4f}")
        spread = np.sqrt((law.laplace(2 * best) - law.laplace(best) ** 2) / POINTS)
        print(f"  the best decision on sets of {POINTS} points: standard deviation {spread:.4f}")
        sets = law.sample(SETS * POINTS, np.random.default_rng(0)).reshape(SETS, POINTS, products)
        most = np.exp(-problem.high[0] * sets.sum(axis=2)).mean(axis=1)
        low, middle, high = np.quantile(most, [0.05, 0.5, 0.95])
        print(
            f"  as much as possible of each: {law.laplace(problem.high):.4g} on average; over sets {low:.3g} (5 %), "
            f"{middle:.3g} (half), {high:.3g} (95 %); no more than 1.987 on {100 * (most <= 1.987).mean():.0f} %"
        )


if __name__ == "__main__":
    main()
