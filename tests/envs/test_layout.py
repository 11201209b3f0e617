"""Outcomes that are known beforehand: the observation tells them, scenarios take them over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from shiftgym.agents.base import ScenarioAgent
from shiftgym.envs.task import Layout
from shiftgym.solvers import ProblemError, make_problem

# one reading of two series, two features of which the last is a price; three outcomes, the last is that price
LAYOUT = Layout(lookback=1, columns=2, context=2, previous=0, naive=(0, 1, 3), known=(2,))
SEEN = np.array([[1.0, 2.0, 3.0, -4.0], [5.0, 6.0, 7.0, 8.0]], np.float32)


@pytest.mark.parametrize("samples", [1, 3])
def test_scenarios_take_over_what_is_known(samples: int) -> None:
    scenarios = np.arange(6.0 * samples).reshape(2, samples, 3)
    told = LAYOUT.told(SEEN, scenarios)
    np.testing.assert_array_equal(told[..., :2], scenarios[..., :2])
    np.testing.assert_array_equal(told[..., 2], np.repeat([[-4.0], [8.0]], samples, axis=1))
    assert scenarios[0, 0, 2] == 2.0  # the given ones stay as they are
    assert LAYOUT.told(SEEN, scenarios[:1]).shape == (2, samples, 3)
    plain = Layout(lookback=1, columns=2, context=2, previous=0, naive=(0, 1))
    assert plain.told(SEEN, scenarios) is scenarios


def test_tensors_keep_the_gradient_of_the_rest() -> None:
    forecast = torch.ones((2, 3), dtype=torch.float64, requires_grad=True)  # observations are float32
    told = LAYOUT.told(torch.tensor(SEEN), 2 * forecast)
    told.sum().backward()
    assert forecast.grad is not None
    assert forecast.grad.tolist() == [[2.0, 2.0, 0.0]] * 2
    assert told[:, 2].tolist() == [-4.0, 8.0]


def test_a_scenario_agent_decides_with_the_known_price() -> None:
    class Guess(ScenarioAgent):
        name = "guess"

        def _fit(self, task: Any, progress: bool, device: str) -> None:
            pass

        def scenarios(self, observations: Any) -> Any:
            return np.zeros((len(observations), 1, 3))

    agent = Guess()
    problem = SimpleNamespace(
        outcome_dim=3, given=lambda scenarios, state: scenarios, solve=lambda scenarios: scenarios[:, 0]
    )
    agent.problem_, agent.layout_ = problem, LAYOUT  # type: ignore[assignment]
    np.testing.assert_array_equal(agent.act(SEEN), [[0, 0, -4], [0, 0, 8]])


def test_a_known_outcome_may_be_below_the_smallest_sensible_one() -> None:
    problem = make_problem("Provisioning", horizon=2)
    y = np.array([[[0.2, -0.3]]])
    with pytest.raises(ProblemError, match=r"reach -0\.3"):
        problem.check_scenarios(y, None)
    problem.known_dim = 1
    problem.check_scenarios(y, None)
