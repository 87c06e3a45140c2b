"""Evidence about the quality of masks that needs no true masks: agreements and expectations, one IoU per class each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsseg.data.batches import batches_by_size, network_size, read_batch
from wsseg.labels import IGNORE_INDEX
from wsseg.models.device import autocast
from wsseg.models.segmenter import SegmenterSpec, segment
from wsseg.progress import track
from wsseg.stages.protocol import MaskSource
from wsseg.types import LabeledImage, Mask, Scores

_LARGER = 1.5  # scale of the second view
EVIDENCE = ("expected", "flip", "scale", "labels", "fit", "rounds", "first")


@dataclass
class Overlap:
    """Sums of intersections and unions by class id, over images; they may be expectations."""

    intersection: NDArray[np.float64]
    union: NDArray[np.float64]

    @classmethod
    def empty(cls, labels: int) -> "Overlap":
        """Return sums of 0 for `labels` class ids."""
        return cls(np.zeros(labels), np.zeros(labels))

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union; NaN for a class that does not occur."""
        result = np.full(len(self.union), np.nan)
        np.divide(self.intersection, self.union, out=result, where=self.union > 0)
        return result

    def add_masks(self, a: Mask, b: Mask) -> None:
        """Add two masks of one image, without the pixels that are 255 in one of them."""
        labels = len(self.union)
        both = (a != IGNORE_INDEX) & (b != IGNORE_INDEX)
        counts = np.bincount(a[both].astype(np.int64) * labels + b[both], minlength=labels**2).reshape(labels, labels)
        hits = np.diagonal(counts)
        self.intersection += hits
        self.union += counts.sum(0) + counts.sum(1) - hits

    def add_expected(self, mask: Mask, probabilities: Scores) -> None:
        """Add E[TP] and E[TP + FP + FN] of a mask, if each pixel has each class with its probability (K + 1, H, W)."""
        decided = mask != IGNORE_INDEX
        for class_id in range(len(self.union)):
            inside = (mask == class_id) & decided
            hits = probabilities[class_id][inside].sum(dtype=np.float64)
            self.intersection[class_id] += hits
            self.union[class_id] += inside.sum() + probabilities[class_id][decided].sum(dtype=np.float64) - hits


def gather_evidence(
    items: Sequence[LabeledImage],
    masks: MaskSource,
    first: MaskSource | None,
    model: nn.Module,
    previous: nn.Module | None,
    spec: SegmenterSpec,
    among_labels: bool,
    config: Any,
    device: torch.device,
) -> dict[str, NDArray[np.float64]]:
    """Return an IoU by class id (K + 1,) for each kind of `EVIDENCE`; NaN where a class or an input does not occur.

    - ``expected``: E[TP] / E[TP + FP + FN] of the masks under the network's probabilities.
    - ``flip``, ``scale``: the network's masks of an image and of its mirror image, or of the image enlarged 1.5 times.
    - ``labels``: the network's masks, and the same among the image-level labels only.
    - ``fit``: the masks and those of the network.
    - ``rounds``: the masks and those of a network of an earlier round.
    - ``first``: the masks and the first pseudo-masks, which no segmenter has changed.

    Args:
        items: the images.
        masks: the masks that are judged.
        first: the first pseudo-masks, or None.
        model: the network that made the masks, in eval mode on `device`.
        previous: the network of an earlier round, or None.
        spec: classes and input of both networks.
        among_labels: whether the masks hold the classes of the image-level labels only, as pseudo-masks do.
        config: batch size and precision.
        device: of the networks.
    """
    labels = len(spec.classes) + 1
    overlaps = {name: Overlap.empty(labels) for name in EVIDENCE}
    batches = batches_by_size(items, config.batch_size)
    for batch in track(batches, len(batches), "estimating quality", "batches"):
        sizes = [network_size(batch[0].size, spec.size, scale) for scale in (1.0, _LARGER)]
        normal, larger = read_batch(batch, spec.mean, spec.std, sizes, device)
        with autocast(config.precision, device):
            views = [segment(model, [view], sizes[0], flip=False) for view in (normal, normal.flip(3), larger)]
            if previous is not None:
                views.append(segment(previous, [normal], sizes[0], flip=False))
        straight, mirrored, large, *others = (view.float().cpu().numpy() for view in views)
        earlier = others[0] if others else None
        mirrored = mirrored[..., ::-1]
        mean = (straight + mirrored + large) / 3
        for index, item in enumerate(batch):
            possible = [0, *item.class_ids]
            large_mask = masks.mask(item.id)
            if first is not None:
                overlaps["first"].add_masks(large_mask, first.mask(item.id))
            mask: Mask = np.asarray(cv2.resize(large_mask, sizes[0][::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
            among = _among(mean[index], possible)
            own = among if among_labels else mean[index]
            overlaps["expected"].add_expected(mask, own)
            overlaps["fit"].add_masks(mask, _best(own))
            overlaps["flip"].add_masks(_best(straight[index]), _best(mirrored[index]))
            overlaps["scale"].add_masks(_best(straight[index]), _best(large[index]))
            overlaps["labels"].add_masks(_best(mean[index]), _best(among))
            if earlier is not None:
                overlaps["rounds"].add_masks(
                    mask, _best(_among(earlier[index], possible) if among_labels else earlier[index])
                )
    return {name: overlap.iou for name, overlap in overlaps.items()}


def _best(scores: Scores) -> Mask:
    mask: Mask = scores.argmax(axis=0).astype(np.uint8)
    return mask


def _among(scores: Scores, possible: Sequence[int]) -> Scores:
    """Return scores (K + 1, H, W) in which only the possible classes are left, with sum 1."""
    result = np.zeros_like(scores)
    result[possible] = scores[possible] / scores[possible].sum(axis=0, keepdims=True).clip(1e-12)
    return result
