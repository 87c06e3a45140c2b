"""Keys and reasons of a plan; the stages are toys, the store is real."""

import shutil
import subprocess
import sys

import pytest

from tests.running.toys import Write, run_toys
from wsseg.config import shipped_folder
from wsseg.errors import StageError
from wsseg.models import device
from wsseg.running import plan as planning
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan, summary
from wsseg.store.objects import ArtifactStore


def test_the_plan_gives_the_value_before_and_now(toys, monkeypatch):
    assert [p.why for p in toys().steps] == ["never ran"] * 3
    run_toys(toys)
    why = {p.step.name: p.why for p in toys("copy.times=2.5").steps}
    assert why == {"first": "", "second": "copy.times: 1.0 -> 2.5", "evaluated": ""}
    why = {p.step.name: p.why for p in toys("write.size=3").steps}
    assert why["first"] == "write.size: 1 -> 3" and why["second"] == "input 'first' will be recomputed"
    monkeypatch.setattr(Write, "version", 2)
    assert toys().steps[0].why == "stage: write v1 -> write v2"


def test_a_changed_input_that_is_cached_is_not_recomputed(toys):
    run_toys(toys)
    run_toys(toys, "write.size=3")
    second = toys().steps[1]
    assert second.state == "cached"
    shutil.rmtree(second.artifact.folder)
    assert toys().steps[1].why == "input 'first' has changed"  # compared with the newest run


def test_changed_data_is_a_changed_input(toys, csv_data):
    run_toys(toys)
    labels = csv_data.parent / "data" / "train" / "labels.csv"
    labels.write_text(labels.read_text().replace("000,red", "000,blue"))
    assert toys().steps[0].why.startswith("input 'data.train': ")
    assert run_toys(toys) == {"first": "ran", "second": "ran", "evaluated": "cached"}


def test_optional_steps_without_data_are_skipped(toys, csv_data):
    csv_data.write_text("\n".join(line for line in csv_data.read_text().splitlines() if not line.startswith("val")))
    plan = toys()
    assert [(p.step.name, p.state, p.why) for p in plan.steps][2] == (
        "evaluated",
        "skipped",
        "the config has no data.val",
    )
    run_plan(plan)
    assert list(summary(plan)["stages"]) == ["first", "second"]


def test_an_unfinished_step_and_a_removed_artifact_have_different_reasons(toys, monkeypatch):
    monkeypatch.setattr(Write, "fail_after", 5)
    plan = toys()
    with pytest.raises(StageError):
        run_plan(plan)
    assert [p.why for p in toys().steps] == [
        "interrupted; will resume",
        "not finished",
        "not finished",
    ]
    monkeypatch.setattr(Write, "fail_after", None)
    plan = toys()
    run_plan(plan)
    shutil.rmtree(plan.steps[1].artifact.folder)
    assert [p.why for p in toys().steps] == ["", "its artifact was removed", ""]
    (run_id, record), *_ = plan.store.runs().items()
    for step in record["steps"].values():
        del step["finished"]  # early versions did not record it
    plan.store.save_run(run_id, record)
    assert toys().steps[1].why == "not finished, or its artifact was removed"


def without_val(text):
    return "\n".join(line for line in text.splitlines() if not line.startswith("val"))


@pytest.mark.parametrize("recipe", [p.stem for p in sorted(shipped_folder("pipelines").glob("*.toml"))])
def test_only_measuring_steps_depend_on_the_validation_images(csv_data, tmp_path, recipe):
    """Adding, removing or limiting data.val repeats no training."""
    store = ArtifactStore(tmp_path / "store")

    def keys(*overrides):
        return {
            p.step.name: (p.key, p.step.stage.measures)
            for p in make_plan(recipe, str(csv_data), store, overrides).active
        }

    whole, limited = keys(), keys("data.val.limit=3")
    changed = {name for name in whole if whole[name] != limited[name]}
    assert "classifier_quality" in changed and {"classifier", "seeds", "segmenter"}.isdisjoint(changed)
    assert all(whole[name][1] or name == "predictions" for name in changed)
    if recipe != "full_supervision":  # it needs the validation masks for its only measurement
        csv_data.write_text(without_val(csv_data.read_text()))
        assert keys() == {name: key for name, key in whole.items() if name not in changed}


@pytest.mark.slow
def test_the_key_depends_on_the_precision_that_auto_selects_here(csv_data, tmp_path, monkeypatch):
    """Machines with different precisions share no artifacts."""
    store = ArtifactStore(tmp_path / "store")
    plans = {}
    for meaning in ("float32", "bfloat16"):
        monkeypatch.setattr(planning, "precision_here", lambda _, meaning=meaning: meaning)
        plans[meaning] = make_plan("best", str(csv_data), store, ("seeds.precision=float16",))
        named = make_plan("best", str(csv_data), store, (f"classifier.precision={meaning}",))
        classifier, *_, seeds = [p for p in plans[meaning].steps if p.step.name in ("classifier", "seeds")]
        assert classifier.key == named.steps[0].key and classifier.record()["config"]["precision"] == meaning
        assert classifier.config.precision == meaning and seeds.config.precision == "float16"
    keys = [{p.key for p in plan.steps if hasattr(p.config, "precision")} for plan in plans.values()]
    assert len(keys[0]) > 5 and keys[0].isdisjoint(keys[1])


def test_keys_are_planned_without_torch(csv_data, tmp_path):
    """Only the checks of steps that will run import torch, so that a plan of cached steps is fast."""
    if device._has_accelerator() or not device._cpu_flags():
        pytest.skip("this machine needs torch to find its precision")
    code = (
        "import sys; import wsseg.running.plan; from wsseg.store.objects import ArtifactStore; from pathlib import Path; "
        "wsseg.running.plan._check_steps = lambda *_: None; "
        f"wsseg.running.plan.make_plan('best', {str(csv_data)!r}, ArtifactStore(Path({str(tmp_path / 'store')!r}))); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
