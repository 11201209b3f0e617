"""Fully connected layers multiplied in bfloat16 (Micikevicius et al., 2018, "Mixed Precision Training") or integers.

Rounding moves what a diffusion draws by far less than its spread: tested, for either precision.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, silu

PRECISIONS = ("float32", "bfloat16", "int8")
#: The least value of SiLU.
_LEAST = -0.27846454276


class Rounded:
    """The layers of a network as they are when first multiplied, rounded; gradients have the weights' precision.

    Unlike ``torch.autocast``, which rounds the weights again in every step of a chain that is recomputed, or else, if
    they are rounded once, sums their gradients over the steps in bfloat16, where a long sum stops growing.

    Parameters
    ----------
    body : nn.Sequential
        Fully connected layers with SiLU between them.
    precision : {"bfloat16", "int8"}
        "int8" multiplies integers of 8 bits where no gradient is asked for and the processor can (x86 with VNNI, Intel
        since 2019 and AMD since 2022), and bfloat16 otherwise.
    """

    def __init__(self, body: nn.Sequential, precision: str = "bfloat16") -> None:
        self._body, self._precision = body, precision
        self._layers = [layer for layer in body if isinstance(layer, nn.Linear)]
        self.weights = [parameter for layer in self._layers for parameter in (layer.weight, layer.bias)]

    @cached_property
    def rounded(self) -> list[Layer]:
        """The layers in bfloat16."""
        return [Layer.of(layer) for layer in self._layers]

    @cached_property
    def forward_only(self) -> list[Layer] | list[Integers]:
        """The layers as they are multiplied where no gradient is asked for."""
        whole = self._precision == "int8" and has_integers(self._body)
        return [Integers.of(layer) for layer in self._layers] if whole else self.rounded

    def __reduce__(self) -> tuple[type[Rounded], tuple[nn.Sequential, str]]:
        """A copy is made of the copied network: tiles can neither be copied nor pickled."""
        return Rounded, (self._body, self._precision)

    def __call__(self, first: Tensor) -> Tensor:
        """What the network makes of SiLU of the sums ``first`` (..., width), in their precision.

        Where no gradient is asked for, the sums are overwritten.
        """
        rows = first.reshape(-1, first.shape[-1])
        if torch.is_grad_enabled():
            out: Tensor = _Layers.apply(rows, self.rounded, *self.weights)  # type: ignore[no-untyped-call]
        else:
            out = silu(rows, inplace=True)
            for layer in self.forward_only[:-1]:
                out = layer.times(out, "swish")
            out = self.forward_only[-1].times(out).to(rows.dtype)
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
        """Rows (R, in) through the layer, and "swish" (SiLU) or "none" ``then``: (R, out) in bfloat16."""
        x = x.bfloat16()
        if self.tiles is not None:
            out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.tiles, self.bias, then, [], "")
            return out
        out = linear(x, self.weight, self.bias)
        return silu(out, inplace=True) if then == "swish" else out


class Integers(NamedTuple):
    """Weight in integers of 8 bits, as the processor wants it, with ``scale`` and ``zero`` of its rows, and bias."""

    weight: Tensor
    scale: Tensor
    zero: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Linear) -> Integers:
        """A layer as it is now."""
        weight, bias = layer.weight.detach().float(), layer.bias.detach().float()
        scale = (weight.abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        whole = (weight / scale[:, None]).round().to(torch.int8)
        return cls(
            torch.ops.onednn.qlinear_prepack(whole, None), scale, torch.zeros_like(scale, dtype=torch.int32), bias
        )

    def times(self, x: Tensor, then: str = "none") -> Tensor:
        """Values of SiLU (R, in), overwritten, through the layer, and "swish" or "none" ``then``: (R, out) in float32.

        They are rounded to 256 numbers from the least value of SiLU to the largest that there is. What is not finite
        makes that scale, and so all that comes out, not finite either.
        """
        scale = (x.amax() - _LEAST).float() / 255
        zero = (-_LEAST / scale).floor()
        whole = x.div_(scale).add_(zero + 0.5).to(torch.int16).to(torch.uint8)  # at once it takes four times as long
        operands = (whole, scale, zero.int(), *self)
        out: Tensor = torch.ops.onednn.qlinear_pointwise(*operands, 1.0, 0, torch.float32, then, [], "")
        return out


def has_integers(body: nn.Module) -> bool:
    """Whether this PyTorch and this processor multiply integers of 8 bits, sums of which do not overflow."""
    able = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    here = all(parameter.device.type == "cpu" for parameter in body.parameters())
    return here and able() and hasattr(torch.ops.onednn, "qlinear_pointwise")


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
