"""Masks as indexed PNG files with the VOC palette."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from wsseg.labels import BACKGROUND, IGNORE_INDEX, voc_palette
from wsseg.types import Mask

_LOST = 0.1  # fraction of the former area of a class
_EVERY = 8  # px between the pixels of `sampled`
_PALETTE = voc_palette().tobytes()


def encode_mask(mask: Mask) -> bytes:
    """Return the PNG bytes of a (H, W) uint8 mask."""
    image = PILImage.fromarray(np.ascontiguousarray(mask, dtype=np.uint8))
    image.putpalette(_PALETTE)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def decode_mask(data: bytes) -> Mask:
    """Return the (H, W) uint8 values of a PNG written by `encode_mask` or `encode_grey`."""
    return np.asarray(PILImage.open(io.BytesIO(data), formats=("PNG",)))


def sampled(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return every eighth row and column of (H, W, ...) pixels, those in the middle of each block; at least one of each."""
    rows, columns = ((min(n, _EVERY) - 1) // 2 for n in pixels.shape[:2])
    return pixels[rows::_EVERY, columns::_EVERY]


def encode_grey(pixels: NDArray[np.uint8]) -> bytes:
    """Return the bytes of a grey PNG with (H, W) uint8 values; `decode_mask` reads it."""
    buffer = io.BytesIO()
    PILImage.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def with_mark(mask: Mask, mark: Mask) -> Mask:
    """Return a mask in which the pixels of which a mark says something have its value; both (H, W) uint8."""
    return np.where(mark == IGNORE_INDEX, mask, mark)


def with_lost_classes(mask: Mask, previous: Mask, class_ids: Sequence[int]) -> Mask:
    """Return a refined mask in which a lost class keeps its former pixels where the refined mask has background or 255.

    A class of the image-level labels is lost if less than a tenth of its former area is left. Without this, the CRF, and then
    the network in each round, would turn thin or pale classes into background.

    Args:
        mask: (H, W) uint8, the result of the CRF or the network.
        previous: (H, W) uint8, the mask before.
        class_ids: (C,) the classes of the image.
    """
    result = mask.copy()
    for class_id in class_ids:
        former = previous == class_id
        if (mask == class_id).sum() < _LOST * former.sum():
            result[former & ((mask == BACKGROUND) | (mask == IGNORE_INDEX))] = class_id
    return result
