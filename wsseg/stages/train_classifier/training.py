"""Training and judging of the multi-label classifier."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.data.batches import batches_by_size, network_size, read_batch
from wsseg.data.images import LabeledImages
from wsseg.data.transforms import TrainingImages, augmentation, present
from wsseg.errors import StageError
from wsseg.metrics.classification import classification_metrics
from wsseg.models.classifier import (
    Classifier,
    ClassifierSpec,
    backbone_statistics,
    build_classifier,
    load_backbone_weights,
)
from wsseg.models.training import Schedule, autocast, fit, freeze_levels, resolve_device
from wsseg.progress import track
from wsseg.stages.train_classifier.config import Config


def positive_weights(images: LabeledImages, balance: bool) -> Tensor:
    """Return (K,) the weight of each class's positives: sqrt(negatives / positives), at most 10; 1 without balance."""
    if not balance:
        return torch.ones(len(images.classes))
    positives = torch.stack([present(item, len(images.classes)) for item in images.items]).sum(0)
    return ((len(images) - positives) / positives.clamp_min(1)).sqrt().clamp(1, 10)


def soft_margin_loss(logits: Tensor, target: Tensor, positive_weight: Tensor) -> Tensor:
    """Return the multi-label soft-margin loss of (N, K) logits, positives weighted by class; a scalar."""
    return F.binary_cross_entropy_with_logits(logits.float(), target, pos_weight=positive_weight)


def train(config: Config, images: LabeledImages, out: Path) -> tuple[Classifier, ClassifierSpec, list[float]]:
    """Train a classifier; returns it in eval mode, how to build it again, and the loss of each epoch."""
    if len(config.scale) != 2 or config.scale[0] > config.scale[1]:
        raise StageError(f"classifier.scale: found {list(config.scale)}; legal: [smallest, largest]")
    mean, std = backbone_statistics(config.backbone)
    spec = ClassifierSpec(config.backbone, images.classes.names, mean, std)
    torch.manual_seed(config.rng_seed)  # the head's first weights
    model = build_classifier(spec)
    load_backbone_weights(model, config.backbone, config.weights, config.weights_file)
    freeze_levels(model.backbone, config.frozen_levels, config.backbone)
    transform = augmentation(config.size, (config.scale[0], config.scale[1]), config.color)
    data = TrainingImages(images.items, len(images.classes), transform, mean, std, config.rng_seed)
    schedule = Schedule(
        config.epochs, config.batch_size, config.learning_rate, config.head_factor, config.weight_decay,
        config.schedule, config.rng_seed, config.precision, config.device, config.workers,
    )  # fmt: skip
    weights = positive_weights(images, config.balance).to(resolve_device(config.device))

    def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return soft_margin_loss(network(batch["image"]), batch["present"], weights)

    losses = fit(model, model.head, data, loss_of, schedule, out, "classifier")
    return model, spec, losses


@torch.inference_mode()
def judge(model: Classifier, spec: ClassifierSpec, images: LabeledImages, config: Config) -> dict[str, Any]:
    """Return mAP, AP per class and exact match on images that were not trained on, at the training size."""
    device = resolve_device(config.device)
    model = model.to(device).eval()
    logits, targets = [], []
    batches = batches_by_size(images.items, config.batch_size)
    for items in track(batches, len(batches), "classifier on val", "batches"):
        _, batch = read_batch(items, spec.mean, spec.std)
        size = network_size(items[0].size, config.size, 1.0)
        scaled = F.interpolate(batch.to(device), size=size, mode="bilinear", align_corners=False, antialias=True)
        with autocast(config.precision, device):
            logits.append(model(scaled.contiguous(memory_format=torch.channels_last)).float().cpu().numpy())
        targets.append(torch.stack([present(item, len(images.classes)) for item in items]).numpy())
    return classification_metrics(np.concatenate(logits), np.concatenate(targets), images.classes)
