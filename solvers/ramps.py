"""Hours tied by a ramp limit: the exact minimiser of a sum of piecewise quadratic costs, for many contexts at once.

For every context, min_z sum_i F_i(z_i) with |z_i - z_{i-1}| <= ramp and low <= z_i <= high, where the derivative of
an hour's cost is linear with jumps at given samples:

    F_i'(z) = z - centre_i + rise_i[number of samples of hour i at or below z].

Three steps, all finite and without a tolerance:

1. Without the ramp limit the hours separate, and an order statistic of each is its minimiser s_i. Where these keep
   the limit they are the solution.
2. The solution z lies between l_i = min_j (s_j + |i - j| ramp) and u_i = max_j (s_j - |i - j| ramp): both keep the
   limit, and so does min(z, u), which costs no more than z because u >= s. A larger derivative gives a smaller
   solution, so moving groups of samples to the first (last) of the group bounds z from below (above) by a problem of
   few samples. Repeated, this leaves few samples between the bounds however many there are.
3. Dynamic programming over the hours with the derivative of the cost-to-go. It is increasing and piecewise linear;
   the ramp limit moves its negative part to the left and its positive part to the right, with a flat piece between.
   (The one-dimensional case of Bellman's principle with a min-convolution by the indicator of [-ramp, ramp].)
"""

from __future__ import annotations

from typing import NamedTuple

from .arrays import Array, entries, kind, namespace, pick_rows

#: Groups of samples per hour while bounding; up to twice as many samples between the bounds are taken one by one.
_GROUPS = 32


def minimise(samples: Array, rise: Array, centre: Array, low: float, high: float, ramp: float) -> Array:
    """Minimisers (R, n) for R contexts of n hours with K samples each.

    Parameters
    ----------
    samples : array of float64, shape (R, n, K)
        Sorted along the last axis; K >= 1.
    rise : array of float64, shape (R, n, K + 1) or (1, 1, K + 1)
        Total jump of the first k samples, k = 0..K: not decreasing, from 0.
    centre : array of float64, shape (R, n)
        Where the derivative left of all samples would be zero.
    low, high, ramp : float
        Limits, possibly infinite for the box.
    """
    xp = namespace(samples)
    separate = xp.clip(_separate(samples, rise, centre), low, high)
    broken = xp.any(xp.abs(separate[:, 1:] - separate[:, :-1]) > ramp, axis=1)
    if not bool(xp.any(broken)):
        return separate
    row = xp.nonzero(broken)[0]
    hour = xp.arange(samples.shape[1], **kind(centre))
    cone = ramp * xp.abs(hour[:, None] - hour)
    lower = xp.min(separate[row][:, None] + cone, axis=-1)
    upper = xp.max(separate[row][:, None] - cone, axis=-1)
    separate[row] = _tied(samples[row], pick_rows(rise, row), centre[row], lower, upper, ramp)
    return separate


def _separate(samples: Array, rise: Array, centre: Array) -> Array:
    """Minimiser (R, n) of every hour by itself."""
    xp = namespace(samples)
    below = (samples - centre[..., None] + rise[..., 1:] < 0).sum(-1)  # samples left of the minimiser
    level, limit = _at(below[..., None], rise), _at(xp.clip(below, None, samples.shape[2] - 1)[..., None], samples)
    free = centre - level[..., 0]
    return xp.where(below < samples.shape[2], xp.minimum(free, limit[..., 0]), free)


def _tied(samples: Array, rise: Array, centre: Array, lower: Array, upper: Array, ramp: float) -> Array:
    """Minimiser (R, n) between bounds (R, n) that change by no more than the ramp from hour to hour."""
    xp = namespace(samples)
    before = 2 * samples.shape[2]
    while True:
        first = (samples <= lower[..., None]).sum(-1)
        count = xp.clip((samples < upper[..., None]).sum(-1) - first, 0, None)
        most = int(xp.max(count))
        if most <= 2 * _GROUPS or 2 * most > before:
            slopes = _slopes(samples, rise, centre, lower, first, count, max(most, 1), last=False)
            return _chain(slopes, lower, upper, ramp)
        before = most
        sides = [_slopes(samples, rise, centre, lower, first, count, _GROUPS, last) for last in (False, True)]
        both = _Slopes(*(xp.concat(side, axis=0) for side in zip(*sides, strict=True)))
        found = _chain(both, xp.concat((lower, lower)), xp.concat((upper, upper)), ramp)
        upper = found[len(lower) :]
        lower = xp.minimum(found[: len(lower)], upper)  # rounding may put equal bounds the wrong way round


class _Slopes(NamedTuple):
    """Derivatives of the hourly costs between bounds.

    ``value`` (R, n) is the derivative just right of the lower bound; it grows with slope 1 and with ``jump``
    (R, n, G) at ``place`` (R, n, G), which is infinite where there is none.
    """

    place: Array
    jump: Array
    value: Array


def _slopes(
    samples: Array, rise: Array, centre: Array, lower: Array, first: Array, count: Array, groups: int, last: bool
) -> _Slopes:
    """``count`` samples from ``first`` on in groups; each jumps at once at its first or ``last`` sample."""
    xp = namespace(samples)
    edge = first[..., None] + (count[..., None] * xp.arange(groups + 1, **kind(count))) // groups
    level = _at(edge, rise)
    begin, end = edge[..., :-1], edge[..., 1:]
    place = _at(xp.clip(end - 1 if last else begin, 0, samples.shape[2] - 1), samples)
    place = xp.where(end > begin, place, xp.full_like(place, xp.inf))
    return _Slopes(place, level[..., 1:] - level[..., :-1], lower - centre + level[..., 0])


def _at(index: Array, table: Array) -> Array:
    """Gather ``table[r, i, index[r, i, j]]`` (R, n, J) of a table (R, n, K), or (1, 1, K) when all are alike."""
    if table.shape[1] == 1:
        return table[0, 0][index]
    flat = entries(index.reshape(-1, index.shape[2]), table.reshape(-1, table.shape[2]))[0]
    return flat.reshape(index.shape)


class _Curve(NamedTuple):
    """Derivative of a cost-to-go between two bounds: increasing, piecewise linear, with jumps.

    Its value at x is the sum of jump + bend (x - place) over the kinks at or left of x. The first kink of a row is
    at its lower bound; rows are sorted, padded with kinks at infinity, and end in at least one of them.
    All have shape (R, K).
    """

    place: Array
    jump: Array
    bend: Array


class _Past(NamedTuple):
    """Derivative of the cost-to-go as an hour takes it over: value and slope (R, 1) at its lower bound, and kinks."""

    value: Array
    slope: Array
    kinks: _Curve


class _Zero(NamedTuple):
    """Where a curve crosses zero: what is left and right of the place (R, 1), and ``kink`` the first kink beyond."""

    place: Array
    kink: Array
    pinned: Array  # whether the place is that kink
    left: Array
    left_slope: Array
    right: Array
    right_slope: Array


def _chain(slopes: _Slopes, lower: Array, upper: Array, ramp: float) -> Array:
    """Forward with the cost-to-go of the hours so far, backward with the decisions; returns (R, n)."""
    xp = namespace(lower)
    hours = lower.shape[1]
    best = []
    zero = xp.zeros_like(lower[:, :1])
    past = _Past(zero, zero, _Curve(*(lower[:, :0] for _ in range(3))))
    for hour in range(hours):
        low, high = lower[:, hour, None], upper[:, hour, None]
        curve = _sum(past, slopes, hour, low)
        place = xp.minimum(curve.place, high)
        slope = xp.cumulative_sum(curve.bend, axis=-1)
        gap = place - xp.concat((low, place[:, :-1]), axis=-1)
        value = xp.cumulative_sum((slope - curve.bend) * gap + curve.jump, axis=-1)
        root = _zero(curve, place, slope, value)
        best.append(root.place)
        if hour + 1 < hours:
            low, high = lower[:, hour + 1, None], upper[:, hour + 1, None]
            past = _relaxed(curve, slope, value, root, low, high, ramp)
    for hour in range(hours - 2, -1, -1):
        best[hour] = xp.clip(best[hour], best[hour + 1] - ramp, best[hour + 1] + ramp)
    return xp.concat(best, axis=-1)


def _sum(past: _Past, slopes: _Slopes, hour: int, low: Array) -> _Curve:
    """The curve of the hours up to this one: the past plus the derivative of the hour's own cost."""
    xp = namespace(low)
    own, end = slopes.place[:, hour], xp.full_like(low, xp.inf)
    place = xp.concat((low, past.kinks.place, own, end), axis=-1)
    value = past.value + slopes.value[:, hour, None]
    jump = xp.concat((value, past.kinks.jump, slopes.jump[:, hour], xp.zeros_like(end)), axis=-1)
    bend = xp.concat((past.slope + 1, past.kinks.bend, xp.zeros_like(own), xp.zeros_like(end)), axis=-1)
    kept = int(xp.max(xp.isfinite(place).sum(-1))) + 1
    order = xp.argsort(place, axis=-1, stable=True)[:, :kept]
    return _Curve(*entries(order, place, jump, bend))


def _zero(curve: _Curve, place: Array, slope: Array, value: Array) -> _Zero:
    """Zero of a curve with these values and slopes right of its kinks; the bound where it ends without one."""
    xp = namespace(place)
    kink = xp.clip((value < 0).sum(-1), None, place.shape[1] - 1)[:, None]
    p, right, jump, right_slope, bend = entries(kink, place, value, curve.jump, slope, curve.bend)
    left, left_slope = right - jump, right_slope - bend
    ahead = left > 0  # then the zero is left of the kink, where slopes are at least 1
    z = xp.where(ahead, p - left / xp.where(ahead, left_slope, xp.ones_like(left)), p)
    pinned, none = z == p, xp.zeros_like(z)
    return _Zero(
        place=z,
        kink=kink,
        pinned=pinned,
        left=xp.where(pinned, xp.minimum(left, none), none),
        left_slope=left_slope,
        right=xp.where(pinned, xp.maximum(right, none), none),
        right_slope=xp.where(pinned, right_slope, left_slope),
    )


def _relaxed(curve: _Curve, slope: Array, value: Array, zero: _Zero, low: Array, high: Array, ramp: float) -> _Past:
    """Derivative of the cost-to-go as a function of the next hour, which may differ by the ramp.

    Kinks left of the zero move left by the ramp, those right of it move right, and between them it is flat. Kinks
    not between the next bounds ``low`` and ``high`` count in the value and slope at ``low``, or not at all. That
    is decided by the moved place everywhere, or else rounding would count a kink twice or never.
    """
    xp = namespace(low)
    none, infinite = xp.zeros_like(low), xp.full_like(low, xp.inf)
    index = xp.arange(curve.place.shape[1], **kind(zero.kink))
    place = curve.place + xp.where(index < zero.kink, none - ramp, none + ramp)
    begin, end = zero.place - ramp, zero.place + ramp  # of the flat piece
    left = (low < begin) & (zero.kink > 0)
    flat = ~left & (low < end)
    passed = xp.clip((place <= low).sum(-1) - 1, 0, None)[:, None]
    there, reached, rate = entries(passed, place, value, slope)
    after = ~left & (passed < zero.kink)  # right of the zero, but of no kink beyond it
    there, reached = xp.where(after, end, there), xp.where(after, zero.right, reached)
    rate = xp.where(after, zero.right_slope, rate)
    reached = reached + rate * (low - there)
    reached = xp.where(left, xp.minimum(reached, none), xp.maximum(reached, none))
    # the next hour has a first kink of its own, and the kink at the zero becomes the two ends of the flat piece
    place = xp.where((index == zero.kink) & zero.pinned, infinite, place)[:, 1:]
    place = xp.concat((place, begin, end), axis=-1)
    jump = xp.concat((curve.jump[:, 1:], -zero.left, zero.right), axis=-1)
    bend = xp.concat((curve.bend[:, 1:], -zero.left_slope, zero.right_slope), axis=-1)
    inside = (place > low) & (place < high)
    kinks = (xp.where(inside, *pair) for pair in ((place, infinite), (jump, none), (bend, none)))
    return _Past(xp.where(flat, none, reached), xp.where(flat, none, rate), _Curve(*kinks))
