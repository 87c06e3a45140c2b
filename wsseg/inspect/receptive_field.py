"""The effective receptive field of a unit, compared with its theoretical one."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsseg.errors import StageError
from wsseg.saliency.feature_maps import spatial
from wsseg.saliency.forward import check_images, frozen_eval, full, gradients_of, passed
from wsseg.saliency.hooks import recorded
from wsseg.saliency.layers import layer_of


@dataclass(frozen=True)
class ReceptiveField:
    """Receptive field of the unit at the centre of a layer, averaged over channels and images.

    Args:
        response: (*S) float32 at the images' size, sum 1: magnitude of the unit's gradient.
        sigma: standard deviation of the squared gradient about its centre of mass in pixels, root mean square over the axes.
        extent: per axis, the number of pixels from the first to the last one with a nonzero gradient: the theoretical
            field within the image.
    """

    response: Tensor
    sigma: float
    extent: tuple[int, ...]


def effective_receptive_field(
    model: nn.Module, images: Tensor, layer: str, rng_seed: int = 0, channels_last: bool | None = None
) -> ReceptiveField:
    """Return the effective receptive field of a layer's centre unit (Luo et al. 2016, section 2).

    An impulse of random signs over the layer's channels is propagated backwards from the centre. Its squared gradient,
    averaged over images, is the variance that the unit receives from each pixel; `response` is the square root. For a
    plain stack of convolutions with random weights, sigma grows with the square root of the depth, and the theoretical
    field grows linearly.

    Args:
        model: any network.
        images: (N, C, *S); photographs, or noise to examine only the architecture.
        layer: name of the layer.
        rng_seed: seed of the signs.
        channels_last: whether the layer's channels are last; None infers it.

    Raises:
        StageError: the network has no such layer, or the unit has no gradient with respect to the images.
    """
    check_images(images)
    generator = torch.Generator().manual_seed(rng_seed)
    with frozen_eval(model), torch.enable_grad():
        inputs = images.detach().clone().requires_grad_()
        with recorded([layer_of(model, layer)]) as outputs:
            passed(model, inputs)
        maps = spatial(outputs[0], images, model, layer, channels_last)
        centre = maps
        for extent in maps.shape[2:]:
            centre = centre[:, :, extent // 2]  # (N, F) at the end
        signs = (torch.randint(0, 2, centre.shape, generator=generator) * 2 - 1).to(centre)
        (gradient,) = gradients_of((centre * signs).sum(), [inputs], ["the images"], again=False)
    energy = full(gradient).square().mean((0, 1))  # (*S)
    if energy.sum() == 0:
        raise StageError(f"saliency: the centre of layer {layer!r} has no gradient with respect to these images")
    variances, extents = [], []
    exact = energy.cpu().double()  # MPS has no float64
    for axis, length in enumerate(energy.shape):
        line = exact.movedim(axis, 0).reshape(length, -1).sum(1)
        places = torch.arange(length, dtype=torch.float64)
        mean = (line * places).sum() / line.sum()
        variances.append((line * (places - mean) ** 2).sum() / line.sum())
        nonzero = line.nonzero()
        extents.append(int(nonzero[-1] - nonzero[0]) + 1)
    response = energy.sqrt()
    return ReceptiveField(response / response.sum(), float(torch.stack(variances).mean().sqrt()), tuple(extents))
