"""Attention maps against literal loops over layers, heads and images."""

import pytest
import timm
import torch
from torch import nn

from wsseg.errors import StageError
from wsseg.models.classifier import Classifier, ClassifierSpec, build_classifier
from wsseg.saliency.attention import attention_rollout, gradient_attention
from wsseg.saliency.methods import METHODS, maps_of

SPEC = ClassifierSpec("test_vit", ("a", "b", "c"), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def with_class_token():
    torch.manual_seed(0)
    return timm.create_model("test_vit", pretrained=False, num_classes=3, dynamic_img_size=True).eval()


def with_pooled_patches():
    torch.manual_seed(0)
    model = build_classifier(SPEC)
    nn.init.normal_(model.head.weight)
    return model.eval()


def literal_weights(model, images, channel):
    """Return each layer's attention weights and their gradients, computed with formulas of their own."""
    weights = []
    for block in (model.backbone if isinstance(model, Classifier) else model).blocks:
        attention = block.attn

        def forward(x, attention=attention, **_):
            n, t, f = x.shape
            qkv = attention.qkv(x).reshape(n, t, 3, attention.num_heads, f // attention.num_heads)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            w = (q @ k.transpose(2, 3) / (f // attention.num_heads) ** 0.5).softmax(3)
            weights.append(w)
            return attention.proj((w @ v).transpose(1, 2).reshape(n, t, f))

        attention.forward = forward
    gradients = torch.autograd.grad(model(images)[:, channel].sum(), weights)
    return [w.detach() for w in weights], gradients


@pytest.mark.parametrize(("network", "first"), [(with_class_token, True), (with_pooled_patches, False)])
def test_equal_to_literal_loops(network, first, images):
    rollout = attention_rollout(network(), images, [0, 2])
    relevance = gradient_attention(network(), images, [0, 2])
    assert rollout.shape == relevance.shape == (2, 2, 4, 6)
    assert torch.equal(rollout[:, 0], rollout[:, 1])
    for place, channel in enumerate([0, 2]):
        weights, gradients = literal_weights(network(), images, channel)
        for n in range(2):
            flow = rated = torch.eye(25)
            for w, g in zip(weights, gradients, strict=True):
                mean = sum(w[n]) / len(w[n])
                flow = (0.5 * mean + 0.5 * torch.eye(25)) @ flow
                rated = rated + sum((w[n, h] * g[n, h]).clamp_min(0) for h in range(len(w[n]))) / len(w[n]) @ rated
            for result, all_pairs in ((rollout, flow), (relevance, rated - torch.eye(25))):
                row = all_pairs[0, 1:] if first else all_pairs[1:, 1:].mean(0)
                assert torch.allclose(result[n, place].flatten(), row, rtol=1e-3, atol=1e-7)


def test_the_network_is_as_before_errors_included(images):
    model = with_class_token().train()
    model.blocks[0].attn.fused_attn = True
    gradient_attention(model, images, [0])
    with pytest.raises(StageError, match="class channel 7"):
        gradient_attention(model, images, [7])
    assert model.training and model.blocks[0].attn.fused_attn
    assert not any(m._forward_hooks for m in model.modules()) and all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("method", [m for m in METHODS if m != "guided_backpropagation"])
def test_every_method_on_a_vision_transformer(method, images):
    channels = [1, 0]
    maps = maps_of(method, with_pooled_patches(), channels)(images)
    assert maps.shape[:2] == (2, 2) and maps.isfinite().all() and maps.min() >= 0 and maps.max() > 0


def test_tokens_have_the_place_of_their_patch():
    model = with_pooled_patches()
    image = torch.zeros(1, 3, 64, 96)
    image[:, :, 16:32, 48:64] = 3  # one patch: row 1, column 3
    difference = (model.features(image) - model.features(torch.zeros_like(image))).norm(dim=1)[0]
    assert divmod(int(difference.argmax()), 6) == (1, 3)


def test_channels_last_networks_give_maps_as_others_do():
    swin = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, num_classes=2).eval()
    maps = maps_of("grad_cam", swin, [0], ["layers.1"])(torch.randn(1, 3, 224, 224))
    assert maps.shape == (1, 1, 28, 28)
    with pytest.raises(StageError, match="within windows"):
        attention_rollout(swin, torch.randn(1, 3, 224, 224), [0])


def test_a_network_without_attention_is_refused(images):
    with pytest.raises(StageError, match="no attention modules"):
        attention_rollout(nn.Sequential(nn.Conv2d(3, 2, 3)), images, [0])


@pytest.mark.parametrize("backbone", ["mambaout_femto", "test_vit"])
def test_what_is_pooled_has_its_place_whatever_the_networks_order(backbone):
    torch.manual_seed(0)
    model = build_classifier(ClassifierSpec(backbone, ("a", "b"), (0.5,) * 3, (0.5,) * 3)).eval()
    nn.init.normal_(model.head.weight)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    maps = maps_of("grad_cam", model, [0, 1])(image)
    expected = maps_of("cam", model, [0, 1])(image) / maps[0, 0].numel()  # on a pooling network they are the same
    assert torch.allclose(maps, expected, atol=1e-5 * float(expected.max())) and expected.max() > 0
