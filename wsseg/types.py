"""Types that several packages share. Sizes are (H, W); images are HWC, tensors CHW."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB, upright (EXIF orientation applied)."""

Mask = NDArray[np.uint8]
"""(H, W) uint8 class ids: 0 background, 1..K classes, 255 ignore."""

Scores = NDArray[np.float32]
"""(C, H, W) float32, non-negative, background first, sum 1 over C."""


@dataclass(frozen=True)
class Seed:
    """CAMs of the classes present in one image.

    Args:
        class_ids: (C,) class ids, ascending; channel c of `maps` belongs to class_ids[c].
        maps: (C, h, w) float32 in [0, 1], low resolution; each channel is divided by its maximum, or, after a random
            walk, all channels by the highest maximum.
        size: (H, W) of the image.
    """

    class_ids: tuple[int, ...]
    maps: NDArray[np.float32]
    size: tuple[int, int]


@dataclass(frozen=True)
class LabeledImage:
    """One photograph of a data set with its image-level labels.

    Args:
        id: relative path without suffix; unique within a split.
        path: path of the file.
        class_ids: ids (1..K) of the classes in the image, ascending; empty for background only.
        size: (H, W) in pixels, in upright orientation.
        sha256: digest of the file.
    """

    id: str
    path: Path
    class_ids: tuple[int, ...]
    size: tuple[int, int]
    sha256: str


@dataclass(frozen=True)
class LabeledSequence(LabeledImage):
    """One sequence of a data set: an image of height 1 with any number of channels.

    Args:
        id: name of the record; unique within a split.
        path: file of the records.
        size: (1, L).
        sha256: digest of the values.
        record: position of the record in its file.
        covariates: values of further columns of the label table (subject, site ...), by name.
    """

    record: int = 0
    covariates: tuple[tuple[str, str], ...] = ()
