"""Looking into a network without leaving a trace: activations of layers by name, with hooks that are always removed."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

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


def check_spatial(activations: Tensor, images: Tensor, name: str) -> None:
    """Raise StageError unless activations are maps over the images' place, at least one value each."""
    if activations.ndim != images.ndim or activations.numel() == 0:
        raise StageError(
            f"saliency: layer {name!r} gives {tuple(activations.shape)} for images {tuple(images.shape)}; "
            "legal: feature maps with as many spatial dimensions; choose a convolutional layer"
        )
