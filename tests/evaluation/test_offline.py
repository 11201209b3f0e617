"""Rollouts as a Minari dataset: what happened, and the environment that it happened in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shiftgym.agents import make_agent
from shiftgym.agents.behaviour import GaussianAround
from shiftgym.data import ShiftgymError
from shiftgym.evaluation.offline import export_minari
from tests.worlds import make

minari = pytest.importorskip("minari")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")


@pytest.mark.parametrize("name", ["Inventory", "Portfolio"])
def test_a_dataset_holds_the_rollouts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = make(name)
    policy = GaussianAround.of(make_agent("saa").fit(env), env.unwrapped.task, 0.5)
    written = export_minari("tests/saa-v0", env, policy, episodes=3, seed=1)
    dataset = minari.load_dataset("tests/saa-v0")
    assert dataset.total_episodes == written.total_episodes == 3
    assert dataset.spec.observation_space == env.observation_space
    again = dataset.recover_environment()
    length = env.unwrapped.task.episode_steps
    for row, episode in enumerate(dataset.iterate_episodes()):
        options = {"start": row * length}
        observation, _ = again.reset(options=options)
        np.testing.assert_array_equal(episode.observations[0], observation)
        for step in range(4):
            observation, reward, terminated, truncated, _ = again.step(episode.actions[step])
            np.testing.assert_allclose(episode.observations[step + 1], observation, rtol=1e-6)
            assert episode.rewards[step] == pytest.approx(reward, rel=1e-5, abs=1e-6)
            assert (episode.terminations[step], episode.truncations[step]) == (terminated, truncated)
        assert np.isfinite(episode.infos["log_propensity"]).all()
        assert episode.infos["cost"].shape == (length + 1,)
        assert episode.terminations[-1]
    with pytest.raises(ShiftgymError, match="cannot be written"):
        export_minari("tests/saa-v0", env, make_agent("oracle").fit(env), episodes=1)
