"""Checked forward and backward passes through a network that stays as it is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wsseg.errors import StageError, explained


def check_images(images: Tensor) -> None:
    """Raise StageError if images are not (N, C, L) or (N, C, H, W), floating-point and finite."""
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise StageError(
            f"saliency: the images are {tuple(images.shape)}; expected: (N, C, H, W) or (N, C, L), not empty"
        )
    if not images.is_floating_point():
        raise StageError(f"saliency: the images are {images.dtype}; expected: normalised floating-point images")
    if not torch.isfinite(images).all():
        raise StageError("saliency: the images hold NaN or infinity; expected: finite numbers")


@contextmanager
def frozen_eval(model: nn.Module) -> Iterator[None]:
    """Put a network into eval mode and freeze its parameters; restore both on exit, also after an error.

    Inference mode is disabled meanwhile, because its tensors cannot have gradients. The grad mode is kept.
    """
    modes = {module: module.training for module in model.modules()}
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    recording = torch.is_grad_enabled()
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(recording):
            model.eval()
            for parameter in required:
                parameter.requires_grad_(False)
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.inference_mode():  # parameters created in inference mode can only be changed in it
            for parameter, requires_grad in required.items():
                parameter.requires_grad_(requires_grad)


def passed(model: Callable[[Tensor], Any], images: Tensor) -> Any:
    """Return a network's output for images.

    Raises:
        StageError: the network raises an error for these images.
    """
    try:
        return model(images)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        if explained(error):  # caused by the machine, such as a lack of memory
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StageError(
            f"saliency: the network does not accept images {tuple(images.shape)} of {images.dtype} on {images.device}: {reason}"
        ) from error


def logits_of(model: nn.Module, images: Tensor, channels: Sequence[int]) -> Tensor:
    """Return a network's logits (N, K) for images; see `logits_in`."""
    return logits_in(passed(model, images), len(images), channels)


def logits_in(output: Any, count: int, channels: Sequence[int]) -> Tensor:
    """Return the logits (N, K) in a network's output for N = `count` images, checked by `check_logits`.

    A network may return only the logits, a dict or object with ``logits``, or a tuple, list or dict with exactly one
    (N, K) tensor.

    Raises:
        StageError: the output has no logits or several candidates, the logits are not finite, or a channel is out of range.
    """
    if not isinstance(output, Tensor):
        named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
        parts = [named] if isinstance(named, Tensor) else tensors_in(output)
        candidates = [part for part in parts if part.ndim == 2 and len(part) == count and part.is_floating_point()]
        if len(candidates) != 1:
            shapes = ", ".join(str(tuple(part.shape)) for part in parts) or "no tensor"
            raise StageError(
                f"saliency: the network returns {type(output).__name__} of {shapes}; expected: logits (N, K), an output with "
                "`logits`, or exactly one (N, K) tensor; wrap the network in a module that returns its logits"
            )
        output = candidates[0]
    logits: Tensor = output
    check_logits(logits, count, channels)
    return logits


def check_logits(logits: Tensor, count: int, channels: Sequence[int]) -> None:
    """Raise StageError if the logits of `count` images are not finite (N, K) or lack one of the channels."""
    if logits.ndim != 2 or len(logits) != count or not logits.is_floating_point():
        raise StageError(
            f"saliency: the network returns {tuple(logits.shape)} of {logits.dtype} for {count} images; "
            "expected: logits (N, K)"
        )
    if len(channels) == 0:
        raise StageError(f"saliency: found no class channel; expected: at least one, 0 to {logits.shape[1] - 1}")
    for channel in channels:
        if not 0 <= channel < logits.shape[1] or int(channel) != channel:
            raise StageError(f"saliency: found class channel {channel}; expected: 0 to {logits.shape[1] - 1}")
    if not torch.isfinite(logits).all():
        raise StageError(
            f"saliency: the network's logits of these images ({logits.dtype}) hold NaN or infinity; "
            "use float32, and check the network's weights"
        )


def tensors_in(output: Any) -> list[Tensor]:
    """Return the tensors in a tuple, list or dict."""
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return [value for value in values if isinstance(value, Tensor)]


def gradients_of(score: Tensor, layers: Sequence[Tensor], names: Sequence[str], again: bool) -> tuple[Tensor, ...]:
    """Return the gradients of a scalar with respect to the layers' values.

    Args:
        score: the scalar.
        layers: the layers' values.
        names: the layers' names, for messages.
        again: keep the graph for another call.

    Raises:
        StageError: the scalar does not depend on a layer, or the network detaches its gradient.
    """
    if not score.requires_grad:
        raise StageError(
            f"saliency: the logits do not depend on {', '.join(names)}, or the network detaches their gradient; "
            "choose another layer, or a method without gradients"
        )
    try:
        gradients = torch.autograd.grad(score, layers, retain_graph=again, allow_unused=True)
    except RuntimeError as error:
        if explained(error):
            raise
        raise StageError(f"saliency: the network has no gradient: {str(error).splitlines()[0]}") from error
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is None:
            raise StageError(f"saliency: the logits do not depend on {name}; choose another layer")
    return gradients


def full(values: Tensor) -> Tensor:
    """Return values in float32 or a wider type, because products in bfloat16 lose too much precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
