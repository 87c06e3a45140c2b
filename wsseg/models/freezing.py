"""Freezing the first feature levels of a network."""

import torch
from torch import nn

from wsseg.errors import StageError


def freeze_levels(network: nn.Module, levels: int, name: str) -> None:
    """Freeze the weights of a network's first feature levels (strides 2, 4, 8 ...), in place.

    Early filters are general and the most expensive to train: two levels of efficientnet-lite0 take a third of the time.

    Args:
        network: a timm network, which names its levels, or an encoder of segmentation-models-pytorch, which returns the
            features of its levels after the image itself.
        levels: number of levels to freeze.
        name: name of the network, for errors.

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
        raise StageError(f"frozen_levels: {name!r} has {len(modules)} feature levels; expected: 0 to {len(modules)}")
    prefix = "model." if hasattr(network, "model") else ""
    names = [n for n, _ in network.named_parameters()]

    def positions(module: str) -> list[int]:
        """Return the positions of a module's parameters; timm's feature extractors write stages.0 as stages_0."""
        heads = (f"{prefix}{module}.", f"{prefix}{module.replace('.', '_')}.")
        return [i for i, n in enumerate(names) if n.startswith(heads)]

    last_level = positions(modules[levels - 1])
    # a level without weights (an activation) ends where the next level begins
    end = last_level[-1] + 1 if last_level else min((i for m in modules[levels:] for i in positions(m)), default=0)
    for parameter in list(network.parameters())[:end]:
        parameter.requires_grad = False


def _freeze_returned(encoder: nn.Module, levels: int, name: str) -> None:
    """Freeze the parameters that the `levels`-th feature map of an encoder depends on."""
    mode = encoder.training
    first = next(encoder.parameters())
    with torch.enable_grad():
        features = encoder.eval()(torch.zeros(1, 3, 64, 64, device=first.device))
    encoder.train(mode)
    if not isinstance(features, list | tuple) or levels >= len(features):
        deepest = max(len(features) - 1, 0) if isinstance(features, list | tuple) else 0
        raise StageError(f"frozen_levels: {name!r} has {deepest} feature levels; expected: 0 to {deepest}")
    if not features[levels].requires_grad:  # a placeholder for a stride that the network does not have
        return
    parameters = list(encoder.parameters())
    gradients = torch.autograd.grad(features[levels].sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.requires_grad = False
