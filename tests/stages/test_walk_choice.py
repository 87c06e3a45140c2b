import numpy as np
import pytest
import torch
from torch import nn

from wsseg.models.classifier import ClassifierSpec
from wsseg.stages.walk_seeds.choice import captured, sample_of, walking
from wsseg.types import LabeledImage

SPEC = ClassifierSpec("any", ("red",), (0.5,) * 3, (0.5,) * 3)


class SeesRed(nn.Module):
    """Sure where a hundredth of the picture or more is red, whatever its place."""

    def forward(self, images):
        red = ((images[:, 0] > 0.5) & (images[:, 1] < 0)).float().mean((1, 2))
        return (200 * (red - 0.005)).clamp(-6, 6)[:, None]


def scene():
    image = np.full((96, 128, 3), 120, np.uint8)
    thing = np.zeros((96, 128), np.float32)
    thing[30:54, 40:72] = 1  # 6 % of the picture
    image[thing > 0] = (20, 20, 20)
    image[:, ::2][thing[:, ::2] > 0] = (230, 20, 20)  # stripes: no red is left of them where they are blurred
    return image, thing


def share(image, seen):
    return float(captured(image, seen[None], [1], SeesRed(), SPEC, torch.device("cpu"))[0])


def test_a_map_that_finds_the_thing_captures_more_than_one_that_finds_part_and_one_that_misses():
    image, thing = scene()
    soft = thing + np.linspace(0, 0.1, 128, dtype=np.float32)  # no ties
    part = np.roll(soft, 16, axis=1)
    assert share(image, soft) > 0.6
    assert share(image, soft) > share(image, part) > share(image, 1 - soft)
    assert share(image, 1 - soft) < 0


def test_the_map_s_scale_does_not_matter():
    image, thing = scene()
    soft = thing + np.linspace(0, 0.1, 128, dtype=np.float32)
    assert share(image, soft) == pytest.approx(share(image, soft * 0.01), abs=1e-6)


def test_those_walk_that_capture_no_less():
    before = {1: [0.5, 0.3], 2: [0.2], 3: [], 4: [0.1]}
    after = {1: [0.3, 0.5], 2: [0.1], 3: [], 4: [0.2]}
    assert walking(before, after) == {1, 4}


def test_the_sample_is_spread_over_all_labeled_images(tmp_path):
    items = [LabeledImage(str(i), tmp_path, (1,) if i % 2 else (), (8, 8), "") for i in range(1000)]
    sample = sample_of(items)
    assert len(sample) == 96
    assert all(item.class_ids for item in sample)
    assert int(sample[0].id) < 20 and int(sample[-1].id) > 980
