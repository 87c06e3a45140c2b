"""In-silico mutagenesis: how much the logit falls if a base is replaced (Zhou & Troyanskaya 2015, DeepSEA)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wsseg.errors import StageError
from wsseg.saliency.forward import check_images, frozen_eval, logits_of
from wsseg.saliency.passes import in_parts


@torch.no_grad()
def mutagenesis(model: nn.Module, images: Tensor, channels: Sequence[int]) -> Tensor:
    """Return the change of each class's logit for every base at every place.

    Args:
        model: network that returns logits (N, K).
        images: (N, 4, 1, L) one-hot letters.
        channels: channels of the C classes.

    Returns:
        (N, C, 4, 1, L) float32: the logit with that base minus the logit of the sequence; 0 at its own bases. It takes 4 L
        forward passes per sequence.

    Raises:
        StageError: the images are not letters.
    """
    check_images(images)
    if images.ndim != 4 or images.shape[1:3] != (4, 1):
        raise StageError(f"saliency: mutagenesis: found images {tuple(images.shape)}; expected: letters (N, 4, 1, L)")
    length = images.shape[3]
    result = torch.zeros(len(images), len(channels), 4, 1, length)
    place = torch.arange(length)

    def chosen(batch: Tensor) -> Tensor:
        return logits_of(model, batch, channels)[:, list(channels)].float().cpu()

    with frozen_eval(model):
        for index, image in enumerate(images):
            own = chosen(image[None])[0]
            for base in range(4):
                mutants = image[None].repeat(length, 1, 1, 1)
                mutants[place, :, 0, place] = 0.0
                mutants[place, base, 0, place] = 1.0
                result[index, :, base, 0] = (in_parts(chosen, mutants) - own).T
    return result


def importance(changes: Tensor) -> Tensor:
    """Return maps (N, C, 1, L), not negative: the mean fall of the logit over the three other bases.

    Args:
        changes: (N, C, 4, 1, L) of `mutagenesis`.
    """
    return (-changes.sum(2) / 3).relu()
