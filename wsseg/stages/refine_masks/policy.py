"""From a seed to a pseudo-mask, as pure functions of arrays."""

from collections.abc import Callable, Sequence

import numpy as np

from wsseg.data.masks import with_lost_classes
from wsseg.labels import IGNORE_INDEX
from wsseg.types import Mask, Scores, Seed

Refinement = Callable[[Scores], Scores]
"""Scores of one image, (C, H, W), to better ones of the same shape: a dense CRF's, or a pixel-adaptive one."""


def scores_of(seed: Seed, background: str, level: float) -> Scores:
    """Put a background score before a seed's maps.

    Args:
        seed: maps at the size wanted, (C, H, W) in [0, 1].
        background: ``threshold`` (Ahn, Cho & Kwak 2019) or ``power`` (Ahn & Kwak 2018).
        level: the background's score, or alpha in (1 - highest)^alpha.

    Returns:
        (C + 1, H, W) float32, background first, sum 1 over the channels.
    """
    highest = seed.maps.max(axis=0)
    score = np.full_like(highest, level) if background == "threshold" else (1 - highest) ** np.float32(level)
    scores = np.concatenate([score[None], seed.maps]).astype(np.float32)
    total = scores.sum(axis=0, keepdims=True)
    scores[0][total[0] == 0] = 1  # a level of 0 where nothing is seen
    normalised: Scores = scores / scores.sum(axis=0, keepdims=True)
    return normalised


def labels_at(seed: Seed, background: str, level: float, refinements: Sequence[Refinement]) -> Mask:
    """Return the (H, W) class ids at one background level, after the refinements, in their order."""
    scores = scores_of(seed, background, level)
    for refine in refinements:
        scores = refine(scores)
    mask: Mask = np.array((0, *seed.class_ids), dtype=np.uint8)[scores.argmax(axis=0)]
    return mask


def pseudo_mask(seed: Seed, background: str, levels: Sequence[float], refinements: Sequence[Refinement] = ()) -> Mask:
    """Turn a seed into a pseudo-mask.

    A class that the refinements lose keeps the pixels that it had before them; with two levels, these are 255: not sure.

    Args:
        seed: maps at the image's size.
        background: how the background's score is made, see `scores_of`.
        levels: one level, or two: a pixel is foreground where it is so at the level that favours the background,
            background where it is so at the level that favours the foreground, else 255 (IRNet's cam_to_ir_label,
            AffinityNet's la_crf and ha_crf).
        refinements: of the image's scores, one after the other; they serve both levels.

    Returns:
        (H, W) uint8: 0, the classes present in the image, and with two levels 255.
    """
    if not seed.class_ids:
        return np.zeros(seed.size, dtype=np.uint8)
    # a high threshold favours the background, and so does a low alpha: the strictest first
    order = sorted(levels, reverse=background == "threshold")
    masks = [labels_at(seed, background, level, refinements) for level in order]
    if refinements:
        masks[-1] = with_lost_classes(masks[-1], labels_at(seed, background, order[-1], ()), seed.class_ids)
    if len(masks) == 1:
        return masks[0]
    strict, lax = masks
    mask = np.full_like(strict, IGNORE_INDEX)
    mask[lax == 0] = 0
    mask[strict > 0] = strict[strict > 0]
    return mask
