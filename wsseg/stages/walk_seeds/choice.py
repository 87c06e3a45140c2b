"""Whether a class's seeds should walk, decided without truth: by how much of the classifier's evidence a map captures.

A walk fills large things up to their borders, and lets thin or pale ones run out into the background. The classifier tells
which: it is shown the best tenth (and other shares) of a map's pixels alone, and then all the others; a map that finds the
thing scores high on the first and low on the second. Walked or not, both are compared at equal areas.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsseg.data.batches import network_size
from wsseg.data.transforms import normalised
from wsseg.models.classifier import ClassifierSpec
from wsseg.models.training import autocast
from wsseg.types import Image, LabeledImage

SAMPLE = 96  # images that the choice is made on
AREAS = (0.05, 0.1, 0.2, 0.4)  # of the image
_SIDE = 320  # px, long side at which the classifier looks
_BLUR = 15.0  # px, standard deviation of what stands for pixels that are not shown


def sample_of(items: Sequence[LabeledImage]) -> list[LabeledImage]:
    """Return 96 images with at least one class, evenly spaced; all, where there are no more."""
    labeled = [item for item in items if item.class_ids]
    if len(labeled) <= SAMPLE:
        return labeled
    return [labeled[len(labeled) * k // SAMPLE] for k in range(SAMPLE)]


@torch.inference_mode()
def captured(
    image: Image,
    maps: NDArray[np.float32],
    class_ids: Sequence[int],
    model: nn.Module,
    spec: ClassifierSpec,
    device: torch.device,
) -> NDArray[np.float32]:
    """Return (C,) in [-1, 1]: the classifier's probability on each map's pixels, less that on all the others.

    The mean over the highest 5, 10, 20 and 40 % of the pixels.

    Args:
        image: (H, W, 3) uint8.
        maps: (C, h, w), any size.
        class_ids: (C,) what they are maps of.
        model: the classifier, in eval mode, on the device.
        spec: its input's statistics.
        device: where it looks.
    """
    height, width = network_size((image.shape[0], image.shape[1]), _SIDE, 1.0)
    small = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    blurred = cv2.GaussianBlur(small, (0, 0), _BLUR)
    shown = []
    for own in maps:
        large = cv2.resize(own, (width, height), interpolation=cv2.INTER_LINEAR)
        levels = np.quantile(large, [1 - area for area in AREAS])
        for inside in (large >= level for level in levels):
            shown += [np.where(inside[..., None], small, blurred), np.where(inside[..., None], blurred, small)]
    batch = torch.stack([normalised(picture, spec.mean, spec.std) for picture in shown])
    with autocast("auto", device):
        logits = model(batch.to(device, memory_format=torch.channels_last)).float()
    scores = torch.sigmoid(logits).cpu().numpy().reshape(len(maps), len(AREAS), 2, -1)
    own_scores = scores[np.arange(len(maps)), :, :, [class_id - 1 for class_id in class_ids]]  # (C, areas, 2)
    result: NDArray[np.float32] = (own_scores[..., 0] - own_scores[..., 1]).mean(1)
    return result


def walking(before: Mapping[int, Sequence[float]], after: Mapping[int, Sequence[float]]) -> set[int]:
    """Return the class ids whose walked maps capture at least as much, in the mean over images.

    Args:
        before: what the seeds captured, by class id.
        after: what they did once walked.
    """
    return {class_id for class_id, found in after.items() if found and np.mean(found) >= np.mean(before[class_id])}
