"""Errors within objects, by the size of the object."""

import cv2
import numpy as np
from numpy.typing import NDArray

from wsseg.labels import BACKGROUND, IGNORE_INDEX
from wsseg.types import Mask

# pixels of an object: at least, and fewer than; the limits of COCO
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 2**62)}
MEASURES = ("objects", "pixels", "missed", "wrong")


def object_counts(truth: Mask, mask: Mask, labels: int) -> NDArray[np.int64]:
    """Count objects and their wrong pixels by class and size of the object.

    An object is a region of one true class, connected by 8 neighbours.

    Args:
        truth: (H, W) true class ids; 255 is not evaluated.
        mask: (H, W) predicted class ids; 255 is undecided.
        labels: K + 1.

    Returns:
        (labels, 3, 4) int64 by class id, size (`SIZES`) and measure (`MEASURES`): the number of objects, their pixels,
        the pixels that the mask gives to the background or leaves undecided, and those that it gives to another class.
    """
    counts = np.zeros((labels, len(SIZES), len(MEASURES)), dtype=np.int64)
    for class_id in np.unique(truth):
        if class_id in (BACKGROUND, IGNORE_INDEX):
            continue
        inside = truth == class_id
        regions, places = cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)
        predicted = mask[inside]
        outcome = np.where(
            (predicted == BACKGROUND) | (predicted == IGNORE_INDEX), 1, np.where(predicted == class_id, 0, 2)
        )
        pixels = np.bincount(3 * (places[inside] - 1) + outcome, minlength=3 * (regions - 1)).reshape(-1, 3)
        area = pixels.sum(axis=1)
        for size, (low, high) in enumerate(SIZES.values()):
            of_size = (area >= low) & (area < high)
            _, missed, wrong = pixels[of_size].sum(axis=0)
            counts[class_id, size] = of_size.sum(), area[of_size].sum(), missed, wrong
    return counts
