"""All saliency methods by name, with one interface: images to maps of several classes."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from wsseg.errors import StageError
from wsseg.saliency.activation_maps import (
    ACTIVATION_METHODS,
    WEIGHTINGS,
    fused,
    gradient_cams,
)
from wsseg.saliency.attention import ATTENTION_METHODS
from wsseg.saliency.gradients import GRADIENT_METHODS, over_colours
from wsseg.saliency.layers import last_layer
from wsseg.saliency.targets import Target

METHODS = ("cam", *WEIGHTINGS, "score_cam", "ablation_cam", "eigen_cam", *GRADIENT_METHODS, *ATTENTION_METHODS)
Maps = Callable[[Tensor], Tensor]  # images (N, 3, H, W) -> (N, C, h, w), not negative


def maps_of(
    method: str, model: nn.Module, channels: Sequence[int], layers: Sequence[str] = (), target: Target = "logit"
) -> Maps:
    """Return the function that computes a method's maps of several classes.

    Args:
        method: one of `METHODS`.
        model: network that returns logits (N, K); ``cam`` requires its ``class_maps`` (`wsseg.models.classifier.Classifier`).
        channels: channels of the C classes.
        layers: layers for the CAM family; several layers are fused; empty for `last_layer`.
        target: the scalar that is differentiated, for methods with gradients.

    Raises:
        StageError: the method is unknown, or the network does not support it.
    """
    if method == "cam":
        class_maps = getattr(model, "class_maps", None)
        if class_maps is None:
            raise StageError(
                "saliency: cam requires a network with a linear head over pooled features; use another method such as grad_cam"
            )

        @torch.no_grad()
        def cam(images: Tensor) -> Tensor:
            return class_maps(images)[:, list(channels)].float().relu()  # type: ignore[no-any-return]

        return cam
    if method in GRADIENT_METHODS:
        return lambda images: over_colours(GRADIENT_METHODS[method](model, images, channels, target))
    if method in ATTENTION_METHODS:
        return lambda images: ATTENTION_METHODS[method](model, images, channels, target)
    names = list(layers) or [last_layer(model)]
    if method in WEIGHTINGS:

        def weighted(images: Tensor) -> Tensor:
            maps = gradient_cams(model, images, channels, names, method, target)
            return maps[0] if len(maps) == 1 else fused(maps, maps[0].shape[2:])

        return weighted
    if method in ACTIVATION_METHODS:
        function = ACTIVATION_METHODS[method]

        def each(images: Tensor) -> Tensor:
            maps = [function(model, images, channels, name) for name in names]
            return maps[0] if len(maps) == 1 else fused(maps, maps[0].shape[2:])

        return each
    raise StageError(f"saliency: method: found {method!r}; expected: {', '.join(METHODS)}")


def methods_for(model: nn.Module) -> tuple[str, ...]:
    """Return the methods that the network and the installed packages support."""
    modules = list(model.modules())
    has_relu = any(isinstance(module, nn.ReLU) for module in modules)
    has_attention = any(hasattr(module, "attn_drop") and hasattr(module, "qkv") for module in modules)
    unsupported = set() if hasattr(model, "class_maps") else {"cam"}
    unsupported |= set() if has_relu and find_spec("captum") else {"guided_backpropagation"}
    unsupported |= set() if has_attention else set(ATTENTION_METHODS)
    return tuple(name for name in METHODS if name not in unsupported)
