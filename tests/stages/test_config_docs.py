"""The docstrings of the configs are the users' reference (docs/reference/config.md)."""

import dataclasses

import pytest

from wsseg.stages import STAGES

griffe = pytest.importorskip("griffe", reason="pip install wsseg[dev]")


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_every_value_of_a_config_is_documented_in_order(stage):
    docstring = griffe.Docstring(stage.Config.__doc__)
    sections = [section for section in docstring.parse("google", warnings=False) if section.kind.value == "parameters"]
    documented = [parameter.name for section in sections for parameter in section.value]
    assert documented == [field.name for field in dataclasses.fields(stage.Config)]
