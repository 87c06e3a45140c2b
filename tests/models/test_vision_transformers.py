"""Vision transformers of timm as backbones of classifiers and as encoders of segmenters."""

import pytest
import safetensors.torch
import timm
import torch

from wsseg.errors import StageError
from wsseg.models.classifier import ClassifierSpec, _features_of, build_classifier, load_backbone_weights
from wsseg.models.freezing import freeze_levels
from wsseg.models.segmenter import SegmenterSpec, build_segmenter, load_encoder
from wsseg.models.weights import load_network, network_bytes

TINY = "vit_tiny_patch16_dinov3_qkvb"  # rotary positions, a class token and four registers
HALF = (0.5,) * 3


def require(name):
    """Skip a test if this version of timm lacks a model."""
    if not timm.is_model(name):
        pytest.skip(f"timm {timm.__version__} has no {name}")


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("vit_small_patch14_dinov2", 384),
        ("vit_small_patch14_reg4_dinov2", 384),
        ("vit_small_patch16_dinov3", 384),
        ("eva02_tiny_patch14_224", 192),
        ("vit_base_patch16_siglip_224", 768),
        ("convnext_tiny.dinov3_lvd1689m", 768),
    ],
)
def test_published_families_have_feature_maps_at_any_size(name, features):
    """The networks are built without memory for their weights."""
    require(name)
    assert _features_of(name, 32)[0] == features


@pytest.mark.parametrize("name", ["test_vit", TINY])
def test_a_classifier_at_sizes_that_are_no_multiple_of_the_patch(name):
    require(name)
    torch.manual_seed(0)
    model = build_classifier(ClassifierSpec(name, ("a", "b"), HALF, HALF)).eval()
    images = torch.randn(2, 3, 70, 100)
    with torch.no_grad():
        features = model.features(images)
        tokens = model.backbone.forward_features(images)
    assert features.shape[2:] == (5, 7)  # padded to 80 x 112
    assert torch.equal(features.flatten(2).transpose(1, 2), tokens[:, -35:])  # without class token and registers
    assert model(images).shape == (2, 2)


def test_weights_from_a_file(tmp_path):
    torch.manual_seed(0)
    source = build_classifier(ClassifierSpec("test_vit", ("a",), HALF, HALF))
    safetensors.torch.save_file(source.backbone.state_dict(), tmp_path / "vit.safetensors")
    model = build_classifier(ClassifierSpec("test_vit", ("a", "b"), HALF, HALF))
    load_backbone_weights(model, "test_vit", "file", tmp_path / "vit.safetensors")
    assert all(torch.equal(v, source.backbone.state_dict()[k]) for k, v in model.backbone.state_dict().items())
    require(TINY)
    with pytest.raises(StageError, match="expected: weights of the same backbone"):
        other = build_classifier(ClassifierSpec(TINY, ("a",), HALF, HALF))
        load_backbone_weights(other, TINY, "file", tmp_path / "vit.safetensors")


@pytest.mark.parametrize(("architecture", "decoder"), [("linear", {}), ("light", {"decoder_channels": 16})])
@pytest.mark.parametrize("name", ["test_vit", TINY, "test_convnext"])
def test_a_segmenter_with_a_decoder_on_patches(architecture, decoder, name):
    require(name)
    torch.manual_seed(0)
    spec = SegmenterSpec(architecture, f"tu-{name}", decoder, ("a", "b"), 64, HALF, HALF)
    model = build_segmenter(spec)
    assert model.eval()(torch.randn(2, 3, 64, 96)).shape == (2, 3, 64, 96)
    source = build_classifier(ClassifierSpec(name, ("a", "b"), HALF, HALF)).backbone
    load_encoder(model, source.state_dict(), "the classifier")
    assert torch.equal(next(model.encoder.parameters()), next(source.parameters()))
    freeze_levels(model.encoder, 1, name)
    frozen = [not p.requires_grad for p in model.encoder.parameters()]
    assert frozen[0] and not frozen[-1]
    images = torch.randn(1, 3, 64, 64)
    again = load_network(lambda: build_segmenter(spec), network_bytes(model), "here")
    with torch.no_grad():
        assert torch.equal(model(images), again(images))


def test_the_linear_decoder_equals_a_matrix_per_patch():
    torch.manual_seed(0)
    spec = SegmenterSpec("linear", "tu-test_vit", {}, ("a",), 64, HALF, HALF)
    model = build_segmenter(spec).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        tokens = model.encoder.forward_features(images)[0, -16:]
        expected = tokens @ model.head.weight[:, :, 0, 0].T + model.head.bias
        assert torch.allclose(model.head(tokens.T.view(1, -1, 4, 4))[0].flatten(1).T, expected, atol=1e-5)
        assert model(images).shape == (1, 2, 64, 64)


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        ("resnet18", {}, "expected: an encoder of timm, written tu-NAME"),
        ("tu-test_vit", {"decoder_pyramid_channels": 8}, "linear has no 'decoder_pyramid_channels'"),
        ("tu-vit_smal", {}, "timm has no model 'vit_smal'"),
    ],
)
def test_what_does_not_fit_gives_one_line(encoder, decoder, message):
    with pytest.raises(StageError, match=message) as caught:
        build_segmenter(SegmenterSpec("linear", encoder, decoder, ("a",), 64, HALF, HALF))
    assert "\n" not in str(caught.value)
