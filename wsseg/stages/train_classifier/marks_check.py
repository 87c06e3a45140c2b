"""What marks did to a classifier: the evidence inside M-, and whether the network still tells the classes apart."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from wsseg.data.batches import network_size, read_batch
from wsseg.data.images import LabeledImages
from wsseg.data.sampling import evenly_spaced
from wsseg.data.transforms import present
from wsseg.errors import StageError
from wsseg.models.classifier import Classifier, ClassifierSpec, pooled, pooling_weights
from wsseg.models.device import resolve_device
from wsseg.saliency.marked import evidence_of, marked_regions, share_inside
from wsseg.stages.protocol import MarkSource
from wsseg.stages.train_classifier.config import Config
from wsseg.types import LabeledImage

log = logging.getLogger("wsseg")
_LEAST_HELD_OUT = 8  # images
_LEAST_SKILL = 0.1  # of the way from chance to a perfect average precision


def without_held_out(images: LabeledImages, marks: MarkSource) -> tuple[LabeledImages, LabeledImages]:
    """Return the images to learn from, and those that are held out to notice a collapse.

    Held out is every twentieth image without a mark, at least eight; none if there are fewer than 80 of them.
    """
    marked = set(marks.ids)
    unmarked = [item for item in images.items if item.id not in marked]
    held_out = evenly_spaced(unmarked, max(_LEAST_HELD_OUT, len(unmarked) // 20))
    if len(unmarked) < 10 * _LEAST_HELD_OUT:
        held_out = []
    ids = {item.id for item in held_out}
    kept = tuple(item for item in images.items if item.id not in ids)
    return replace(images, items=kept), replace(images, items=tuple(held_out))


@torch.no_grad()
def marks_metrics(
    config: Config,
    model: Classifier,
    spec: ClassifierSpec,
    images: LabeledImages,
    marks: MarkSource,
    held_out: LabeledImages,
) -> dict[str, Any]:
    """Return what the marks did.

    Returns:
        ``evidence_in_marks``, the mean share of the absolute class maps inside M- over the images that have one;
        ``area_of_marks``, the share of their area; ``held_out``, the mean average precision and that of chance on images that
        were held out, if there are enough.

    Raises:
        StageError: on the images held out, the network is no better than chance.
    """
    evidence, area = evidence_in_marks(config, model, spec, images, marks)
    metrics: dict[str, Any] = {"evidence_in_marks": evidence, "area_of_marks": area}
    log.info(
        "classifier: %.1f %% of its evidence is where marks deny it (%.1f %% of the area)", 100 * evidence, 100 * area
    )
    if len(held_out) == 0:
        log.info("classifier: too few images without marks to hold some out; watch the classifier's quality on val")
        return metrics
    labels = torch.stack([present(item, len(images.classes)) for item in held_out.items])
    logits = torch.cat([pooled(maps, spec.pooling) for _, maps in class_maps(config, model, spec, held_out.items)])
    told = [k for k in range(labels.shape[1]) if 0 < labels[:, k].sum() < len(labels)]
    if told:
        reached = float(np.mean([average_precision_score(labels[:, k], logits[:, k]) for k in told]))
        chance = float(labels[:, told].mean())
        metrics["held_out"] = {"images": len(held_out), "map": reached, "chance": chance}
        if reached < chance + _LEAST_SKILL * (1 - chance):
            raise StageError(
                f"classifier: with the marks it no longer tells the classes apart: mean AP {reached:.2f} on {len(held_out)} training "
                f"images held out, {chance:.2f} by chance; lower classifier.marks_negative_weight "
                f"({config.marks_negative_weight:g} now) or classifier.marks_positive_weight "
                f"({config.marks_positive_weight:g} now), or raise classifier.marks_ramp ({config.marks_ramp:g} now)"
            )
    return metrics


def evidence_in_marks(
    config: Config, model: Classifier, spec: ClassifierSpec, images: LabeledImages, marks: MarkSource
) -> tuple[float, float]:
    """Return the mean shares of the absolute class maps and of the area that are inside M-, over the images with an M-."""
    marked = set(marks.ids)
    evidence, area = [], []
    for item, maps in class_maps(config, model, spec, [item for item in images.items if item.id in marked]):
        mark = torch.from_numpy(marks.mask(item.id).astype(np.int64))[None]
        labels = present(item, len(images.classes))[None]
        region, _ = marked_regions(mark, labels, (maps.shape[2], maps.shape[3]))
        share, denied = share_inside(evidence_of(maps, pooling_weights(maps, spec.pooling), "cam"), region)
        if bool(denied[0]):
            evidence.append(float(share[0]))
            area.append(float(share_inside(torch.ones_like(region), region)[0][0]))
    return (float(np.mean(evidence)), float(np.mean(area))) if evidence else (0.0, 0.0)


@torch.no_grad()
def class_maps(
    config: Config, model: Classifier, spec: ClassifierSpec, items: Sequence[LabeledImage]
) -> Iterator[tuple[LabeledImage, Tensor]]:
    """Yield the class maps (1, K, h, w) float32 of each image, on the CPU; the long side of the image is that of the training."""
    device = resolve_device(config.device)
    model.to(device)
    for item in items:
        (image,) = read_batch([item], spec.mean, spec.std, [network_size(item.size, spec.size, 1.0)], device)
        yield item, model(image.contiguous(memory_format=torch.channels_last), as_maps=True).float().cpu()
