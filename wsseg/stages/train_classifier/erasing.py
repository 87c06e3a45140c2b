"""Erasing of parts of training images, so that the classifier must recognise the rest of an object.

DeVries & Taylor 2017 (CutOut, a random patch); Singh & Lee 2017 (hide-and-seek, random cells of a grid); Wei et al. 2017
(adversarial erasing, the patch with the highest class evidence).
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Erasing = Literal["off", "random", "hide_and_seek", "salient"]
_GRID = 40  # cells along a side of the grid that patches are aligned to
_CELLS = 4  # cells along a side of hide-and-seek's grid


def salient_patches(saliency: Tensor, side: int) -> Tensor:
    """Return (N, G, G) bool: the `side` x `side` patch with the largest sum of each map; the first of equal ones.

    Args:
        saliency: (N, G, G), not negative.
        side: side of the patch, at most G.
    """
    sums = F.avg_pool2d(saliency[:, None], side, stride=1)[:, 0]  # (N, G - side + 1, G - side + 1)
    places = sums.shape[-1]
    first = sums.flatten(1).argmax(1)
    return _patches(first // places, first % places, side, saliency.shape[-1])


def random_patches(count: int, side: int, grid: int, device: torch.device) -> Tensor:
    """Return (N, G, G) bool: a patch at a uniformly random place, drawn with torch's global generator."""
    rows, columns = torch.randint(grid - side + 1, (2, count), device=device)
    return _patches(rows, columns, side, grid)


def random_cells(count: int, share: float, device: torch.device) -> Tensor:
    """Return (N, 4, 4) bool: each cell is True with probability `share`, drawn with torch's global generator."""
    return torch.rand(count, _CELLS, _CELLS, device=device) < share


def erased(images: Tensor, how: Erasing, share: float, saliency: Tensor | None = None) -> Tensor:
    """Hide a part of about half of the images, drawn with torch's global generator. Hidden pixels become 0, the mean colour.

    Args:
        images: (N, 3, S, S), normalised.
        how: the part to hide, see ``classifier.erase``.
        share: fraction of the image's area to hide, in (0, 1).
        saliency: (N, h, w), not negative; required by ``salient``.

    Returns:
        (N, 3, S, S).
    """
    if how == "off":
        return images
    side = max(1, round(_GRID * share**0.5))
    if how == "hide_and_seek":
        hidden = random_cells(len(images), share, images.device)
    elif how == "random" or saliency is None:
        hidden = random_patches(len(images), side, _GRID, images.device)
    else:
        finer = F.interpolate(saliency[:, None].float(), size=(_GRID, _GRID), mode="bilinear", align_corners=False)
        hidden = salient_patches(finer[:, 0], side)
    hidden &= torch.rand(len(images), 1, 1, device=images.device) < 0.5
    kept = F.interpolate((~hidden)[:, None].to(images.dtype), size=images.shape[2:], mode="nearest")
    return images * kept


def _patches(rows: Tensor, columns: Tensor, side: int, grid: int) -> Tensor:
    """Return (N, G, G) bool, True in the patch whose upper left corner is at each (row, column)."""
    along = torch.arange(grid, device=rows.device)
    down = (along >= rows[:, None]) & (along < rows[:, None] + side)  # (N, G)
    across = (along >= columns[:, None]) & (along < columns[:, None] + side)
    return down[:, :, None] & across[:, None, :]
