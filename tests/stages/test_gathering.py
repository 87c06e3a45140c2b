import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import nn

from wsseg.data.images import LabeledImages
from wsseg.data.reading import inspect_file
from wsseg.labels import ClassMap
from wsseg.models.classifier import Classifier, ClassifierSpec
from wsseg.stages.make_seeds.config import Config
from wsseg.stages.make_seeds.gathering import (
    decode_prototypes,
    encode_prototypes,
    maps_by_prototypes,
    prototypes_by_class,
)
from wsseg.types import LabeledImage

CPU = torch.device("cpu")
CONFIG = Config(method="lpcam", size=64, scales=(1.0,), precision="float32")


class Pixels(nn.Module):
    """A backbone whose features are the image's own colours, eight pixels each way to a place."""

    def forward_features(self, images):
        return nn.functional.avg_pool2d(images, 8)


@pytest.fixture
def classifier():
    """It knows class 1 by red and class 2 by green; blue it does not know."""
    model = Classifier(Pixels(), features=3, classes=2)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])[:, :, None, None])
    return model.eval()


@pytest.fixture
def images(tmp_path):
    """Four images, upper half the thing, lower half blue; and one without any class."""
    items = []
    for index, class_id in enumerate((1, 1, 2, 2, 0)):
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[32:, :, 2] = 255
        if class_id:
            pixels[:32, :, class_id - 1] = 255
        path = tmp_path / f"{index}.png"
        PILImage.fromarray(pixels).save(path)
        items.append(
            LabeledImage(str(index), path, (class_id,) if class_id else (), (64, 64), inspect_file(path).sha256)
        )
    return LabeledImages("train", ClassMap(("red", "green")), tuple(items), {}, "")


SPEC = ClassifierSpec("none", ("red", "green"), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_each_class_learns_its_own_things_and_what_surrounds_them(classifier, images):
    found = prototypes_by_class(classifier, SPEC, images, CONFIG, CPU)
    assert sorted(found) == [1, 2]
    assert torch.allclose(found[1].own, torch.tensor([[1.0, 0.0, 0.0]]), atol=1e-3)
    assert torch.allclose(found[2].own, torch.tensor([[0.0, 1.0, 0.0]]), atol=1e-3)
    assert torch.allclose(found[1].surroundings, torch.tensor([[0.0, 0.0, 1.0]]), atol=1e-3)
    photograph = torch.zeros(1, 3, 16, 16)
    photograph[:, 0, :8], photograph[:, 2, 8:] = 1.0, 1.0  # red over blue
    maps = maps_by_prototypes(classifier, [found[1], found[2]])(photograph)
    assert torch.allclose(maps[0, 0], torch.tensor([[1.0, 1.0], [0.0, 0.0]]), atol=1e-3)
    assert torch.allclose(maps[0, 1], torch.zeros(2, 2), atol=1e-3)


def test_prototypes_are_kept_and_the_same_again(classifier, images):
    found = prototypes_by_class(classifier, SPEC, images, CONFIG, CPU)
    data = encode_prototypes(found)
    again = decode_prototypes(data)
    assert (
        data
        == encode_prototypes(prototypes_by_class(classifier, SPEC, images, CONFIG, CPU))
        == encode_prototypes(again)
    )
    assert all(torch.equal(again[k].own, found[k].own) for k in found)
