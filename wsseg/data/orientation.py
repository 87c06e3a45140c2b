"""EXIF orientations, which turn photographs, masks and outlines alike."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsseg.types import Mask


def turn(mask: Mask, orientation: int) -> Mask:
    """Return a (H, W) mask, or any (H, W, ...) pixels, turned by an EXIF orientation (1 to 8)."""
    return np.ascontiguousarray(turned_view(mask, orientation))


def turned_with(mask: Mask, size: tuple[int, int], orientation: int) -> Mask:
    """Return a mask turned with its photograph, if it was drawn on the stored pixels of the photograph.

    A mask of the stored size was drawn on the stored pixels. A mask of only the upright size is upright already. If both
    sizes are equal (orientations 2, 3 and 4, or a square), the mask is turned, because it is stored like its photograph.

    Args:
        mask: (H, W).
        size: (H, W) of the photograph, upright.
        orientation: EXIF orientation of the photograph, 1 to 8.
    """
    return turn(mask, orientation) if mask.shape == stored_size(size, orientation) else mask


def stored_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return the stored (H, W) of a photograph with an upright size (H, W)."""
    return (size[1], size[0]) if orientation > 4 else size


INVERSE = {6: 8, 8: 6}  # of orientations that do not undo themselves


def turned_view(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return a view of (H, W, ...) pixels, turned by an EXIF orientation."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]
