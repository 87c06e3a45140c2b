"""Small pictures for the page: photographs as JPEG, masks as grey PNG of class ids, seeds as they are stored."""

import base64
import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from wsseg.data.items import read_item
from wsseg.errors import WssegError
from wsseg.report.run_report import Layer
from wsseg.stages.layout import SEED_FOLDER
from wsseg.types import Image, LabeledImage, LabeledSequence, Mask

SIDE = 240  # px, the longer side of an embedded picture
LARGE_SIDE = 480  # px, of the pictures at the beginning of the page
_QUALITY = 70  # JPEG
_BAR = 480  # px, width of a short sequence
_BASES = np.array(
    [(0, 130, 60), (30, 80, 200), (240, 160, 0), (210, 30, 40), (255, 255, 255)], np.uint8
)  # A, C, G, T, N


def fitting(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return (H, W) shrunk so that the longer side is at most `side`."""
    factor = min(1.0, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def photograph(image: Image, side: int) -> bytes:
    """Return a small JPEG of a photograph."""
    height, width = fitting((image.shape[0], image.shape[1]), side)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    PILImage.fromarray(np.asarray(small)).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def bar(values: NDArray[Any]) -> Image:
    """Return a sequence (1, L, C) as a picture eight times as wide as high; a short one has several columns per place.

    Letters have the colours of sequence logos, and unknown bases are white. Each channel of a signal is a row of grey, from its
    lowest value (black) to its highest.
    """
    values = np.repeat(values, max(1, _BAR // values.shape[1]), axis=1)
    length, channels = values.shape[1:]
    if values.dtype == np.uint8:
        base = np.where(values[0].any(axis=1), values[0].argmax(axis=1), channels)
        return np.repeat(_BASES[base][None], max(1, length // 8), axis=0)
    low, high = values[0].min(axis=0), values[0].max(axis=0)
    grey = np.rint(255 * (values[0] - low) / np.maximum(high - low, 1e-30)).astype(np.uint8)
    rows = np.repeat(grey.T, max(1, length // 8 // channels), axis=0)
    return np.repeat(rows[..., None], 3, axis=2)


def small_mask(mask: Mask, side: int) -> bytes:
    """Return a small grey PNG of a mask; its values are class ids and 255."""
    height, width = fitting((mask.shape[0], mask.shape[1]), side)
    small = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    buffer = io.BytesIO()
    PILImage.fromarray(np.asarray(small)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def picture(layer: Layer, item: LabeledImage, side: int) -> tuple[str, bytes]:
    """Return (media type, bytes) of a layer of an image.

    Raises:
        WssegError: the image, its mask or its artifact can no longer be read.
    """
    if layer.kind == "photo":
        values = read_item(item)
        return "image/jpeg", photograph(bar(values) if isinstance(item, LabeledSequence) else values, side)
    if layer.kind == "heat" and layer.artifact is not None:
        return "image/png", layer.artifact.read_bytes(f"{SEED_FOLDER}/{item.id}.png")
    if layer.masks is None:
        raise WssegError(f"{layer.name}: the layer has no masks")
    return "image/png", small_mask(layer.masks.mask(item.id), side)


def data_uri(media: str, data: bytes) -> str:
    """Return a picture as a data URI."""
    return f"data:{media};base64,{base64.b64encode(data).decode()}"
