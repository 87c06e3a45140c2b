import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import nn

from wsseg.data.images import LabeledImages
from wsseg.data.reading import inspect_file
from wsseg.labels import ClassMap
from wsseg.models.classifier import ClassifierSpec
from wsseg.stages.measure_classifier.config import Config
from wsseg.stages.measure_classifier.measuring import metrics_of
from wsseg.types import LabeledImage

SPEC = ClassifierSpec("none", ("red", "blue"), (0.5,) * 3, (0.5,) * 3, 128)


class Colours(nn.Module):
    """Its logits are the mean red and the mean blue of an image; it records the sizes of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = []

    def forward(self, images):
        self.sizes.append(tuple(images.shape))
        return images.mean((2, 3))[:, [0, 2]]


def labeled(folder, name, colour, class_ids, size=(48, 64)):
    path = folder / f"{name}.png"
    PILImage.fromarray(np.full((*size, 3), colour, np.uint8)).save(path)
    return LabeledImage(name, path, class_ids, size, inspect_file(path).sha256)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_metrics_by_hand(tmp_path, batch_size):
    """Two of three images have the correct set of classes; the only blue image is ranked second for blue."""
    items = (
        labeled(tmp_path, "a", (250, 0, 0), (1,)),
        labeled(tmp_path, "b", (250, 0, 180), (1, 2)),
        labeled(tmp_path, "c", (0, 0, 250), (), size=(120, 40)),
    )
    model = Colours()
    images = LabeledImages("val", ClassMap(("red", "blue")), items, {}, "key")
    config = Config(batch_size=batch_size, precision="float32", device="cpu")
    metrics = metrics_of(model, SPEC, images, config)
    assert metrics == {"map": 0.75, "exact_match": pytest.approx(2 / 3), "ap": {"red": 1.0, "blue": 0.5}, "images": 3}
    assert {size[2:] for size in model.sizes} == {(96, 128), (128, 64)}  # the long side is the training size
    assert torch.is_grad_enabled()
