"""Keys and reasons of a plan over toy stages, and values that planning refuses for the real ones."""

import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from tests.running.toys import Write, run_toys
from wsseg.config import shipped_folder
from wsseg.errors import ConfigError, StageError
from wsseg.models import device
from wsseg.models.classifier import ClassifierSpec, build_classifier
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


RECIPES = [p.stem for p in sorted(shipped_folder("pipelines").glob("*.toml"))]


# the recipes with CLIP need a checkpoint, see tests/test_foundation_recipes.py
@pytest.mark.parametrize("recipe", [name for name in RECIPES if not name.startswith("clip")])
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
    assert {"classifier_quality", "label_doubts"} & changed and {"classifier", "seeds", "segmenter"}.isdisjoint(changed)
    assert all(whole[name][1] or name == "predictions" for name in changed)
    # the first needs the validation masks for its only measurement, the second runs without val
    if recipe not in ("full_supervision", "label_doubts"):
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


# --- values that cannot work are refused before anything is computed -------------------------------------------------

SMALL = ("classifier.backbone=test_resnet", "classifier.weights=none", "segmenter.encoder=tu-test_resnet", "segmenter.size=64",
         "classifier.size=64", "affinity.size=64")  # fmt: skip


@pytest.fixture
def plan(csv_data, tmp_path):
    """Plan a recipe for small networks, with overrides."""

    def planned(recipe, *overrides):
        return make_plan(recipe, str(csv_data), ArtifactStore(tmp_path / "store"), (*SMALL, *overrides))

    return planned


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("cam_crf", ["segmenter.architecture=unett"], "segmenter: architecture: found 'unett'; .*did you mean 'unet'"),
        ("cam_crf", ["segmenter.decoder.decoder_pyramid_channels=64"], "unet has no 'decoder_pyramid_channels'; .*decoder = {}"),
        ("cam_crf", ["segmenter.decoder.decoder_channels=0"], "found 0; expected: a whole number from 1 to 4096"),
        ("cam_crf", ["segmenter.encoder=resnet_18"], "did you mean 'resnet18'.*timm as tu-NAME"),
        ("cam_crf", ["segmenter.encoder=tu-hf-hub:a/b"], "timm has no model 'hf-hub:a/b'"),
        ("cam_crf", ["segmenter.encoder=resnet18"], "the classifier's backbone is not the encoder 'resnet18'"),
        ("cam_crf", ["segmenter.encoder=mit_b0", "segmenter.weights=hub"], "'mit_b0' is not a timm model; expected for it: file, none"),
        ("cam_crf", ["segmenter.encoder=tu-test_vit", "segmenter.weights=none"], "with encoder 'tu-test_vit' cannot be built"),
        ("cam_crf", ["segmenter.architecture=fpn", "segmenter.crop=40"], "segmenter: the network does not accept 4 crops of 40x40 px"),
        ("cam_crf", ["segmenter.weights=package"], "found the backbone 'test_resnet'; expected: tf_efficientnet_lite0"),
        ("cam_crf", ["segmenter.frozen_levels=5", "segmenter.encoder=tu-convnext_atto", "segmenter.weights=none"], "has 4 feature levels"),
        ("cam_crf", ["classifier.backbone=resnet_18"], "classifier: backbone: timm has no model 'resnet_18'; did you mean resnet18"),
        ("cam_crf", ["classifier.backbone=resnet18.nope"], "Invalid pretrained tag"),
        ("cam_crf", ["classifier.backbone=mixer_s32_224"], "has no spatial feature maps for images of any size"),
        ("cam_crf", ["classifier.weights=package"], "found the backbone 'test_resnet'; expected: tf_efficientnet_lite0"),
        ("cam_crf", ["classifier.weights=hub", "classifier.backbone=resnet200"], "timm lists no trained weights of 'resnet200'"),
        ("cam_crf", ["classifier.weights=file"], "requires weights_file"),
        ("cam_crf", ["classifier.weights=file", "classifier.weights_file=/nowhere.pth"], "nowhere.pth: cannot be read"),
        ("cam_crf", ["classifier.precision=float16", "classifier.device=cpu"], "found \"float16\"; expected for training on a CPU"),
        ("cam_crf", ["classifier.scale=[1.5, 0.5]"], r"classifier: scale: found \[1.5, 0.5\]; expected: \[smallest, largest\]"),
        ("cam_crf", ["segmenter.scale=[1.0]"], r"segmenter: scale: found \[1.0\]"),
        ("irn", ["affinity.scale=[]"], r"affinity: scale: found \[\]"),
        ("cam_crf", ["classifier.consistency=1.0", "classifier.consistency_under=tile", "classifier.size=96"], "a multiple of 64"),
        ("cam_crf", ["seeds.scales=[]", "predictions.scales=[]"], r"seeds: scales: found \[\].*predictions: scales: found \[\]"),
        ("cam_crf", ["seeds.method=attention_rollout"], "seeds.method: found 'attention_rollout'; expected with the backbone"),
        ("cam_crf", ["seeds.method=layer_cam", 'seeds.layers=["backbone.layer9"]'], "no layer 'backbone.layer9'"),
        ("cam_crf", ["seeds.output_stride=8", "classifier.backbone=vgg11"], "cannot have output stride 8; expected: 32"),
        ("irn", ["classifier.backbone=test_vit", "segmenter.weights=none"], "'test_vit' do not share its weights"),
        ("cam_crf", ["predictions.min_class_probability=0.5", "classifier.backbone=test_vit", "segmenter.weights=none", "segmenter.encoder=resnet18"],
         "classifier and segmenter differ in the mean and std"),
        ("cam_crf", ["seeds.device=mps", "seeds.precision=float32"], "seeds: device: 'mps' is not available"),
    ],
)  # fmt: skip
def test_values_that_cannot_work_are_refused(plan, recipe, overrides, message):
    if "seeds.device=mps" in overrides and torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(ConfigError, match=message) as error:
        plan(recipe, *overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        ("best", []),
        ("cam_crf", ["classifier.backbone=resnet18", "segmenter.encoder=resnet18", "segmenter.frozen_levels=2"]),
        ("cam_crf", ["segmenter.encoder=mit_b0", "segmenter.weights=none", "segmenter.frozen_levels=2"]),
        ("cam_crf", ["segmenter.architecture=deeplabv3plus", "segmenter.decoder={}", "segmenter.size=32"]),
        ("cam_crf", ["seeds.method=layer_cam", 'seeds.layers=["backbone.layer3", "backbone.layer4"]']),
        ("cam_crf", ["classifier.backbone=test_vit", "seeds.method=gradient_attention", "segmenter.weights=none"]),
        ("cam_crf", ["classifier.backbone=test_mambaout", "segmenter.weights=none"]),  # channels last
    ],
)
def test_values_that_can_work_are_planned(plan, recipe, overrides):
    assert {planned.state for planned in plan(recipe, *overrides).steps} == {"to run"}


def test_all_problems_are_reported_at_once(plan):
    with pytest.raises(
        ConfigError, match=r"tiny.toml: classifier: [^;]*resnet_18[^;]*; [^;]*; segmenter: architecture: found 'unett'"
    ):
        plan("cam_crf", "classifier.backbone=resnet_18", "segmenter.architecture=unett")


@pytest.mark.parametrize("damage", ["cut", "foreign"])
@pytest.mark.parametrize("table", ["classifier", "segmenter"])
def test_weights_files_are_read_before_anything_runs(plan, tmp_path, table, damage):
    name = "test_resnet" if damage == "cut" else "test_vit"
    backbone = build_classifier(ClassifierSpec(name, ("a",), (0.5,) * 3, (0.5,) * 3)).backbone
    path = tmp_path / "weights.safetensors"
    data = safetensors.torch.save(backbone.state_dict())
    path.write_bytes(data[:-100] if damage == "cut" else data)
    with pytest.raises(
        ConfigError, match=f"{table}: .*weights.safetensors: (not a file of plain tensors|0 of the network)"
    ):
        plan("cam_crf", f"{table}.weights=file", f"{table}.weights_file={path}")
    path.write_bytes(
        safetensors.torch.save(
            build_classifier(ClassifierSpec("test_resnet", ("a",), (0.5,) * 3, (0.5,) * 3)).backbone.state_dict()
        )
    )
    plan("cam_crf", f"{table}.weights=file", f"{table}.weights_file={path}")


def test_planning_downloads_nothing(plan, monkeypatch):
    def connect(*_, **__):
        raise AssertionError("planning opened a connection")

    monkeypatch.setattr("socket.socket.connect", connect)
    monkeypatch.setattr("socket.getaddrinfo", connect)
    plan("cam_crf", "classifier.weights=hub", "classifier.backbone=resnet18", "segmenter.encoder=resnet18")
    plan("full_supervision", "segmenter.weights=hub", "segmenter.encoder=tu-resnet18")
