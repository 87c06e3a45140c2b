"""Masks as indexed PNG files with the VOC palette."""

import io

import numpy as np
from PIL import Image as PILImage

from wsseg.labels import voc_palette
from wsseg.types import Mask

_PALETTE = voc_palette().tobytes()


def encode_mask(mask: Mask) -> bytes:
    """Return the PNG bytes of a (H, W) uint8 mask."""
    image = PILImage.fromarray(np.ascontiguousarray(mask, dtype=np.uint8))
    image.putpalette(_PALETTE)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def decode_mask(data: bytes) -> Mask:
    """Return the (H, W) uint8 values of a PNG written by `encode_mask`."""
    return np.asarray(PILImage.open(io.BytesIO(data), formats=("PNG",)))
