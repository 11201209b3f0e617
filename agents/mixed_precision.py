"""Fully connected layers multiplied in bfloat16 (Micikevicius et al., 2018, "Mixed Precision Training")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

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
        layers = [layer for layer in body if isinstance(layer, nn.Linear)]
        self.weights = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
        self.rounded = [(layer.weight.detach().bfloat16(), layer.bias.detach().bfloat16()) for layer in layers]

    def __call__(self, first: Tensor) -> Tensor:
        """What the network makes of SiLU of the sums ``first`` (..., width), in their precision."""
        rows, keep = first.reshape(-1, first.shape[-1]), torch.is_grad_enabled()
        out: Tensor = _Layers.apply(rows, self.rounded, keep, *self.weights)  # type: ignore[no-untyped-call]
        return out.reshape(*first.shape[:-1], -1)


class _Layers(torch.autograd.Function):
    """SiLU and a layer, again and again; the backward pass takes what it needs from the forward, not from autograd."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, rounded: list[tuple[Tensor, Tensor]], keep: bool, *weights: Tensor) -> Tensor:
        ctx.rounded, ctx.precision = rounded, rows.dtype
        kept: list[Tensor] = []
        x = rows.bfloat16()
        for weight, bias in rounded:
            active = silu(x, inplace=not keep)  # with nothing to keep, the processor's cache holds it all
            if keep:
                kept += [x, active]
            x = torch.addmm(bias, active, weight.t())
        ctx.save_for_backward(*kept)
        return x.to(rows.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        kept, slope = list(ctx.saved_tensors), slope.bfloat16()
        found: list[Tensor] = []
        for weight, _ in reversed(ctx.rounded):
            active, x = kept.pop(), kept.pop()
            found = [(slope.t() @ active).to(ctx.precision), slope.sum(0).to(ctx.precision), *found]
            slope = torch.ops.aten.silu_backward(slope @ weight, x)
        return slope.to(ctx.precision), None, None, *found
