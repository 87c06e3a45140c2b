"""Maps from a layer's activations: the CAM family.

All functions take a network that returns logits (N, K), images (N, C, H, W) or (N, C, L), the channels of the classes, and
the name of a layer. They return (N, classes, *layer's size) float32, not negative (ReLU), not normalised. All classes share
one forward pass. The network's mode, parameters and gradients are not changed.

Whether a layer's channels are first or last is inferred (`wsseg.saliency.feature_maps.view_of`); pass ``channels_last`` if
this is ambiguous. All functions raise StageError for unsuitable images, channels, layers and networks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.errors import StageError
from wsseg.saliency.feature_maps import spatial, view_of
from wsseg.saliency.forward import (
    check_images,
    check_logits,
    frozen_eval,
    full,
    gradients_of,
    logits_in,
    logits_of,
    passed,
)
from wsseg.saliency.hooks import recorded, replaced
from wsseg.saliency.layers import layer_of
from wsseg.saliency.passes import images_at_once
from wsseg.saliency.targets import Target, target_scores

_EPSILON = 1e-7
# activations (N, F, *S), gradients (N, F, *S) or (N, F, *1) if they are constant over space -> weights of activations
Weighting = Callable[[Tensor, Tensor], Tensor]


def _space(maps: Tensor) -> tuple[int, ...]:
    """Return the spatial dimensions of (N, F, *S)."""
    return tuple(range(2, maps.ndim))


def grad_cam_weighting(activations: Tensor, gradients: Tensor) -> Tensor:
    """Weight channels by their mean gradient (Selvaraju et al. 2017, Grad-CAM, equations 1 and 2)."""
    return gradients.mean(_space(gradients), keepdim=True)


def grad_cam_pp_weighting(activations: Tensor, gradients: Tensor) -> Tensor:
    """Weight positions within channels (Chattopadhay et al. 2018, Grad-CAM++, equations 10 and 19)."""
    space = _space(gradients)
    square = gradients.square()
    divisor = 2 * square + activations.sum(space, keepdim=True) * (square * gradients) + 1e-6
    alpha = torch.where(gradients != 0, square / divisor, 0)
    return (alpha * gradients.relu()).mean(space, keepdim=True) * activations.shape[2:].numel()


def xgrad_cam_weighting(activations: Tensor, gradients: Tensor) -> Tensor:
    """Weight channels by gradients averaged in proportion to activations (Fu et al. 2020, XGrad-CAM, equation 8)."""
    space = _space(gradients)
    return (gradients * activations).sum(space, keepdim=True) / (activations.sum(space, keepdim=True) + _EPSILON)


def hires_cam_weighting(activations: Tensor, gradients: Tensor) -> Tensor:
    """Weight each position by its gradient (Draelos & Carin 2020, HiResCAM)."""
    return gradients


def layer_cam_weighting(activations: Tensor, gradients: Tensor) -> Tensor:
    """Weight each position by its positive gradient (Jiang et al. 2021, LayerCAM, equations 5 and 6)."""
    return gradients.relu()


WEIGHTINGS: dict[str, Weighting] = {
    "grad_cam": grad_cam_weighting,
    "grad_cam_pp": grad_cam_pp_weighting,
    "xgrad_cam": xgrad_cam_weighting,
    "hires_cam": hires_cam_weighting,
    "layer_cam": layer_cam_weighting,
}


def gradient_cam(
    model: nn.Module,
    images: Tensor,
    channels: Sequence[int],
    layer: str,
    method: str = "grad_cam",
    target: Target = "logit",
    channels_last: bool | None = None,
) -> Tensor:
    """Return the maps of a method in `WEIGHTINGS`, with one forward pass and one backward pass per class."""
    return gradient_cams(model, images, channels, [layer], method, target, channels_last)[0]


def gradient_cams(
    model: nn.Module,
    images: Tensor,
    channels: Sequence[int],
    layers: Sequence[str],
    method: str = "layer_cam",
    target: Target = "logit",
    channels_last: bool | None = None,
) -> list[Tensor]:
    """Return the maps of `gradient_cam` for several layers at once."""
    check_images(images)
    if method not in WEIGHTINGS:
        raise StageError(f"saliency: method: found {method!r}; expected: {', '.join(WEIGHTINGS)}")
    if list(layers) == [getattr(model, "last_layer", None)] and hasattr(model, "logits"):
        return [_pooled_cams(model, images, channels, method, target)]
    modules = [layer_of(model, name) for name in layers]
    with frozen_eval(model), torch.enable_grad():
        with recorded(modules) as recordings:
            logits = logits_of(model, images, channels)
        views = [view_of(r, images, model, n, channels_last) for r, n in zip(recordings, layers, strict=True)]
        activations = [full(view(r.detach())) for view, r in zip(views, recordings, strict=True)]
        maps_by_layer: list[list[Tensor]] = [[] for _ in layers]
        for index, channel in enumerate(channels):
            score = target_scores(logits, channel, target).sum()
            gradients = gradients_of(score, recordings, layers, again=index + 1 < len(channels))
            for name, results, activation, view, gradient in zip(
                layers, maps_by_layer, activations, views, gradients, strict=True
            ):
                if gradient.any() and not view(gradient).any():
                    raise StageError(
                        f"saliency: the logits read only the class token of layer {name!r}, no patch; choose an earlier "
                        "layer, such as the first normalisation of its block"
                    )
                weights = WEIGHTINGS[method](activation, full(view(gradient)))
                results.append((weights * activation).sum(1).relu())
    return [torch.stack(results, dim=1) for results in maps_by_layer]


def _pooled_cams(model: Any, images: Tensor, channels: Sequence[int], method: str, target: Target) -> Tensor:
    """Return the maps at the layer that a `wsseg.models.classifier.Classifier` pools, without a full backward pass.

    The gradient of a mean over space is the same at every position: the gradient of the mean divided by their number.
    """
    with frozen_eval(model):
        with torch.no_grad():
            activations = full(passed(model.features, images))
        places = activations.shape[2:].numel()
        with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
            pooled = activations.mean(_space(activations), keepdim=True).requires_grad_()
            logits = model.logits(pooled)
            check_logits(logits, len(images), channels)
            weights = []
            for channel in channels:
                score = target_scores(logits, channel, target).sum()
                gradient = gradients_of(score, [pooled], ["last"], again=True)[0] / places
                weights.append(WEIGHTINGS[method](activations, gradient).flatten(1))
        with torch.autocast(images.device.type, enabled=False):
            return torch.einsum("ncf,nf...->nc...", torch.stack(weights, dim=1), activations).relu()


def fused(maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Return maps (N, C, *S) of several layers as one map at `size`: the maximum over layers, each scaled to maximum 1.

    See Jiang et al. 2021, LayerCAM, section III-C; the paper scales shallow layers by tanh instead.
    """
    large = [F.interpolate(m, size=tuple(size), mode="bilinear" if m.ndim == 4 else "linear") for m in maps]
    peaks = [m.flatten(2).amax(2).clamp_min(_EPSILON).view(*m.shape[:2], *[1] * (m.ndim - 2)) for m in large]
    scaled = torch.stack([m / p for m, p in zip(large, peaks, strict=True)])
    highest: Tensor = scaled.amax(0)
    return highest


@torch.no_grad()
def eigen_cam(
    model: nn.Module, images: Tensor, channels: Sequence[int], layer: str, channels_last: bool | None = None
) -> Tensor:
    """Return the activations' first principal component, the same for all classes (Muhammad & Yeasin 2020)."""
    check_images(images)
    with frozen_eval(model):
        with recorded([layer_of(model, layer)]) as activations:
            logits_of(model, images, channels)
        maps = spatial(full(activations[0].detach()), images, model, layer, channels_last)
    points = maps.flatten(2).transpose(1, 2)  # (N, places, F)
    centred = points - points.mean(1, keepdim=True)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    projected = (centred @ directions[:, :1].transpose(1, 2))[..., 0]  # (N, places)
    # the sign of a principal component is arbitrary: choose the one with the largest positive value
    flip = torch.where(projected.abs().argmax(1, keepdim=True) == projected.argmax(1, keepdim=True), 1.0, -1.0)
    component = (projected * flip).relu().view(len(maps), 1, *maps.shape[2:])
    result: Tensor = component.repeat(1, len(channels), *[1] * (maps.ndim - 2))
    return result


@torch.no_grad()
def score_cam(
    model: nn.Module,
    images: Tensor,
    channels: Sequence[int],
    layer: str,
    batch_size: int | None = None,
    channels_last: bool | None = None,
) -> Tensor:
    """Weight channels by the scores of the image masked with them (Wang et al. 2020, Score-CAM).

    The masked images do not depend on the class, so that one pass over them is enough for all classes. `batch_size` is the
    number of masked images per pass; None for the fastest one.
    """
    check_images(images)
    with frozen_eval(model):
        with recorded([layer_of(model, layer)]) as activations:
            logits_of(model, images, channels)
        maps = spatial(full(activations[0].detach()), images, model, layer, channels_last)
        mode = "bilinear" if maps.ndim == 4 else "linear"
        results = []
        for image, image_maps in zip(images, maps, strict=True):
            scores = []
            for part in image_maps.split(batch_size or images_at_once(images)):
                large = F.interpolate(part[:, None], size=image.shape[1:], mode=mode, align_corners=True)
                low, high = (
                    f(large.flatten(1), 1).values.view(-1, 1, *[1] * (maps.ndim - 2)) for f in (torch.min, torch.max)
                )
                masked = image * ((large - low) / (high - low).clamp_min(1e-8)).to(image.dtype)
                scores.append(full(logits_of(model, masked, channels)))
            weights = torch.cat(scores)[:, list(channels)].softmax(0)  # (F, C)
            results.append(torch.einsum("fc,f...->c...", weights, image_maps))
    return torch.stack(results).relu()


@torch.no_grad()
def ablation_cam(
    model: nn.Module,
    images: Tensor,
    channels: Sequence[int],
    layer: str,
    batch_size: int = 64,
    channels_last: bool | None = None,
) -> Tensor:
    """Weight channels by the fraction of the score that is lost without them (Desai & Ramaswamy 2020, Ablation-CAM, eq. 3).

    If the score is 0, the weights are the changes of the score. Layers before `layer` run once per image and batch of
    ablated channels, later layers once per channel.
    """
    check_images(images)
    module = layer_of(model, layer)
    with frozen_eval(model):
        runs = []

        def counted(_: int, output: Tensor) -> Tensor:
            runs.append(len(output))
            return output

        with recorded([module]) as activations, replaced([module], counted):
            logits = full(logits_of(model, images, channels))
        if len(runs) > 1:
            raise StageError(
                f"saliency: layer {layer!r} runs {len(runs)} times in a pass, so that its channels cannot be ablated "
                "one by one; choose another layer, or another method"
            )
        view = view_of(activations[0], images, model, layer, channels_last)
        maps = full(view(activations[0].detach()))
        weights = logits.new_empty(len(images), maps.shape[1], len(channels))
        for index in range(len(images)):
            image, whole = images[index : index + 1], logits[index, list(channels)]
            for start in range(0, maps.shape[1], batch_size):
                count = min(batch_size, maps.shape[1] - start)

                def without(_: int, output: Tensor, start: int = start, count: int = count) -> Tensor:
                    many = output.repeat(count // len(output), *[1] * (output.ndim - 1))
                    # a view, so that the zeros are also set in the layer's own order of axes
                    view(many)[torch.arange(count), torch.arange(start, start + count)] = 0
                    return many

                with replaced([module], without):
                    try:
                        output = logits_in(passed(model, image), count, channels)
                    except (
                        StageError
                    ):  # the output is combined with other features of the image, whose batch size must match
                        output = logits_of(model, image.expand(count, *image.shape[1:]), channels)
                scores = full(output)
                change = whole - scores[:, list(channels)]
                weights[index, start : start + count] = change / torch.where(whole.abs() < _EPSILON, 1, whole)
    return torch.einsum("nfc,nf...->nc...", weights, maps).relu()


ACTIVATION_METHODS: dict[str, Callable[..., Any]] = {
    "eigen_cam": eigen_cam,
    "score_cam": score_cam,
    "ablation_cam": ablation_cam,
}
