"""One formula, three carriers: Python floats (single environments), NumPy and torch (batches, autograd, CUDA).

A formula asks :func:`namespace` for the functions that go with its argument and is written once.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import array_api_compat
import numpy as np
from numpy.typing import NDArray

_LARGEST_EXPONENT = math.log(np.finfo(np.float64).max)
#: Longest vector of which Python finds the largest entry faster than NumPy.
_SHORT = 64
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
    def exp(x: float) -> float:
        return math.exp(x) if x < _LARGEST_EXPONENT else math.inf

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
    width = values.shape[-1]
    if width == 1:
        return values[..., 0]
    if isinstance(values, np.ndarray) and values.dtype.char == "d":  # float64, asked for cheaply
        return values.dot(_ones(width))  # several times faster than a sum over a short last axis
    return values.sum(-1)


@functools.cache
def _ones(width: int) -> NDArray[np.float64]:
    return np.ones(width)


def inner(a: Array, b: Array) -> Array:
    """Inner product over the last axis; floats stand for vectors of one."""
    if isinstance(a, float):
        return a * b
    if isinstance(a, np.ndarray) and a.ndim == b.ndim <= 2:  # the two kinds of a replay, faster than in general
        if a.ndim == 1:
            return a.dot(b)
        # one outcome for all decisions is a single product
        return b.dot(a[0]) if len(a) == 1 else np.einsum("ij,ij->i", a, b)
    return namespace(a).vecdot(a, b)


def largest(values: Array) -> Array:
    """Maximum over the last axis; a float is its own."""
    if isinstance(values, float):
        return values
    if values.shape[-1] == 1:
        return values[..., 0]
    if isinstance(values, np.ndarray):
        # a reduction of a single short vector takes three times as long as Python's, np.max twelve times
        short = values.ndim == 1 and values.size <= _SHORT
        return np.float64(max(values.tolist())) if short else np.maximum.reduce(values, -1)
    return namespace(values).max(values, axis=-1)


def smallest(values: Array) -> Array:
    """Minimum over the last axis."""
    if isinstance(values, np.ndarray):
        short = values.ndim == 1 and values.size <= _SHORT
        return np.float64(min(values.tolist())) if short else np.minimum.reduce(values, -1)
    return namespace(values).min(values, axis=-1)


def every(mask: Array) -> bool:
    """Whether a mask is true everywhere; the methods of a single value take longer than those of an array."""
    return bool(mask.all() if mask.ndim else mask)


def beyond(values: Array, tolerance: float) -> Array:
    """``values`` where they exceed the tolerance, 0 elsewhere: what counts as a violation."""
    return values * (values > tolerance)


def nothing(values: Array) -> Array:
    """Zeros (...) for an array (..., d), and 0.0 for a float or a single vector of NumPy."""
    if isinstance(values, float) or (values.ndim == 1 and isinstance(values, np.ndarray)):
        return 0.0
    return namespace(values).zeros(values.shape[:-1], **kind(values))


def clipped(values: Array, low: float, high: float, tolerance: float) -> Array:
    """``values`` clipped to a box, but untouched where they leave it by no more than the tolerance."""
    if isinstance(values, float):
        if low - tolerance <= values <= high + tolerance:
            return values
        return low if values < low else high
    if not len(values) or (values.min() >= low - tolerance and values.max() <= high + tolerance):
        return values
    xp = namespace(values)
    inside = (values >= low - tolerance) & (values <= high + tolerance)
    return xp.where(inside, values, xp.clip(values, low, high))


def on_numpy(function: Callable[..., T], *arrays: Array) -> T:
    """Call ``function`` with CPU torch tensors turned into NumPy views, and its result turned back.

    Sorting and small elementwise work is several times faster in NumPy than in torch on a CPU; tensors on
    another device, and NumPy arrays, go through unchanged.
    """
    first = arrays[0] if arrays[0] is not None else next(array for array in arrays if array is not None)
    if isinstance(first, np.ndarray) or first.device.type != "cpu":
        return function(*arrays)
    import torch  # only a caller that holds a tensor gets here, so torch is loaded already

    def back(result: Any) -> Any:
        if isinstance(result, tuple):
            return type(result)(*(back(item) for item in result))
        return torch.from_numpy(np.ascontiguousarray(result))

    return back(function(*(None if array is None else array.detach().numpy() for array in arrays)))


def in_numpy(function: Callable[..., T], *arrays: Array) -> T:
    """As :func:`on_numpy`, for a function of NumPy alone: tensors on another device go to the processor and back."""
    first = arrays[0]
    if isinstance(first, np.ndarray) or first.device.type == "cpu":
        return on_numpy(function, *arrays)
    result: Any = on_numpy(function, *(None if array is None else array.cpu() for array in arrays))
    if isinstance(result, tuple):
        return type(result)(*(item.to(first.device) for item in result))  # type: ignore[return-value]
    return result.to(first.device)


def on_torch(function: Callable[..., T], *arrays: Array, lean: bool = False) -> T:
    """Call ``function`` with float64 tensors, and turn its result back into the kind and dtype of the first array.

    Batched factorisations are written once, in torch: NumPy arrays and CPU tensors share memory, and a tensor on
    another device is worked on there. No graph is recorded; a problem's adjoint is the derivative. ``lean`` spares
    torch all its bookkeeping, at the price of a copy of a result that is a tensor.
    """
    import torch

    first = arrays[0]

    def back(result: Any) -> Any:
        if isinstance(result, tuple):
            return type(result)(*(back(item) for item in result))
        if isinstance(first, np.ndarray):
            return result.numpy().astype(first.dtype, copy=False)
        return result.to(first.dtype, copy=lean)

    def tensor(array: Array) -> torch.Tensor | None:
        if isinstance(array, np.ndarray):
            array = np.ascontiguousarray(array, dtype=np.float64)
            return torch.from_numpy(array if array.flags.writeable else array.copy())
        return None if array is None else array.detach().double()

    with torch.inference_mode() if lean else torch.no_grad():
        result = function(*map(tensor, arrays))
    return back(result)


def times(matrices: Array, vectors: Array) -> Array:
    """Products (..., I) of matrices (..., I, J) and vectors (..., J)."""
    return (matrices @ vectors[..., None])[..., 0]


def weighted_sum(weights: Array, scenarios: Array) -> Array:
    """Sums (B, D) of the scenarios (B, M, D) with weights (B, M)."""
    return (weights[:, None] @ scenarios)[:, 0]


def magnitude(scenarios: Array) -> Array:
    """Largest absolute entry (B, 1) of the scenarios (B, M, D) of a context."""
    # one axis after the other, which torch does ten times as fast as both at once
    return scenarios.amax(1).maximum(-scenarios.amin(1)).amax(1)[:, None]


def pseudo_solve(solve: Callable[[Array], Array], apply: Callable[[Array], Array], rhs: Array, ridge: Array) -> Any:
    """Least-norm solution x of H x = rhs for a singular H, and the part of ``rhs`` that H cannot reach.

    ``solve`` is the inverse of H + ``ridge`` and ``apply`` is H. Where H has no curvature, ridge times that inverse
    is the identity, elsewhere it is as small as the ridge: applied twice it leaves the unreachable part alone, and
    refinement removes the bias of the ridge from the rest.
    """
    null = ridge * solve(ridge * solve(rhs))
    reachable = rhs - null
    x = solve(reachable)
    for _ in range(2):
        x = x + solve(reachable - apply(x))
    return x, null


def warn_unsolved(name: str, decisions: Array) -> None:
    """Warn how many rows are NaN because an iteration did not converge for them; the other rows stand."""
    xp = namespace(decisions)
    unsolved = int(xp.any(xp.isnan(decisions), axis=-1).sum())
    if unsolved:
        warnings.warn(
            f"{name}: {unsolved} of {len(decisions)} contexts did not converge; their decisions are NaN",
            RuntimeWarning,
            stacklevel=4,
        )


def constant(value: float, array: Array) -> Any:
    """A constant that :func:`minimum` and :func:`maximum` of the array's namespace take."""
    if isinstance(array, float | np.ndarray):
        return value
    return namespace(array).asarray(value, **kind(array))


def kind(array: Array) -> dict[str, Any]:
    """Keywords for the dtype and device of an array."""
    return {"dtype": array.dtype, "device": array.device}


def pick_rows(table: Array, row: Array) -> Array:
    """Rows of a table, which holds a single row when all rows are alike."""
    return table[row] if len(table) > 1 else table


def entries(index: Array, *tables: Array) -> list[Array]:
    """Gather ``table[r, index[r, j]]`` (R, J) of each table (R, K), without the overhead of ``take_along_axis``."""
    start = namespace(index).arange(len(index), **kind(index)) * tables[0].shape[1]
    flat = index + start[:, None]
    return [table.reshape(-1)[flat] for table in tables]


def masses(scenarios: Array, weights: Array | None) -> Array:
    """Weights (B or 1, M) of the scenarios (B, M, D) that sum to one; a single row when all count alike."""
    if weights is None:
        return namespace(scenarios).ones((1, scenarios.shape[1]), **kind(scenarios)) / scenarios.shape[1]
    return weights / weights.sum(-1)[:, None]


def density(samples: Array, place: Array, mass: Array) -> Array:
    """Gaussian kernel estimate (B, N) with Silverman's bandwidth of the density of samples (B, M, N) at (B, N).

    Sums over the scenarios M with ``mass`` (B or 1, M), which sums to one.
    """
    return closeness(samples, place, mass).sum(1)


def closeness(samples: Array, place: Array, mass: Array) -> Array:
    """What each of the samples (B, M, N) adds to the :func:`density` at (B, N)."""
    xp = namespace(samples)
    mass = mass[..., None]
    mean = (mass * samples).sum(1)[:, None]
    spread = xp.sqrt((mass * (samples - mean) ** 2).sum(1))[:, None]
    width = xp.maximum(1.06 * spread * samples.shape[1] ** -0.2, constant(1e-9, samples))
    kernel = xp.exp(-0.5 * ((samples - place[:, None]) / width) ** 2) / (width * (2 * np.pi) ** 0.5)
    return mass * kernel


def in_double(function: Callable[..., T]) -> Callable[..., T]:
    """Let ``function`` work in float64, and give its result back in the dtype of its first argument.

    Which scenario holds a decision is a matter of the last digits: float32 may pick a wrong one.
    """

    def wrapped(*arrays: Array) -> T:
        first = arrays[0]
        xp = namespace(first)

        def back(result: Any) -> Any:
            if isinstance(result, tuple):
                return type(result)(*(back(item) for item in result))
            return xp.astype(result, first.dtype, copy=False)

        doubles = (None if array is None else xp.astype(array, xp.float64, copy=False) for array in arrays)
        return back(function(*doubles))

    return wrapped


def in_chunks(function: Callable[..., Any], size: int, *arrays: Array) -> Any:
    """Apply ``function`` to ``size`` rows of the arrays at a time, and join its results (an array or a tuple)."""
    count = len(arrays[0])
    if count <= size:
        return function(*arrays)
    parts = [
        function(*(None if array is None else array[i : i + size] for array in arrays)) for i in range(0, count, size)
    ]
    xp = namespace(arrays[0])
    if isinstance(parts[0], tuple):
        return type(parts[0])(*(xp.concat(part, axis=0) for part in zip(*parts, strict=True)))
    return xp.concat(parts, axis=0)
