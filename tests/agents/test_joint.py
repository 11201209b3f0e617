"""Coordinates of histories and outcomes: there and back, the noise they stand for, and what is moved in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shiftgym.agents.joint import Joint
from shiftgym.agents.trained import Samples
from shiftgym.data import ShiftgymError
from shiftgym.envs.task import Layout
from tests.worlds import VARIANTS, make


def world(name: str, persistence: float, **keywords: Any) -> tuple[Joint, Samples]:
    task = make(name, **keywords).unwrapped.task
    samples = Samples.of(task, "cpu")
    return Joint.of(samples, task.layout, task.problem, persistence), samples


def same(found: Samples, expected: Samples, **tolerance: float) -> None:
    """The same samples, context and state to the last bit."""
    for left, right in ((found.observations, expected.observations), (found.outcomes, expected.outcomes)):
        assert left.dtype == right.dtype
        torch.testing.assert_close(left, right, **tolerance)
    assert found.state is expected.state


@pytest.mark.parametrize("persistence", [0.0, 0.9])
@pytest.mark.parametrize(("name", "keywords"), VARIANTS)
def test_there_and_back(name: str, keywords: dict[str, Any], persistence: float) -> None:
    if name == "DataCenterHourly" and persistence:  # prices are among its outcomes, and not in its history
        with pytest.raises(ShiftgymError, match=r"persistence is 0.9, but 13 outcomes do not continue a history of 4"):
            world(name, persistence, **keywords)
        return
    joint, samples = world(name, persistence, **keywords)
    rows = joint.rows(samples)
    assert rows.shape == (len(samples), joint.width) == (len(samples), joint.history + samples.outcomes.shape[1])
    back = joint.samples(rows, samples)
    assert torch.equal(back.observations[:, joint.history :], samples.observations[:, joint.history :])
    same(back, samples, rtol=1e-4, atol=1e-4)
    if not persistence:  # standardised: a column of the history has one location and one scale for all lags
        past = rows[:, : joint.history].reshape(-1, joint.columns)
        varies = rows[:, joint.history :].std(0) > 1e-3  # the sun at night is next to nothing
        assert past.mean(0).abs().max() < 1e-4
        torch.testing.assert_close(rows[:, joint.history :].std(0, correction=0)[varies], torch.ones(int(varies.sum())))


@pytest.mark.parametrize("persistence", [0.0, 0.5, 0.95])
def test_white_noise_becomes_an_autoregression(persistence: float) -> None:
    joint, _ = world("Provisioning", persistence)
    steps = torch.arange(len(joint.mixing))
    correlation = persistence ** (steps[:, None] - steps).abs()
    torch.testing.assert_close(joint.mixing @ joint.mixing.T, correlation.float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(joint.unmixing @ joint.mixing, torch.eye(len(steps)), atol=1e-5, rtol=0)
    assert joint.mixing.triu(1).abs().max() < 1e-12  # the past does not know the future


@pytest.mark.parametrize("persistence", [0.0, 0.9])
@pytest.mark.parametrize(
    ("name", "keywords"), [("Provisioning", {"horizon": 4}), ("Portfolio", {"transaction_cost": 0.002})]
)
def test_moving_is_adding_in_the_coordinates(name: str, keywords: dict[str, Any], persistence: float) -> None:
    joint, samples = world(name, persistence, **keywords)
    away = joint.samples(joint.rows(samples) + 100.0, samples)  # far above the lower bound
    by = torch.randn((len(away), joint.width), generator=torch.Generator().manual_seed(0))
    same(joint.moved(away, by), joint.samples(joint.rows(away) + by, away), rtol=1e-3, atol=1e-3)
    past = by[:, : joint.history]
    moved = joint.moved(away, past)
    assert moved.outcomes is away.outcomes
    whole = joint.moved(away, torch.cat((past, torch.zeros_like(by[:, joint.history :])), 1))
    torch.testing.assert_close(moved.observations, whole.observations)  # what comes later does not change what was seen


def test_a_disturbance_that_lasts_reaches_the_outcome() -> None:
    """One nudge of the last slot seen moves what follows by the share that persists."""
    for persistence in (0.0, 0.8):
        joint, samples = world("Provisioning", persistence, horizon=2)
        by = torch.zeros((len(samples), joint.width))
        by[:, joint.history - 1] = 1.0
        change = (joint.moved(samples, by).outcomes - samples.outcomes) / joint.scale[joint.history :]
        size = (1 - persistence**2) ** 0.5
        expected = size * torch.tensor([persistence, persistence**2]).expand_as(change)
        torch.testing.assert_close(change, expected.to(change), atol=1e-5, rtol=1e-5)


def test_nothing_goes_below_what_makes_sense() -> None:
    joint, samples = world("Provisioning", 0.0)
    below = torch.full((len(samples), joint.width), -100.0)
    for floored in (joint.samples(below, samples), joint.moved(samples, below)):
        assert not floored.outcomes.any()
        assert not floored.observations.any()


def test_moves_have_a_gradient() -> None:
    joint, samples = world("Provisioning", 0.9)
    by = torch.full((len(samples), joint.width), 5.0, requires_grad=True)
    moved = joint.moved(samples, by)
    (moved.observations.sum() + moved.outcomes.sum()).backward()  # type: ignore[no-untyped-call]
    assert by.grad is not None
    assert (by.grad > 0).all()


@pytest.mark.parametrize("persistence", [-0.1, 1.0, float("nan")])
def test_a_persistence_that_makes_no_sense(persistence: float) -> None:
    with pytest.raises(ShiftgymError, match=r"persistence is .*give a number in \[0, 1\)"):
        world("Provisioning", persistence)


def test_outcomes_that_do_not_continue_the_history() -> None:
    """They have coordinates of their own, but nothing that lasts can be said of them."""
    problem: Any = make("Provisioning").unwrapped.task.problem
    layout = Layout(lookback=4, columns=2, context=1, previous=0, naive=(6, 7, 6))
    generator = torch.Generator().manual_seed(0)
    observations = torch.rand((30, layout.size), generator=generator)
    samples = Samples(observations, torch.rand((30, 3), generator=generator, dtype=torch.float64), None)
    joint = Joint.of(samples, layout, problem)
    same(joint.samples(joint.rows(samples), samples), samples, rtol=1e-5, atol=1e-5)
    with pytest.raises(ShiftgymError, match=r"persistence is 0.5, but 3 outcomes .* 2 columns: give 0"):
        Joint.of(samples, layout, problem, 0.5)
