"""Equivariance loss on class maps: the maps of a scaled, mirrored or tiled image must agree with the image's own.

Wang et al. 2020 (SEAM, equation 3, scaling and flips); Jo & Yu 2021 (Puzzle-CAM, equation 5, tiles).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Change = Literal["scale", "flip", "tile"]
_SMALLER = 0.5  # fraction of the side


def changed_images(images: Tensor, change: Change) -> Tensor:
    """Transform images (N, 3, S, S): half the side (N images), mirrored (N), or four quarters (4 N, row by row)."""
    if change == "scale":
        return F.interpolate(images, scale_factor=_SMALLER, mode="bilinear", align_corners=False, antialias=True)
    if change == "flip":
        return images.flip(3)
    return torch.cat([half for row in images.chunk(2, dim=2) for half in row.chunk(2, dim=3)])


def undone(maps: Tensor, change: Change, size: tuple[int, int]) -> Tensor:
    """Transform the maps of changed images back to the images' coordinates, (N, K, *size)."""
    if change == "flip":
        maps = maps.flip(3)
    elif change == "tile":
        upper_left, upper_right, lower_left, lower_right = maps.chunk(4)
        rows = torch.cat([upper_left, upper_right], dim=3), torch.cat([lower_left, lower_right], dim=3)
        maps = torch.cat(rows, dim=2)
    if maps.shape[2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def equivariance_loss(
    maps: Tensor, maps_of: Callable[[Tensor], Tensor], images: Tensor, present: Tensor, change: Change
) -> Tensor:
    """Return the mean absolute difference between the maps of images and of changed images, a scalar in [0, 1].

    Maps are compared as CAMs: clipped at 0 and divided by the maximum of their class. The mean is over places and over the
    classes present.

    Args:
        maps: class maps of `images`, (N, K, h, w).
        maps_of: returns the class maps of images.
        images: (N, 3, S, S); with tiles S is a multiple of 64.
        present: (N, K), 1 for the classes of each image.
        change: the transformation.
    """
    size = (maps.shape[2], maps.shape[3])
    changed_maps = undone(maps_of(changed_images(images, change)), change, size)
    distance = (_cams(maps) - _cams(changed_maps)).abs().mean(dim=(2, 3))
    return (distance * present).sum() / present.sum().clamp_min(1)


def _cams(maps: Tensor) -> Tensor:
    positive = maps.float().relu()
    return positive / positive.amax(dim=(2, 3), keepdim=True).clamp_min(1e-5)
