import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsseg.stages.train_classifier.consistency import changed_images, equivariance_loss, undone


def local_maps(images: torch.Tensor) -> torch.Tensor:
    """Return maps of two classes whose values depend on one 16 px square each: they are equivariant."""
    pooled = F.avg_pool2d(images, 16)
    return torch.stack([pooled[:, 0] + pooled[:, 1], pooled[:, 2]], dim=1)


def placed_maps(images: torch.Tensor) -> torch.Tensor:
    """Return local maps multiplied by a ramp from left to right: they are not equivariant."""
    maps = local_maps(images)
    return maps * torch.linspace(0, 1, maps.shape[3])


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 4, 4, generator=generator)
    return F.interpolate(coarse, size=(128, 128), mode="nearest")  # squares of 32 px: half the side loses no detail


PRESENT = torch.tensor([[1.0, 0.0], [1.0, 1.0]])


@pytest.mark.parametrize("change", ["flip", "tile"])
def test_the_loss_of_an_equivariant_network_is_zero(images, change):
    assert equivariance_loss(local_maps(images), local_maps, images, PRESENT, change) < 1e-6


def test_under_scaling_the_loss_is_small_for_a_scale_invariant_network_only(images):
    def scale_invariant(images):
        return F.adaptive_avg_pool2d(images, 4)[:, :2]

    def edges_of_one_width(images):
        return (images[..., 4:] - images[..., :-4]).abs()[:, :2, ::4, ::4]

    assert equivariance_loss(scale_invariant(images), scale_invariant, images, PRESENT, "scale") < 0.02
    assert equivariance_loss(edges_of_one_width(images), edges_of_one_width, images, PRESENT, "scale") > 0.05


@pytest.mark.parametrize("change", ["flip", "tile"])
def test_the_loss_of_a_network_that_is_not_equivariant_is_positive(images, change):
    assert equivariance_loss(placed_maps(images), placed_maps, images, PRESENT, change) > 0.1


def test_by_hand():
    maps = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
    mirrored = equivariance_loss(maps, lambda _: maps, torch.zeros(1, 3, 64, 64), torch.ones(1, 1), "flip")
    assert mirrored == pytest.approx(2 / 4)  # two of four places differ by one


def test_absent_classes_are_ignored(images):
    maps = local_maps(images)
    wrong = maps.clone()
    wrong[0, 1] = maps[0, 1].flip(1)  # class 1 is not in image 0
    assert equivariance_loss(maps, lambda _: wrong.flip(3), images, PRESENT, "flip") < 1e-6


def test_tiles_are_put_back_in_place():
    images = torch.arange(64.0).reshape(1, 1, 8, 8)
    assert (undone(changed_images(images, "tile"), "tile", (8, 8)) == images).all()


def test_training_lowers_the_loss(images):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.AvgPool2d(16), nn.Conv2d(4, 2, 3, padding=1))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        loss = equivariance_loss(network(images), network, images, PRESENT, "tile")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
