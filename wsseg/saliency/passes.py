"""Passes through a network that only looks: as many images together as go fastest."""

from collections.abc import Callable

import torch
from torch import Tensor

_CPU_PIXELS = 600_000  # what a pass over efficientnet-lite0 keeps in a CPU's caches: docs/benchmarks.md


def images_at_once(images: Tensor) -> int:
    """Return how many of the images (N, C, *S) to put through a network together.

    A GPU takes what fits into its memory with ease (64 times as much). A CPU is two to three times faster where a pass's activations stay in its caches: at 800 px one image
    at a time, at 224 px a dozen.
    """
    pixels = _CPU_PIXELS if images.device.type == "cpu" else 64 * _CPU_PIXELS
    return max(1, pixels // max(1, images.shape[2:].numel()))


def in_parts(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return ``function(images)`` of a function that treats every image by itself, computed over parts of the batch."""
    return torch.cat([function(part) for part in torch.split(images, images_at_once(images))])
