from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from wsseg.data.images import LabeledImages
from wsseg.data.reading import inspect_file
from wsseg.labels import ClassMap
from wsseg.models.classifier import ClassifierSpec, build_classifier
from wsseg.stages.train_classifier.choice import (
    Evidence,
    candidates,
    evidence_by_size,
    held_out_precision,
    pooling_for,
    smallest_sufficient,
)
from wsseg.stages.train_classifier.config import Config
from wsseg.stages.train_classifier.training import chosen_spec
from wsseg.types import LabeledImage


def test_images_are_hardly_enlarged():
    assert candidates([(200, 200)] * 3) == [256, 320]
    assert candidates([(256, 512), (3000, 4000), (30, 40)]) == [256, 320, 416, 512]
    assert candidates([(90, 100)]) == [256]


def test_a_larger_size_must_gain_something():
    assert smallest_sufficient({256: Evidence(0.90, 0.8), 320: Evidence(0.8, 0.915), 416: Evidence(0.92, 0.92)}) == 256
    growing = {256: Evidence(0.6, 0.62), 320: Evidence(0.7, 0.6), 416: Evidence(0.75, 0.7), 512: Evidence(0.7, 0.76)}
    assert smallest_sufficient(growing) == 416


def test_small_objects_are_pooled_by_log_sum_exp():
    assert pooling_for(Evidence(0.57, 0.62)) == "lse"
    assert pooling_for(Evidence(0.985, 0.987)) == pooling_for(Evidence(0.9, 0.8)) == "mean"


def test_precision_of_features_that_show_the_class_and_of_noise():
    rng = np.random.default_rng(0)
    labels = (rng.random((80, 1)) < 0.3).astype(np.float32)
    noise = rng.normal(size=(80, 6)).astype(np.float32)
    shown = noise.copy()
    shown[:, 2] += 5 * labels[:, 0]
    assert held_out_precision(shown, labels, 0) > 0.95 > 0.7 > held_out_precision(noise, labels, 0)


@pytest.fixture
def specks(tmp_path):
    """Return 40 images, half of which show bright specks that area averaging to half the size turns grey."""
    items = []
    for i in range(40):
        pixels = np.full((64, 64, 3), 90, np.uint8)
        if i % 2:
            pixels[::4, ::4] = 255
        else:
            pixels[:] = 90 + round(165 / 16)
        PILImage.fromarray(pixels).save(tmp_path / f"{i}.png")
        path = tmp_path / f"{i}.png"
        items.append(LabeledImage(str(i), path, (1,) if i % 2 else (), (64, 64), inspect_file(path).sha256))
    return LabeledImages("train", ClassMap(("speck",)), tuple(items), {}, "")


def test_the_choice_looks_at_images_at_each_size(specks):
    spec = ClassifierSpec("test_resnet", ("speck",), (0.5,) * 3, (0.5,) * 3)
    evidence = evidence_by_size(build_classifier(spec), spec, specks, (64, 96), "float32", "cpu", 0)
    assert set(evidence) == {64, 96} and evidence[64].mean > 0.9


def test_without_enough_labels_nothing_is_measured(specks):
    few = replace(specks, items=specks.items[:4])
    spec = ClassifierSpec("test_resnet", ("speck",), (0.5,) * 3, (0.5,) * 3)
    assert evidence_by_size(build_classifier(spec), spec, few, (64, 96), "float32", "cpu", 0) == {}


def test_a_choice_with_random_weights_is_repeated_by_its_seed(specks, tmp_path):
    config = Config(backbone="test_resnet", weights="none", size=64, precision="float32", device="cpu")
    choices = []
    for name in ("first", "second"):
        torch.rand(len(name))  # the global generator is in another state
        (tmp_path / name).mkdir()
        chosen_spec(config, specks, tmp_path / name)
        choices.append((tmp_path / name / "choice.json").read_bytes())
    assert choices[0] == choices[1]
