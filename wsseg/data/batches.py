"""Batches for networks that only look: images of one size together, always in the same groups."""

import math
from collections.abc import Iterable, Sequence

import torch

from wsseg.data.reading import read_photograph
from wsseg.data.transforms import normalised
from wsseg.types import Image, LabeledImage

_STEP = 32  # every backbone in use has a coarsest stride of at most 32
# Two cells at that stride: oneDNN's bfloat16 convolutions (3.12, AMX) with stride 2 read memory that nobody wrote if their
# result is one cell wide, and give other values (or NaN) at each run.
_SMALLEST = 64


def batches_by_size(items: Iterable[LabeledImage], batch_size: int) -> list[list[LabeledImage]]:
    """Group images of equal (H, W), at most `batch_size` together.

    The groups depend on the data alone, never on what an interrupted run has finished: kernels may round otherwise for
    another batch size, and results must not depend on it.
    """
    by_size: dict[tuple[int, int], list[LabeledImage]] = {}
    for item in items:
        by_size.setdefault(item.size, []).append(item)
    return [
        group[start : start + batch_size]
        for _, group in sorted(by_size.items())
        for start in range(0, len(group), batch_size)
    ]


def network_size(size: tuple[int, int], long_side: int, scale: float) -> tuple[int, int]:
    """Return the (H, W) at which a network sees an image: long side `long_side` * scale; multiples of 32, at least 64."""
    factor = long_side * scale / max(size)
    height, width = (max(_SMALLEST, round(extent * factor / _STEP) * _STEP) for extent in size)
    return height, width


def quarter(size: tuple[int, int]) -> tuple[int, int]:
    """Return (H, W) divided by four, rounded up."""
    return math.ceil(size[0] / 4), math.ceil(size[1] / 4)


def read_batch(
    items: Sequence[LabeledImage], mean: Sequence[float], std: Sequence[float]
) -> tuple[list[Image], torch.Tensor]:
    """Read images of one size; return them as arrays and as a normalised (N, 3, H, W) tensor."""
    images = [read_photograph(item) for item in items]
    return images, torch.stack([normalised(image, mean, std) for image in images])
