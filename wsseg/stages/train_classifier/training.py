"""Training of the multi-label classifier."""

import json
import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.data.images import LabeledImages
from wsseg.data.sizes import crop_of
from wsseg.data.transforms import TrainingImages, present, training_augmentation
from wsseg.errors import StageError
from wsseg.models.classifier import (
    Classifier,
    ClassifierSpec,
    Pooling,
    build_classifier,
    check_hub,
    input_statistics,
    load_backbone_weights,
    pooled,
)
from wsseg.models.device import resolve_device
from wsseg.models.freezing import freeze_levels
from wsseg.models.training import Measure, Schedule, fit, try_training
from wsseg.models.weights import outlined
from wsseg.saliency.forward import frozen_eval
from wsseg.stages.protocol import MarkSource
from wsseg.stages.train_classifier.choice import (
    SIZES,
    candidates,
    evidence_by_size,
    pooling_for,
    smallest_sufficient,
)
from wsseg.stages.train_classifier.config import Config
from wsseg.stages.train_classifier.consistency import equivariance_loss
from wsseg.stages.train_classifier.erasing import erased
from wsseg.stages.train_classifier.marks_loss import marks_loss, ramp
from wsseg.store.files import atomic_write

log = logging.getLogger("wsseg")
_SHORTEST, _LONGEST = 32, 4096  # places, of crops of sequences
_USUAL_SIZE = 320  # px, largest size without labels to choose it by


def positive_weights(images: LabeledImages, balance: bool) -> Tensor:
    """Return the weights (K,) of the positives of each class: sqrt(negatives / positives), in [1, 10]; 1 without `balance`."""
    if not balance:
        return torch.ones(len(images.classes))
    positives = torch.stack([present(item, len(images.classes)) for item in images.items]).sum(0)
    return ((len(images) - positives) / positives.clamp_min(1)).sqrt().clamp(1, 10)


def soft_margin_loss(logits: Tensor, target: Tensor, positive_weight: Tensor) -> Tensor:
    """Return the scalar multi-label soft-margin loss of logits (N, K), with positives weighted by class."""
    return F.binary_cross_entropy_with_logits(logits.float(), target, pos_weight=positive_weight)


def decisions(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the (K, 3) numbers of true positives, false positives and false negatives of logits and labels (N, K)."""
    predicted, present = logits > 0, labels > 0
    return torch.stack([predicted & present, predicted & ~present, ~predicted & present], dim=-1).sum(0)


def mean_f1(counts: Tensor) -> float:
    """Return the mean F1 of the classes that were predicted or present, from the counts of `decisions`."""
    true_positives, false_positives, false_negatives = counts.cpu().double().unbind(-1)
    sums = 2 * true_positives + false_positives + false_negatives
    return float((2 * true_positives / sums)[sums > 0].mean()) if bool((sums > 0).any()) else 0.0


def drawing_weights(images: LabeledImages) -> Tensor:
    """Return the weights (N,) with which images are drawn.

    Each class has the same weight, which its images share; images without a class form a class of their own. The weight of an
    image is that of its rarest class.
    """
    labels = torch.stack([present(item, len(images.classes)) for item in images.items])
    labels = torch.cat([labels, (labels.sum(1, keepdim=True) == 0).float()], dim=1)
    return (labels / labels.sum(0).clamp_min(1)).amax(1)


def class_evidence(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the network's evidence of all classes present, (N, h, w), not negative."""
    with frozen_eval(network), torch.no_grad():  # this pass must not change the statistics of normalisations
        maps: Tensor = network(images, as_maps=True).float().relu()
    return (maps * labels[:, :, None, None]).sum(1)


def _schedule(config: Config, images: LabeledImages) -> Schedule:
    return Schedule(
        config.length(len(images)).epochs, config.batch_size, config.learning_rate, config.head_lr_multiplier, config.weight_decay,
        config.schedule, config.rng_seed, config.precision, config.device, config.workers,
        bool(config.compile),
    )  # fmt: skip


def _spec(config: Config, images: LabeledImages, size: int, pooling: Pooling) -> ClassifierSpec:
    mean, std = input_statistics(config.backbone, images.channels)
    return ClassifierSpec(
        config.backbone, images.classes.names, mean, std, size, pooling, config.output_stride, images.channels
    )


def _check_sequence_values(config: Config) -> None:
    """Raise StageError for values that photographs have and sequences have not."""
    for name, value, expected in (
        ("weights", config.weights, ("none", "file")),
        ("frozen_levels", config.frozen_levels, (0,)),
        ("output_stride", config.output_stride, (32,)),
        ("erase", config.erase, ("off",)),
        ("consistency", config.consistency, (0,)),
    ):
        if value not in expected:
            raise StageError(f"{name}: found {value!r}; expected for sequences: {' or '.join(map(repr, expected))}")


def _crop(config: Config, images: LabeledImages, size: int) -> tuple[int, int]:
    """Return the (H, W) of the crops; quarters of a crop need sides that are multiples of 64."""
    tiled = config.consistency > 0 and config.consistency_under == "tile"
    return (size, size) if tiled else crop_of(images, size)


def chosen_spec(config: Config, images: LabeledImages, out: Path) -> ClassifierSpec:
    """Return the spec with size and pooling; those that the config leaves open are chosen from images and labels.

    For sequences they are the length of the longest one, between 32 and 4096, and ``lse``.
    The choice is kept in `out`, so that a run resumes without choosing again.
    """
    if config.size is not None and config.pooling is not None:
        return _spec(config, images, config.size, config.pooling)
    if images.channels:
        length = min(max(_SHORTEST, *(item.size[1] for item in images.items)), _LONGEST)
        return _spec(config, images, config.size or length, config.pooling or "lse")
    path = out / "choice.json"
    if not path.is_file():
        sizes = [config.size] if config.size else candidates([item.size for item in images.items])
        spec = _spec(config, images, sizes[0], "mean")
        torch.manual_seed(config.rng_seed)  # for a backbone without trained weights
        model = build_classifier(spec, 32)
        load_backbone_weights(model, config.backbone, config.weights, config.weights_file)
        evidence = evidence_by_size(model, spec, images, sizes, config.precision, config.device, config.rng_seed)
        size = smallest_sufficient(evidence) if evidence else max(s for s in sizes if s <= _USUAL_SIZE or s == sizes[0])
        pooling = config.pooling or (pooling_for(evidence[size]) if evidence else "mean")
        listed = "; ".join(
            f"{s} px: {100 * e.mean:.1f} (means), {100 * e.highest:.1f} (maxima)" for s, e in evidence.items()
        )
        log.info(
            "classifier: %d px, pooling %s%s", size, pooling, f"; mAP of held-out labels: {listed}" if listed else ""
        )
        measured = {str(s): asdict(entry) for s, entry in evidence.items()}
        atomic_write(path, json.dumps({"size": size, "pooling": pooling, "evidence": measured}).encode())
    choice = json.loads(path.read_bytes())
    return _spec(config, images, int(choice["size"]), choice["pooling"])


def check(config: Config, images: LabeledImages) -> None:
    """Raise StageError if a classifier cannot be built, initialised or trained; nothing is downloaded."""
    spec = _spec(config, images, config.size or max(SIZES), config.pooling or "mean")
    model = outlined(lambda: build_classifier(spec))
    if images.channels:
        _check_sequence_values(config)
    if config.weights == "hub":
        check_hub(config.backbone)
    else:
        load_backbone_weights(model, config.backbone, config.weights, config.weights_file)
    freeze_levels(model.backbone, config.frozen_levels, config.backbone)
    crop = _crop(config, images, spec.size)
    try_training(model, _schedule(config, images), len(images), crop, "classifier", len(spec.mean))


def train(
    config: Config, images: LabeledImages, out: Path, marks: MarkSource | None = None
) -> tuple[Classifier, ClassifierSpec, dict[str, list[float]]]:
    """Train a classifier; returns it in eval mode, its spec, and the loss and F1 of each epoch."""
    spec = chosen_spec(config, images, out)
    torch.manual_seed(config.rng_seed)  # for the initial weights of the head
    model = build_classifier(spec)
    load_backbone_weights(model, config.backbone, config.weights, config.weights_file)
    freeze_levels(model.backbone, config.frozen_levels, config.backbone)
    crop = _crop(config, images, spec.size)
    transform = training_augmentation(crop, spec.size, config.scale, config.color_jitter, images.channels)
    draws = config.length(len(images)).draws
    marks_of = marks.mask if marks else None
    data = TrainingImages(
        images.items,
        len(images.classes),
        transform,
        spec.mean,
        spec.std,
        config.rng_seed,
        draws=draws,
        marks_of=marks_of,
    )
    if config.sampling == "balanced":
        data.weights = drawing_weights(images)
    schedule = _schedule(config, images)
    weights = positive_weights(images, config.balance_loss).to(resolve_device(config.device))

    def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        images, labels = batch["image"], batch["present"]
        if config.erase != "off":
            evidence = class_evidence(network, images, labels) if config.erase == "salient" else None
            images = erased(images, config.erase, config.erase_fraction, evidence)
        if config.consistency == 0 and marks is None:
            logits = network(images)
            measure.add(decisions(logits, labels))
            return soft_margin_loss(logits, labels, weights)
        maps_of = partial(network, as_maps=True)
        images.requires_grad_(marks is not None and config.marks_loss == "input_gradient")
        maps = maps_of(images)  # (N, K, h, w)
        logits = pooled(maps, spec.pooling)
        measure.add(decisions(logits, labels))
        loss = soft_margin_loss(logits, labels, weights)
        if config.consistency > 0:
            loss = loss + config.consistency * equivariance_loss(
                maps, maps_of, images, labels, config.consistency_under
            )
        if marks is not None and config.marks_loss != "off":
            weight = ramp(data.epoch, schedule.epochs, config.marks_ramp)
            loss = loss + weight * marks_loss(
                config.marks_loss, images, maps, spec.pooling, batch["marks"], labels, config.marks_negative_weight,
                config.marks_positive_weight,
            )  # fmt: skip
        return loss

    measure = Measure("f1", (len(images.classes), 3), mean_f1)
    return model, spec, fit(model, model.head, data, loss_of, schedule, out, "classifier", measure)
