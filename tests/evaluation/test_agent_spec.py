import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftgym.data.errors import ShiftgymError, UnknownNameError
from shiftgym.evaluation.agent_spec import AgentSpec, split_agents

values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.dictionaries(st.sampled_from(["epochs", "lr", "name", "hidden"]), values | st.lists(values)))
def test_text_form_round_trips(kwargs):
    spec = AgentSpec("two-stage", kwargs)
    assert AgentSpec.parse(str(spec)) == spec


@pytest.mark.parametrize("text", ["", "saa(", "saa(3)", "saa(**x)", "saa(samples=min(1, 2))", "saa(x={1})", "a b"])
def test_malformed_text_is_refused_with_an_example(text):
    with pytest.raises(ShiftgymError, match="agent"):
        AgentSpec.parse(text)


def test_the_seed_belongs_to_the_run():
    with pytest.raises(ShiftgymError, match="seed"):
        AgentSpec.parse("saa(seed=3)")


def test_unknown_names_and_settings_list_the_closest():
    with pytest.raises(UnknownNameError, match="residual-saa"):
        AgentSpec.parse("residual_saa").make()
    with pytest.raises(ShiftgymError, match="samples"):
        AgentSpec.parse("saa(sample=3)").make()


def test_lists_are_split_outside_brackets_only():
    assert split_agents(["saa, dfl(epochs=3, hidden=[8, 4])", "oracle"]) == [
        "saa",
        "dfl(epochs=3, hidden=[8, 4])",
        "oracle",
    ]


def test_a_class_of_the_users_own_is_imported_from_the_working_directory(own_module):
    spec = AgentSpec.parse(f"{own_module}:Stumbling(fail='act')")
    assert spec.make(seed=4).seed == 4
    assert spec.make().fail == "act"
    assert spec.source_digest()
    assert sys.path[0] != ""


@pytest.mark.parametrize("name", ["no_such_module:Agent", "json:NoSuchClass", "json:dumps"])
def test_what_is_no_agent_class_is_refused(name):
    with pytest.raises(ShiftgymError, match=name.split(":")[0]):
        AgentSpec(name).make()
