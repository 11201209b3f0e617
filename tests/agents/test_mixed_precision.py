"""Layers in bfloat16 and in integers of 8 bits, against those in float32."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shiftgym.agents import mixed_precision
from shiftgym.agents.mixed_precision import Integers, Rounded
from shiftgym.agents.networks import layers

needs_integers = pytest.mark.skipif(
    not mixed_precision.has_integers(layers(1, (), 1)), reason="this processor has no products of integers"
)


# ------------------------------------------------------------------------------------------------ bfloat16
def test_bfloat16_gradients_add_up_in_the_weights_precision() -> None:
    """A thousand times one: a sum in bfloat16 would end at 256."""
    body = layers(1, (), 1)
    rounded = Rounded(body)
    torch.stack([rounded(torch.zeros(1, 1)) for _ in range(1000)]).sum().backward()
    assert body[0].bias.grad == 1000


def test_bfloat16_is_the_same_without_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processors and devices multiply weights as they are, with and without gradients."""
    torch.manual_seed(0)
    body, first = layers(40, (30,), 3), torch.randn(50, 40)
    as_it_is_best, plain = Rounded(body), Rounded(body)
    with monkeypatch.context() as patch:
        patch.setattr(mixed_precision, "_tiled", lambda weight: False)
        assert all(layer.tiles is None for layer in plain.rounded)
    with torch.no_grad():
        torch.testing.assert_close(plain(first.clone()), as_it_is_best(first.clone()), atol=0.01, rtol=0.01)
    torch.testing.assert_close(plain(first), as_it_is_best(first), atol=0.01, rtol=0.01)
    slopes = [
        torch.autograd.grad(rounded(first).square().sum(), list(body.parameters()))
        for rounded in (plain, as_it_is_best)
    ]
    torch.testing.assert_close(*slopes, atol=0.05, rtol=0.02)


# ------------------------------------------------------------------------------------------------ integers
@needs_integers
@given(rows=st.integers(1, 40), width=st.integers(1, 60), size=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_products_of_integers(rows: int, width: int, size: float, seed: int) -> None:
    """Within what rounding both factors can make of them."""
    torch.manual_seed(seed)
    layer = torch.nn.Linear(width, 7)
    x = torch.nn.functional.silu(size * torch.randn(rows, width))
    exact, found = layer(x), Integers.of(layer).times(x.clone())
    step, weights = (x.max() + 0.279) / 255, layer.weight.abs()
    # half a step for each of x, and half a step of 127 for each of a row of weights
    bound = 0.5 * step * weights.sum(1) + 0.5 / 127 * weights.amax(1) * (x.abs() + step).sum(1, keepdim=True)
    assert bool(((found - exact).abs() <= 1.01 * bound + 1e-5).all())


@needs_integers
def test_values_at_both_ends_do_not_wrap_around() -> None:
    """The least value of SiLU is the integer 0, the largest that there is 255, whatever their ratio."""
    layer = torch.nn.Linear(2, 1)
    torch.nn.init.eye_(layer.weight[:, :1])
    torch.nn.init.zeros_(layer.bias)
    for largest in torch.linspace(0.01, 30, 500).tolist():
        x = torch.tensor([[-0.27846454276, 0.0], [largest, 0.0]])
        assert Integers.of(layer).times(x.clone())[:, 0].tolist() == pytest.approx(
            x[:, 0].tolist(), abs=largest / 200 + 0.003
        )


@needs_integers
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_integers_do_not_hide_what_is_not_finite(value: float) -> None:
    x = torch.ones(3, 4)
    x[0, 0] = value
    assert not Integers.of(torch.nn.Linear(4, 2)).times(x).isfinite().any()


def test_without_integers_it_is_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    body, first = layers(40, (30,), 3), torch.randn(50, 40)
    monkeypatch.setattr(mixed_precision, "has_integers", lambda body: False)
    with torch.no_grad():
        assert torch.equal(Rounded(body, "int8")(first.clone()), Rounded(body, "bfloat16")(first.clone()))
