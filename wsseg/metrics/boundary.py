"""Boundary IoU (Cheng et al. 2021, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation")."""

import cv2
import numpy as np
from numpy.typing import NDArray

from wsseg.labels import IGNORE_INDEX
from wsseg.types import Mask

WIDTH = 0.02  # width of the band as a fraction of the image's diagonal, as in the paper


def boundary_counts(truth: Mask, mask: Mask, labels: int) -> NDArray[np.int64]:
    """Count the pixels in the intersection and in the union of the boundary bands of two masks, per class.

    Args:
        truth: (H, W) true class ids; pixels of 255 are ignored.
        mask: (H, W) predicted class ids.
        labels: number of class ids, K + 1.

    Returns:
        (labels, 2) int64: intersection and union. Summed over images, they give the boundary IoU of a data set.
    """
    counts = np.zeros((labels, 2), dtype=np.int64)
    judged = truth != IGNORE_INDEX
    width = max(1, round(WIDTH * float(np.hypot(*truth.shape))))
    for class_id in np.union1d(np.unique(truth), np.unique(mask)):
        if class_id < labels:
            true_band = _inner_band(truth == class_id, width) & judged
            mask_band = _inner_band(mask == class_id, width) & judged
            counts[class_id] = (true_band & mask_band).sum(), (true_band | mask_band).sum()
    return counts


def _inner_band(region: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Return the pixels of a region whose chessboard distance from its outside is at most `width`."""
    padded = cv2.copyMakeBorder(region.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)
    band: NDArray[np.bool_] = region & (eroded[1:-1, 1:-1] == 0)
    return band


def boundary_iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the boundary IoU (labels,); NaN for a class without a boundary."""
    iou: NDArray[np.float64] = np.divide(
        counts[:, 0], counts[:, 1], out=np.full(len(counts), np.nan), where=counts[:, 1] > 0
    )
    return iou
