"""EXIF orientations: photographs, masks and outlines are turned together."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsseg.types import Mask


def turn(mask: Mask, orientation: int) -> Mask:
    """Apply an EXIF orientation (1 to 8) to a (H, W) mask or any (H, W, ...) pixels."""
    return np.ascontiguousarray(turned_view(mask, orientation))


def turned_with(mask: Mask, size: tuple[int, int], orientation: int) -> Mask:
    """Turn a mask as its photograph is turned, if it was drawn on the photograph's stored pixels.

    It was, if it has their size. A mask that fits the upright photograph alone is upright already. Where both sizes are
    equal (orientations 2, 3 and 4, or a square), the mask is turned: what is stored together is turned together.

    Args:
        mask: (H, W).
        size: (H, W) of the photograph, upright.
        orientation: EXIF orientation of the photograph, 1 to 8.
    """
    return turn(mask, orientation) if mask.shape == stored_size(size, orientation) else mask


def stored_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return the (H, W) that the file of a photograph of upright size (H, W) stores."""
    return (size[1], size[0]) if orientation > 4 else size


INVERSE = {6: 8, 8: 6}  # orientations that undo another; the rest undo themselves


def turned_view(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return pixels (H, W, ...) turned by an EXIF orientation, as a view."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]
