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
    """A backbone whose features are the colours of the image, averaged over 8 x 8 pixels."""

    def forward_features(self, images):
        return nn.functional.avg_pool2d(images, 8)


@pytest.fixture
def classifier():
    """Return a classifier that recognises class 1 by red and class 2 by green; it ignores blue."""
    model = Classifier(Pixels(), features=3, classes=2)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])[:, :, None, None])
    return model.eval()


@pytest.fixture
def images(tmp_path):
    """Return four images with an object in the upper half and blue in the lower one, and one image without a class."""
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


def test_prototypes_are_those_of_a_class_and_its_surroundings(classifier, images):
    prototypes = prototypes_by_class(classifier, SPEC, images, CONFIG, CPU)
    assert sorted(prototypes) == [1, 2]
    assert torch.allclose(prototypes[1].own, torch.tensor([[1.0, 0.0, 0.0]]), atol=1e-3)
    assert torch.allclose(prototypes[2].own, torch.tensor([[0.0, 1.0, 0.0]]), atol=1e-3)
    assert torch.allclose(prototypes[1].surroundings, torch.tensor([[0.0, 0.0, 1.0]]), atol=1e-3)
    photograph = torch.zeros(1, 3, 16, 16)
    photograph[:, 0, :8], photograph[:, 2, 8:] = 1.0, 1.0  # red over blue
    maps = maps_by_prototypes(classifier, [prototypes[1], prototypes[2]])(photograph)
    assert torch.allclose(maps[0, 0], torch.tensor([[1.0, 1.0], [0.0, 0.0]]), atol=1e-3)
    assert torch.allclose(maps[0, 1], torch.zeros(2, 2), atol=1e-3)


def test_prototypes_are_deterministic_and_restored_from_their_bytes(classifier, images):
    prototypes = prototypes_by_class(classifier, SPEC, images, CONFIG, CPU)
    data = encode_prototypes(prototypes)
    restored = decode_prototypes(data)
    assert data == encode_prototypes(prototypes_by_class(classifier, SPEC, images, CONFIG, CPU))
    assert data == encode_prototypes(restored)
    assert all(torch.equal(restored[k].own, prototypes[k].own) for k in prototypes)
