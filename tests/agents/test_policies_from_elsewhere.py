"""Policies trained elsewhere: zips of stable-baselines3, rebuilt without unpickling, and whatever predicts."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC, TD3
from torch import nn

from shiftgym.agents import load_agent, make_agent, policy_agent, register_agent
from shiftgym.data import ShiftgymError
from shiftgym.evaluation.agent_spec import AgentSpec
from tests.worlds import make

pytestmark = pytest.mark.filterwarnings("ignore:We recommend you to use a symmetric")


def saved(path: Path, kind: Any = PPO, name: str = "Inventory", **keywords: Any) -> Any:
    """An untrained model of SB3 and its zip."""
    model = kind("MlpPolicy", make(name), device="cpu", seed=0, **keywords)
    model.save(path)
    return model


def rewritten(path: Path, **parts: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**content, **{name.replace("_", "."): data for name, data in parts.items()}}.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("kind", "keywords"),
    [
        (PPO, {}),
        (PPO, {"policy_kwargs": {"net_arch": {"pi": [8, 4], "vf": [16]}, "activation_fn": nn.ELU}}),
        (SAC, {"policy_kwargs": {"net_arch": [8]}}),
        (TD3, {"policy_kwargs": {"net_arch": [8, 8], "activation_fn": nn.Tanh}}),
    ],
)
def test_a_zip_decides_as_sb3_does_and_nothing_is_unpickled(
    kind: Any, keywords: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, env = tmp_path / "mine.zip", make("PowerScheduling")
    model = saved(path, kind, "PowerScheduling", **keywords)
    observations = env.unwrapped.task.dataset()[0]
    expected = env.unwrapped.task.problem.project(model.predict(observations, deterministic=True)[0].astype(float))
    monkeypatch.setattr(cloudpickle, "loads", None)
    agent = AgentSpec.parse(f"sb3:{path}").make().fit(env)
    np.testing.assert_allclose(agent.act(observations), expected, rtol=1e-4, atol=1e-5)
    agent.save(tmp_path / "agent")
    path.unlink()
    np.testing.assert_array_equal(load_agent(tmp_path / "agent").act(observations), agent.act(observations))


def test_what_cannot_be_rebuilt_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.zip"

    def refusal(name: str = "Inventory") -> str:
        with pytest.raises(ShiftgymError) as error:
            make_agent("sb3", path=str(path)).fit(make(name))
        return str(error.value)

    assert "no policy that stable-baselines3 saved" in refusal()
    path.write_text("nothing")
    assert "no policy that stable-baselines3 saved" in refusal()
    saved(path)
    assert "maps 5 numbers to 1, this environment needs 53 to 24" in refusal("PowerScheduling")
    saved(path, use_sde=True)
    assert "use_sde" in refusal()
    saved(path, policy_kwargs={"activation_fn": nn.Softplus})
    assert "Softplus" in refusal()
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save(path)
    assert "not continuous" in refusal()
    saved(path)
    weights = io.BytesIO()
    torch.save({"cnn.0.weight": torch.zeros(1)}, weights)
    rewritten(path, policy_pth=weights.getvalue())
    assert "fully connected layers" in refusal()
    with zipfile.ZipFile(path) as archive:
        about = json.loads(archive.read("data"))
    about["policy_class"]["__module__"] = "mine"
    rewritten(path, data=json.dumps(about).encode())
    assert "its class is from mine" in refusal()


def test_pickled_code_in_the_weights_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "run",))

    saved(tmp_path / "mine.zip")
    weights = io.BytesIO()
    torch.save({"action_net.weight": Trap()}, weights)
    rewritten(tmp_path / "mine.zip", policy_pth=weights.getvalue())
    with pytest.raises(ShiftgymError, match="no policy"):
        make_agent("sb3", path=str(tmp_path / "mine.zip")).fit(make("Inventory"))
    assert not (tmp_path / "run").exists()


def test_the_text_form_of_a_zip(tmp_path: Path) -> None:
    spec = AgentSpec.parse(f" sb3:{tmp_path}/a b.zip")
    assert spec == AgentSpec("sb3", {"path": f"{tmp_path}/a b.zip"})
    assert AgentSpec.parse(str(spec)) == spec
    with pytest.raises(ShiftgymError, match="no such file"):
        spec.make()
    (tmp_path / "a b.zip").write_text("one")
    digest = spec.source_digest()
    (tmp_path / "a b.zip").write_text("two")
    assert spec.source_digest() != digest


class Half:
    """Predicts half of everything, as SB3's models and as plainer ones do."""

    def __init__(self, width: int, plain: bool) -> None:
        self.width, self.plain = width, plain

    def predict(self, observations: Any, deterministic: bool = False) -> Any:
        assert deterministic
        actions = np.full((len(observations), self.width), 0.5, np.float32)
        return actions if self.plain else (actions, None)


@pytest.mark.parametrize("plain", [True, False])
def test_whatever_predicts_is_an_agent_in_one_line(plain: bool, tmp_path: Path) -> None:
    mine = register_agent("half")(policy_agent(lambda: Half(5, plain)))
    env = make("Portfolio")
    agent = mine().fit(env)
    observations = env.unwrapped.task.dataset()[0]
    np.testing.assert_allclose(agent.act(observations), 0.2)  # of weights that sum to one
    agent.save(tmp_path)
    np.testing.assert_array_equal(load_agent(tmp_path).act(observations), agent.act(observations))
    with pytest.raises(ShiftgymError, match="shape"):
        register_agent("half")(policy_agent(lambda: Half(2, plain)))().fit(env).act(observations)
    with pytest.raises(ShiftgymError, match="predict"):
        policy_agent(dict)().fit(env)
