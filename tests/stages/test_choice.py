"""The choice of a CRF preset without truth, on photographs where the right one is known."""

import numpy as np
import pytest
import torch
from torch import nn

from wsseg.models.classifier import ClassifierSpec
from wsseg.stages.refine_masks.choice import CANDIDATES, Evidence, evidence_of, tightest
from wsseg.types import Seed

SPEC = ClassifierSpec("none", ("red",), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class SeesRed(nn.Module):
    """A classifier whose logit is 8 where some pixel is red, -8 where none is."""

    def forward(self, images):
        red = images[:, 0] - images[:, 1:].amax(1)  # in -2..2
        return 8 * torch.tanh(50 * (red.amax((1, 2)) - 0.08))[:, None]


def scene(red, area, colour=(230, 20, 20)):
    """Return an image with a red object, and a seed that covers `area`."""
    rng = np.random.default_rng(0)
    image = np.where(red[..., None], colour, (90, 90, 90)) + rng.integers(0, 6, (*red.shape, 3))
    return image.astype(np.uint8), Seed((1,), np.where(area, 0.9, 0.05).astype(np.float32)[None], red.shape)


def chosen(images, seeds):
    found = evidence_of(images, seeds, "threshold", 0.3, SeesRed().eval(), SPEC, torch.device("cpu"))
    return found, tightest(found)


def test_the_tightest_that_keep_the_score_by_hand():
    found = {
        "off": Evidence(0.80, 0.30),
        "irn": Evidence(0.77, 0.20),  # 0.76 is the floor
        "psa": Evidence(0.75, 0.10),
        "deeplab": Evidence(0.90, 0.25),
    }
    assert tightest(found) == "irn"
    assert tightest(found | {"irn": Evidence(0.1, 0.01), "deeplab": Evidence(0.1, 0.01)}) == "off"


def test_a_crf_that_tightens_masks_around_a_large_object_is_taken():
    rows, columns = np.mgrid[:120, :160]
    red = (abs(rows - 60) < 25) & (abs(columns - 80) < 30)
    found, name = chosen(*zip(scene(red, (abs(rows - 60) < 35) & (abs(columns - 80) < 42)), strict=True))
    assert name != "off" and found[name].area < 0.8 * found["off"].area
    assert found[name].area == pytest.approx(red.mean(), rel=0.15)


def test_a_crf_that_dissolves_thin_and_pale_objects_is_not():
    rows, columns = np.mgrid[:120, :160]
    red = abs(rows - 60 + columns // 4) < 1
    found, name = chosen(*zip(scene(red, abs(rows - 60 + columns // 4) < 2, (108, 90, 90)), strict=True))
    assert set(found) == set(CANDIDATES)
    lost = [n for n in CANDIDATES if found[n].score < 0.5]
    assert lost and name not in lost
