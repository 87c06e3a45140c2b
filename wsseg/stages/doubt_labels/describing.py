"""Descriptors of the places of images, by a backbone with fixed weights."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wsseg.data.batches import batches_by_size, network_size, read_batch
from wsseg.data.images import LabeledImages
from wsseg.data.sampling import evenly_spaced
from wsseg.models.classifier import (
    Classifier,
    ClassifierSpec,
    backbone_statistics,
    build_classifier,
    check_hub,
    load_backbone_weights,
)
from wsseg.models.device import autocast, resolve_device
from wsseg.models.weights import outlined
from wsseg.progress import track
from wsseg.saliency.feature_maps import spatial
from wsseg.saliency.hooks import replaced
from wsseg.saliency.layers import feature_levels, layer_of
from wsseg.stages.doubt_labels.config import Config
from wsseg.types import LabeledImage

_LEVELS = 3  # the last feature levels, usually of strides 8, 16 and 32
_GRID = 16  # places along each side of an image
_DIMENSIONS = 128
_SAMPLE = 64  # images from which the principal components are computed

Descriptors = NDArray[np.float16]
"""(N, 256, D): one descriptor per place of a 16 x 16 grid over each image."""


def check(config: Config, images: LabeledImages) -> None:
    """Raise StageError if the backbone cannot be built or its weights do not fit; nothing is downloaded."""
    mean, std = backbone_statistics(config.backbone)
    model = outlined(lambda: build_classifier(ClassifierSpec(config.backbone, images.classes.names, mean, std)))
    feature_levels(model)
    if config.weights == "hub":
        check_hub(config.backbone)
    else:
        load_backbone_weights(model, config.backbone, config.weights, config.weights_file)


@torch.inference_mode()
def descriptors(config: Config, images: LabeledImages) -> Descriptors:
    """Return the descriptors of images, in their order.

    A descriptor holds the features of the last three levels at one place, reduced to 128 principal components: 64 KB per
    image. Places are kept apart because a mean over the image would dilute small objects.
    """
    mean, std = backbone_statistics(config.backbone)
    model = build_classifier(ClassifierSpec(config.backbone, images.classes.names, mean, std)).eval()
    load_backbone_weights(model, config.backbone, config.weights, config.weights_file)
    device = resolve_device(config.device)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features_of(items: list[LabeledImage]) -> Tensor:
        size = network_size(items[0].size, config.size, 1.0)
        (batch,) = read_batch(items, mean, std, [size], device)
        with autocast(config.precision, device):
            return _features(model, batch.contiguous(memory_format=torch.channels_last)).cpu()

    sample = batches_by_size(evenly_spaced(images.items, _SAMPLE), config.batch_size)
    centre, components = _principal(torch.cat([features_of(items).flatten(0, 1) for items in sample]))
    rows: dict[str, Descriptors] = {}
    batches = batches_by_size(images.items, config.batch_size)
    for items in track(batches, len(batches), "descriptors", "batches"):
        reduced = ((features_of(items) - centre) @ components).half().numpy()
        rows |= dict(zip((item.id for item in items), reduced, strict=True))
    return np.stack([rows[item.id] for item in images.items])


def _features(model: Classifier, batch: Tensor) -> Tensor:
    """Return the features (N, places, F) float32 of network inputs (N, 3, H, W)."""
    names = feature_levels(model)[-_LEVELS:]
    outputs: dict[int, Tensor] = {}

    def keep(index: int, output: Tensor) -> Tensor:
        outputs[index] = output
        return output

    with replaced([layer_of(model, name) for name in names], keep):
        model.features(batch)
    grid = (_GRID, _GRID)
    levels = []
    for index, name in enumerate(names):
        maps = spatial(outputs[index], batch, model, name).float()
        if min(maps.shape[2:]) > _GRID:  # a small object fills one place of a fine map
            levels.append(F.adaptive_max_pool2d(maps, grid))
        else:
            levels.append(F.interpolate(maps, size=grid, mode="bilinear", align_corners=False))
    return torch.cat(levels, dim=1).flatten(2).transpose(1, 2)


def _principal(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (F,) of features (M, F) and the matrix (F, D) of their principal components.

    Each feature is standardised first, because the levels differ in scale. The components are divided by one number, so
    that their mean variance is 1; whitened ones are judged worse, because the last components are mostly noise.
    """
    centre, scale = features.mean(0), features.std(0).clamp_min(1e-5)
    standard = (features - centre) / scale
    variances, directions = torch.linalg.eigh(standard.T @ standard / len(standard))  # in ascending order
    variances, directions = variances[-_DIMENSIONS:], directions[:, -_DIMENSIONS:]
    signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()  # their signs are arbitrary
    return centre, directions * signs / scale[:, None] / variances.mean().clamp_min(1e-6).sqrt()
