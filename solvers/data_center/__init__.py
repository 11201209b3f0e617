"""A fleet of AI data centers: its model, its schedules, and what becomes of them.

From the bottom up: the :mod:`.fleet` with its :mod:`.serving` of requests; a :mod:`.schedule`, how :mod:`.day_ahead`
finds the cheapest one (:mod:`.center_program`, :mod:`.training_queue`, :mod:`.instances`, :mod:`.column_generation`),
what it withstands (:mod:`.protective_levels`, :mod:`.second_order`, :mod:`.scenario_program`), and its
:mod:`.settlement`. Training follows protective levels by their :mod:`.level_sensitivity` to what they lose
(:mod:`.level_loss`). :class:`DataCenter` is the decision problem of a :mod:`.day`, :class:`DataCenterHour` that of an
hour (:mod:`.hourly`).
"""

from __future__ import annotations

from .day import DataCenter
from .hourly import DataCenterHour

__all__ = ["DataCenter", "DataCenterHour"]
