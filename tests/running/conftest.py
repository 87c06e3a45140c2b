"""Toy stages over a real data set and a real store."""

import pytest

from tests.running.toys import RECIPE, Copy, CopyConfig, Measure, Write, WriteConfig
from wsseg.running import plan as planning
from wsseg.running import recipe as recipe_module
from wsseg.running.plan import make_plan
from wsseg.store.objects import ArtifactStore


@pytest.fixture
def toys(csv_data, tmp_path, monkeypatch):
    """Return a function that plans the toy recipe with overrides, always over the same store."""
    stages = {"write": Write(), "copy": Copy(), "measure": Measure()}
    Write.runs.clear()
    monkeypatch.setattr(Write, "fail_after", None)
    monkeypatch.setattr(Write, "version", 1)
    monkeypatch.setattr(Measure, "error", None)
    monkeypatch.setattr(recipe_module, "STAGES", stages)
    monkeypatch.setattr(planning, "TABLES", {"write": WriteConfig, "copy": CopyConfig})
    text = csv_data.read_text()
    csv_data.write_text(text[: text.index("[classifier]")])
    (tmp_path / "toys.toml").write_text(RECIPE)
    store = ArtifactStore(tmp_path / "store")
    return lambda *overrides: make_plan(str(tmp_path / "toys.toml"), str(csv_data), store, overrides)
