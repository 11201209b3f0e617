"""Product allocation under the two laws: what a decision costs exactly, and what a set of 200 points says about it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from shiftgym.data import load_trace
from shiftgym.data.mixtures import mixture
from shiftgym.solvers import ProductAllocation

CAP = 2.0


def optimum(law):
    """The best decision, the same for every product, and its cost."""
    found = minimize_scalar(lambda z: float(law.laplace(np.full(10, z))), bounds=(0, CAP), method="bounded")
    return np.full(10, found.x), float(found.fun)


def test_the_closed_form_is_the_mean_of_many_draws():
    law = mixture("allocation")
    z = np.linspace(0.1, 0.6, 10)
    costs = np.exp(-law.sample(400_000, np.random.default_rng(0)) @ z)
    assert costs.mean() == pytest.approx(law.laplace(z), abs=5 * costs.std() / np.sqrt(len(costs)))


@pytest.mark.parametrize(("name", "best"), [("allocation", 0.4006), ("allocation-paper", 0.9294)])
def test_many_scenarios_lead_to_the_population_optimum(name, best):
    law, trace = mixture(name), load_trace(name)
    assert optimum(law)[1] == pytest.approx(best, abs=5e-5)
    problem = ProductAllocation(products=10)
    excess = [law.laplace(problem.solve(trace.outcome[None, :count])[0]) - best for count in (200, 1000, 5000, 20000)]
    assert all(more > less for more, less in pairwise(excess))
    assert 0 < excess[-1] < 0.0015
    assert excess[0] > 0.04  # 200 scenarios hold too few disasters


def test_a_set_of_200_points_says_little():
    law = mixture("allocation")
    z, best = optimum(law)
    sets = law.sample(200 * 2000, np.random.default_rng(1)).reshape(2000, 200, 10)
    costs = np.exp(-sets @ z).mean(axis=1)
    spread = np.sqrt((law.laplace(2 * z) - best**2) / 200)
    assert costs.mean() == pytest.approx(best, abs=4 * spread / np.sqrt(2000))
    assert spread == pytest.approx(0.0806, abs=1e-4)  # the published 0.393 and 0.362 are a third of that apart
    # holding all there may be: 1.987 on the published set, a lucky one, because what it costs on average is rare
    everything = np.exp(-CAP * sets.sum(axis=2)).mean(axis=1)
    assert 0.08 < (everything <= 1.987).mean() < 0.15
    assert np.median(everything) == pytest.approx(6.8, abs=0.5)
    assert law.laplace(np.full(10, CAP)) == pytest.approx(5500, rel=0.01)
