"""Instance parameters against the values published with the specification, and integer covers against brute force."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from shiftgym.data.errors import ShiftgymError
from shiftgym.solvers.base import ProblemError
from shiftgym.solvers.data_center.instances import cover, energy_per_load, place, relaxed_cover
from shiftgym.solvers.data_center.serving import serving

# class, TP: mu, mean and tail prefill, time between tokens, idle and peak power, rho-bar at slack 0, 0.5, 1
EXCERPT = [
    ("code SS", 2, 9.67, 0.064, 0.128, 0.097, 0.15, 1.22, 0.54, 0.86, 0.92),
    ("code SS", 4, 11.74, 0.054, 0.087, 0.079, 0.30, 2.11, 0.66, 0.89, 0.93),
    ("code SS", 8, 11.56, 0.054, 0.069, 0.081, 0.60, 3.22, 0.68, 0.89, 0.93),
    ("code MM", 2, 2.75, 0.225, 0.327, 0.089, 0.15, 1.21, 0.17, 0.61, 0.75),
    ("code MM", 4, 3.98, 0.148, 0.214, 0.062, 0.30, 2.25, 0.43, 0.73, 0.83),
    ("code MM", 8, 6.24, 0.104, 0.149, 0.085, 0.60, 3.83, 0.61, 0.82, 0.89),
    ("code LL", 2, 0.73, 0.687, 1.211, 0.072, 0.15, 1.15, 0.37, 0.49, 0.57),
    ("code LL", 4, 1.31, 0.494, 0.863, 0.085, 0.30, 2.34, 0.60, 0.68, 0.74),
    ("code LL", 8, 1.44, 0.419, 0.761, 0.077, 0.60, 4.16, 0.64, 0.72, 0.76),
    ("conv SS", 2, 5.75, 0.062, 0.070, 0.080, 0.15, 1.12, 0.51, 0.80, 0.87),
    ("conv MM", 4, 6.29, 0.063, 0.101, 0.087, 0.30, 2.06, 0.65, 0.83, 0.89),
    ("conv LL", 2, 0.75, 0.184, 0.201, 0.050, 0.15, 1.03, 0.58, 0.63, 0.68),
    ("conv LL", 4, 2.07, 0.122, 0.133, 0.073, 0.30, 1.87, 0.79, 0.83, 0.86),
    ("conv LL", 8, 2.34, 0.088, 0.095, 0.064, 0.60, 2.68, 0.82, 0.85, 0.87),
]


@pytest.mark.parametrize("row", EXCERPT, ids=lambda row: f"{row[0]} TP{row[1]}")
def test_the_excerpt_of_instance_parameters(row):
    name, degree, *expected = row
    ours = serving()
    p = int(np.flatnonzero((ours.klass == ours.classes.index(name)) & (ours.gpus == degree))[0])
    columns = ("rate", "prefill", "prefill_tail", "between_tokens", "idle_power", "peak_power", "load_limit")
    got = [getattr(ours, column)[p] for column in columns] + [serving(s).load_limit[p] for s in (0.5, 1.0)]
    np.testing.assert_allclose(got, expected, atol=0.0051, rtol=0)
    assert ours.pairs == 54


def test_the_load_limit_meets_the_time_to_first_token_exactly():
    ours = serving(slack=0.3)
    waiting = ours.capacity / (ours.rate * (ours.rate - ours.capacity))  # (6a) at the limit
    objective = np.array([{"S": 0.25, "M": 0.4, "L": 2.0}[ours.classes[i].split()[1][0]] for i in ours.klass])
    np.testing.assert_allclose(waiting + ours.prefill_tail, objective + 0.3)


def test_a_class_without_any_degree_raises_with_its_name():
    with pytest.raises(ProblemError, match="conv SL, conv ML"):
        serving(queue="mm1_sojourn")
    assert serving(slack=0.5, queue="mm1_sojourn").pairs > 18


@pytest.mark.parametrize("wrong", [{"slack": -1.0}, {"queue": "md1"}, {"services": ("chat",)}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ShiftgymError, match=next(iter(wrong)).removesuffix("s")):
        serving(**wrong)


def brute_force(pairs, load):
    """Least power over all counts of up to 8 instances per pair."""
    ours, best = serving(), np.inf
    for counts in itertools.product(range(9), repeat=len(pairs)):
        left, power = load, 0.0
        for p, count in sorted(zip(pairs, counts, strict=True), key=lambda pc: ours.dynamic_power[pc[0]]):
            taken = min(left, count * ours.capacity[p])
            left, power = left - taken, power + count * ours.idle_power[p] + taken * ours.dynamic_power[p]
        best = power if left < 1e-9 and power < best else best
    return best


def test_a_cover_is_the_cheapest_and_its_bound_holds():
    ours = serving()
    load = np.zeros((18, 2))
    load[:, 0], load[:, 1] = np.random.default_rng(0).uniform(0, 4 * ours.capacity[2::3]), 0.0
    found = cover(ours, load)
    power = found.instances * ours.idle_power[:, None] + found.load * ours.dynamic_power[:, None]
    best = [brute_force(np.flatnonzero(ours.klass == i), load[i, 0]) for i in range(18)]
    np.testing.assert_allclose(np.bincount(ours.klass, power[:, 0]), best)
    assert found.bound[0] <= sum(best) + 1e-9
    assert found.bound[0] >= relaxed_cover(ours, load).bound[0]
    assert found.bound[1] == 0
    assert not found.instances[:, 1].any()
    np.testing.assert_allclose(np.bincount(ours.klass, found.load[:, 0]), load[:, 0])
    assert (found.load <= found.instances * ours.capacity[:, None] + 1e-9).all()


@pytest.mark.parametrize("degrees", [(4,), (2, 4)])
def test_a_cover_takes_the_pairs_there_are(degrees):
    ours = serving()
    kept = np.isin(ours.gpus, degrees) & ((ours.klass > 0) | (ours.gpus == 4))
    per_pair = [field.name for field in dataclasses.fields(ours) if len(getattr(ours, field.name)) == ours.pairs]
    fewer = dataclasses.replace(ours, **{name: getattr(ours, name)[kept] for name in per_pair})
    load = fewer.class_load(np.array([[100.0], [250.0]]))
    found = cover(fewer, load)
    np.testing.assert_allclose(np.bincount(fewer.klass, found.load[:, 0]), load[:, 0])
    assert (found.load <= found.instances * fewer.capacity[:, None] + 1e-9).all()
    assert relaxed_cover(fewer, load).bound[0] <= found.bound[0] <= fewer.power(found.instances, found.load)[0]
    assert cover(ours, load).bound[0] <= found.bound[0] + 0.5


def test_a_relaxed_cover_takes_the_pair_of_least_power():
    ours = serving()
    load = np.ones((18, 1))
    found = relaxed_cover(ours, load)
    least = [energy_per_load(ours)[ours.klass == i].min() for i in range(18)]
    np.testing.assert_allclose(found.bound, sum(least))
    np.testing.assert_allclose(ours.power(found.instances, found.load), sum(least))


def test_places_hold_all_instances_near_their_target_and_within_the_gpus():
    ours, rng = serving(), np.random.default_rng(1)
    found = cover(ours, ours.class_load(np.array([[300.0, 200.0], [450.0, 0.0]])))
    power = ours.power(found.instances, found.load)
    target = rng.dirichlet(np.ones(4), 2).T * power
    instances, load, left = place(ours, found, target, np.full((4, 2), 100.0), np.full(4, 2000.0), whole=True)
    np.testing.assert_allclose(instances.sum(1), found.instances)
    np.testing.assert_allclose(load.sum(1), found.load)
    assert not left.any()
    assert np.abs(ours.power(instances, load) - target).max() < 3.0
    tight = np.array([100.0, 150.0, 120.0, 0.0])
    instances, load, left = place(ours, found, target, np.full((4, 2), 100.0), tight, whole=True)
    assert (np.tensordot(ours.gpus, instances, 1) <= tight[:, None]).all()
    np.testing.assert_allclose(instances.sum(1) + left, found.instances)
    assert left.any()
