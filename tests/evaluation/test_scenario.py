import pytest

from shiftgym.data.errors import ShiftgymError
from shiftgym.data.spec import parse_spec
from shiftgym.evaluation.agent_spec import AgentSpec
from shiftgym.evaluation.scenario import Scenario, Suite, list_suites, load_suite, parse_suite, sweep_scenarios

GOOD = {
    "title": "t",
    "seeds": [0, 1],
    "agents": ["saa", "saa(samples=5)"],
    "defaults": {
        "env": "shiftgym/Provisioning-v0",
        "train": "synthetic-azure-2023-conv@2s[:0.5]",
        "test": "synthetic-azure-2023-conv@2s[0.5:]",
        "env_kwargs": {"lookback": 14},
    },
    "scenarios": [{"name": "home"}, {"name": "code", "test": "synthetic-azure-2023-code@2s"}],
    "sweeps": [{"name": "noise", "shift": "gaussian(scale=0.2)", "severities": [0, 1.5]}],
    "published": {"source": "a paper", "figures": {"DFL": {"home": 0.1}}},
}


def test_suites_that_come_with_the_package_are_valid():
    assert {"quick", "three-d/table1"} <= set(list_suites())
    for name in list_suites():
        suite = load_suite(name)
        suite.check()
        assert suite.title


def test_the_quick_suite_needs_no_download():
    for scenario in load_suite("quick").scenarios:
        assert scenario.train.startswith("synthetic-")
        assert scenario.test.startswith("synthetic-")


def test_defaults_sweeps_and_labels():
    suite = parse_suite(GOOD, "mine")
    assert [s.name for s in suite.scenarios] == ["home", "code", "noise x0", "noise x1.5"]
    assert suite.scenarios[1].train == GOOD["defaults"]["train"]
    assert suite.scenarios[3].shift == "gaussian(scale=0.2, severity=1.5)"
    assert (suite.scenarios[3].sweep, suite.scenarios[3].severity) == ("noise", 1.5)
    assert suite.scenarios[0].env_kwargs == {"lookback": 14}
    assert [suite.label(agent) for agent in suite.agents] == ["saa", "saa(samples=5)"]
    assert load_suite("quick").label(AgentSpec("dfl", {"epochs": 3})) == "dfl"


def test_a_suite_survives_json():
    suite = parse_suite(GOOD, "mine")
    assert Suite.from_dict(suite.to_dict()) == suite


def change(path, value):
    """GOOD with the entry at a path replaced, or removed when the value is None."""
    import copy

    content = copy.deepcopy(GOOD)
    *parents, last = path
    place = content
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["agent"], ["saa"], "did you mean 'agents'"),
        (["agents"], "saa", "type list"),
        (["agents"], None, "lacks 'agents'"),
        (["agents"], [], "empty"),
        (["agents"], ["saa", "saa"], "saa more than once"),
        (["seeds"], [0, -1], "seed -1"),
        (["seeds"], [0.5], "seed 0.5"),
        (["seeds"], [1, 1], "seeds .* 1 more than once"),
        (["scenarios", 0, "tset"], "x", "did you mean 'test'"),
        (["scenarios", 0, "name"], None, "lacks 'name'"),
        (["scenarios", 0, "test"], 3, "type str"),
        (["scenarios", 1, "name"], "home", "home more than once"),
        (["scenarios", 0], "home", "no table"),
        (["defaults", "train"], None, "lacks 'train'"),
        (["scenarios", 0, "sweep"], "assets", "both its 'sweep' and its 'severity'"),
        (["scenarios", 0, "severity"], 1.0, "both its 'sweep' and its 'severity'"),
        (["scenarios", 0, "act"], 3, "type dict"),
        (["defaults", "sweep"], "assets", "unknown key"),
        (["sweeps", 0, "severities"], None, "lacks 'severities'"),
        (["sweeps", 0, "shift"], "gausian(scale=1)", "did you mean 'gaussian'"),
        (["published", "figures", "DFL"], {"hom": 0.1}, "did you mean 'home'"),
        (["published", "figures", "DFL"], {"home": "low"}, "no number"),
    ],
)
def test_what_is_wrong_in_a_suite_is_named(path, value, message):
    with pytest.raises(ShiftgymError, match=message):
        parse_suite(change(path, value), "mine")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["agents"], ["two-stag"], "did you mean 'two-stage'"),
        (["scenarios", 1, "act"], {"sample": 3}, "act of scenario 'code'.*did you mean 'samples'"),
        (["scenarios", 1, "act"], {"samples": 0}, "samples is 0"),
        (["scenarios", 1, "test"], "synthetic-azure-2023-code@2s[{sede}0:]", "is not START:STOP"),
        (["agents"], ["saa(sample=1)"], "samples"),
        (["defaults", "env"], "shiftgym/Provisionin-v0", "did you mean 'shiftgym/Provisioning-v0'"),
        (["scenarios", 1, "test"], "synthetic-azure-2023-cod@2s", "did you mean 'synthetic-azure-2023-code'"),
        (["scenarios", 1, "shift"], "scal(factor=2)", "did you mean 'scale'"),
        (["scenarios", 1, "shift"], "scale(factr=2)", "factor"),
    ],
)
def test_unknown_names_are_found_before_any_work(path, value, message):
    suite = parse_suite(change(path, value), "mine")
    with pytest.raises(ShiftgymError, match=message):
        suite.check()


def test_unknown_suites_and_broken_files(tmp_path):
    with pytest.raises(ShiftgymError, match="did you mean 'quick'"):
        load_suite("quik")
    with pytest.raises(ShiftgymError, match="does not exist"):
        load_suite(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("seeds = [")
    with pytest.raises(ShiftgymError, match="not valid TOML"):
        load_suite(tmp_path / "bad.toml")


def test_a_sweep_at_severity_zero_is_the_trace_as_it_is():
    base = Scenario("s", "e", "a", "b", shift="scale(factor=3)")
    zero, one = sweep_scenarios(base, [0, 1])
    assert (zero.severity, one.severity) == (0.0, 1.0)
    assert one.shift == "scale(factor=3.0)"
    assert zero.shift != one.shift


def test_a_scenario_may_be_a_point_of_a_sweep_over_anything_and_act_otherwise():
    point = {"name": "n=5", "sweep": "samples", "severity": 5, "act": {"samples": 5}}
    content = {**GOOD, "scenarios": [*GOOD["scenarios"], point]}
    content["defaults"] = {**GOOD["defaults"], "act": {"samples": 3}}
    suite = parse_suite(content, "mine")
    suite.check()
    home, _, five, *_ = suite.scenarios
    assert (five.sweep, five.severity) == ("samples", 5.0)
    assert (home.act, five.act) == ({"samples": 3}, {"samples": 5})
    assert Suite.from_dict(suite.to_dict()) == suite


def test_each_seed_may_have_data_of_its_own():
    scenario = Scenario("s", GOOD["defaults"]["env"], "allocation[{seed}0000:{seed}5000]", "allocation[{seed}5000:]")
    scenario.check()
    assert scenario.for_seed(0).train == "allocation[00000:05000]"
    assert scenario.for_seed(12).test == "allocation[125000:]"
    assert (parse_spec(scenario.for_seed(0).train).start, parse_spec(scenario.for_seed(0).train).stop) == (0, 5000)
    plain = Scenario("s", "e", "a", "b")
    assert plain.for_seed(3) == plain
