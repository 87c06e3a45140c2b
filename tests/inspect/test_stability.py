import pytest
import torch
from torch import nn

from wsseg.errors import StageError
from wsseg.inspect.stability import (
    cascading_randomisation,
    correlation,
    flip_agreement,
    max_sensitivity,
    shift_agreement,
)


@pytest.fixture
def images():
    return torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))


def brightness(images):
    return images.mean(1)


def test_a_map_of_the_image_itself_moves_as_the_image_does(images):
    assert torch.allclose(flip_agreement(brightness, images), torch.ones(2))
    assert torch.allclose(shift_agreement(brightness, images, 4), torch.ones(2), atol=1e-6)


def test_a_map_of_places_does_not(images):
    ramp = torch.linspace(0, 1, 20).expand(2, 16, 20)
    assert torch.allclose(flip_agreement(lambda i: ramp, images), -torch.ones(2))


def test_sensitivity_by_hand(images):
    assert max_sensitivity(lambda i: torch.ones(len(i), 4, 4), images).tolist() == [0, 0]
    # a map that is the image: the change relative to its norm is at most radius over the root mean square
    sensitivity = max_sensitivity(lambda i: i[:, 0], images, radius=0.1)
    bound = 0.1 / images[:, 0].square().mean((1, 2)).sqrt()
    assert (sensitivity > 0.4 * bound).all() and (sensitivity <= bound).all()


def test_correlation_by_hand():
    one = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    assert correlation(one, 5 * one + 2).item() == pytest.approx(1)
    assert correlation(one, -one).item() == pytest.approx(-1)
    assert correlation(one, torch.ones(1, 2, 2)).item() == 0


def test_randomised_layers_change_a_map_of_the_weights_and_not_one_of_the_edges(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    before = [p.clone() for p in model.parameters()]

    def of_network(network):
        return lambda i: network(i)[:, 0].detach()

    layers = ["2", "0"]
    faithful = dict(cascading_randomisation(of_network, model, images, layers))
    blind = dict(cascading_randomisation(lambda network: brightness, model, images, layers))
    assert list(faithful) == layers and faithful["0"].abs().max() < 0.9
    assert torch.allclose(blind["0"], torch.ones(2))
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_bad_input_is_named(images):
    with pytest.raises(StageError, match="no layer 'nine'"):
        list(cascading_randomisation(lambda n: brightness, nn.Sequential(nn.ReLU()), images, ["nine"]))
    with pytest.raises(StageError, match="shift: found 20; expected: 1 to 19 px"):
        shift_agreement(brightness, images, 20)
