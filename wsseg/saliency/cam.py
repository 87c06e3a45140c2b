"""Saliency maps averaged over scales and flips."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from wsseg.saliency.passes import in_parts


def multiscale_maps(
    maps_of: Callable[[Tensor], Tensor],
    inputs: Sequence[Tensor],
    flip: bool,
    output: tuple[int, int],
    mirror: Sequence[int] = (3,),
) -> Tensor:
    """Average maps over scales and flips.

    Args:
        maps_of: returns the maps of C classes, not negative, (N, 3, H, W) -> (N, C, h, w); see `wsseg.saliency.methods`.
        inputs: the images at each scale, (N, 3, h, w) float32, normalised.
        flip: also average over the mirrored images.
        output: (h, w) of the result.
        mirror: axes that a mirrored image reverses (`wsseg.data.sequences.mirror_axes`); none turn `flip` off.

    Returns:
        (N, C, *output) float32: the mean of the maps (Ahn, Cho & Kwak 2019, IRNet's make_cam), not normalised; see
        `normalise`.
    """

    def of_part(part: Tensor) -> Tensor:
        part = part.contiguous(memory_format=torch.channels_last)
        maps = maps_of(part).float()
        return (maps + maps_of(part.flip(tuple(mirror))).float().flip(3)) / 2 if flip else maps

    flip = flip and bool(mirror)
    total = inputs[0].new_zeros(())
    for images in inputs:
        maps = in_parts(of_part, images)
        total = total + F.interpolate(maps, size=output, mode="bilinear", align_corners=False)
    return total / len(inputs)


def normalise(cams: Tensor) -> Tensor:
    """Divide each class's map by its maximum.

    Args:
        cams: (C, h, w), not negative, of present classes only; noise of an absent class would be scaled to 1.

    Returns:
        (C, h, w) in [0, 1]; a map of zeros stays zero.
    """
    peak = cams.amax(dim=(1, 2), keepdim=True)
    return torch.where(peak > 0, cams / peak.clamp_min(torch.finfo(cams.dtype).tiny), torch.zeros_like(cams))
