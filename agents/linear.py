"""Fully connected layers that make use of AVX-512 on AMD's processors too."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

#: Multiplications (rows x in x out) from which a product gains more than the call costs.
_WORTH = 2**21


class Linear(nn.Linear):
    """A layer like PyTorch's; on AMD's processors with AVX-512 its larger products in float32 are those of oneDNN.

    PyTorch multiplies float32 with Intel's MKL, which leaves AVX-512 unused there and took twice as long on an EPYC of
    2024 (Zen 5); oneDNN, which PyTorch brings along too and takes for bfloat16, does not.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        """What comes out (..., out) of ``input`` (..., in)."""
        if not (_slow_here() and input.numel() * self.out_features >= _WORTH and _are_plain(input, self.weight)):
            return linear(input, self.weight, self.bias)
        rows = input.reshape(-1, self.in_features)
        out: Tensor = _Product.apply(rows, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return out.reshape(*input.shape[:-1], self.out_features)


@cache
def _slow_here() -> bool:
    """Whether MKL multiplies on a processor of AMD with AVX-512, and this PyTorch has the operator of its compiler."""
    told = Path("/proc/cpuinfo")
    of_amd = "AuthenticAMD" in (told.read_text() if told.exists() else platform.processor())
    multiplies: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return of_amd and multiplies and wide and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _are_plain(*tensors: Tensor) -> bool:
    return all(tensor.dtype is torch.float32 and tensor.device.type == "cpu" for tensor in tensors)


class _Product(torch.autograd.Function):
    """x (R, in) times the transpose of a weight (out, in), plus a bias (out,) or none; its gradients are such too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _Product.apply(slope, weight.t(), None) if of_x else None,  # type: ignore[no-untyped-call]
            _Product.apply(slope.t(), x.t(), None) if of_weight else None,  # type: ignore[no-untyped-call]
            slope.sum(0) if of_bias else None,
        )
