"""Pure functions that turn the seed of an image into a pseudo-mask."""

from collections.abc import Callable, Sequence

import numpy as np

from wsseg.data.masks import with_lost_classes
from wsseg.labels import IGNORE_INDEX
from wsseg.types import Mask, Scores, Seed

Refinement = Callable[[Scores], Scores]
"""Maps the scores (C, H, W) of an image to refined scores of the same shape: a dense CRF or PAMR."""


def scores_of(seed: Seed, background: str, level: float) -> Scores:
    """Return the scores of the background and of a seed's classes.

    Args:
        seed: maps (C, H, W) in [0, 1].
        background: ``threshold`` (Ahn, Cho & Kwak 2019) or ``power`` (Ahn & Kwak 2018).
        level: the background's score, or alpha in (1 - highest)^alpha.

    Returns:
        (C + 1, H, W) float32, background first; the scores of a pixel sum to 1.
    """
    highest = seed.maps.max(axis=0)
    score = np.full_like(highest, level) if background == "threshold" else (1 - highest) ** np.float32(level)
    scores = np.concatenate([score[None], seed.maps]).astype(np.float32)
    total = scores.sum(axis=0, keepdims=True)
    scores[0][total[0] == 0] = 1  # a level of 0, at pixels without evidence
    normalised: Scores = scores / scores.sum(axis=0, keepdims=True)
    return normalised


def marked_scores(scores: Scores, class_ids: Sequence[int], mark: Mask) -> Scores:
    """Return scores in which the pixels of a mark have the score 1 for what was said; a `Refinement` once the rest is bound.

    Pixels of a class that the image's labels do not name keep their scores.

    Args:
        scores: (C + 1, H, W), background first.
        class_ids: ids of the C classes.
        mark: (H, W) uint8: class ids, 255 where nothing was said.
    """
    channels = np.array((0, *class_ids), np.uint8)
    said = np.isin(mark, channels)
    result = scores.copy()
    result[:, said] = mark[said] == channels[:, None]
    return result


def labels_at(seed: Seed, background: str, level: float, refinements: Sequence[Refinement]) -> Mask:
    """Return the (H, W) class ids at one background level, after applying the refinements in order."""
    scores = scores_of(seed, background, level)
    for refine in refinements:
        scores = refine(scores)
    mask: Mask = np.array((0, *seed.class_ids), dtype=np.uint8)[scores.argmax(axis=0)]
    return mask


def pseudo_mask(seed: Seed, background: str, levels: Sequence[float], refinements: Sequence[Refinement] = ()) -> Mask:
    """Turn a seed into a pseudo-mask.

    If a class loses all of its pixels in the refinements, it keeps those from before; with two levels they become 255.

    Args:
        seed: maps at the size of the image.
        background: kind of the background score, see `scores_of`.
        levels: one level, or two. With two, a pixel is foreground if it is foreground at the stricter level, which favours the
            background; background if it is background at the laxer level; otherwise 255 (IRNet's cam_to_ir_label,
            AffinityNet's la_crf and ha_crf).
        refinements: refinements of the scores, applied in order at each level.

    Returns:
        (H, W) uint8: 0, the ids of classes present in the image, and with two levels 255.
    """
    if not seed.class_ids:
        return np.zeros(seed.size, dtype=np.uint8)
    # strictest level first: a high threshold or a low alpha favours the background
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
