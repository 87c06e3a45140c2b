"""Distance of image patches to those of normal images: where an image shows something unusual.

Roth et al. 2022, "Towards Total Recall in Industrial Anomaly Detection" (PatchCore), with a random subset of patches in place of
the coreset. The distance shows where something is unusual, also if it is only a few pixels wide; a class map shows what it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS = 3  # nearest patches, whose mean distance counts
_CHUNK = 1024  # patches that are compared at once


@dataclass(frozen=True)
class Normality:
    """Patches of normal images.

    Args:
        patches: (M, F) float32 features, standardised.
        mean: (F,) mean of the features of normal images.
        std: (F,) standard deviation of the features of normal images.
        usual: distance that nine of ten patches of normal images do not exceed.
    """

    patches: Tensor
    mean: Tensor
    std: Tensor
    usual: Tensor


def patch_features(levels: Sequence[Tensor]) -> Tensor:
    """Return patch features (N, F, h, w): feature levels, averaged over 3 x 3 places, at the size of the first one.

    Args:
        levels: (N, F_i, h_i, w_i), fine to coarse.
    """
    means = [F.avg_pool2d(level.float(), 3, 1, 1, count_include_pad=False) for level in levels]
    size = means[0].shape[2:]
    return torch.cat([F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in means], dim=1)


def remembered(features: Sequence[Tensor], patches: int, generator: torch.Generator) -> Normality:
    """Return the normality of images, from a random subset of their patches.

    Args:
        features: (F, h, w) patch features of each normal image, at least two.
        patches: number of patches to keep, over all images.
        generator: source of randomness.
    """
    each = -(-patches // len(features))
    vectors = [f.flatten(1).T for f in features]
    kept = [v[torch.randperm(len(v), generator=generator)[:each]] for v in vectors]
    memory = torch.cat(kept)
    mean, std = memory.mean(0), memory.std(0).clamp_min(1e-6)
    memory = (memory - mean) / std
    image = torch.repeat_interleave(torch.arange(len(kept)), torch.tensor([len(k) for k in kept]))
    others = [distances(memory[image == i], memory[image != i]) for i in range(len(kept))]
    return Normality(memory, mean, std, torch.cat(others).quantile(0.9))


def distances(vectors: Tensor, patches: Tensor) -> Tensor:
    """Return the mean distance (N,) of vectors (N, F) to their three nearest patches (M, F)."""
    count = min(NEIGHBOURS, len(patches))
    nearest = [
        torch.cdist(part, patches).topk(count, dim=1, largest=False).values for part in torch.split(vectors, _CHUNK)
    ]
    return torch.cat(nearest).mean(1)


def unusual(normality: Normality, features: Tensor) -> Tensor:
    """Return how far the patches of images exceed the usual distance, (N, h, w), not negative.

    Args:
        normality: patches of normal images.
        features: (N, F, h, w) patch features.
    """
    count, _, height, width = features.shape
    vectors = (features.movedim(1, -1).reshape(-1, features.shape[1]) - normality.mean) / normality.std
    excess = distances(vectors, normality.patches) - normality.usual
    return excess.clamp_min(0).view(count, height, width)


def weighted(maps: Tensor, excess: Tensor) -> Tensor:
    """Return class maps times how unusual each place is.

    Args:
        maps: (N, C, h, w), not negative.
        excess: (N, h', w') of `unusual`; an image without an unusual place keeps its maps.
    """
    factor = F.interpolate(excess[:, None], size=maps.shape[2:], mode="bilinear", align_corners=False)
    return torch.where(factor.amax(dim=(2, 3), keepdim=True) > 0, maps * factor, maps)
