"""Small pictures for the page: photographs as JPEG, masks as grey PNG of class ids, seeds as they are stored."""

import base64
import io

import cv2
import numpy as np
from PIL import Image as PILImage

from wsseg.data.reading import read_photograph
from wsseg.errors import WssegError
from wsseg.report.run_report import Layer
from wsseg.stages.layout import SEED_FOLDER
from wsseg.types import Image, LabeledImage, Mask

SIDE = 240  # px, the longer side of an embedded picture
LARGE_SIDE = 480  # px, of the pictures at the beginning of the page
_QUALITY = 70  # JPEG


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
        return "image/jpeg", photograph(read_photograph(item), side)
    if layer.kind == "heat" and layer.artifact is not None:
        return "image/png", layer.artifact.read_bytes(f"{SEED_FOLDER}/{item.id}.png")
    if layer.masks is None:
        raise WssegError(f"{layer.name}: the layer has no masks")
    return "image/png", small_mask(layer.masks.mask(item.id), side)


def data_uri(media: str, data: bytes) -> str:
    """Return a picture as a data URI."""
    return f"data:{media};base64,{base64.b64encode(data).decode()}"
