"""The part of the scheduling model that all its versions share: power, storage, purchase and GPU limits of the centers.

Columns, in kW unless stated, with T' = T plus the hours of the next day that windows may reach:

| block | shape | | rows | shape | |
|---|---|---|---|---|---|
| ``reserved`` C [GPU] | K, D, T' | | ``capacity`` | D, T' | (3b) |
| ``overload`` [GPU] | D, T' | | ``inference`` | T | (4a) in power, see below |
| ``inference`` q | D, T | | ``power`` | D, T | (15a) at R^low, with (11a) to (13b) |
| ``purchase``, ``charge``, ``discharge``, ``overdraft`` | D, T | | ``battery`` | D, T | (14a), (14f) |
| ``energy`` E [kWh] after the slot | D, T | | | | |

A center notices of inference only the power q of its GPUs, as long as its GPUs suffice for it, (10). So the routing of
54 pairs is one column per center and slot here, and :mod:`.instances` deals the pairs out afterwards.

The binaries of (14c) to (14e) are left out: surplus may be curtailed, so that charging and discharging at once never
pays, and :func:`settled_storage` nets the two without changing the charge.
"""

from __future__ import annotations

import numpy as np

from ..sparse import Program, Vector, Vectors
from .fleet import Fleet
from .schedule import Day

#: Price [$/kWh, $/GPU h] of what the levels ask for beyond the fleet's limits; never part of a reported cost.
OVERDRAFT_PRICE = 10.0


def center_program(fleet: Fleet) -> Program:
    """Columns, rows and coefficients above; versions of the model append how training work fills ``reserved``."""
    K, D, T = len(fleet.classes), fleet.size, fleet.slots
    program = Program()
    column, row = program.columns.block, program.row
    reserved, overload = column("reserved", K, D, T + fleet.tail), column("overload", D, T + fleet.tail)
    inference, energy = column("inference", D, T), column("energy", D, T)
    purchase, charge, discharge, overdraft = (
        column(name, D, T) for name in ("purchase", "charge", "discharge", "overdraft")
    )
    capacity = row("capacity", "<", D, T + fleet.tail)
    program.add(capacity, reserved)
    program.add(capacity, overload, -1.0)
    program.add(row("inference", "=", T), inference)
    facility = fleet.facility[:, None]
    power = row("power", ">", D, T)
    for block, sign in ((purchase, 1.0), (overdraft, 1.0), (discharge, 1.0), (charge, -1.0)):
        program.add(power, block, sign)
    program.add(power, inference, -facility)
    program.add(power, reserved[:, :, :T], -facility * fleet.gpu_power[:, None, None])
    battery = row("battery", "=", D, T)
    program.add(battery, energy)
    program.add(battery[:, 1:], energy[:, :-1], -1.0)
    program.add(battery, charge, -np.array(fleet.charge_efficiency)[:, None])
    program.add(battery, discharge, 1 / np.array(fleet.discharge_efficiency)[:, None])
    return program


def center_vectors(fleet: Fleet, program: Program, day: Day, inference: Vector) -> Vectors:
    """Costs, bounds and right-hand sides of the shared blocks; appended ones are free, at no cost and zero.

    ``inference`` (T,) is the power of the GPUs that serve [kW], over all centers.
    """
    T, prices, charge = fleet.slots, day.prices, day.charge
    column, row = program.columns, program.rows
    cost, lower, upper = np.zeros(column.size), np.zeros(column.size), np.full(column.size, np.inf)
    cost[column["purchase"]] = prices[:, :T]
    cost[column["overdraft"]] = cost[column["overload"]] = OVERDRAFT_PRICE
    cost[column["reserved"][:, :, T:]] = (
        fleet.gpu_power[:, None, None] * fleet.facility[:, None] * np.maximum(prices[:, T:], 0.0)
    )
    upper[column["reserved"]] = np.where(fleet.allowed, np.inf, 0.0)[..., None]
    for name, limit in (
        ("purchase", fleet.grid_limit),
        ("charge", fleet.charge_power),
        ("discharge", fleet.discharge_power),
    ):
        upper[column[name]] = np.array(limit)[:, None]
    low, high = np.outer(fleet.charge_range, fleet.battery)
    low, high = np.minimum(low, charge), np.maximum(high, charge)  # a battery that starts outside may stay there
    lower[column["energy"]], upper[column["energy"]] = low[:, None], high[:, None]
    if fleet.terminal == "cyclic":
        lower[column["energy"][:, -1]] = upper[column["energy"][:, -1]] = charge
    rhs = np.zeros(row.size)
    rhs[row["capacity"]] = np.array(fleet.training_capacity)[:, None]
    rhs[row["inference"]] = inference
    rhs[row["power"]] = -day.levels.renewables
    rhs[row["battery"][:, 0]] = charge
    return Vectors(cost, lower, upper, rhs)


def settled_storage(fleet: Fleet, charge: Vector, discharge: Vector) -> tuple[Vector, Vector]:
    """Charging and discharging (D, T) [kW] that never coincide, with the same effect on the charge, (14c) to (14e).

    The net draw is never larger: what went through the battery within one slot had been lost in part.
    """
    into = np.array(fleet.charge_efficiency)[:, None]
    out = np.array(fleet.discharge_efficiency)[:, None]
    change = into * np.maximum(charge, 0.0) - np.maximum(discharge, 0.0) / out
    return np.maximum(change, 0.0) / into, np.maximum(-change, 0.0) * out
