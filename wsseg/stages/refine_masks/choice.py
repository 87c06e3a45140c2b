"""Which background level and CRF preset serve a data set, decided without truth: the tightest masks that keep the evidence.

A preset made for one kind of photograph does harm on another: thin or pale objects dissolve into the background; so does
a level that is too strict. The classifier notices: shown nothing but the mask's pixels, it no longer sees the class.
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
SAMPLE = 48  # images that the choice is made on
_KEPT = 0.95  # of the classifier's score on the masks that are compared with
_SIDE = 320  # px, long side at which the classifier looks
_BLUR = 15.0  # px, standard deviation of what stands for the rest of the image


@dataclass(frozen=True)
class Candidate:
    """How masks are made of seeds.

    Args:
        background: how the background's score is made, see `wsseg.stages.refine_masks.policy.scores_of`.
        level: its value.
        crf: preset of the dense CRF, or ``off``.
    """

    background: str
    level: float
    crf: str


@dataclass(frozen=True)
class CandidateScore:
    """What the masks made in one candidate hold, in the mean over images and their classes.

    Args:
        score: the classifier's probability of the class where all but the mask is blurred, in [0, 1].
        area: of the mask, as a fraction of the image.
    """

    score: float
    area: float


def tightest(evidence: Mapping[Candidate, CandidateScore], among: Candidate | None = None) -> Candidate:
    """Return the candidate with the smallest masks that keep 95 % of a score: that of `among`, the highest of all if None."""
    score = max(found.score for found in evidence.values()) if among is None else evidence[among].score
    return min(
        (candidate for candidate, found in evidence.items() if found.score >= _KEPT * score),
        key=lambda w: evidence[w].area,
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
) -> dict[Candidate, CandidateScore]:
    """Return what the masks made in each candidate hold, on a sample.

    Args:
        images: (H, W, 3) uint8 each.
        seeds: their seeds, each with at least one class, at any size.
        candidates: how masks are made.
        model: the classifier, in eval mode, on the device.
        spec: its input's statistics.
        device: where it looks.
    """
    totals = {candidate: np.zeros(3) for candidate in candidates}  # score, area, count
    for image, seed in zip(images, map(enlarged, seeds), strict=True):
        height, width = network_size(seed.size, _SIDE, 1.0)
        small = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        blurred = cv2.GaussianBlur(small, (0, 0), _BLUR)
        shown, shares = [], []
        for candidate in candidates:
            refinements = [] if candidate.crf == "off" else [DenseCrf(image, PRESETS[candidate.crf]).refine]
            mask = labels_at(seed, candidate.background, candidate.level, refinements)
            for class_id in seed.class_ids:
                inside = (mask == class_id).astype(np.float32)
                share = cv2.resize(inside, (width, height), interpolation=cv2.INTER_AREA)[..., None]
                mixed = np.rint(blurred + (small.astype(np.float32) - blurred) * share).astype(np.uint8)
                shown.append(normalised(mixed, spec.mean, spec.std))
                shares.append(float(inside.mean()))
        batch = torch.stack(shown).to(device, memory_format=torch.channels_last)
        # in float32 everywhere: machines with and without bfloat16 must choose alike
        scores = torch.sigmoid(in_parts(model, batch)).cpu().numpy()
        channels = [class_id - 1 for class_id in seed.class_ids] * len(candidates)
        for row, (channel, share) in enumerate(zip(channels, shares, strict=True)):
            totals[candidates[row // len(seed.class_ids)]] += scores[row, channel], share, 1
    return {candidate: CandidateScore(float(t[0] / t[2]), float(t[1] / t[2])) for candidate, t in totals.items()}
