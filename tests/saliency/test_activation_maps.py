"""The CAM family compared with grad-cam, and with each other where theory predicts equality; the network stays unchanged."""

import copy

import numpy as np
import pytest
import timm
import torch
from torch import nn

from wsseg.errors import StageError
from wsseg.models.classifier import Classifier
from wsseg.saliency.activation_maps import (
    WEIGHTINGS,
    ablation_cam,
    eigen_cam,
    fused,
    gradient_cam,
    gradient_cams,
    score_cam,
)

LAYER = "backbone.conv_head"
CHANNELS = [2, 0]


@pytest.fixture(scope="module")
def model():
    """A small convolutional classifier with a global-average-pooling head, random weights."""
    torch.manual_seed(0)
    backbone = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0, global_pool="")
    network = Classifier(backbone, 1280, 4)
    nn.init.normal_(network.head.weight)
    return network.eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def theirs(name, model, images, channel, layer):
    """Return grad-cam's raw map (N, h, w), ReLU'd."""
    grad_cam = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with getattr(grad_cam, name)(model=model, target_layers=[model.get_submodule(layer)]) as cam:
        targets = [ClassifierOutputTarget(channel)] * len(images)
        cam.batch_size = 16
        outputs = cam.activations_and_grads(images.clone().requires_grad_())
        sum(t(o) for t, o in zip(targets, outputs, strict=True)).backward()
        activations = cam.activations_and_grads.activations[0].numpy()
        gradients = cam.activations_and_grads.gradients[0].numpy()
        maps = cam.get_cam_image(images, model.get_submodule(layer), targets, activations, gradients, False)
    model.zero_grad()
    return torch.from_numpy(np.maximum(maps, 0))


def assert_close(ours, other):
    assert ours.shape == other.shape and (ours - other).abs().max() <= 1e-4 * other.abs().max() and other.max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("grad_cam", "GradCAM"), ("grad_cam_pp", "GradCAMPlusPlus"), ("xgrad_cam", "XGradCAM"),
        ("hires_cam", "HiResCAM"), ("layer_cam", "LayerCAM"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layer", [LAYER, "backbone.blocks.3", "last"])
def test_equal_to_grad_cam(model, images, method, name, layer):
    if method == "grad_cam_pp":  # it divides by differences: float32 is off by more, there as here
        model, images = copy.deepcopy(model).double(), images.double()
    ours = gradient_cam(model, images, CHANNELS, layer, method)
    for index, channel in enumerate(CHANNELS):
        assert_close(ours[:, index], theirs(name, model, images, channel, layer))


@pytest.mark.parametrize("target", ["logit", "sigmoid", "softmax", "margin"])
@pytest.mark.parametrize("method", WEIGHTINGS)
def test_what_is_pooled_needs_no_backward_pass_through_it(model, images, method, target):
    exact, images = copy.deepcopy(model).double(), images.double()
    exact.head.weight.data.mul_(0.1)  # probabilities with a gradient
    # the same values under another name, which are computed like those of any other layer
    expected = gradient_cam(exact, images, CHANNELS, "backbone.bn2", method, target)
    passes = []
    handle = exact.register_full_backward_hook(lambda *_: passes.append(1))
    actual = gradient_cam(exact, images, CHANNELS, "last", method, target)
    handle.remove()
    assert not passes and actual.shape == (3, 2, 2, 3)
    assert (actual - expected).abs().max() <= 1e-9 * expected.max() and expected.max() > 0


def test_pooled_maps_in_half_precision_are_summed_in_full(model, images):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = gradient_cam(model, images, CHANNELS, "last")
        with torch.no_grad():
            features = model.features(images)
    weights = model.head.weight[CHANNELS].flatten(1) / features.shape[2:].numel()
    expected = torch.einsum("cf,nfhw->nchw", weights, features.float()).relu()
    assert features.dtype == torch.bfloat16 and (actual - expected).abs().max() <= 1e-5 * expected.max()
    with pytest.raises(StageError, match="class channel 4"):
        gradient_cam(model, images, [4], "last")


def test_score_cam_is_equal_to_grad_cams(model, images):
    layer = "backbone.blocks.2"  # 40 channels
    ours = score_cam(model, images[:1], CHANNELS, layer)
    assert_close(ours[:, 0], theirs("ScoreCAM", model, images[:1], CHANNELS[0], layer))


def test_ablation_cam_by_hand(model, images):
    layer = model.get_submodule("backbone.blocks.2")
    features = []
    handle = layer.register_forward_hook(lambda m, i, o: features.append(o))
    with torch.no_grad():
        whole = model(images[:1])[0, 2]
        handle.remove()
        drops = []
        for channel in range(features[0].shape[1]):
            cut = features[0].clone()
            cut[:, channel] = 0
            handle = layer.register_forward_hook(lambda m, i, o, cut=cut: cut)
            drops.append((whole - model(images[:1])[0, 2]) / whole)
            handle.remove()
    expected = sum(d * features[0][0, c] for c, d in enumerate(drops)).relu()
    assert_close(ablation_cam(model, images[:1], [2], "backbone.blocks.2", batch_size=7)[0, 0], expected)


def test_eigen_cam_is_the_first_principal_component(model, images):
    ours = eigen_cam(model, images, CHANNELS, LAYER)
    assert torch.equal(ours[:, 0], ours[:, 1])  # it knows no class
    other = theirs("EigenCAM", model, images, 0, LAYER)
    negative = theirs_negative(model, images)
    for own, plus, minus in zip(ours[:, 0], other, negative, strict=True):  # its sign is arbitrary there
        assert min((own - plus).abs().max(), (own - minus).abs().max()) < 1e-3 * own.max()


def theirs_negative(model, images):
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    features = []
    handle = model.get_submodule(LAYER).register_forward_hook(lambda m, i, o: features.append(o.detach()))
    with torch.no_grad():
        model(images)
    handle.remove()
    return torch.from_numpy(np.maximum(-get_2d_projection(features[0].numpy()), 0))


def test_on_a_pooling_network_cam_equals_grad_cam_up_to_scale(model, images):
    last = gradient_cam(model, images, CHANNELS, "backbone.bn2", "grad_cam")
    with torch.no_grad():
        cam = model.class_maps(images)[:, CHANNELS].relu()
    places = cam.shape[2] * cam.shape[3]
    assert_close(last * places, cam)


def test_several_layers_share_one_pass_and_are_the_same_as_alone(model, images):
    layers = ["backbone.blocks.3", LAYER]
    for together, layer in zip(gradient_cams(model, images, CHANNELS, layers), layers, strict=True):
        assert_close(together, gradient_cam(model, images, CHANNELS, layer, "layer_cam"))
    both = fused(gradient_cams(model, images, CHANNELS, layers), (16, 24))
    assert both.shape == (3, 2, 16, 24) and both.min() >= 0 and both.amax() <= 1.0001


def test_classes_and_images_do_not_mix(model, images):
    alone = gradient_cam(model, images[1:2], [0], LAYER)
    assert_close(gradient_cam(model, images, CHANNELS, LAYER)[1:2, 1:2], alone)


class Signals(nn.Module):
    """A network over one spatial dimension."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(2, 8, 5, padding=2)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean(2))


@pytest.mark.parametrize("method", WEIGHTINGS)
def test_one_spatial_dimension(method):
    signals = torch.randn(2, 2, 40, generator=torch.Generator().manual_seed(0))
    assert gradient_cam(Signals(), signals, [0, 2], "conv", method).shape == (2, 2, 40)
    for function in (eigen_cam, score_cam, ablation_cam):
        assert function(Signals(), signals, [1], "conv").shape == (2, 1, 40)


@pytest.mark.parametrize("function", [gradient_cam, eigen_cam, score_cam, ablation_cam])
def test_the_network_is_as_before_errors_included(function, images):
    network = Signals().train()
    network.conv.weight.requires_grad_(False)
    before = {n: p.clone() for n, p in network.named_parameters()}
    signals = torch.randn(2, 2, 40)
    function(network, signals, [0], "conv")
    with pytest.raises(StageError):
        function(network, signals * torch.nan, [0], "conv")
    with pytest.raises(Exception):  # noqa: B017 (whatever torch says about an image of another kind)
        function(network, images, [0], "conv")
    assert network.training and not network.conv.weight.requires_grad and network.head.weight.requires_grad
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in network.named_parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in network.modules())


@pytest.mark.parametrize(
    ("layer", "channels", "message"),
    [
        ("backbone.blocks.33", [0], r"no layer 'backbone.blocks.33'; nearest: backbone.blocks.3"),
        ("", [0], "no layer ''"),
        (LAYER, [4], "found class channel 4; expected: 0 to 3"),
        (LAYER, [-1], "found class channel -1"),
    ],
)
def test_bad_input_is_named(model, images, layer, channels, message):
    with pytest.raises(StageError, match=message):
        gradient_cam(model, images, channels, layer)


def test_a_layer_without_place_is_refused():
    with pytest.raises(StageError, match=r"layer 'head' returns \(2, 3\) for images \(2, 2, 40\)"):
        gradient_cam(Signals(), torch.randn(2, 2, 40), [0], "head")
