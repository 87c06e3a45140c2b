"""Looking into a network without leaving a trace: activations of layers by name, with hooks that are always removed."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wsseg.errors import StageError


def layer_of(model: nn.Module, name: str) -> nn.Module:
    """Return a layer by its name in ``model.named_modules()``; StageError with the nearest names where there is none."""
    modules = dict(model.named_modules())
    if name not in modules or not name:
        close = difflib.get_close_matches(name, modules, n=5, cutoff=0.4)
        first = [n for n in modules if n.count(".") <= 1 and n]
        raise StageError(
            f"saliency: the network has no layer {name!r}; nearest: {', '.join(close) or 'none'}; "
            f"its first levels: {', '.join(first[:40])}"
        )
    found: nn.Module = modules[name]
    return found


def feature_levels(model: nn.Module) -> list[str]:
    """Return the names of the layers at which a timm backbone's feature levels end, from the input to the output.

    Raises:
        StageError: the network names none.
    """
    for prefix, module in model.named_modules():
        info = getattr(module, "feature_info", None)
        levels = getattr(info, "info", info)
        if levels:
            return [f"{prefix}.{level['module']}".lstrip(".") for level in levels]
    raise StageError("saliency: the network names no feature levels; give a layer by name")


def last_layer(model: nn.Module) -> str:
    """Return the layer to look at where none is named: what is pooled, if the network says so, or the last feature level."""
    named = getattr(model, "last_layer", None)
    return named if isinstance(named, str) else feature_levels(model)[-1]


def full(values: Tensor) -> Tensor:
    """Return values in float32 at least: products of bfloat16 lose too much."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def check_images(images: Tensor) -> None:
    """Raise StageError unless images are finite (N, C, L) or (N, C, H, W)."""
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise StageError(f"saliency: the images are {tuple(images.shape)}; legal: (N, C, H, W) or (N, C, L), not empty")
    if not torch.isfinite(images).all():
        raise StageError("saliency: the images hold NaN or infinity; legal: finite numbers")


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, parameters without gradients; put all back as it was, errors included."""
    modes = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.eval()
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, requires in wanted.items():
            parameter.requires_grad_(requires)


@contextmanager
def replaced(layers: Sequence[nn.Module], change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """While entered, ``change(index, output)`` stands for the outputs of layers.

    Raises:
        StageError: a layer's output is no tensor.
    """

    def hook(index: int) -> Callable[[nn.Module, object, object], Tensor]:
        def changed(module: nn.Module, inputs: object, output: object) -> Tensor:
            if not isinstance(output, Tensor):
                raise StageError(f"saliency: {type(module).__name__} returns {type(output).__name__}; legal: a tensor")
            return change(index, output)

        return changed

    with ExitStack() as stack:
        for index, layer in enumerate(layers):
            stack.callback(layer.register_forward_hook(hook(index)).remove)
        yield


@contextmanager
def recorded(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """While entered, the list holds the layers' last outputs, each with a gradient of its own to be asked for."""
    outputs: list[Tensor] = [torch.empty(0)] * len(layers)

    def keep(index: int, output: Tensor) -> Tensor:
        # a copy, for a layer behind may work in place
        outputs[index] = output if output.requires_grad else output.detach().requires_grad_()
        return outputs[index].clone()

    with replaced(layers, keep):
        yield outputs


def spatial(values: Tensor, images: Tensor, model: nn.Module, name: str) -> Tensor:
    """Return a layer's values as maps over the images' place, (N, F, *S), at least one value each.

    Feature maps stay as they are; tokens (N, T, F) of a vision transformer lose what stands before the patches (class and
    register tokens); channels come first also where the network keeps them last (Swin).

    Raises:
        StageError: they are neither.
    """
    if values.ndim == 3 and images.ndim == 4:
        patch: Any = next((m.patch_embed for m in model.modules() if hasattr(m, "patch_embed")), None)
        if patch is not None:
            height, width = (
                -(-extent // step) for extent, step in zip(images.shape[2:], patch.patch_size, strict=True)
            )
            before = values.shape[1] - height * width
            if before >= 0:
                return values[:, before:].transpose(1, 2).view(len(values), -1, height, width)
    if values.ndim == images.ndim and values.numel():
        channels_last = any(getattr(m, "output_fmt", "NCHW") == "NHWC" for m in model.modules())
        return values.movedim(-1, 1) if channels_last and name != getattr(model, "last_layer", None) else values
    raise StageError(
        f"saliency: layer {name!r} gives {tuple(values.shape)} for images {tuple(images.shape)}; "
        "legal: feature maps with as many spatial dimensions, or a vision transformer's tokens; choose another layer"
    )
