from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from wsseg.data.batches import read_batch
from wsseg.data.images import LabeledImages
from wsseg.data.reading import inspect_file
from wsseg.errors import StageError
from wsseg.labels import ClassMap
from wsseg.models.classifier import ClassifierSpec, build_classifier
from wsseg.stages.make_seeds import normal_images
from wsseg.stages.make_seeds.config import Config
from wsseg.stages.make_seeds.normal_images import NormalityMaps, PatchFeatures, enough
from wsseg.types import LabeledImage

SPEC = ClassifierSpec("test_resnet", ("pit",), (0.5,) * 3, (0.5,) * 3, 128)


@pytest.fixture
def surfaces(tmp_path):
    """Return 32 noisy surfaces without a class, and one with a pit of 8 px."""
    items = []
    for i in range(33):
        pixels = np.random.default_rng(i).normal(120, 8, (96, 128, 1)).repeat(3, axis=2)
        if i == 32:
            pixels[40:48, 80:88] = 10
        path = tmp_path / f"{i:02}.png"
        PILImage.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        items.append(LabeledImage(path.stem, path, (1,) if i == 32 else (), (96, 128), inspect_file(path).sha256))
    return LabeledImages("train", ClassMap(("pit",)), tuple(items), {}, "")


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return build_classifier(SPEC).eval()


def test_a_pit_is_the_most_unusual_place(surfaces, classifier, tmp_path):
    device = torch.device("cpu")
    maps = NormalityMaps(classifier, SPEC, surfaces, Config(), device, tmp_path)
    pit = surfaces.items[-1]
    (tensor,) = read_batch([pit], SPEC.mean, SPEC.std, [maps.size(pit)], device)
    excess = maps.of(tensor)[0]
    y, x = divmod(int(excess.argmax()), excess.shape[1])
    assert excess.shape == (24, 32) and 9 <= y <= 12 and 19 <= x <= 22  # stride 4; neighbours see the pit as well
    again = NormalityMaps(classifier, SPEC, replace(surfaces, items=()), Config(), device, tmp_path)
    assert torch.equal(again.of(tensor)[0], excess)  # an interrupted run keeps its patches


def test_enough_images_without_a_class(surfaces):
    assert enough(surfaces)
    assert not enough(replace(surfaces, items=surfaces.items[:29]))
    labelled = tuple(replace(item, class_ids=(1,)) for item in surfaces.items) * 10
    assert not enough(replace(surfaces, items=surfaces.items + labelled))


def test_a_transformer_is_refused():
    spec = replace(SPEC, backbone="test_vit")
    with pytest.raises(StageError, match="'test_vit'.*0 of the network's"):
        PatchFeatures("test_vit", build_classifier(spec))


def test_the_number_of_patches_is_bounded(surfaces, classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(normal_images, "_PATCHES", 64)
    maps = NormalityMaps(classifier, SPEC, surfaces, Config(), torch.device("cpu"), tmp_path)
    assert len(maps.normality.patches) == 64
