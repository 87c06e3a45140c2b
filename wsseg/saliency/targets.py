"""What of a class a map explains: its logit, its probability, or its lead over the next class."""

from typing import Literal, get_args

import torch
from torch import Tensor

from wsseg.errors import StageError

Target = Literal["logit", "sigmoid", "softmax", "margin"]


def target_scores(logits: Tensor, channel: int, target: Target = "logit") -> Tensor:
    """Return (N,) what is explained of one class.

    ``logit`` is the default for a reason: the gradient of a probability is the logit's times p (1 - p), which is nothing
    where the network is sure, so that the map of the clearest image is noise. ``margin`` is the logit less the highest
    logit of another class.

    Args:
        logits: (N, K).
        channel: of the class, 0 .. K - 1.
        target: what is explained.

    Raises:
        StageError: no such class or target; ``margin`` of a single class.
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
