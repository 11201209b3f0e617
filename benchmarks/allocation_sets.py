"""What decisions about product allocation cost exactly, and how far apart test sets of 200 points are.

Run it with ``python benchmarks/allocation_sets.py``. Source: Diffusion-DFL, section 6.1, A.9 and Table 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from shiftgym.data import load_trace
from shiftgym.data.mixtures import GaussianMixture, mixture
from shiftgym.solvers import ProductAllocation

SETS, POINTS = 4000, 200


def best_decision(law: GaussianMixture) -> NDArray[np.float64]:
    """Return what costs least on average; the columns follow one law, so all hold the same."""

    def cost(amount: float) -> float:
        return float(law.laplace(np.full(law.columns, amount)))

    return np.full(law.columns, minimize_scalar(cost, bounds=(0, 2), method="bounded").x)


def main() -> None:
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
