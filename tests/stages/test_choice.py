"""The choice of a CRF preset without truth, on photographs where the right one is known."""

import numpy as np
import pytest
import torch
from torch import nn

from wsseg.models.classifier import ClassifierSpec
from wsseg.stages.refine_masks.choice import CANDIDATES, LEVELS, Candidate, CandidateScore, evidence_of, tightest
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
    """Return the evidence by preset, and the preset chosen."""
    candidates = [Candidate("threshold", 0.3, name) for name in CANDIDATES]
    found = evidence_of(images, seeds, candidates, SeesRed().eval(), SPEC, torch.device("cpu"))
    return {candidate.crf: own for candidate, own in found.items()}, tightest(found, candidates[0]).crf


def test_the_tightest_that_keep_the_score_by_hand():
    off, irn, psa, deeplab = (Candidate("threshold", 0.3, name) for name in ("off", "irn", "psa", "deeplab"))
    found = {
        off: CandidateScore(0.80, 0.30),
        irn: CandidateScore(0.77, 0.20),  # 0.76 is the floor
        psa: CandidateScore(0.75, 0.10),
        deeplab: CandidateScore(0.90, 0.25),
    }
    assert tightest(found, among=off) == irn
    assert tightest(found) == deeplab  # 0.855 is the floor
    assert tightest(found | {irn: CandidateScore(0.1, 0.01), deeplab: CandidateScore(0.1, 0.01)}, among=off) == off


def test_the_level_whose_masks_are_the_object_is_found():
    rows, columns = np.mgrid[:120, :160]
    distance = np.maximum(abs(rows - 60) / 25, abs(columns - 80) / 30)
    red = distance < 1
    image, seed = scene(red, red)
    # spilt around the object: 0.45 at its border, and less beyond; its middle alone is at 0.9
    seed = Seed((1,), np.clip(0.9 - 0.45 * distance, 0, 1).astype(np.float32)[None], seed.size)

    class SeesAllOfIt(nn.Module):
        """Its logit grows with how much of the red is shown, and blurred red is none."""

        def forward(self, images):
            shown = ((images[:, 0] - images[:, 1:].amax(1)) > 1.5).float().mean((1, 2))
            return (40 * (shown / red.mean() - 0.8))[:, None]

    candidates = [Candidate("threshold", level, "off") for level in LEVELS["threshold"]]
    found = evidence_of([image], [seed], candidates, SeesAllOfIt().eval(), SPEC, torch.device("cpu"))
    assert tightest(found).level == 0.4  # at 0.5 the object's border is lost, at 0.3 the masks are larger
    assert found[candidates[0]].area > found[tightest(found)].area > 0.9 * red.mean()


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
