"""Superpixels that follow the edges of an image, without a network."""

import cv2
import numpy as np

from wsseg.data.segments import Segments, partition
from wsseg.types import Image


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

    height, width = image.shape[:2]
    factor = min(1.0, size / max(height, width))
    if factor < 1:
        small = (max(1, round(width * factor)), max(1, round(height * factor)))
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
    return partition(felzenszwalb(image, scale, sigma, min_size, channel_axis=2), (height, width))
