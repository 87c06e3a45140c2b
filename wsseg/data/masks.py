"""Masks as indexed PNG files with the VOC palette."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from wsseg.labels import BACKGROUND, IGNORE_INDEX, voc_palette
from wsseg.types import Mask

_LOST = 0.1  # of a class's former area
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
    """Return every eighth row and column of (H, W, ...) pixels, the middle ones; a small image keeps one at the least."""
    rows, columns = ((min(n, _EVERY) - 1) // 2 for n in pixels.shape[:2])
    return pixels[rows::_EVERY, columns::_EVERY]


def encode_grey(pixels: NDArray[np.uint8]) -> bytes:
    """Return the bytes of a grey PNG of (H, W) values; `decode_mask` reads it."""
    buffer = io.BytesIO()
    PILImage.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def with_lost_classes(mask: Mask, previous: Mask, class_ids: Sequence[int]) -> Mask:
    """Return a mask in which a class that the image-level labels name, and a refinement lost, keeps its former pixels.

    Lost is less than a tenth of its former area. Without this, classes that are thin or pale are taught to be background, first
    by the CRF and then, round by round, by the network itself.

    Args:
        mask: (H, W), what the CRF or the network made.
        previous: (H, W), the mask before it.
        class_ids: (C,) the classes present.
    """
    result = mask.copy()
    for class_id in class_ids:
        former = previous == class_id
        if (mask == class_id).sum() < _LOST * former.sum():
            result[former & ((mask == BACKGROUND) | (mask == IGNORE_INDEX))] = class_id
    return result
