"""Inference batches: images of one size together, always in the same groups."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wsseg.data.items import read_item
from wsseg.data.transforms import normalised
from wsseg.types import LabeledImage, LabeledSequence

_STEP = 32  # no backbone in use has a coarser stride
# Two cells at that stride: if its result is one cell wide, a bfloat16 convolution with stride 2 (oneDNN 3.12, AMX) reads
# uninitialised memory, and gives other values (or NaN) at each run.
_SMALLEST = 64


def batches_by_size(items: Iterable[LabeledImage], batch_size: int) -> list[list[LabeledImage]]:
    """Return groups of at most `batch_size` images of equal (H, W).

    The groups depend only on the data, not on the work of an interrupted run: kernels may round differently for another
    batch size, and results must not depend on an interruption.
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
    """Return the network's input (H, W) for an image: long side `long_side` * scale, in multiples of 32, at least 64."""
    factor = long_side * scale / max(size)
    height, width = (max(_SMALLEST, round(extent * factor / _STEP) * _STEP) for extent in size)
    return height, width


def network_sizes(item: LabeledImage, long_side: int, scales: Iterable[float]) -> list[tuple[int, int]]:
    """Return the network's input (H, W) at each scale; a sequence is never resized, so that it has one, its own."""
    if isinstance(item, LabeledSequence):
        return [item.size]
    return [network_size(item.size, long_side, scale) for scale in scales]


def map_size(item: LabeledImage) -> tuple[int, int]:
    """Return the (h, w) of an item's maps: a quarter of a photograph, every place of a sequence."""
    return item.size if isinstance(item, LabeledSequence) else quarter(item.size)


def quarter(size: tuple[int, int]) -> tuple[int, int]:
    """Return (H, W) divided by four, rounded up."""
    return math.ceil(size[0] / 4), math.ceil(size[1] / 4)


def at_size(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images (N, 3, H, W) as (N, 3, *size), by antialiased bilinear interpolation."""
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def network_inputs(
    images: Iterable[NDArray[Any]],
    mean: Sequence[float],
    std: Sequence[float],
    sizes: Sequence[tuple[int, int]],
    device: torch.device,
) -> list[Tensor]:
    """Return the network inputs for images of one size: a (N, C, *size) float32 tensor for each of `sizes`.

    Each image is resized and released before the next one is read: eight photographs of 12 megapixels would fill gigabytes.

    Args:
        images: (H, W, C) each, all of one size; an iterator that decodes them one by one.
        mean: channel means of the network's input.
        std: channel standard deviations of the network's input.
        sizes: (H, W) of each tensor.
        device: device of the resizing and of the tensors.
    """

    def inputs_of(image: NDArray[Any]) -> list[Tensor]:
        tensor = normalised(image, mean, std)[None].to(device)
        return [at_size(tensor, size) for size in sizes]

    return [torch.cat(tensors) for tensors in zip(*map(inputs_of, images), strict=True)]


def read_batch(
    items: Iterable[LabeledImage],
    mean: Sequence[float],
    std: Sequence[float],
    sizes: Sequence[tuple[int, int]],
    device: torch.device,
) -> list[Tensor]:
    """Read images of one size one by one, and return their `network_inputs`."""
    return network_inputs((read_item(item) for item in items), mean, std, sizes, device)
