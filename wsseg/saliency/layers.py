"""Looking into a network without leaving a trace: activations of layers by name, with hooks that are always removed."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.errors import StageError, explained


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
    """Raise StageError unless images are finite (N, C, L) or (N, C, H, W) of a floating-point type."""
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
    """Put a network into eval mode, parameters without gradients; put all back as it was, errors included.

    Inference mode is left for the time being: its tensors can have no gradient. Whether gradients are recorded stays.
    """
    modes = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    recording = torch.is_grad_enabled()
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(recording):
            model.eval()
            for parameter in wanted:
                parameter.requires_grad_(False)
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.inference_mode():  # a parameter that was made under it is changed under it alone
            for parameter, requires in wanted.items():
                parameter.requires_grad_(requires)


def passed(model: Callable[[Tensor], Any], images: Tensor) -> Any:
    """Return what a network makes of images.

    Raises:
        StageError: the network cannot take them, by its own word.
    """
    try:
        return model(images)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        if explained(error):  # the machine's fault, not the network's
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StageError(
            f"saliency: the network does not take images {tuple(images.shape)} of {images.dtype} on {images.device}: {reason}"
        ) from error


def logits_of(model: nn.Module, images: Tensor, channels: Sequence[int]) -> Tensor:
    """Return a network's logits (N, K) for images; see `logits_in`."""
    return logits_in(passed(model, images), len(images), channels)


def logits_in(output: Any, count: int, channels: Sequence[int]) -> Tensor:
    """Return the logits (N, K) in what a network returns for N = `count` images, after a check that they have the channels.

    A network may return the logits alone, under the name ``logits`` (a dict or an object), or as the only (N, K) tensor among
    others in a tuple, list or dict.

    Raises:
        StageError: no logits or several, NaN or infinity among them, or a channel that they do not have.
    """
    if not isinstance(output, Tensor):
        named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
        parts = [named] if isinstance(named, Tensor) else _parts(output)
        found = [part for part in parts if part.ndim == 2 and len(part) == count and part.is_floating_point()]
        if len(found) != 1:
            shapes = ", ".join(str(tuple(part.shape)) for part in parts) or "no tensor"
            raise StageError(
                f"saliency: the network returns {type(output).__name__} of {shapes}; expected: logits (N, K) alone, or as "
                "`logits`, or as the only (N, K) among others; wrap the network in a module that returns them"
            )
        output = found[0]
    logits: Tensor = output
    check_logits(logits, count, channels)
    return logits


def check_logits(logits: Tensor, count: int, channels: Sequence[int]) -> None:
    """Raise StageError unless logits of `count` images are finite (N, K) and have the channels."""
    if logits.ndim != 2 or len(logits) != count or not logits.is_floating_point():
        raise StageError(
            f"saliency: the network returns {tuple(logits.shape)} of {logits.dtype} for {count} images; "
            "expected: logits (N, K)"
        )
    if len(channels) == 0:
        raise StageError(f"saliency: found no class channel; expected: at least one of 0 to {logits.shape[1] - 1}")
    for channel in channels:
        if not 0 <= channel < logits.shape[1] or int(channel) != channel:
            raise StageError(f"saliency: found class channel {channel}; expected: 0 to {logits.shape[1] - 1}")
    if not torch.isfinite(logits).all():
        raise StageError(
            f"saliency: the network's logits of these images ({logits.dtype}) hold NaN or infinity; "
            "use float32, and check the network's weights"
        )


def _parts(output: Any) -> list[Tensor]:
    """Return the tensors of a tuple, list or dict."""
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return [value for value in values if isinstance(value, Tensor)]


def gradients_of(score: Tensor, layers: Sequence[Tensor], names: Sequence[str], again: bool) -> tuple[Tensor, ...]:
    """Return the gradients of a scalar with respect to layers' values; `again` keeps the graph for another call.

    Raises:
        StageError: the scalar does not depend on a layer, or the network cuts gradients off.
    """
    if not score.requires_grad:
        raise StageError(
            f"saliency: the logits do not depend on {', '.join(names)}, or the network cuts their gradient off; "
            "choose another layer, or a method without gradients"
        )
    try:
        found = torch.autograd.grad(score, layers, retain_graph=again, allow_unused=True)
    except RuntimeError as error:
        if explained(error):
            raise
        raise StageError(f"saliency: the network has no gradient: {str(error).splitlines()[0]}") from error
    for name, gradient in zip(names, found, strict=True):
        if gradient is None:
            raise StageError(f"saliency: the logits do not depend on {name}; choose another layer")
    return found


@contextmanager
def replaced(layers: Sequence[nn.Module], change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """While entered, ``change(index, output)`` stands for the outputs of layers.

    Raises:
        StageError: a layer's output is neither a tensor nor a tuple or list that holds one tensor.
    """

    def hook(index: int) -> Callable[[nn.Module, object, object], object]:
        def changed(module: nn.Module, inputs: object, output: object) -> object:
            if isinstance(output, Tensor):
                return change(index, output)
            if type(output) in (tuple, list) and len(_parts(output)) == 1:
                return type(output)(change(index, v) if isinstance(v, Tensor) else v for v in output)  # type: ignore
            raise StageError(
                f"saliency: {type(module).__name__} returns {type(output).__name__}; "
                "expected: a tensor, or a tuple or list with one; choose a layer within it or behind it"
            )

        return changed

    with ExitStack() as stack:
        for index, layer in enumerate(layers):
            stack.callback(layer.register_forward_hook(hook(index)).remove)
        yield


@contextmanager
def recorded(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """While entered, the list holds the layers' last outputs, each with a gradient of its own to be asked for.

    A layer that did not run holds an empty tensor.
    """
    outputs: list[Tensor] = [torch.empty(0)] * len(layers)

    def keep(index: int, output: Tensor) -> Tensor:
        if not output.is_floating_point():
            raise StageError(f"saliency: a layer gives {output.dtype}; expected: floating-point values")
        # a copy, for a layer behind may work in place
        outputs[index] = output if output.requires_grad else output.detach().requires_grad_()
        return outputs[index].clone()

    with replaced(layers, keep):
        yield outputs


View = Callable[[Tensor], Tensor]


def spatial(values: Tensor, images: Tensor, model: nn.Module, name: str, channels_last: bool | None = None) -> Tensor:
    """Return a layer's values as maps over the images' place, (N, F, *S); see `view_of`."""
    return view_of(values, images, model, name, channels_last)(values)


def view_of(values: Tensor, images: Tensor, model: nn.Module, name: str, channels_last: bool | None = None) -> View:
    """Return what shows a layer's values as maps over the images' place, (N, F, *S), a view.

    Tokens (N, T, F) of a vision transformer lose what stands before the patches (class and register tokens). Feature maps
    have their channels before or behind the places: what the layer is (a convolution, a linear layer), how its shape fits the
    images' shape, and what of its shape stays when the images get another size decide together.

    Args:
        values: of the layer, for `images`.
        images: (N, C, *S).
        model: the network.
        name: of the layer.
        channels_last: True where channels come last, False where they come first; None decides by evidence.

    Raises:
        StageError: the values are neither tokens nor feature maps, or could be read both ways.
    """
    if values.numel() == 0:
        raise StageError(
            f"saliency: layer {name!r} gives nothing for images {tuple(images.shape)}: no pass reaches it, or the network is a "
            "traced copy, which cannot be looked into; choose another layer, or the network that it was made of"
        )
    if len(values) == len(images):
        if values.ndim == 3 and images.ndim == 4:
            for before, grid in _token_grids(values.shape[1], images, model):
                return lambda v: v[:, before:].transpose(1, 2).view(len(v), -1, *grid)
        if values.ndim == images.ndim:
            if channels_last is None:
                channels_last = _channels_are_last(values, images, model, name)
            return (lambda v: v.movedim(-1, 1)) if channels_last else (lambda v: v)
    raise StageError(
        f"saliency: layer {name!r} gives {tuple(values.shape)} for images {tuple(images.shape)}; "
        "expected: feature maps with as many spatial dimensions, or a vision transformer's tokens; choose another layer"
    )


def _token_grids(tokens: int, images: Tensor, model: nn.Module) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield (tokens before the patches, (rows, columns)) that the number of a timm transformer's tokens can mean."""
    owner: Any = next((m for m in model.modules() if hasattr(m, "patch_embed")), None)
    step = getattr(getattr(owner, "patch_embed", None), "patch_size", None)
    if step is None:
        return
    steps = tuple(step) if isinstance(step, Sequence) else (step, step)
    prefixes = {0, getattr(owner, "num_prefix_tokens", 1)}
    for round_up in (True, False):  # a remainder is padded, or left out
        height, width = (
            (extent + s - 1 if round_up else extent) // s for extent, s in zip(images.shape[2:], steps, strict=True)
        )
        if tokens - height * width in prefixes:
            yield tokens - height * width, (height, width)


def _channels_are_last(values: Tensor, images: Tensor, model: nn.Module, name: str) -> bool:
    """Return whether feature maps are (N, *S, F) rather than (N, F, *S)."""
    shape, size = tuple(values.shape[1:]), tuple(images.shape[2:])
    modules = dict(model.named_modules())
    votes = {_order_by_kind(modules.get(name)), _order_by_shape(shape, size)} - {None}
    if len(votes) == 1:
        return bool(votes.pop())
    for other in ([max(1, extent // 2) for extent in size], [extent * 2 for extent in size]):
        resized = F.interpolate(images[:1], size=other, mode="nearest")
        try:
            with frozen_eval(model), torch.no_grad(), recorded([modules[name]]) as found:
                passed(model, resized)
        except (StageError, KeyError):  # a network of one size; or no layer by this name
            continue
        kept = [
            a for a in range(1, values.ndim) if found[0].ndim == values.ndim and found[0].shape[a] == values.shape[a]
        ]
        if kept in ([1], [values.ndim - 1]):
            return kept != [1]
    raise StageError(
        f"saliency: layer {name!r} gives {tuple(values.shape)} for images {tuple(images.shape)}: channels could be first or "
        "last; say channels_last=True or False, or choose another layer"
    )


_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
)  # fmt: skip


def _order_by_kind(layer: nn.Module | None) -> bool | None:
    """Return whether a layer's kind puts channels last, or None where its kind does not say."""
    if isinstance(layer, _CHANNELS_FIRST):
        return False
    # a class derived from LayerNorm may turn its input first, as those for (N, F, H, W) do
    if isinstance(layer, nn.LayerNorm) and type(layer).forward is nn.LayerNorm.forward:
        return len(layer.normalized_shape) == 1
    return True if isinstance(layer, nn.Linear) else None


def _order_by_shape(shape: tuple[int, ...], size: tuple[int, ...]) -> bool | None:
    """Return whether values (*S, F) rather than (F, *S) fit images of `size`; None where both or neither could."""

    def spread(places: tuple[int, ...]) -> float:
        """How unequal the steps along the axes are; infinite for more places than pixels."""
        steps = [extent / place for extent, place in zip(size, places, strict=True)]
        return max(steps) / min(steps) if min(steps) >= 1 else float("inf")

    first, last = spread(shape[1:]), spread(shape[:-1])
    if min(first, last) <= 2 and max(first, last) > 4:
        return last < first
    return None
