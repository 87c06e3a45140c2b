"""Deletion, insertion and their kin against literal slow versions, and on networks whose evidence is known."""

import numpy as np
import pytest
import torch
from torch import nn

from wsseg.errors import StageError
from wsseg.inspect.faithfulness import (
    area_under,
    average_drop_and_increase,
    curve,
    infidelity,
    removal_order,
    road,
    substrate,
)
from wsseg.saliency.activation_maps import gradient_cam
from wsseg.saliency.gradients import gradient


@pytest.fixture
def images():
    return torch.randn(3, 3, 9, 12, generator=torch.Generator().manual_seed(0))


def score(images):
    """A score that is the image's mean, weighted by place: places to the right matter more."""
    weights = torch.linspace(0, 1, images.shape[-1])
    return (images.sum(1) * weights).flatten(1).mean(1).sigmoid()


def slow_curve(score, image, saliency, mode, base, steps):
    """RISE's loop: one image, one step at a time."""
    places = saliency.numel()
    order = sorted(range(places), key=lambda p: -float(saliency.flatten()[p]))
    bottom = substrate(image[None], base)[0]
    start, end = (image, bottom) if mode == "deletion" else (bottom, image)
    current = start.clone()
    scores = [float(score(current[None]))]
    done = 0
    for step in range(1, steps + 1):
        until = round(step * places / steps)
        for place in order[done:until]:
            y, x = divmod(place, saliency.shape[1])
            current[:, y, x] = end[:, y, x]
        done = until
        scores.append(float(score(current[None])))
    return scores


@pytest.mark.parametrize("mode", ["deletion", "insertion"])
@pytest.mark.parametrize("base", ["zero", "mean", "blur"])
@pytest.mark.parametrize("steps", [9, 108])
def test_equal_to_the_literal_loop(images, mode, base, steps):
    maps = torch.rand(3, 9, 12, generator=torch.Generator().manual_seed(1))
    ours = curve(score, images, maps, mode, base, steps, batch_size=7)
    for image, saliency, own in zip(images, maps, ours, strict=True):
        assert own.tolist() == pytest.approx(slow_curve(score, image, saliency, mode, base, steps), abs=1e-6)


def test_one_spatial_dimension():
    signals = torch.randn(2, 4, 30)
    assert curve(lambda x: x.mean((1, 2)), signals, torch.rand(2, 30), "deletion", "blur", 10).shape == (2, 11)


def test_area_by_hand():
    assert area_under(torch.tensor([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]])).tolist() == [0.5, 1.0]


def test_ranks_with_ties_in_reading_order():
    assert removal_order(torch.tensor([[[1.0, 3.0], [3.0, 0.0]]])).tolist() == [[2, 0, 1, 3]]


def test_substrates_by_hand():
    image = torch.tensor([[[[0.0, 4.0], [2.0, 2.0]]]])
    assert substrate(image, "zero").abs().max() == 0
    assert substrate(image, "mean").unique().tolist() == [2.0]
    flat = substrate(torch.full((1, 2, 50, 40), 3.0), "blur")
    assert torch.allclose(flat, torch.full_like(flat, 3.0), atol=1e-5)
    noise = torch.randn(1, 1, 64, 64)
    assert substrate(noise, "blur").std() < 0.1


def test_drop_and_increase_by_hand():
    images = torch.tensor([[[[1.0, 3.0]]], [[[-1.0, 3.0]]]])
    maps = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    drop, increase = average_drop_and_increase(lambda x: x.sum((1, 2, 3)), images, maps)
    assert drop.tolist() == [0.75, 0.0] and increase.tolist() == [0.0, 1.0]


def test_infidelity_of_a_linear_score_and_its_gradient_is_zero(images):
    weight = torch.randn(3, 9, 12)

    def linear(x):
        return (x * weight).flatten(1).sum(1)

    assert infidelity(linear, images, 5 * weight.expand_as(images)).max() < 1e-6
    assert infidelity(linear, images, torch.randn_like(images)).min() > 0.1


class Shortcut(nn.Module):
    """A network that is trained where a bright corner patch gives the class away."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(10 * self.conv(x).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def shortcut():
    """Return the trained network and images of class 1, patch in the lower right corner."""
    torch.manual_seed(0)
    model = Shortcut()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(400):
        images, labels = torch.rand(32, 1, 24, 24), torch.randint(0, 2, (32,))
        images[labels == 1, :, 20:, 20:] += 3
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    images = torch.rand(4, 1, 24, 24)
    images[:, :, 20:, 20:] += 3
    return model.eval(), images


def test_a_faithful_map_points_at_the_shortcut_and_the_figures_show_it(shortcut):
    model, images = shortcut

    def probability(x):
        return model(x).softmax(1)[:, 1]

    faithful = gradient_cam(model, images, [1], "conv", "layer_cam")[:, 0]
    middle = torch.zeros_like(faithful)  # what a person would have expected: the middle of the image
    middle[:, 8:16, 8:16] = 1
    assert ((faithful.flatten(1).argmax(1) // 24 >= 19) & (faithful.flatten(1).argmax(1) % 24 >= 19)).all()
    areas = {
        (name, mode): area_under(curve(probability, images, maps, mode, "mean", 24)).mean()
        for name, maps in (("faithful", faithful), ("middle", middle))
        for mode in ("deletion", "insertion")
    }
    assert areas["faithful", "deletion"] < areas["middle", "deletion"] - 0.3
    assert areas["faithful", "insertion"] > areas["middle", "insertion"] + 0.3
    assert (road(probability, images, faithful) > road(probability, images, middle) + 0.3).all()
    assert infidelity(probability, images, gradient(model, images, [1])[:, 0]).isfinite().all()


def test_road_fills_holes_from_their_border_and_leaves_the_rest():
    from wsseg.inspect.faithfulness import _imputed

    rows, columns = np.mgrid[:20, :30]
    image = torch.from_numpy((2.0 * rows + columns)[None].astype(np.float32))
    gone = torch.zeros(20, 30, dtype=torch.bool)
    gone[5:12, 8:20] = True
    filled = _imputed(image, gone, 0)
    assert torch.equal(filled[:, ~gone], image[:, ~gone])
    assert (filled - image)[:, gone].abs().max() < 0.1  # a plane is harmonic: it comes back, but for the noise
    assert torch.isfinite(_imputed(image, torch.ones(20, 30, dtype=torch.bool), 0)).all()


@pytest.mark.parametrize(
    ("images", "maps", "steps", "message"),
    [
        (torch.zeros(2, 3, 4, 5), torch.zeros(2, 5, 4), 5, r"the images are \(2, 3, 4, 5\), the maps \(2, 5, 4\)"),
        (torch.zeros(2, 3, 4, 5), torch.full((2, 4, 5), torch.nan), 5, "NaN or infinity"),
        (torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5), 21, "steps: found 21; expected: 1 to 20"),
    ],
)
def test_bad_input_is_named(images, maps, steps, message):
    with pytest.raises(StageError, match=message):
        curve(score, images, maps, "deletion", "zero", steps)


def test_unknown_substrates_are_named(images):
    with pytest.raises(StageError, match="substrate: found 'pink'; expected: zero, mean, blur"):
        substrate(images, "pink")
