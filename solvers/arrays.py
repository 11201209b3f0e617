"""One formula, three carriers: Python floats (single environments), NumPy and torch (batches, autograd, CUDA).

A formula asks :func:`namespace` for the functions that go with its argument and is written once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import array_api_compat
import numpy as np

# An array of NumPy or torch, or a Python float; there is no common static type for them.
Array = Any
T = TypeVar("T")


class _Scalars:
    """The few array functions that formulas use, for Python floats.

    A single environment's step is several times faster on floats than on arrays of one element.
    """

    minimum = staticmethod(min)
    maximum = staticmethod(max)
    log1p = staticmethod(math.log1p)
    abs = staticmethod(abs)
    isnan = staticmethod(math.isnan)

    @staticmethod
    def where(condition: bool, yes: float, no: float) -> float:
        return yes if condition else no


_NAMESPACES: dict[type, Any] = {float: _Scalars, np.float64: _Scalars, np.ndarray: np}


def namespace(array: Array) -> Any:
    """Array-API functions for ``array``: a float, a NumPy array or a torch tensor."""
    kind = type(array)
    if kind not in _NAMESPACES:
        _NAMESPACES[kind] = array_api_compat.array_namespace(array)
    return _NAMESPACES[kind]


def total(values: Array) -> Array:
    """Sum over the last axis; a float stands for a vector of one and is its own sum."""
    if isinstance(values, float):
        return values
    return values[..., 0] if values.shape[-1] == 1 else values.sum(-1)


def largest(values: Array) -> Array:
    """Maximum over the last axis; a float is its own."""
    if isinstance(values, float):
        return values
    return values[..., 0] if values.shape[-1] == 1 else namespace(values).max(values, axis=-1)


def beyond(values: Array, tolerance: float) -> Array:
    """``values`` where they exceed the tolerance, 0 elsewhere: what counts as a violation."""
    return values * (values > tolerance)


def on_numpy(function: Callable[..., T], *arrays: Array) -> T:
    """Call ``function`` with CPU torch tensors turned into NumPy views, and its result turned back.

    Sorting and small elementwise work is several times faster in NumPy than in torch on a CPU; tensors on
    another device, and NumPy arrays, go through unchanged.
    """
    first = next(array for array in arrays if array is not None)
    if isinstance(first, np.ndarray) or first.device.type != "cpu":
        return function(*arrays)
    import torch  # only a caller that holds a tensor gets here, so torch is loaded already

    def back(result: Any) -> Any:
        if isinstance(result, tuple):
            return type(result)(*(back(item) for item in result))
        return torch.from_numpy(np.ascontiguousarray(result))

    return back(function(*(None if array is None else array.detach().numpy() for array in arrays)))
