"""Products of oneDNN stand for those of PyTorch, values and gradients of any order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear as plain

from shiftgym.agents import linear
from shiftgym.agents.linear import Linear

needs_onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch lacks the operator of its compiler"
)


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor of AMD, however small the product."""
    monkeypatch.setattr(linear, "_slow_here", lambda: True)
    monkeypatch.setattr(linear, "_WORTH", 1)


def used(layer: Linear, x: Tensor) -> bool:
    """Whether a product was that of oneDNN."""
    return "Product" in str(layer(x).grad_fn.next_functions[0][0]) + str(layer(x).grad_fn)


@needs_onednn
@given(
    shape=st.lists(st.integers(1, 5), max_size=3),
    width=st.integers(1, 40),
    outputs=st.integers(1, 40),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_values_and_gradients(shape: list[int], width: int, outputs: int, bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    layer, x = Linear(width, outputs, bias=bias), torch.randn(*shape, width, requires_grad=True)
    slope, leaves = torch.randn(*shape, outputs), (x, *layer.parameters())
    found, expected = layer(x), plain(x, layer.weight, layer.bias)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    first = [torch.autograd.grad(out, leaves, slope, create_graph=True) for out in (found, expected)]
    torch.testing.assert_close(*first, atol=1e-4, rtol=1e-5)
    second = [torch.autograd.grad(sum(each.square().sum() for each in grads), leaves[:2]) for grads in first]
    torch.testing.assert_close(*second, atol=1e-2, rtol=1e-4)


@needs_onednn
@pytest.mark.parametrize(
    "arranged",
    [
        lambda x: x[:1].expand(6, 8),
        lambda x: x[:, :1].expand(6, 8),
        lambda x: x.repeat(1, 2)[:, ::2],
        lambda x: x.reshape(8, 6).t(),
        lambda x: x.reshape(2, 3, 8).transpose(0, 1),
        lambda x: x[:0],
    ],
    ids=["rows repeat", "columns repeat", "strides", "transposed", "swapped", "none"],
)
def test_any_arrangement(arranged: object) -> None:
    layer, x = Linear(8, 3), arranged(torch.randn(6, 8))  # type: ignore[operator]
    torch.testing.assert_close(layer(x), plain(x, layer.weight, layer.bias))
    slopes = [torch.autograd.grad(out.sum(), layer.weight) for out in (layer(x), plain(x, layer.weight, layer.bias))]
    torch.testing.assert_close(*slopes)


@needs_onednn
def test_only_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger products in float32 on such a processor; all others are PyTorch's own."""
    layer, x = Linear(8, 4), torch.randn(10, 8)
    assert used(layer, x)
    assert not used(Linear(8, 4).double(), x.double())
    monkeypatch.setattr(linear, "_WORTH", 10 * 8 * 4)
    assert used(layer, x)
    assert not used(layer, x[:9])
    monkeypatch.setattr(linear, "_slow_here", lambda: False)
    assert not used(layer, x)
