"""The pure function that snaps a mask onto segments (Chen et al. 2023, "SAM Enhanced Pseudo Labels", arXiv:2305.05803)."""

import numpy as np

from wsseg.data.segments import ANY_CLASS, Segments
from wsseg.labels import BACKGROUND, IGNORE_INDEX
from wsseg.types import Mask


def snapped(mask: Mask, segments: Segments, min_inside: float = 0.5, min_covered: float = 0.85) -> Mask:
    """Return a mask whose classes consist of whole segments.

    A segment joins a class if more than `min_inside` of it is inside the class's mask, or if it contains more than `min_covered`
    of that mask. A pixel in segments of several classes gets the class whose segment has the highest product of score and
    fraction inside. The other pixels of such a class become background where there are segments.

    Pixels without a segment, pixels of 255 in segments that join no class, and classes that no segment joins stay as they are.

    Args:
        mask: (H, W) uint8 class ids, and 255.
        segments: segments whose layers are (L, H, W).
        min_inside: in [0, 1].
        min_covered: in [0, 1].

    Returns:
        (H, W) uint8.
    """
    count = len(segments.scores)
    areas = np.bincount(segments.layers.ravel(), minlength=count + 1).clip(1)
    best = np.zeros(mask.shape, np.float32)
    label = np.full_like(mask, BACKGROUND)
    rebuilt = np.zeros(mask.shape, bool)
    for class_id in np.unique(mask[(mask != BACKGROUND) & (mask != IGNORE_INDEX)]):
        pixels = mask == class_id
        overlap = np.bincount(segments.layers[:, pixels].ravel(), minlength=count + 1)
        inside = overlap / areas
        joins = (inside > min_inside) | (overlap > min_covered * pixels.sum())
        joins[0] = False
        joins[1:] &= (segments.class_ids == ANY_CLASS) | (segments.class_ids == class_id)
        if not joins.any():
            continue
        rank = np.zeros(count + 1, np.float32)
        rank[1:] = joins[1:] * np.maximum(segments.scores * inside[1:], np.float32(1e-6))  # a score may be 0
        rank_of_pixel = rank[segments.layers].max(axis=0)
        higher = rank_of_pixel > best
        label[higher], best[higher] = class_id, rank_of_pixel[higher]
        rebuilt |= pixels
    result = mask.copy()
    result[rebuilt & (segments.layers > 0).any(axis=0)] = BACKGROUND
    result[best > 0] = label[best > 0]
    return result
