"""Made-up days for fleets of data centers, and the residuals of their schedules."""

from __future__ import annotations

import numpy as np

from shiftgym.solvers.data_center.day_ahead import Levels
from shiftgym.solvers.data_center.training_queue import executed


def day(fleet, seed=0, scale=1.0):
    """Prices and levels of a made-up day."""
    rng = np.random.default_rng(seed)
    D, T = fleet.size, fleet.slots
    wave = 1 + 0.5 * np.sin((np.arange(T) - 8) / 24 * 2 * np.pi)
    prices = rng.uniform(0.05, 0.2, (D, 1)) * wave[::-1] + rng.normal(0, 0.02, (D, T))
    renewables = rng.uniform(0, 0.3, (D, T)) * np.array(fleet.renewable_limit)[:, None]
    requests = np.array([278.0, 451.0])[: len(fleet.services), None] * wave * rng.uniform(0.8, 1.2, (1, T))
    arrivals = rng.uniform(100, 1200, (len(fleet.classes), T))
    return prices, Levels(renewables, requests * scale * D / 3, arrivals * scale * D / 3)


def check(fleet, schedule, prices, levels, charge=None):
    """Residuals of (1a) to (16c) in their original, nonlinear form."""
    serving, T = fleet.serving, fleet.slots
    charge = fleet.initial() if charge is None else charge
    x = schedule.shares
    assert (x >= 0).all()
    np.testing.assert_allclose(x.sum((2, 3)), 1, atol=1e-12)  # (1a)
    assert not x.transpose(0, 2, 1, 3)[~fleet.allowed].any()  # (1b)
    offset, t = np.arange(fleet.reach + 1), np.arange(T)[:, None]
    for k, window in enumerate(fleet.windows):  # (1c)
        outside = (offset > window) | (t + offset >= T + fleet.tail)
        assert not x[k].transpose(0, 2, 1)[outside].any()
    work = executed(x, levels.arrivals, T) + schedule.carried  # (2)
    assert (work <= schedule.reserved + 1e-9 * (1 + work)).all()  # (3a)
    assert (schedule.reserved.sum(0) <= np.array(fleet.training_capacity)[:, None] * (1 + 1e-9)).all()  # (3b)
    n, load = schedule.instances, schedule.load
    assert (load >= 0).all()  # (4b)
    per_class = np.zeros((len(serving.classes), T))
    np.add.at(per_class, serving.klass, load.sum(1))
    np.testing.assert_allclose(per_class, serving.class_load(levels.requests), atol=1e-9)  # (4a)
    np.testing.assert_array_equal(n, np.round(n))  # (16c)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(n > 0, load / n, 0.0)
    rate = serving.rate[:, None, None]
    assert (each < rate).all()
    assert not load[n == 0].any()  # (6b)
    queue = each / (rate * (rate - each))  # (6a)
    objective = np.array([{"S": 0.25, "M": 0.4, "L": 2.0}[serving.classes[i].split()[1][0]] for i in serving.klass])
    first = queue + serving.prefill_tail[:, None, None]  # (7a)
    assert (
        first[n > 0] <= np.broadcast_to(objective[:, None, None], n.shape)[n > 0] + fleet.slack + 1e-9
    ).all()  # (9a)
    assert (serving.between_tokens <= 0.1).all()  # (9b)
    assert (np.tensordot(serving.gpus, n, 1) <= np.array(fleet.inference_capacity)[:, None]).all()  # (10)
    utilisation = each / rate  # (13b)
    swing = (serving.peak_power - serving.idle_power)[:, None, None]
    inference = (n * (serving.idle_power[:, None, None] + swing * utilisation)).sum(0)  # (13a)
    training = np.tensordot(np.array(fleet.training_power) * np.array(fleet.utilisation), schedule.reserved, 1)  # (12)
    power = np.array(fleet.pue)[:, None] * np.array(fleet.it_factor)[:, None] * (training + inference)  # (11)
    np.testing.assert_allclose(schedule.power, power, rtol=1e-12)
    supply = schedule.purchase + levels.renewables + schedule.discharge - schedule.charge + schedule.overdraft
    assert (supply >= power - 1e-6).all()  # (15a)
    into, out = np.array(fleet.charge_efficiency)[:, None], np.array(fleet.discharge_efficiency)[:, None]
    energy = charge[:, None] + np.cumsum(into * schedule.charge - schedule.discharge / out, axis=1)  # (14a), (14f)
    low, high = (edge * np.array(fleet.battery)[:, None] for edge in fleet.charge_range)
    assert (energy >= low - 1e-5).all()
    assert (energy <= high + 1e-5).all()  # (14b)
    assert not (schedule.charge * schedule.discharge).any()  # (14c) to (14e)
    assert (schedule.charge <= np.array(fleet.charge_power)[:, None] + 1e-6).all()
    assert (schedule.discharge <= np.array(fleet.discharge_power)[:, None] + 1e-6).all()
    if fleet.terminal == "cyclic":
        np.testing.assert_allclose(energy[:, -1], charge, atol=1e-5)  # (14g)
    assert (schedule.purchase >= 0).all()
    assert (schedule.purchase <= np.array(fleet.grid_limit)[:, None]).all()  # (16c)
    np.testing.assert_allclose(schedule.cost, (prices * schedule.purchase).sum())  # (16a)
