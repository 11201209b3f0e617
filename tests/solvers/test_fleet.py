"""A fleet of data centers: what it accepts, and its form as JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from shiftgym.data.errors import ShiftgymError
from shiftgym.solvers.data_center.fleet import Fleet


@pytest.mark.parametrize("fleet", [Fleet(), Fleet.of_size(7, carry_over=True, sites=((0,), (1, 2), (3,)))])
def test_a_fleet_survives_json(fleet):
    assert Fleet.from_dict(json.loads(json.dumps(fleet.to_dict()))) == fleet


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pue", (1.2, 1.3)),
        ("grid_limit", (1.0, float("nan"), 2.0)),
        ("battery", (1.0, -1.0, 2.0)),
        ("charge_efficiency", (0.9, 0.0, 0.9)),
        ("charge_range", (0.9, 0.1)),
        ("sites", ((0,), (1,), (3,))),
        ("windows", (2, 4, 7.5)),
        ("terminal", "open"),
    ],
)
def test_wrong_fields_are_named(field, value):
    with pytest.raises(ShiftgymError, match=field):
        Fleet(**{field: value})


def test_unknown_fields_are_named():
    with pytest.raises(ShiftgymError, match="did you mean"):
        Fleet.from_dict({"grid_limits": []})


def test_sites_say_where_a_class_may_run():
    np.testing.assert_array_equal(Fleet(sites=((0,), (0, 2), (1,))).allowed, [[1, 0, 0], [1, 0, 1], [0, 1, 0]])
    assert Fleet().allowed.all()
