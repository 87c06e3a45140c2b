"""Layers of a network by name."""

import difflib

from torch import nn

from wsseg.errors import StageError


def layer_of(model: nn.Module, name: str) -> nn.Module:
    """Return a layer by its name in ``model.named_modules()``.

    Raises:
        StageError: the network has no such layer; the message lists the nearest names.
    """
    modules = dict(model.named_modules())
    if name not in modules or not name:
        close = difflib.get_close_matches(name, modules, n=5, cutoff=0.4)
        first = [n for n in modules if n.count(".") <= 1 and n]
        raise StageError(
            f"saliency: the network has no layer {name!r}; nearest: {', '.join(close) or 'none'}; "
            f"its first levels: {', '.join(first[:40])}"
        )
    layer: nn.Module = modules[name]
    return layer


def feature_levels(model: nn.Module) -> list[str]:
    """Return the names of the last layers of a timm backbone's feature levels, from the input to the output.

    Raises:
        StageError: the network does not list its feature levels.
    """
    for prefix, module in model.named_modules():
        info = getattr(module, "feature_info", None)
        levels = getattr(info, "info", info)
        if levels:
            return [f"{prefix}.{level['module']}".lstrip(".") for level in levels]
    raise StageError("saliency: the network lists no feature levels; expected: the name of a layer")


def last_layer(model: nn.Module) -> str:
    """Return the default layer: the network's ``last_layer`` attribute if it has one, else its last feature level."""
    named = getattr(model, "last_layer", None)
    return named if isinstance(named, str) else feature_levels(model)[-1]
