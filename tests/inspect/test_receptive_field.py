import math

import pytest
import timm
import torch
from torch import nn

from wsseg.errors import StageError
from wsseg.inspect.receptive_field import effective_receptive_field

NOISE = torch.randn(4, 1, 129, 129, generator=torch.Generator().manual_seed(0))


def plain(depth, seed=0):
    """A stack of 3 x 3 convolutions of random weights, without nonlinearities."""
    torch.manual_seed(seed)
    width = 8
    convolutions = [nn.Conv2d(1 if i == 0 else width, width, 3, padding=1, bias=False) for i in range(depth)]
    return nn.Sequential(*convolutions)


def test_a_box_filter_by_hand():
    box = nn.Sequential(nn.Conv2d(1, 1, 5, padding=2, bias=False))
    nn.init.ones_(box[0].weight)
    field = effective_receptive_field(box, NOISE, "0")
    assert field.extent == (5, 5) and field.sigma == pytest.approx(math.sqrt(2))  # variance of -2..2
    assert field.response.sum().item() == pytest.approx(1)
    assert torch.allclose(field.response[62:67, 62:67], torch.full((5, 5), 1 / 25), atol=1e-6)


def test_sigma_grows_as_the_square_root_of_depth_and_the_theoretical_field_linearly():
    depths = [4, 8, 16, 32]
    fields = [effective_receptive_field(plain(depth), NOISE, str(depth - 1)) for depth in depths]
    for depth, field in zip(depths, fields, strict=True):
        assert field.extent == (2 * depth + 1, 2 * depth + 1)
        # a layer of random weights spreads a variance of 2/3 px^2 along each axis
        assert field.sigma == pytest.approx(math.sqrt(2 / 3 * depth), rel=0.1)
    slope = math.log(fields[-1].sigma / fields[0].sigma) / math.log(depths[-1] / depths[0])
    assert slope == pytest.approx(0.5, abs=0.05)


def test_of_a_network_is_smaller_than_its_theoretical_field_and_leaves_no_trace():
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", pretrained=False, num_classes=3).train()
    images = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    fields = [effective_receptive_field(model, images, name) for name in ("layer1", "layer2", "layer3")]
    assert fields[0].sigma < fields[1].sigma < fields[2].sigma < fields[2].extent[0] / 4
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())


def test_of_one_spatial_dimension():
    model = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.Conv1d(4, 4, 3, padding=1))
    assert effective_receptive_field(model, torch.randn(2, 2, 41), "1").extent == (5,)


def test_bad_input_is_named():
    with pytest.raises(StageError, match="no layer '9'"):
        effective_receptive_field(plain(1), NOISE, "9")
    dead = nn.Sequential(nn.Conv2d(1, 1, 1))
    nn.init.zeros_(dead[0].weight)
    with pytest.raises(StageError, match="no gradient with respect to these images"):
        effective_receptive_field(dead, NOISE, "0")
