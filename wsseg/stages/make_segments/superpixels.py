"""Superpixels that follow the edges of an image, without a network."""

import cv2
import numpy as np

from wsseg.data.segments import Segments, partition
from wsseg.types import Image


def stored_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Return the (h, w) at which the segments of an image of (H, W) are computed and stored: at most `long_side`."""
    factor = min(1.0, long_side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def superpixels(image: Image, size: int, scale: float, sigma: float, min_size: int) -> Segments:
    """Divide an image into superpixels (Felzenszwalb & Huttenlocher 2004, IJCV 59).

    Args:
        image: (H, W, 3) uint8.
        size: long side in pixels that larger images are scaled to.
        scale: preference for large superpixels.
        sigma: standard deviation in pixels of the Gaussian that smooths the image.
        min_size: pixels of the smallest superpixel.
    """
    from skimage.segmentation import felzenszwalb

    whole = (image.shape[0], image.shape[1])
    height, width = stored_size(whole, size)
    if (height, width) != whole:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return partition(felzenszwalb(image, scale, sigma, min_size, channel_axis=2), whole)
