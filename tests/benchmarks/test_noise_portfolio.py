"""A symbol-major reshape makes noise forecastable; the right layout does not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def noise() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "noise_portfolio.py"
    spec = importlib.util.spec_from_file_location("noise_portfolio", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # as for a script
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    sys.path.remove(str(path.parent))
    return module


def test_layouts_hold_the_same_rows_and_the_right_one_has_a_day_per_row(noise: ModuleType) -> None:
    days, assets = 12, 3
    asset, day = np.divmod(np.arange(assets * days), days)
    rows = np.stack((asset, day), axis=-1).astype(float)
    right, wrong = noise.right(rows, assets), noise.symbol_major(rows, assets)
    assert right.shape == wrong.shape == (days, assets, 2)
    assert np.array_equal(right[..., 1], np.broadcast_to(np.arange(days)[:, None], (days, assets)))
    assert np.array_equal(right[..., 0], np.broadcast_to(np.arange(assets), (days, assets)))
    assert len(set(wrong[0, :, 0])) == 1


def test_targets_follow_the_features(noise: ModuleType) -> None:
    features, targets = noise.noise_table(0, assets=2, days=30)
    assert np.array_equal(targets[:29], features[1:30, -1])
    assert np.array_equal(features[1:30, :-1], features[:29, 1:])


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_is_forecastable_in_the_wrong_layout_only(noise: ModuleType, seed: int) -> None:
    found = noise.forecasts(seed)
    wrong = found.pop("symbol-major reshape")
    assert wrong.r2 > 0.8
    assert wrong.earned.mean() > 0.03
    for honest in found.values():
        assert honest.r2 <= 0
        assert abs(honest.earned.mean()) < 0.003
