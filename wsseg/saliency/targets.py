"""Targets of saliency maps: the logit of a class, its probability, or its margin over the next class."""

from typing import Literal, get_args

import torch
from torch import Tensor

from wsseg.errors import StageError

Target = Literal["logit", "sigmoid", "softmax", "margin"]


def target_scores(logits: Tensor, channel: int, target: Target = "logit") -> Tensor:
    """Return the target (N,) of one class.

    ``logit`` is the default because the gradient of a probability is that of the logit times p (1 - p), which vanishes if
    the network is confident, so that the map of the clearest image is noise. ``margin`` is the logit minus the highest
    logit of another class.

    Args:
        logits: (N, K).
        channel: channel of the class, 0..K - 1.
        target: name of the target.

    Raises:
        StageError: the class or the target does not exist, or ``margin`` is used with a single class.
    """
    if logits.ndim != 2:
        raise StageError(f"saliency: the network returns {tuple(logits.shape)}; expected: logits (N, K)")
    if not 0 <= channel < logits.shape[1]:
        raise StageError(f"saliency: found class channel {channel}; expected: 0 to {logits.shape[1] - 1}")
    if target == "logit":
        return logits[:, channel]
    if target == "sigmoid":
        return logits[:, channel].sigmoid()
    if target == "softmax":
        return logits.softmax(1)[:, channel]
    if target == "margin":
        if logits.shape[1] == 1:
            raise StageError('saliency: target "margin" of a network with one class; expected: logit, sigmoid')
        others = torch.cat([logits[:, :channel], logits[:, channel + 1 :]], dim=1)
        return logits[:, channel] - others.amax(1)
    raise StageError(f"saliency: target: found {target!r}; expected: {', '.join(get_args(Target))}")
