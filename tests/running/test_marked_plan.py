"""Keys with and without marks: a run without marks has those of a recipe without them, and each stage follows its own part."""

import numpy as np
import pytest

from wsseg.config import shipped_folder
from wsseg.data.masks import encode_mask
from wsseg.running import plan as planning
from wsseg.running.plan import make_plan
from wsseg.stages import STAGES
from wsseg.store.objects import ArtifactStore

WEAK = ["best", "cam_crf", "irn", "pseudo_masks", "self_training"]


@pytest.fixture
def plan(csv_data, tmp_path, monkeypatch):
    """Return a function (recipe, marks by id or None for no folder, overrides) -> planned steps by name."""
    folder = csv_data.parent / "data" / "marks"
    monkeypatch.setattr(planning, "_check_steps", lambda *_: None)  # it builds networks, on which no key depends

    def planned(recipe, marks=None, *overrides):
        if marks is not None:
            folder.mkdir(exist_ok=True)
            for item_id, value in marks.items():
                mask = np.full((48, 64), 255, np.uint8)
                mask[:5] = value
                (folder / f"{item_id}.png").write_bytes(encode_mask(mask))
            overrides = (*overrides, "data.train.marks=data/marks")
        made = make_plan(recipe, str(csv_data), ArtifactStore(tmp_path / "store"), overrides)
        return {step.step.name: step for step in made.active}

    return planned


def keys(steps):
    return {name: step.key for name, step in steps.items()}


@pytest.mark.parametrize("recipe", WEAK)
def test_a_run_without_marks_has_the_keys_of_a_recipe_without_marks(plan, recipe, tmp_path):
    plain = tmp_path / f"{recipe}.toml"
    text = (shipped_folder("pipelines") / f"{recipe}.toml").read_text()
    assert ', marks = "marks.train"' in text
    plain.write_text(text.replace(', marks = "marks.train"', ""))
    expected = plan(str(plain))
    assert keys(plan(recipe)) == keys(expected)
    assert keys(plan(recipe, {})) == keys(expected)  # an empty folder says nothing
    for step in expected.values():
        assert not [name for name in step.record()["config"] if name.startswith("marks_")]


@pytest.mark.parametrize("recipe", WEAK)
def test_a_mark_changes_what_learns_from_it_and_what_follows(plan, recipe):
    before, after = plan(recipe), plan(recipe, {"000": 0})
    unchanged = {name for name in before if before[name].key == after[name].key}
    assert unchanged == set()
    assert "marks_loss" in after["classifier"].record()["config"]
    assert {"marks"} <= after["pseudo_masks"].inputs.keys()


def test_the_classifier_is_trained_again_only_if_a_denial_changes(plan):
    denied, with_stroke = plan("best", {"000": 0}), plan("best", {"000": 0, "003": 1})
    same = {name for name in denied if denied[name].key == with_stroke[name].key}
    assert same == {"classifier", "classifier_quality", "seeds", "seed_quality"}
    used = plan("best", {}, "classifier.marks_positive_weight=0.5")
    assert used["classifier"].key != with_stroke["classifier"].key


@pytest.mark.parametrize("off", ['classifier.marks_loss="off"', "classifier.marks_negative_weight=0"])
def test_a_loss_that_is_off_needs_no_marks(plan, off):
    assert plan("best", {"000": 0}, off)["classifier"].key == plan("best", None, off)["classifier"].key


def test_nothing_that_evaluates_takes_marks():
    for name in ("evaluate_masks", "measure_classifier", "predict_masks"):
        assert all("marks" not in role.kinds for role in STAGES[name].inputs.values())
    assert "marks.train" not in (shipped_folder("pipelines") / "full_supervision.toml").read_text()
