"""Seeds as small files: 8-bit grey PNGs with the classes' maps stacked vertically.

The PNG's text fields are ``class_ids`` (such as ``1 5``) and ``size`` (``H W`` of the image).
"""

import io
from dataclasses import replace

import cv2
import numpy as np
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo

from wsseg.errors import ArtifactError
from wsseg.types import Seed

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


def enlarged(seed: Seed) -> Seed:
    """Return the seed with its maps at the image's size (bilinear), (C, H, W)."""
    height, width = seed.size
    maps = [cv2.resize(m, (width, height), interpolation=cv2.INTER_LINEAR) for m in seed.maps]
    return replace(seed, maps=np.stack(maps) if maps else np.zeros((0, height, width), np.float32))
