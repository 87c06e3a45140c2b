"""The docstrings of the configs are the users' reference (docs/reference/config.md)."""

import dataclasses

import pytest

from wsseg.data import config as data
from wsseg.stages import STAGES

griffe = pytest.importorskip("griffe", reason="pip install wsseg[dev]")


CONFIGS = {stage.name: stage.Config for stage in STAGES.values()} | {
    split.__name__: split for split in (data.FolderSplit, data.CsvSplit, data.VocSplit, data.CocoSplit, data.DemoSplit)
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_each_value_of_a_config_is_documented_in_order(config):
    docstring = griffe.Docstring(config.__doc__)
    sections = [section for section in docstring.parse("google", warnings=False) if section.kind.value == "parameters"]
    documented = [parameter.name for section in sections for parameter in section.value]
    assert documented == [field.name for field in dataclasses.fields(config)]
