"""Choice of a background level and a CRF preset for a data set without true masks.

A preset that suits one kind of image can fail on another: thin or pale objects dissolve into the background. A level that is
too strict has the same effect. The classifier reveals it: shown the mask's pixels only, it no longer recognises the class.
The choice is the candidate with the smallest masks of those that keep the classifier's score.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn

from wsseg.crf.dense_crf import DenseCrf
from wsseg.crf.settings import PRESETS
from wsseg.data.batches import network_size
from wsseg.data.sampling import evenly_spaced
from wsseg.data.transforms import normalised
from wsseg.models.classifier import ClassifierSpec
from wsseg.saliency.passes import in_parts
from wsseg.saliency.seeds import enlarged
from wsseg.stages.refine_masks.policy import labels_at
from wsseg.types import Image, LabeledImage, Seed

LEVELS = {
    "threshold": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7),
    "power": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
}
CANDIDATES = ("off", "irn", "psa", "deeplab", "toco")
SAMPLE = 48  # number of images for the choice
# fraction of the reference score that a candidate must keep; set after looking at three data sets (docs/crf.md)
_KEPT = 0.92
_BLUR = 15.0  # px, standard deviation of the blur that replaces the rest of the image


@dataclass(frozen=True)
class Candidate:
    """A way to make masks from seeds.

    Args:
        background: kind of the background score, see `wsseg.stages.refine_masks.policy.scores_of`.
        level: background level.
        crf: preset of the dense CRF, or ``off``.
    """

    background: str
    level: float
    crf: str


def candidates_for(background: str, crf: str) -> list[Candidate]:
    """Return the candidates if the level is chosen: each level with a preset; with ``auto``, every second level with each CRF."""
    levels = LEVELS[background]
    if crf != "auto":
        return [Candidate(background, level, crf) for level in levels]
    return [
        Candidate(background, level, name)
        for name in CANDIDATES
        for level in (levels if name == "off" else levels[1::2])
    ]


@dataclass(frozen=True)
class CandidateScore:
    """Score of the masks of one candidate, averaged over images and their classes.

    Args:
        score: probability in [0, 1] that the classifier gives the class if everything outside of the mask is blurred.
        area: area of the mask as a fraction of the image.
    """

    score: float
    area: float


def tightest(evidence: Mapping[Candidate, CandidateScore], among: Candidate | None = None) -> Candidate:
    """Return the candidate with the smallest masks whose score is at least 92 % of a reference.

    The reference is the score of the candidate `among`, or the highest score if `among` is None.
    """
    reference = max(entry.score for entry in evidence.values()) if among is None else evidence[among].score
    return min(
        (candidate for candidate, entry in evidence.items() if entry.score >= _KEPT * reference),
        key=lambda candidate: evidence[candidate].area,
    )


def sample_of(items: Sequence[LabeledImage]) -> list[LabeledImage]:
    """Return at most 48 evenly spaced images among those with a class."""
    return evenly_spaced([item for item in items if item.class_ids], SAMPLE)


@torch.inference_mode()
def evidence_of(
    images: Iterable[Image],
    seeds: Iterable[Seed],
    candidates: Sequence[Candidate],
    model: nn.Module,
    spec: ClassifierSpec,
    device: torch.device,
    crf_size: int | None = None,
) -> dict[Candidate, CandidateScore]:
    """Return the score of each candidate on a sample of images.

    Args:
        images: (H, W, 3) uint8 images.
        seeds: their seeds at any size, each with at least one class.
        candidates: the ways to make masks.
        model: the classifier, in eval mode and on the device.
        spec: the statistics of its input.
        device: device of the classifier.
        crf_size: long side in px at which the CRF works on larger images.
    """
    totals = {candidate: np.zeros(3) for candidate in candidates}  # score, area, count
    for image, seed in zip(images, map(enlarged, seeds), strict=True):
        height, width = network_size(seed.size, spec.size, 1.0)
        small = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        blurred = cv2.GaussianBlur(small, (0, 0), _BLUR)
        shown, shares = [], []
        for candidate in candidates:
            refinements = (
                [] if candidate.crf == "off" else [DenseCrf(image, PRESETS[candidate.crf], long_side=crf_size).refine]
            )
            mask = labels_at(seed, candidate.background, candidate.level, refinements)
            for class_id in seed.class_ids:
                inside = (mask == class_id).astype(np.float32)
                share = cv2.resize(inside, (width, height), interpolation=cv2.INTER_AREA)[..., None]
                mixed = np.rint(blurred + (small.astype(np.float32) - blurred) * share).astype(np.uint8)
                shown.append(normalised(mixed, spec.mean, spec.std))
                shares.append(float(inside.mean()))
        batch = torch.stack(shown).to(device, memory_format=torch.channels_last)
        # float32 on all machines, so that those with and without bfloat16 make the same choice
        scores = torch.sigmoid(in_parts(model, batch)).cpu().numpy()
        channels = [class_id - 1 for class_id in seed.class_ids] * len(candidates)
        for row, (channel, share) in enumerate(zip(channels, shares, strict=True)):
            totals[candidates[row // len(seed.class_ids)]] += scores[row, channel], share, 1
    return {candidate: CandidateScore(float(t[0] / t[2]), float(t[1] / t[2])) for candidate, t in totals.items()}
