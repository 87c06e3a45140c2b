"""Seeds as small files: 8-bit grey PNGs with the classes' maps stacked vertically.

The PNG's text fields are ``class_ids`` (such as ``1 5``) and ``size`` (``H W`` of the image).
"""

import io
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo

from wsseg.errors import ArtifactError
from wsseg.labels import IGNORE_INDEX
from wsseg.types import Mask, Seed

LEVELS = 255  # a map's value v in [0, 1] is stored as round(255 v)


def encode_seed(seed: Seed) -> bytes:
    """Return the bytes of a PNG; a seed without classes is stored as one pixel."""
    channels, height, width = seed.maps.shape
    stacked = np.rint(seed.maps * LEVELS).astype(np.uint8).reshape(channels * height, width)
    info = PngInfo()
    info.add_text("class_ids", " ".join(map(str, seed.class_ids)))
    info.add_text("size", f"{seed.size[0]} {seed.size[1]}")
    buffer = io.BytesIO()
    PILImage.fromarray(stacked if channels else np.zeros((1, 1), np.uint8)).save(
        buffer, format="PNG", pnginfo=info, optimize=True
    )
    return buffer.getvalue()


def decode_seed(data: bytes) -> Seed:
    """Return the seed that `encode_seed` encoded; maps have an error of at most 1/510.

    Raises:
        ArtifactError: the data are not a seed file.
    """
    try:
        image = PILImage.open(io.BytesIO(data), formats=("PNG",))
        stacked = np.asarray(image)
        text: dict[str, str] = image.text  # type: ignore[attr-defined]
        class_ids = tuple(int(i) for i in text["class_ids"].split())
        height, width = (int(n) for n in text["size"].split())
        maps = stacked.reshape(len(class_ids), -1, stacked.shape[1]) if class_ids else np.zeros((0, 1, 1), np.uint8)
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise ArtifactError(f"not a seed file: {error}") from error
    return Seed(class_ids, maps.astype(np.float32) / np.float32(LEVELS), (height, width))


def with_mark(maps: NDArray[np.float32], class_ids: Sequence[int], mark: Mask) -> NDArray[np.float32]:
    """Return class maps in which the places of which a mark says something have 1 (the class) or 0 (the others).

    A place of a coarser grid than the mark's gets the value that covers most of it, 255 aside: thin strokes stay.

    Args:
        maps: (C, h, w) float32 in [0, 1].
        class_ids: ids of the C classes.
        mark: (H, W) uint8: class ids, 255 where nothing was said.
    """
    height, width = maps.shape[1:]
    values = [int(value) for value in np.unique(mark) if value != IGNORE_INDEX]
    if not values or not len(maps):
        return maps
    covered = [
        cv2.resize((mark == value).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        for value in values
    ]
    said = np.array(values)[np.argmax(covered, axis=0)]
    anywhere = np.max(covered, axis=0) > 0
    fixed = np.stack([said == class_id for class_id in class_ids]).astype(np.float32)
    return np.where(anywhere, fixed, maps)


def enlarged(seed: Seed) -> Seed:
    """Return the seed with its maps at the image's size (bilinear), (C, H, W)."""
    height, width = seed.size
    maps = [cv2.resize(m, (width, height), interpolation=cv2.INTER_LINEAR) for m in seed.maps]
    return replace(seed, maps=np.stack(maps) if maps else np.zeros((0, height, width), np.float32))
