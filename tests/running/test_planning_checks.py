"""Values that cannot work are refused when a run is planned, before anything is computed; those that can are not."""

import pytest
import safetensors.torch
import torch

from wsseg.errors import ConfigError
from wsseg.models.classifier import ClassifierSpec, build_classifier
from wsseg.running.plan import make_plan
from wsseg.store.objects import ArtifactStore

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
        ("cam_crf", ["segmenter.weights=package"], 'weights = "package" fits the backbone tf_efficientnet_lite0 only'),
        ("cam_crf", ["segmenter.frozen_levels=5", "segmenter.encoder=tu-convnext_atto", "segmenter.weights=none"], "has 4 feature levels"),
        ("cam_crf", ["classifier.backbone=resnet_18"], "classifier: backbone: timm has no model 'resnet_18'; did you mean resnet18"),
        ("cam_crf", ["classifier.backbone=resnet18.nope"], "Invalid pretrained tag"),
        ("cam_crf", ["classifier.backbone=mixer_s32_224"], "has no spatial feature maps for images of any size"),
        ("cam_crf", ["classifier.weights=package"], 'weights = "package" fits the backbone'),
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
    with pytest.raises(ConfigError, match=message) as found:
        plan(recipe, *overrides)
    assert "\n" not in str(found.value)


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
    def reached(*_, **__):
        raise AssertionError("the net was asked")

    monkeypatch.setattr("socket.socket.connect", reached)
    monkeypatch.setattr("socket.getaddrinfo", reached)
    plan("cam_crf", "classifier.weights=hub", "classifier.backbone=resnet18", "segmenter.encoder=resnet18")
    plan("full_supervision", "segmenter.weights=hub", "segmenter.encoder=tu-resnet18")
