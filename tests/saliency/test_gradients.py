"""Gradients of the image by hand, against Captum, and where they vanish."""

import pytest
import torch
from torch import nn

from wsseg.errors import StageError
from wsseg.saliency.gradients import (
    GRADIENT_METHODS,
    gradient,
    guided_backpropagation,
    input_x_gradient,
    integrated_gradients,
    over_colours,
    smooth_grad,
)
from wsseg.saliency.targets import target_scores


class Linear(nn.Module):
    """logits = (sum of weight x) for two classes; all gradients are the weights."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.weight = nn.Parameter(scale * torch.tensor([[[[1.0, -2.0]], [[3.0, 0.5]]], [[[0.0, 1.0]], [[1.0, 1.0]]]]))

    def forward(self, x):  # (N, 2, 1, 2) -> (N, 2)
        return torch.einsum("nchw,kchw->nk", x, self.weight)


class Convolutional(nn.Module):
    def __init__(self, activation=nn.ReLU):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3), activation(), nn.Conv2d(8, 8, 3, stride=2), activation(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(8, 4),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


@pytest.fixture
def images():
    return torch.randn(2, 3, 12, 14, generator=torch.Generator().manual_seed(3))


def test_gradients_of_a_linear_network_by_hand():
    images = torch.arange(8.0).view(2, 2, 1, 2)
    weight = Linear().weight.detach()
    assert torch.allclose(gradient(Linear(), images, [0, 1]), weight[None].expand(2, -1, -1, -1, -1))
    assert torch.allclose(input_x_gradient(Linear(), images, [1]), images[:, None] * weight[1])
    assert torch.allclose(integrated_gradients(Linear(), images, [1]), images[:, None] * weight[1], atol=1e-5)
    assert torch.allclose(smooth_grad(Linear(), images, [0], samples=2)[0, 0], weight[0])
    assert over_colours(gradient(Linear(), images, [0]))[0, 0].tolist() == [[3.0, 2.0]]


def test_equal_to_captum(images):
    attr = pytest.importorskip("captum.attr")
    model = Convolutional().eval()

    def close(ours, theirs):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()

    for channel in (0, 3):
        close(gradient(model, images, [channel])[:, 0], attr.Saliency(model).attribute(images, channel, abs=False))
        close(input_x_gradient(model, images, [channel])[:, 0], attr.InputXGradient(model).attribute(images, channel))
        close(
            integrated_gradients(model, images, [channel], steps=64)[:, 0],
            attr.IntegratedGradients(model).attribute(images, target=channel, n_steps=64).float(),
        )
        close(
            guided_backpropagation(model, images, [channel])[:, 0],
            attr.GuidedBackprop(model).attribute(images, channel),
        )


def test_integrated_gradients_are_complete(images):
    model = Convolutional().eval()
    baseline = torch.full((3, 1, 1), 0.3)
    actual = integrated_gradients(model, images, [1], baseline=baseline, steps=200).sum((1, 2, 3, 4))
    with torch.no_grad():
        expected = model(images)[:, 1] - model(baseline.expand_as(images))[:, 1]
    assert torch.allclose(actual, expected, rtol=1e-2, atol=1e-4)


def test_smooth_grad_has_a_seed(images):
    model = Convolutional().eval()
    first, again, other = (smooth_grad(model, images, [0], samples=3, rng_seed=s) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("target", ["sigmoid", "softmax"])
def test_a_saturated_probability_has_no_gradient_and_the_logit_has(target):
    images = torch.tensor([[[[40.0, -10.0]], [[10.0, 0.0]]]])
    model = Linear(scale=1.0)
    assert gradient(model, images, [0], target).abs().max() < 1e-6  # p = 1 to float32's last digit
    assert gradient(model, images, [0], "logit").abs().max() == 3
    assert gradient(model, images, [0], "margin").abs().max() == 3
    # the path from the baseline passes points at which the probability still changes
    assert integrated_gradients(model, images, [0], target, steps=200).abs().max() > 0.1


def test_a_dead_relu_has_no_gradient_and_a_leaky_one_has():
    def network(activation):
        layer = nn.Linear(2, 1)
        nn.init.constant_(layer.weight, 1.0)
        nn.init.constant_(layer.bias, -10.0)
        return nn.Sequential(nn.Flatten(), layer, activation)

    images = torch.ones(1, 2, 1, 1)
    assert gradient(network(nn.ReLU()), images, [0]).abs().max() == 0
    assert gradient(network(nn.LeakyReLU(0.01)), images, [0]).flatten().tolist() == pytest.approx([0.01, 0.01])


def test_targets_by_hand():
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 0.5, 3.0]])
    assert target_scores(logits, 1, "logit").tolist() == [1.0, 0.5]
    assert target_scores(logits, 1, "margin").tolist() == [-1.0, -2.5]
    assert torch.allclose(target_scores(logits, 1, "sigmoid"), torch.tensor([1.0, 0.5]).sigmoid())
    assert torch.allclose(target_scores(logits, 1, "softmax"), logits.softmax(1)[:, 1])


@pytest.mark.parametrize(
    ("logits", "channel", "target", "message"),
    [
        (torch.zeros(2, 3), 3, "logit", "found class channel 3; expected: 0 to 2"),
        (torch.zeros(2, 3), 0, "loudness", "target: found 'loudness'; expected: logit, sigmoid, softmax, margin"),
        (torch.zeros(2, 1), 0, "margin", "one class"),
        (torch.zeros(2, 3, 4, 4), 0, "logit", r"returns \(2, 3, 4, 4\)"),
    ],
)
def test_bad_targets_are_named(logits, channel, target, message):
    with pytest.raises(StageError, match=message):
        target_scores(logits, channel, target)


@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_the_network_is_as_before(name, images):
    model = Convolutional().train()
    model.layers[0].weight.requires_grad_(False)
    assert GRADIENT_METHODS[name](model, images, [0, 2]).shape == (2, 2, 3, 12, 14)
    assert model.training and not model.layers[0].weight.requires_grad and model.layers[2].weight.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in model.modules())


def test_guided_backpropagation_requires_relu(images):
    with pytest.raises(StageError, match=r"the network has none; use another method such as gradient"):
        guided_backpropagation(Convolutional(nn.ReLU6), images, [0])
