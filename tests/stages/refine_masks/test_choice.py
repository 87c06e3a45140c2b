"""The choice of levels and CRF presets without true masks, on images for which the best one is known."""

import numpy as np
import pytest
import torch
from torch import nn

from wsseg.models.classifier import ClassifierSpec
from wsseg.stages.refine_masks.choice import CANDIDATES, LEVELS, Candidate, CandidateScore, evidence_of, tightest
from wsseg.types import Seed

SPEC = ClassifierSpec("none", ("red",), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class SeesRed(nn.Module):
    """A classifier whose logit is 8 if any pixel is red, and -8 otherwise."""

    def forward(self, images):
        red = images[:, 0] - images[:, 1:].amax(1)  # in -2..2
        return 8 * torch.tanh(50 * (red.amax((1, 2)) - 0.08))[:, None]


def scene(red, area, colour=(230, 20, 20)):
    """Return an image with a red object, and a seed that covers `area`."""
    rng = np.random.default_rng(0)
    image = np.where(red[..., None], colour, (90, 90, 90)) + rng.integers(0, 6, (*red.shape, 3))
    return image.astype(np.uint8), Seed((1,), np.where(area, 0.9, 0.05).astype(np.float32)[None], red.shape)


def chosen(images, seeds):
    """Return the scores by preset, and the chosen preset."""
    candidates = [Candidate("threshold", 0.3, name) for name in CANDIDATES]
    evidence = evidence_of(images, seeds, candidates, SeesRed().eval(), SPEC, torch.device("cpu"))
    return {candidate.crf: score for candidate, score in evidence.items()}, tightest(evidence, candidates[0]).crf


def test_the_tightest_candidate_by_hand():
    off, irn, psa, deeplab = (Candidate("threshold", 0.3, name) for name in ("off", "irn", "psa", "deeplab"))
    evidence = {
        off: CandidateScore(0.80, 0.30),
        irn: CandidateScore(0.77, 0.20),  # 0.736 is the floor
        psa: CandidateScore(0.73, 0.10),
        deeplab: CandidateScore(0.90, 0.25),
    }
    assert tightest(evidence, among=off) == irn
    assert tightest(evidence) == deeplab  # 0.828 is the floor
    weak = {irn: CandidateScore(0.1, 0.01), deeplab: CandidateScore(0.1, 0.01)}
    assert tightest(evidence | weak, among=off) == off


def test_the_level_whose_masks_equal_the_object_is_chosen():
    rows, columns = np.mgrid[:120, :160]
    distance = np.maximum(abs(rows - 60) / 25, abs(columns - 80) / 30)
    red = distance < 1
    image, seed = scene(red, red)
    # the seed exceeds the object: 0.9 in the middle, 0.45 at the border, and less outside
    seed = Seed((1,), np.clip(0.9 - 0.45 * distance, 0, 1).astype(np.float32)[None], seed.size)

    class SeesAllOfIt(nn.Module):
        """Its logit grows with the fraction of the red pixels that are shown; blurred red does not count."""

        def forward(self, images):
            shown = ((images[:, 0] - images[:, 1:].amax(1)) > 1.5).float().mean((1, 2))
            return (40 * (shown / red.mean() - 0.8))[:, None]

    candidates = [Candidate("threshold", level, "off") for level in LEVELS["threshold"]]
    evidence = evidence_of([image], [seed], candidates, SeesAllOfIt().eval(), SPEC, torch.device("cpu"))
    assert tightest(evidence).level == 0.4  # at 0.5 the object's border is lost, at 0.3 the masks are larger
    assert evidence[candidates[0]].area > evidence[tightest(evidence)].area > 0.9 * red.mean()


def test_a_crf_that_tightens_the_masks_of_a_large_object_is_chosen():
    rows, columns = np.mgrid[:120, :160]
    red = (abs(rows - 60) < 25) & (abs(columns - 80) < 30)
    scores, name = chosen(*zip(scene(red, (abs(rows - 60) < 35) & (abs(columns - 80) < 42)), strict=True))
    assert name != "off" and scores[name].area < 0.8 * scores["off"].area
    assert scores[name].area == pytest.approx(red.mean(), rel=0.15)


def test_a_crf_that_dissolves_thin_and_pale_objects_is_not_chosen():
    rows, columns = np.mgrid[:120, :160]
    red = abs(rows - 60 + columns // 4) < 1
    scores, name = chosen(*zip(scene(red, abs(rows - 60 + columns // 4) < 2, (108, 90, 90)), strict=True))
    assert set(scores) == set(CANDIDATES)
    lost = [preset for preset in CANDIDATES if scores[preset].score < 0.5]
    assert lost and name not in lost
