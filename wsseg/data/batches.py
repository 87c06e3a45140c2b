"""Batches for networks that only look: images of one size together, always in the same groups."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

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


def at_size(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images (N, 3, H, W) as (N, 3, *size), by antialiased bilinear interpolation."""
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def network_inputs(
    images: Iterable[Image],
    mean: Sequence[float],
    std: Sequence[float],
    sizes: Sequence[tuple[int, int]],
    device: torch.device,
) -> list[Tensor]:
    """Return what a network sees of images of one size: a (N, 3, *size) float32 tensor for each of `sizes`.

    Each image is shrunk and dropped before the next one is taken: eight photographs of 12 megapixels would fill gigabytes.

    Args:
        images: (H, W, 3) uint8 each; an iterator that decodes them one by one.
        mean, std: of the network's input.
        sizes: (H, W) at which the network sees them.
        device: where they are resized, and stay.
    """

    def shrunk(image: Image) -> list[Tensor]:
        tensor = normalised(image, mean, std)[None].to(device)
        return [at_size(tensor, size) for size in sizes]

    return [torch.cat(of_size) for of_size in zip(*map(shrunk, images), strict=True)]


def read_batch(
    items: Iterable[LabeledImage],
    mean: Sequence[float],
    std: Sequence[float],
    sizes: Sequence[tuple[int, int]],
    device: torch.device,
) -> list[Tensor]:
    """Read images of one size one after the other, and return what a network sees of them: `network_inputs`."""
    return network_inputs((read_photograph(item) for item in items), mean, std, sizes, device)
