"""Confusion matrix over a data set, and the metrics that are computed from it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from wsseg.errors import StageError
from wsseg.labels import IGNORE_INDEX
from wsseg.types import Mask

Counts = NDArray[np.int64]
_PART = 2**20  # number of pixels that are counted at once


def confusion(truth: Mask, mask: Mask, labels: int) -> Counts:
    """Count pixels by true class id (rows) and predicted class id (columns).

    Args:
        truth: (H, W) true class ids; pixels of 255 are ignored.
        mask: (H, W) predicted class ids; 255 (undecided) is counted in the last column and thus as a false negative.
        labels: number of class ids including the background, K + 1.

    Returns:
        (labels, labels + 1) int64; the last column counts undecided pixels.

    Raises:
        StageError: the sizes differ, or a value is neither a class id nor 255.
    """
    if truth.shape != mask.shape:
        raise StageError(f"the mask has the size {mask.shape} (H, W); expected: that of the truth, {truth.shape}")
    counts = np.zeros(labels * (labels + 1), dtype=np.int64)
    for truth_part, mask_part in _parts(truth, mask):
        judged = truth_part != IGNORE_INDEX
        rows, columns = truth_part[judged].astype(np.int64), mask_part[judged].astype(np.int64)
        for name, values in (("truth", rows), ("mask", columns)):
            if unknown := np.unique(values[(values >= labels) & (values != IGNORE_INDEX)]).tolist():
                raise StageError(
                    f"the {name} contains {', '.join(map(str, unknown[:10]))}; expected: 0..{labels - 1}, 255"
                )
        columns[columns == IGNORE_INDEX] = labels
        counts += np.bincount(rows * (labels + 1) + columns, minlength=len(counts))
    return counts.reshape(labels, labels + 1)


def _parts(*pixels: NDArray[np.uint8]) -> Iterator[list[NDArray[np.uint8]]]:
    """Yield arrays of equal size in parts, because counting takes dozens of bytes per pixel and a photograph has millions."""
    flat = [p.ravel() for p in pixels]
    for start in range(0, flat[0].size, _PART):
        yield [p[start : start + _PART] for p in flat]


def iou_per_class(counts: Counts) -> NDArray[np.float64]:
    """Return the intersection over union (labels,); NaN for a class with an empty union."""
    labels = len(counts)
    hits = np.diagonal(counts).astype(float)
    union = counts.sum(axis=1) + counts[:, :labels].sum(axis=0) - hits
    iou: NDArray[np.float64] = np.divide(hits, union, out=np.full(labels, np.nan), where=union > 0)
    return iou


def mean_iou(iou: NDArray[np.float64]) -> float:
    """Return the mean over the classes that occur; NaN if none does."""
    return float(np.nanmean(iou)) if not np.isnan(iou).all() else float("nan")


def decided_only(counts: Counts) -> Counts:
    """Return the counts without undecided pixels."""
    decided = counts.copy()
    decided[:, -1] = 0
    return decided


def pixel_accuracy(counts: Counts) -> float:
    """Return the fraction of evaluated pixels that are correct; undecided pixels are not."""
    return float(np.trace(counts) / max(int(counts.sum()), 1))


def coverage(counts: Counts) -> float:
    """Return the fraction of evaluated pixels that are decided."""
    return float(counts[:, :-1].sum() / max(int(counts.sum()), 1))


def threshold_counts(truth: Mask, best: Mask, score: NDArray[np.uint8], labels: int) -> Counts:
    """Count pixels by true class, highest foreground class and its score.

    `counts_at` derives the confusion matrix at any background threshold from these counts, so that a sweep over all
    thresholds takes one pass over the pixels.

    Args:
        truth: (H, W) true class ids; pixels of 255 are ignored.
        best: (H, W) class id of the highest seed map; 0 if the image has no class.
        score: (H, W) value of that map, 0..255.
        labels: number of class ids including the background, K + 1.

    Returns:
        (labels, labels, 256) int64.
    """
    counts = np.zeros(labels * labels * 256, dtype=np.int64)
    for truth_part, best_part, score_part in _parts(truth, best, score):
        judged = truth_part != IGNORE_INDEX
        index = (truth_part[judged].astype(np.int64) * labels + best_part[judged]) * 256 + score_part[judged]
        counts += np.bincount(index, minlength=len(counts))
    return counts.reshape(labels, labels, 256)


def counts_at(histogram: Counts, threshold: int) -> Counts:
    """Return the (labels, labels + 1) confusion matrix if scores below `threshold` (1..255) are background."""
    labels = len(histogram)
    counts = np.zeros((labels, labels + 1), dtype=np.int64)
    counts[:, :labels] = histogram[:, :, threshold:].sum(axis=2)
    counts[:, 0] = histogram[:, 0].sum(axis=1) + histogram[:, 1:, :threshold].sum(axis=(1, 2))
    return counts
