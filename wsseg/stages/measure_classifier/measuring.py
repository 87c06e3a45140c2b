"""Metrics of a classifier on held-out images."""

from typing import Any

import numpy as np
import torch

from wsseg.data.batches import batches_by_size, network_sizes, read_batch
from wsseg.data.images import LabeledImages
from wsseg.data.transforms import present
from wsseg.metrics.classification import auc_by_class, classification_metrics
from wsseg.models.classifier import Classifier, ClassifierSpec
from wsseg.models.device import autocast, resolve_device
from wsseg.progress import track
from wsseg.stages.measure_classifier.config import Config


@torch.inference_mode()
def metrics_of(model: Classifier, spec: ClassifierSpec, images: LabeledImages, config: Config) -> dict[str, Any]:
    """Return the `classification_metrics` of a classifier on images, and for sequences `auc_by_class` as ``auc``.

    Args:
        model: the classifier, in eval mode.
        spec: its classes and the statistics of its input.
        images: images of the same classes.
        config: batch size, precision and device.
    """
    device = resolve_device(config.device)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    logits, labels = [], []
    batches = batches_by_size(images.items, config.batch_size)
    for items in track(batches, len(batches), "classifier on val", "batches"):
        (batch,) = read_batch(items, spec.mean, spec.std, network_sizes(items[0], spec.size, [1.0]), device)
        with autocast(config.precision, device):
            logits.append(model(batch.contiguous(memory_format=torch.channels_last)).float().cpu().numpy())
        labels.append(torch.stack([present(item, len(images.classes)) for item in items]).numpy())
    scores, truth = np.concatenate(logits), np.concatenate(labels)
    metrics = classification_metrics(scores, truth, images.classes)
    return {**metrics, "auc": auc_by_class(scores, truth, images.classes)} if images.channels else metrics
