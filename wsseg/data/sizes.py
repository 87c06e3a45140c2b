"""Sizes of training crops, derived from the sizes of the images."""

from statistics import median

from wsseg.data.images import LabeledImages

_STEP = 32  # no backbone in use has a coarser stride


def crop_of(images: LabeledImages, long_side: int) -> tuple[int, int]:
    """Return the (H, W) of crops that show a typical image as a whole: no half of a crop is padding if images are wide.

    Args:
        images: the training images.
        long_side: long side of the images for the network, in pixels; the length of a crop of sequences.
    """
    if images.channels:
        return 1, long_side
    height, width = (median(item.size[axis] / max(item.size) for item in images.items) * long_side for axis in (0, 1))
    return _rounded(height, long_side), _rounded(width, long_side)


def _rounded(extent: float, long_side: int) -> int:
    """Return a multiple of 32, at least 64, but no more than `long_side` (which need not be a multiple)."""
    return min(long_side, max(2 * _STEP, round(extent / _STEP) * _STEP))
