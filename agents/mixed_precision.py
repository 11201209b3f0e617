"""Fully connected layers multiplied in bfloat16 (Micikevicius et al., 2018, "Mixed Precision Training")."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, silu

PRECISIONS = ("float32", "bfloat16")


class Rounded:
    """The layers of a network as they are now, in bfloat16; gradients reach the weights in the weights' precision.

    Unlike ``torch.autocast``, which rounds the weights again in every step of a chain that is recomputed, or else, if
    they are rounded once, sums their gradients over the steps in bfloat16, where a long sum stops growing.

    Parameters
    ----------
    body : nn.Sequential
        Fully connected layers with SiLU between them.
    """

    def __init__(self, body: nn.Sequential) -> None:
        self._body = body
        layers = [layer for layer in body if isinstance(layer, nn.Linear)]
        self.weights = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
        self.rounded = [Layer.of(layer) for layer in layers]

    def __reduce__(self) -> tuple[type[Rounded], tuple[nn.Sequential]]:
        """A copy is made of the copied network: tiles can neither be copied nor pickled."""
        return Rounded, (self._body,)

    def __call__(self, first: Tensor) -> Tensor:
        """What the network makes of SiLU of the sums ``first`` (..., width), in their precision.

        Where no gradient is asked for, the sums are overwritten.
        """
        rows = first.reshape(-1, first.shape[-1])
        if torch.is_grad_enabled():
            out: Tensor = _Layers.apply(rows, self.rounded, *self.weights)  # type: ignore[no-untyped-call]
        else:
            out = silu(rows, inplace=True).bfloat16()
            for layer in self.rounded[:-1]:
                out = layer.times(out, "swish")
            out = self.rounded[-1].times(out).to(rows.dtype)
        return out.reshape(*first.shape[:-1], -1)


class Layer(NamedTuple):
    """Weight (out, in) and bias (out,) of a layer in bfloat16, and the weight as the processor wants it, if it does.

    A processor multiplies tiles. Left to itself PyTorch rearranges the whole weight for every product, which takes as
    long as to multiply a few hundred rows; a chain has a thousand products with the same weight.
    """

    weight: Tensor
    bias: Tensor
    tiles: Tensor | None

    @classmethod
    def of(cls, layer: nn.Linear) -> Layer:
        """A layer as it is now."""
        weight, bias = layer.weight.detach().bfloat16(), layer.bias.detach().bfloat16()
        tiles = torch.ops.mkldnn._reorder_linear_weight(weight) if _tiled(weight) else None
        return cls(weight, bias, tiles)

    def times(self, x: Tensor, then: str = "none") -> Tensor:
        """Rows (R, in) through the layer, and "swish" (SiLU) or "none" ``then``: (R, out)."""
        if self.tiles is not None:
            out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.tiles, self.bias, then, [], "")
            return out
        out = linear(x, self.weight, self.bias)
        return silu(out, inplace=True) if then == "swish" else out


def _tiled(weight: Tensor) -> bool:
    """Whether this PyTorch can arrange a weight for this processor; the operators are those of its compiler."""
    operators = torch.ops.mkldnn
    here = weight.device.type == "cpu" and hasattr(operators, "_linear_pointwise")
    return here and bool(operators._is_mkldnn_bf16_supported())


class _Layers(torch.autograd.Function):
    """SiLU and a layer, again and again; the backward pass takes what it needs from the forward, not from autograd."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, rounded: list[Layer], *weights: Tensor) -> Tensor:
        ctx.rounded, ctx.precision = rounded, rows.dtype
        kept: list[Tensor] = []
        x = rows.bfloat16()
        for layer in rounded:
            active = silu(x)
            kept += [x, active]
            x = layer.times(active)
        ctx.save_for_backward(*kept)
        return x.to(rows.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        kept, slope = list(ctx.saved_tensors), slope.bfloat16()
        found: list[Tensor] = []
        for layer in reversed(ctx.rounded):
            active, x = kept.pop(), kept.pop()
            found = [(slope.t() @ active).to(ctx.precision), slope.sum(0).to(ctx.precision), *found]
            slope = torch.ops.aten.silu_backward(slope @ layer.weight, x)
        return slope.to(ctx.precision), None, *found
