"""What a schedule of a fleet of data centers comes to once the day is known: fixed recourse, costs, what was unserved.

| symbol | here | unit |
|---|---|---|
| R, Lambda, A (realised) | ``Outcome.renewables``, ``requests``, ``arrivals`` | kW, req/s, GPU h |
| pi, kappa | ``Outcome.prices``, ``carbon`` | $/kWh, kg/kWh |
| W, W^x | work that falls due to a slot, and what of it runs | GPU h |
| P^met | ``metered`` | kW |
| P^rt | ``imported``: bought in real time | kW |
| C^com, C^set | ``committed``, ``settled`` | $ |
| V^a, V^b, V^c | ``short > 0``, ``late_work > 0``, ``refused > 0`` | |

Nothing is optimised here. Work beyond the reserved GPUs waits or is lost, requests beyond the planned level are outside
their latency objective, power beyond purchase and renewables is imported up to the limit of the grid and then missing,
surplus is curtailed first and lost second. Slots are hours, so that kW and kWh are the same number.

Source: Sec. III of "Contextual Robust Optimization for AI Data Center Scheduling with Statistical Guarantees" for (2),
(3a), (11a) to (13b) and (15a) to (15c); the recourse is this project's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .fleet import Fleet
from .schedule import Schedule
from .training_queue import executed

Values = NDArray[np.float64]

#: An hour's price in real time is pi + 0.5 |pi|: day-ahead prices may be negative, imports in need are not paid for.
REAL_TIME_MARKUP = 0.5
#: What days and hours report besides their cost; the classes say in which units.
MEASURES = (
    "committed_cost",
    "emissions",
    "committed_emissions",
    "imported",
    "unserved_energy",
    "curtailed",
    "excess",
    "unserved_training",
    "unserved_requests",
    "short_slots",
)
#: What a solver may leave open: relative, and in the unit of the row (kW, GPU h).
TOLERANCE = (1e-4, 1e-3)
#: The same of request rates, where nothing was solved for.
LEVEL_TOLERANCE = (1e-6, 0.0)


class Outcome(NamedTuple):
    """What a day turns out to be; prices and carbon intensity were known before.

    Attributes
    ----------
    renewables, prices, carbon : array, shape (D, T)
        Power of the plants on site [kW], price [$/kWh] and carbon intensity [kg/kWh] of the grid.
    requests : array, shape (S, T)
        Mean request rate of each service [req/s].
    arrivals : array, shape (K, T)
        Training work that arrives [GPU h].
    """

    renewables: Values
    requests: Values
    arrivals: Values
    prices: Values
    carbon: Values

    def rate(self, carbon_price: float) -> Values:
        """Price with carbon, pi + c kappa (D, T): what a kWh costs with its carbon [$/kWh]."""
        return self.prices + carbon_price * self.carbon

    def real_time_rate(self, carbon_price: float) -> Values:
        """Price in need, pi + 0.5 |pi| + c kappa (D, T): likewise for a kWh imported in real time."""
        return self.rate(carbon_price) + REAL_TIME_MARKUP * np.abs(self.prices)


class Supply(NamedTuple):
    """How the power that is needed was met; all (..., D) or (..., D, T), in kW."""

    imported: Values
    unserved: Values
    curtailed: Values
    excess: Values


class Settlement(NamedTuple):
    """The day as it was settled.

    Attributes
    ----------
    committed, settled : float
        C^com and C^set [$].
    committed_emissions, emissions : float
        CO2 of the purchase, and of the imports in real time as well [kg].
    metered : array, shape (D, T)
        Facility power P^met.
    supply : Supply
        Imports in real time, energy not served, renewables curtailed, purchase in excess.
    work, late_work : array, shape (K, D, T)
        Training that ran, W^x, and what did not fit into the reserved GPUs [GPU h].
    backlog : array, shape (K, W)
        Work handed on to the next day [GPU h] that is due by its first, second, ... slot; none without ``carry_over``.
    served, refused : array, shape (S, T)
        Requests per second within and outside their latency objective.
    short : array, shape (D, T)
        kWh that purchase, renewables and battery lack of the planned power, (15a); 0 within the tolerance.
    """

    committed: float
    settled: float
    committed_emissions: float
    emissions: float
    metered: Values
    supply: Supply
    work: Values
    late_work: Values
    backlog: Values
    served: Values
    refused: Values
    short: Values


def meet(need: Values, renewables: Values, purchase: Values, grid_limit: Values) -> Supply:
    """Meet a need [kW] by purchase and renewables, then by imports up to the grid limit; the rest is not served.

    Surplus is curtailed as far as there are renewables, the rest is excess: purchase that is paid for though not taken,
    and what a battery discharges though nothing needs it.
    """
    missing = need - renewables - purchase
    short = np.maximum(missing, 0.0)
    surplus = short - missing
    imported = np.minimum(short, np.maximum(grid_limit - purchase, 0.0))
    curtailed = np.minimum(surplus, renewables)
    return Supply(imported, short - imported, curtailed, surplus - curtailed)


def beyond(
    found: Values, limit: Values, relative: float | Values = TOLERANCE[0], absolute: float | Values = TOLERANCE[1]
) -> Values:
    """How far something is above its limit; 0 within the tolerance."""
    over = found - limit
    return over * (over > relative * np.abs(limit) + absolute)


def share_served(requests: Values, level: Values) -> Values:
    """Share of the planned load that materialises, at most all of it: min(1, Lambda / Lambda-bar)."""
    return np.minimum(1.0, np.divide(requests, level, out=np.zeros_like(requests), where=level > 0))


def settle(fleet: Fleet, schedule: Schedule, outcome: Outcome) -> Settlement:
    """Settle a schedule under the outcome of its day.

    Parameters
    ----------
    fleet : Fleet
        The D centers, with their limits and prices of carbon.
    schedule : Schedule
        What was decided before the day.
    outcome : Outcome
        What the day brought.
    """
    serving = fleet.serving
    today = executed(schedule.shares, outcome.arrivals, fleet.slots) + schedule.carried
    work = np.minimum(today, schedule.reserved)
    late = beyond(today, schedule.reserved)
    load = schedule.load * share_served(outcome.requests, schedule.level)[serving.service][:, None]
    gpus = np.tensordot(fleet.gpu_power, work, 1) + serving.power(schedule.instances, load)
    metered = fleet.facility[:, None] * gpus
    battery = schedule.discharge - schedule.charge
    limit = np.array(fleet.grid_limit)[:, None]
    supply = meet(metered - battery, outcome.renewables, schedule.purchase, limit)
    rate, real_time = outcome.rate(fleet.carbon_price), outcome.real_time_rate(fleet.carbon_price)
    committed = float((rate * schedule.purchase).sum())
    return Settlement(
        committed=committed,
        settled=committed + float((real_time * supply.imported).sum()),
        committed_emissions=float((outcome.carbon * schedule.purchase).sum()),
        emissions=float((outcome.carbon * (schedule.purchase + supply.imported)).sum()),
        metered=metered,
        supply=supply,
        work=work,
        late_work=late,
        backlog=handed_on(fleet, schedule.shares, outcome.arrivals, late),
        served=np.minimum(outcome.requests, schedule.level),
        refused=beyond(outcome.requests, schedule.level, *LEVEL_TOLERANCE),
        short=beyond(schedule.power, schedule.purchase + outcome.renewables + battery),
    )


def handed_on(fleet: Fleet, shares: Values, arrivals: Values, late: Values) -> Values:
    """Backlog (K, W) of the next day [GPU h] by the slot in which it is due; zeros without ``carry_over``.

    What was put off keeps its deadline. What was to run and did not gets a new window from midnight on.
    """
    backlog = np.zeros((len(fleet.classes), fleet.reach))
    if not fleet.tail:
        return backlog
    for k, window in enumerate(fleet.windows):
        for arrived in range(max(0, fleet.slots - window), fleet.slots):
            later = shares[k, arrived, :, fleet.slots - arrived :].sum()
            backlog[k, arrived + window - fleet.slots] += later * arrivals[k, arrived]
        backlog[k, max(window - 1, 0)] += late[k].sum()
    return backlog
