"""Forward passes over parts of a batch, of the size that is fastest."""

from collections.abc import Callable

import torch
from torch import Tensor

_CPU_PIXELS = (
    600_000  # activations of efficientnet-lite0 for this many pixels fit into a CPU's caches, see docs/benchmarks.md
)


def images_at_once(images: Tensor) -> int:
    """Return the number of images (N, C, *S) per pass.

    A CPU is two to three times faster if the activations of a pass fit into its caches: one image of 800 px, or a dozen
    of 224 px. A GPU gets 64 times as many, which easily fit into its memory.
    """
    pixels = _CPU_PIXELS if images.device.type == "cpu" else 64 * _CPU_PIXELS
    return max(1, pixels // max(1, images.shape[2:].numel()))


def in_parts(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return ``function(images)`` computed over parts of the batch; the function must treat images independently."""
    return torch.cat([function(part) for part in torch.split(images, images_at_once(images))])
