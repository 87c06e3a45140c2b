"""Freezing the first feature levels of a network."""

import torch
from torch import nn

from wsseg.errors import StageError


def freeze_levels(network: nn.Module, levels: int, name: str) -> None:
    """Keep the weights of a network's first feature levels (strides 2, 4, 8 ...) as they are, in place.

    timm's networks name their levels; an encoder of segmentation-models-pytorch returns them, from the image itself on.

    Early filters are general, and the costliest to train: two levels of efficientnet-lite0 take a third of the time.

    Raises:
        StageError: the network has fewer levels.
    """
    if levels == 0:
        return
    info = getattr(getattr(network, "model", network), "feature_info", None)
    modules = [level["module"] for level in getattr(info, "info", info) or []]
    if not modules:
        _freeze_returned(network, levels, name)
        return
    if levels > len(modules):
        raise StageError(f"frozen_levels: {name!r} names {len(modules)} feature levels; expected: 0 to {len(modules)}")
    prefix = "model." if hasattr(network, "model") else ""
    names = [n for n, _ in network.named_parameters()]

    def of(module: str) -> list[int]:
        """Positions of a module's parameters; timm's feature extractors write stages.0 as stages_0."""
        heads = (f"{prefix}{module}.", f"{prefix}{module.replace('.', '_')}.")
        return [i for i, n in enumerate(names) if n.startswith(heads)]

    own = of(modules[levels - 1])
    # a level without weights of its own (an activation) ends where the next level begins
    end = own[-1] + 1 if own else min((i for later in modules[levels:] for i in of(later)), default=0)
    for parameter in list(network.parameters())[:end]:
        parameter.requires_grad = False


def _freeze_returned(encoder: nn.Module, levels: int, name: str) -> None:
    """Freeze what the `levels`-th of the feature maps that an encoder returns is computed with."""
    mode = encoder.training
    first = next(encoder.parameters())
    with torch.enable_grad():
        features = encoder.eval()(torch.zeros(1, 3, 64, 64, device=first.device))
    encoder.train(mode)
    if not isinstance(features, list | tuple) or levels >= len(features):
        deepest = max(len(features) - 1, 0) if isinstance(features, list | tuple) else 0
        raise StageError(f"frozen_levels: {name!r} has {deepest} feature levels; expected: 0 to {deepest}")
    if not features[levels].requires_grad:  # a level that stands for a stride that the network does not have
        return
    parameters = list(encoder.parameters())
    found = torch.autograd.grad(features[levels].sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, found, strict=True):
        if gradient is not None:
            parameter.requires_grad = False
