"""Pure functions that turn a segmenter's scores and image-level labels into a pseudo-mask."""

from collections.abc import Sequence

import cv2
import numpy as np

from wsseg.crf.dense_crf import DenseCrf
from wsseg.labels import IGNORE_INDEX
from wsseg.types import Mask, Scores


def among_present(scores: Scores, class_ids: Sequence[int]) -> Scores:
    """Return the scores (C + 1, h, w) of the background and the C classes present, with sum 1; other classes are dropped."""
    present = scores[[0, *class_ids]]
    result: Scores = present / present.sum(axis=0, keepdims=True).clip(1e-12)
    return result


def relabelled(
    scores: Scores, class_ids: Sequence[int], size: tuple[int, int], crf: DenseCrf | None, min_confidence: float
) -> Mask:
    """Turn a segmenter's scores into a pseudo-mask that agrees with the image-level labels.

    Args:
        scores: (C + 1, h, w), see `among_present`.
        class_ids: ids of the C classes present.
        size: (H, W) of the image.
        crf: the image's CRF, or None.
        min_confidence: a pixel becomes 255 if the network's score of its label is lower, even if the CRF chose the label.

    Returns:
        (H, W) uint8: 0, the ids of classes present, 255.
    """
    if not class_ids:
        return np.zeros(size, dtype=np.uint8)
    height, width = size
    large = np.stack([cv2.resize(s, (width, height), interpolation=cv2.INTER_LINEAR) for s in scores])
    large /= large.sum(axis=0, keepdims=True)
    labels = (large if crf is None else crf.refine(large)).argmax(axis=0)
    mask: Mask = np.array((0, *class_ids), dtype=np.uint8)[labels]
    mask[np.take_along_axis(large, labels[None], axis=0)[0] < min_confidence] = IGNORE_INDEX
    return mask


def changed(before: Mask, after: Mask) -> tuple[int, int]:
    """Return the number of pixels that differ, and of all pixels, among those that are decided in both masks."""
    both = (before != IGNORE_INDEX) & (after != IGNORE_INDEX)
    return int((before[both] != after[both]).sum()), int(both.sum())
