"""Segments as small files: 16-bit grey PNGs with the layers stacked vertically.

The PNG's text fields are ``layers`` (their number), ``size`` (``H W`` of the image), ``class_ids`` and ``scores`` (one value
per segment).
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo

from wsseg.errors import ArtifactError

MOST = 2**16 - 1  # segments per image
ANY_CLASS = 0


@dataclass(frozen=True)
class Segments:
    """Segments of one image; those of different layers may overlap.

    Args:
        layers: (L, h, w) uint16, the number of each pixel's segment in 1..S, or 0 for none. A segment lies in one layer.
        class_ids: (S,) uint8, the class that a segment was prompted with, or 0 if it may belong to any class.
        scores: (S,) float32 in [0, 1], the confidence of each segment.
        size: (H, W) of the image.
    """

    layers: NDArray[np.uint16]
    class_ids: NDArray[np.uint8]
    scores: NDArray[np.float32]
    size: tuple[int, int]


def partition(labels: NDArray[np.integer], size: tuple[int, int]) -> Segments:
    """Return the segments of a partition: (h, w) labels 0..S-1 of an image of (H, W), each with score 1 and any class."""
    count = int(labels.max()) + 1
    if count > MOST:
        raise ArtifactError(f"{count} segments in one image; expected: at most {MOST} (raise segments.min_size)")
    layers = (labels + 1).astype(np.uint16)[None]
    return Segments(layers, np.zeros(count, np.uint8), np.ones(count, np.float32), size)


def layered(
    masks: Iterable[NDArray[np.bool_]], class_ids: Iterable[int], scores: Iterable[float], size: tuple[int, int]
) -> Segments:
    """Return segments that may overlap, each in the first layer where its pixels are free; empty ones are left out.

    Args:
        masks: (h, w) bool each, all of one shape.
        class_ids: class of each, or 0.
        scores: confidence of each, in [0, 1].
        size: (H, W) of the image.
    """
    layers: list[NDArray[np.uint16]] = []
    kept: list[tuple[int, float]] = []
    for mask, class_id, score in zip(masks, class_ids, scores, strict=True):
        if not mask.any():
            continue
        layer = next((layer for layer in layers if not layer[mask].any()), None)
        if layer is None:
            layers.append(layer := np.zeros(mask.shape, np.uint16))
        kept.append((class_id, score))
        layer[mask] = len(kept)
    stack = np.stack(layers) if layers else np.zeros((1, 1, 1), np.uint16)
    ids, values = (np.array([k[i] for k in kept]) for i in (0, 1))
    return Segments(stack, ids.astype(np.uint8), values.astype(np.float32), size)


def enlarged(segments: Segments) -> Segments:
    """Return the segments with their layers at the image's size (nearest), (L, H, W)."""
    height, width = segments.size
    layers = [cv2.resize(layer, (width, height), interpolation=cv2.INTER_NEAREST_EXACT) for layer in segments.layers]
    return replace(segments, layers=np.stack(layers))


def encode_segments(segments: Segments) -> bytes:
    """Return the bytes of a PNG."""
    count, height, width = segments.layers.shape
    info = PngInfo()
    info.add_text("layers", str(count))
    info.add_text("size", f"{segments.size[0]} {segments.size[1]}")
    info.add_text("class_ids", " ".join(map(str, segments.class_ids.tolist())))
    info.add_text("scores", " ".join(f"{score:.4f}" for score in segments.scores.tolist()))
    buffer = io.BytesIO()
    PILImage.fromarray(segments.layers.reshape(count * height, width)).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def decode_segments(data: bytes) -> Segments:
    """Return the segments that `encode_segments` encoded; scores have four digits.

    Raises:
        ArtifactError: the data are not a file of segments.
    """
    try:
        image = PILImage.open(io.BytesIO(data), formats=("PNG",))
        stacked = np.asarray(image).astype(np.uint16)
        text: dict[str, str] = image.text  # type: ignore[attr-defined]
        height, width = (int(n) for n in text["size"].split())
        layers = stacked.reshape(int(text["layers"]), -1, stacked.shape[1])
        class_ids = np.array(text["class_ids"].split(), np.uint8)
        scores = np.array(text["scores"].split(), np.float32)
        if layers.max() > len(scores) or len(class_ids) != len(scores):
            raise ValueError("segments without a score")
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise ArtifactError(f"not a file of segments: {error}") from error
    return Segments(layers, class_ids, scores, (height, width))
