"""Views of a layer's values as feature maps (N, F, *S), for channels first, channels last and tokens of transformers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.errors import StageError
from wsseg.saliency.forward import frozen_eval, passed
from wsseg.saliency.hooks import recorded

View = Callable[[Tensor], Tensor]


def spatial(values: Tensor, images: Tensor, model: nn.Module, name: str, channels_last: bool | None = None) -> Tensor:
    """Return a layer's values as feature maps (N, F, *S); see `view_of`."""
    return view_of(values, images, model, name, channels_last)(values)


def view_of(values: Tensor, images: Tensor, model: nn.Module, name: str, channels_last: bool | None = None) -> View:
    """Return a function that views a layer's values as feature maps (N, F, *S).

    The class and register tokens of a vision transformer's tokens (N, T, F) are dropped. Whether feature maps have their
    channels first or last is inferred from the layer's type (a convolution, a linear layer), from how its shape fits the
    images' shape, and from the axis whose length stays the same for images of another size.

    Args:
        values: the layer's values for `images`.
        images: (N, C, *S).
        model: the network.
        name: name of the layer.
        channels_last: True if channels are last, False if they are first; None infers it.

    Raises:
        StageError: the values are neither tokens nor feature maps, or the order of their axes is ambiguous.
    """
    if values.numel() == 0:
        raise StageError(
            f"saliency: layer {name!r} has no output for images {tuple(images.shape)}: the forward pass does not reach it, or the "
            "network is traced, so that hooks do not run; choose another layer, or the untraced network"
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
        f"saliency: layer {name!r} returns {tuple(values.shape)} for images {tuple(images.shape)}; "
        "expected: feature maps with as many spatial dimensions, or a vision transformer's tokens; choose another layer"
    )


def _token_grids(tokens: int, images: Tensor, model: nn.Module) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield the (number of prefix tokens, (rows, columns)) that are consistent with a timm transformer's number of tokens."""
    owner: Any = next((m for m in model.modules() if hasattr(m, "patch_embed")), None)
    step = getattr(getattr(owner, "patch_embed", None), "patch_size", None)
    if step is None:
        return
    steps = tuple(step) if isinstance(step, Sequence) else (step, step)
    prefixes = {0, getattr(owner, "num_prefix_tokens", 1)}
    for round_up in (True, False):  # a remainder is padded or cropped
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
    for trial_size in ([max(1, extent // 2) for extent in size], [extent * 2 for extent in size]):
        resized = F.interpolate(images[:1], size=trial_size, mode="nearest")
        try:
            with frozen_eval(model), torch.no_grad(), recorded([modules[name]]) as outputs:
                passed(model, resized)
        except (StageError, KeyError):  # a network of fixed input size, or no layer with this name
            continue
        kept = [
            a
            for a in range(1, values.ndim)
            if outputs[0].ndim == values.ndim and outputs[0].shape[a] == values.shape[a]
        ]
        if kept in ([1], [values.ndim - 1]):
            return kept != [1]
    raise StageError(
        f"saliency: layer {name!r} returns {tuple(values.shape)} for images {tuple(images.shape)}: channels could be first or "
        "last; pass channels_last=True or False, or choose another layer"
    )


_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
)  # fmt: skip


def _order_by_kind(layer: nn.Module | None) -> bool | None:
    """Return whether layers of this type put channels last, or None if the type does not decide."""
    if isinstance(layer, _CHANNELS_FIRST):
        return False
    # a subclass of LayerNorm may permute its input first, as those for (N, F, H, W) do
    if isinstance(layer, nn.LayerNorm) and type(layer).forward is nn.LayerNorm.forward:
        return len(layer.normalized_shape) == 1
    return True if isinstance(layer, nn.Linear) else None


def _order_by_shape(shape: tuple[int, ...], size: tuple[int, ...]) -> bool | None:
    """Return whether values are (*S, F) rather than (F, *S) for images of `size`; None if both or neither fit."""

    def spread(places: tuple[int, ...]) -> float:
        """Return the ratio of the strides along the axes; infinity if there are more places than pixels."""
        steps = [extent / place for extent, place in zip(size, places, strict=True)]
        return max(steps) / min(steps) if min(steps) >= 1 else float("inf")

    first, last = spread(shape[1:]), spread(shape[:-1])
    if min(first, last) <= 2 and max(first, last) > 4:
        return last < first
    return None
