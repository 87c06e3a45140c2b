"""From a segmenter's scores and image-level labels to a pseudo-mask, as pure functions of arrays."""

from collections.abc import Sequence

import cv2
import numpy as np

from wsseg.crf.dense_crf import DenseCrf
from wsseg.labels import IGNORE_INDEX
from wsseg.types import Mask, Scores


def among_present(scores: Scores, class_ids: Sequence[int]) -> Scores:
    """Return (C + 1, h, w) scores of the background and the classes present, sum 1: the others cannot be in the image."""
    own = scores[[0, *class_ids]]
    result: Scores = own / own.sum(axis=0, keepdims=True).clip(1e-12)
    return result


def relabelled(
    scores: Scores, class_ids: Sequence[int], size: tuple[int, int], crf: DenseCrf | None, certainty: float
) -> Mask:
    """Turn a segmenter's scores into a pseudo-mask that obeys the image-level labels.

    Args:
        scores: (C + 1, h, w), see `among_present`.
        class_ids: (C,) the classes present.
        size: (H, W) of the image.
        crf: of the image, or None.
        certainty: where the network's own score of the label chosen (by the CRF, if there is one) is lower, the pixel is
            255: both must mean it.

    Returns:
        (H, W) uint8: 0, classes present, 255.
    """
    if not class_ids:
        return np.zeros(size, dtype=np.uint8)
    height, width = size
    large = np.stack([cv2.resize(s, (width, height), interpolation=cv2.INTER_LINEAR) for s in scores])
    large /= large.sum(axis=0, keepdims=True)
    chosen = (large if crf is None else crf.refine(large)).argmax(axis=0)
    mask: Mask = np.array((0, *class_ids), dtype=np.uint8)[chosen]
    mask[np.take_along_axis(large, chosen[None], axis=0)[0] < certainty] = IGNORE_INDEX
    return mask


def changed(before: Mask, after: Mask) -> tuple[int, int]:
    """Return how many of the pixels that both masks decide differ, and how many those are."""
    both = (before != IGNORE_INDEX) & (after != IGNORE_INDEX)
    return int((before[both] != after[both]).sum()), int(both.sum())
