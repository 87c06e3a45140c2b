"""Class activation maps, exact from the head's weights, averaged over scales and flips."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.inference_mode()
def multiscale_cams(
    class_maps: Callable[[Tensor], Tensor],
    images: Tensor,
    sizes: Sequence[tuple[int, int]],
    flip: bool,
    channels: Sequence[int],
    output: tuple[int, int],
) -> Tensor:
    """Average the CAMs of several classes over scales and flips.

    Args:
        class_maps: network that gives the evidence of K classes at each place, (N, 3, H, W) -> (N, K, h, w).
        images: (N, 3, H, W) float32, normalised, all of one size.
        sizes: (H, W) of the network's input at each scale.
        flip: also average over the mirrored images.
        channels: the C classes wanted, as indices into K.
        output: (h, w) of the result.

    Returns:
        (N, C, *output) float32, not negative: ReLU of each map, then the mean (Ahn, Cho & Kwak 2019, IRNet's
        make_cam). Not normalised: see `normalise`.
    """
    total = images.new_zeros((len(images), len(channels), *output))
    for size in sizes:
        scaled = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
        batch = torch.cat([scaled, scaled.flip(3)]) if flip else scaled
        maps = class_maps(batch.contiguous(memory_format=torch.channels_last))[:, list(channels)].float().relu()
        if flip:
            straight, mirrored = maps.chunk(2)
            maps = (straight + mirrored.flip(3)) / 2
        total += F.interpolate(maps, size=output, mode="bilinear", align_corners=False)
    return total / len(sizes)


def normalise(cams: Tensor) -> Tensor:
    """Divide each class's map by its own maximum.

    Args:
        cams: (C, h, w), not negative, of classes that are present. A class that is absent must not come in here: its
            noise would be blown up to 1.

    Returns:
        (C, h, w) in [0, 1]; a map of zeros stays one.
    """
    peak = cams.amax(dim=(1, 2), keepdim=True)
    return torch.where(peak > 0, cams / peak.clamp_min(torch.finfo(cams.dtype).tiny), torch.zeros_like(cams))
