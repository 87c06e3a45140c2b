"""Pure functions that turn a segmenter's scores and image-level labels into a pseudo-mask."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wsseg.crf.dense_crf import DenseCrf
from wsseg.labels import IGNORE_INDEX
from wsseg.types import Mask, Scores

_RADIUS, _BETA, _STEPS = 5, 10.0, 8  # of `propagated`: radius in patches, power of the cosines, steps of the walk


def among_present(scores: Scores, class_ids: Sequence[int]) -> Scores:
    """Return the scores (C + 1, h, w) of the background and the C classes present, with sum 1; other classes are dropped."""
    present = scores[[0, *class_ids]]
    result: Scores = present / present.sum(axis=0, keepdims=True).clip(1e-12)
    return result


def propagated(scores: Scores, vectors: NDArray[np.float32]) -> Scores:
    """Propagate scores over the affinities of patch embeddings, and keep what is finer than a patch.

    The scores' means over patches take a few steps of a random walk (see `wsseg.saliency.walk.transition`); their change is
    enlarged and added to the scores.

    Args:
        scores: (C, h, w), sum 1 over C.
        vectors: (p, q, R) of length 1, one per patch.

    Returns:
        (C, h, w), sum 1 over C.
    """
    from wsseg.saliency.walk import transition

    (rows, columns), (height, width) = vectors.shape[:2], scores.shape[1:]
    matrix = transition(np.zeros((rows, columns), np.float32), _RADIUS, _BETA, vectors)
    before = np.stack([cv2.resize(s, (columns, rows), interpolation=cv2.INTER_AREA) for s in scores])
    state = before.reshape(len(scores), -1).T
    for _ in range(_STEPS):
        state = matrix @ state
    change = state.T.reshape(before.shape) - before
    large = np.stack([cv2.resize(c, (width, height), interpolation=cv2.INTER_LINEAR) for c in change])
    result: Scores = (scores + large).clip(0).astype(np.float32)
    result /= result.sum(axis=0, keepdims=True).clip(1e-12)
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
