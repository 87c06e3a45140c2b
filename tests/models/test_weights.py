import pickle

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from wsseg.errors import StageError
from wsseg.models.classifier import ClassifierSpec, build_classifier, load_backbone_weights, load_classifier
from wsseg.models.segmenter import ARCHITECTURES, SegmenterSpec, build_segmenter, load_encoder
from wsseg.models.weights import load_matching, network_bytes, packaged_state, read_spec, read_state

SPEC = ClassifierSpec("test_resnet", ("cat", "dog"), (0.5,) * 3, (0.5,) * 3)


def test_files_of_every_form_are_read(tmp_path):
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
def test_a_pickle_that_would_run_code_is_refused(tmp_path, name, capsys):
    (tmp_path / name).write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(StageError, match="not a file of plain tensors"):
        read_state(tmp_path / name)
    torch.save({"a": Hostile()}, tmp_path / name)
    with pytest.raises(StageError, match="not a file of plain tensors"):
        read_state(tmp_path / name)
    assert "executed" not in capsys.readouterr().out


def test_messages(tmp_path):
    with pytest.raises(StageError, match="no such weights file"):
        read_state(tmp_path / "w.pth")
    (tmp_path / "w.h5").write_bytes(b"")
    with pytest.raises(StageError, match=r"legal: \.safetensors, \.pth, \.pt, \.bin"):
        read_state(tmp_path / "w.h5")
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(StageError, match="legal: a state dict"):
        read_state(tmp_path / "w.pth")
    with pytest.raises(StageError, match="only 0 of the network's 2 tensors fit"):
        load_matching(nn.Linear(2, 2), {"x": torch.zeros(1)}, "here")
    with pytest.raises(StageError, match="does not describe a ClassifierSpec"):
        read_spec(ClassifierSpec, b"{}", "here")
    with pytest.raises(StageError, match="fits the backbone tf_efficientnet_lite0 only"):
        packaged_state(timm.create_model("resnet18"))


def test_the_packaged_weights_know_a_cat():
    import numpy as np
    import skimage.data
    from torch.nn import functional as F

    from wsseg.data.transforms import normalised

    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(packaged_state(model))
    cat = normalised(np.asarray(skimage.data.chelsea()), (0.5,) * 3, (0.5,) * 3)[None, :, :, 75:375]
    with torch.inference_mode():
        best = model(F.interpolate(cat, size=(224, 224), mode="bilinear", antialias=True)).argmax(1).item()
    assert best in (281, 282, 285)  # ImageNet's tabby, tiger cat, Egyptian cat


def test_a_network_survives_its_bytes_and_the_bytes_are_deterministic():
    model = build_classifier(SPEC).eval()
    data = network_bytes(model)
    assert data == network_bytes(model)
    spec = b'{"backbone": "test_resnet", "classes": ["cat", "dog"], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}'
    again, read = load_classifier({"network.json": spec, "network.safetensors": data}.__getitem__, "here")
    assert read == SPEC
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(image), again(image))
    with pytest.raises(StageError, match="the weights do not fit"):
        load_classifier({"network.json": spec, "network.safetensors": b"x" * 20}.__getitem__, "here")


def test_weights_trained_at_stride_32_give_the_same_features_at_stride_16_where_both_look():
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
        (ClassifierSpec("vgg11", ("a",), (0.5,) * 3, (0.5,) * 3), 16, "cannot have output stride 16; choose 32"),
    ],
)
def test_backbones_that_do_not_fit(spec, stride, message):
    with pytest.raises(StageError, match=message):
        build_classifier(spec, stride)


def test_an_encoder_takes_over_the_classifiers_backbone():
    classifier = build_classifier(SPEC)
    model = build_segmenter(SegmenterSpec("fpn", "tu-test_resnet", {}, ("cat",), 64, (0.5,) * 3, (0.5,) * 3))
    load_encoder(model, classifier.backbone.state_dict(), "here")
    for name, tensor in classifier.backbone.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[f"model.{name}"], tensor)
    with pytest.raises(StageError, match="of the encoder's .* tensors fit; choose the same backbone"):
        load_encoder(
            model, build_classifier(ClassifierSpec("resnet18", ("a",), (0,), (1,))).backbone.state_dict(), "here"
        )


def test_segmenter_messages():
    base = {"classes": ("a",), "size": 64, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    assert {"fpn", "unet", "deeplabv3plus"} <= set(ARCHITECTURES)
    for architecture, encoder, decoder, message in (
        ("unett", "resnet18", {}, "did you mean 'unet'"),
        ("unet", "resnet_18", {}, "with encoder 'resnet_18' cannot be built"),
        ("fpn", "resnet18", {"nonsense": 3}, "fpn has no 'nonsense'; legal: .*decoder_pyramid_channels"),
    ):
        with pytest.raises(StageError, match=message):
            build_segmenter(SegmenterSpec(architecture, encoder, decoder, **base))


def test_local_weights_are_loaded_without_any_hub(tmp_path):
    source = build_classifier(SPEC)
    safetensors.torch.save_file(source.backbone.state_dict(), tmp_path / "w.safetensors")
    target = build_classifier(SPEC)
    load_backbone_weights(target, "test_resnet", "file", tmp_path / "w.safetensors")
    assert torch.equal(target.backbone.state_dict()["conv1.0.weight"], source.backbone.state_dict()["conv1.0.weight"])
    with pytest.raises(StageError, match="needs classifier.weights_file"):
        load_backbone_weights(target, "test_resnet", "file", None)
