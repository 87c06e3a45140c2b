"""Stability of saliency maps under small changes of the image, and their dependence on the network's weights."""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.errors import StageError

Explain = Callable[[Tensor], Tensor]  # images (N, C, H, W) -> maps (N, h, w)


def max_sensitivity(
    explain: Explain, images: Tensor, radius: float = 0.02, samples: int = 10, rng_seed: int = 0
) -> Tensor:
    """Return (N,) the largest relative change of the map in a small box around the image (Yeh et al. 2019, definition 3).

    Args:
        explain: computes maps.
        images: (N, C, H, W).
        radius: half the side of the box, in the images' unit.
        samples: number of random points in the box.
        rng_seed: seed of the points.
    """
    generator = torch.Generator().manual_seed(rng_seed)
    before = explain(images).flatten(1)
    norm = before.norm(dim=1).clamp_min(1e-12)
    most = torch.zeros(len(images), device=before.device)
    for _ in range(samples):
        moved = images + radius * (2 * torch.rand(images.shape, generator=generator) - 1).to(images)
        most = torch.maximum(most, (explain(moved).flatten(1) - before).norm(dim=1) / norm)
    return most


def correlation(maps: Tensor, reference: Tensor) -> Tensor:
    """Return (N,) the Pearson correlation of maps (N, h, w) with others; 0 if a map is constant."""
    if maps.shape != reference.shape:
        raise StageError(f"stability: maps of {tuple(maps.shape)} and {tuple(reference.shape)}; expected: equal shapes")
    a, b = (m.flatten(1) - m.flatten(1).mean(1, keepdim=True) for m in (maps, reference))
    result: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-12)
    return result


def flip_agreement(explain: Explain, images: Tensor) -> Tensor:
    """Return (N,) the correlation of the map with that of the mirrored image, mirrored back; 1 if the method is equivariant."""
    return correlation(explain(images), explain(images.flip(-1)).flip(-1))


def shift_agreement(explain: Explain, images: Tensor, pixels: int) -> Tensor:
    """Return (N,) the correlation with the map of the image shifted right by `pixels`, over the common part."""
    if not 0 < pixels < images.shape[-1]:
        raise StageError(f"stability: shift: found {pixels}; expected: 1 to {images.shape[-1] - 1} px")
    size = tuple(images.shape[2:])
    border = images[..., :1].expand(*images.shape[:-1], pixels)
    moved = torch.cat([border, images[..., :-pixels]], dim=-1)
    original, shifted = (_at(explain(i), size) for i in (images, moved))
    return correlation(original[..., :-pixels], shifted[..., pixels:])


def _at(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def cascading_randomisation(
    explain_with: Callable[[nn.Module], Explain],
    model: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    rng_seed: int = 0,
) -> Iterator[tuple[str, Tensor]]:
    """Yield (layer, (N,) correlation with the original map) while more and more layers are randomised, last layers first.

    A map that hardly changes does not show what the network learned (Adebayo et al. 2018, "Sanity checks for saliency
    maps", section 3). The network is copied, not changed.

    Args:
        explain_with: returns the `Explain` of a network.
        model: the trained network.
        images: (N, C, H, W).
        layers: names of layers, from the output to the input.
        rng_seed: seed of the random weights, which are permutations of each layer's weights, so that their scale is kept.
    """
    generator = torch.Generator().manual_seed(rng_seed)
    before = explain_with(model)(images)
    changed = copy.deepcopy(model)
    modules = dict(changed.named_modules())
    for name in layers:
        if name not in modules:
            raise StageError(f"stability: the network has no layer {name!r}")
        with torch.no_grad():
            for parameter in modules[name].parameters():
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
        yield name, correlation(explain_with(changed)(images), before)
