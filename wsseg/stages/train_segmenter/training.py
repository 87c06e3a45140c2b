"""Training of the segmentation network on masks that may contain 255 (undecided)."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.data.batches import network_size
from wsseg.data.images import LabeledImages
from wsseg.data.sizes import crop_of
from wsseg.data.transforms import Focus, TrainingImages, training_augmentation
from wsseg.errors import StageError
from wsseg.labels import BACKGROUND, IGNORE_INDEX
from wsseg.metrics.confusion import iou_per_class, mean_iou
from wsseg.models.classifier import (
    ClassifierSpec,
    build_classifier,
    check_backbone,
    check_hub,
    load_backbone_weights,
    load_classifier,
)
from wsseg.models.freezing import freeze_levels
from wsseg.models.segmenter import SegmenterSpec, build_segmenter, check_size, encoder_statistics, load_encoder
from wsseg.models.sequences import ARCHITECTURE
from wsseg.models.training import Measure, Schedule, fit, try_training
from wsseg.models.weights import outlined, read_state
from wsseg.stages.protocol import MaskSource
from wsseg.stages.train_segmenter.config import Config
from wsseg.stages.train_segmenter.losses import absent_loss, dice_loss, per_pixel, weighted_mean
from wsseg.stages.train_segmenter.marks_loss import with_said
from wsseg.stages.train_segmenter.teacher import TaughtNetwork, cutmix, random_boxes, teacher_targets
from wsseg.stages.training_length import TrainingLength
from wsseg.store.artifact import Artifact

# px, distance of the pixels that the mIoU of an epoch counts; counting all of them would take 2 % of the training's time
_SAMPLED = 4
LIGHT_DECODERS = {
    "unet": {"decoder_channels": 128},
    "fpn": {"decoder_pyramid_channels": 128, "decoder_segmentation_channels": 64},
}
_USUAL_SIZE = 320  # px, long side of the images if neither the config nor a classifier sets it


def _schedule(config: Config, length: TrainingLength) -> Schedule:
    return Schedule(
        length.epochs, config.batch_size, config.learning_rate, config.head_lr_multiplier, config.weight_decay,
        config.schedule, config.rng_seed, config.precision, config.device, config.workers,
        bool(config.compile),
    )  # fmt: skip


def _spec(config: Config, images: LabeledImages, size: int) -> SegmenterSpec:
    if images.channels:
        statistics = (0.0,) * len(images.channels), (1.0,) * len(images.channels)
        return SegmenterSpec(
            config.architecture, ARCHITECTURE, {}, images.classes.names, size, *statistics, images.channels
        )
    mean, std = encoder_statistics(config.encoder)
    decoder = LIGHT_DECODERS.get(config.architecture, {}) if config.decoder is None else config.decoder
    return SegmenterSpec(config.architecture, config.encoder, decoder, images.classes.names, size, mean, std)


def _check_sequence_values(config: Config) -> None:
    """Raise StageError for values that photographs have and sequences have not."""
    for name, value, expected in (
        ("weights", config.weights, "none"),
        ("frozen_levels", config.frozen_levels, 0),
        ("ema_decay", config.ema_decay, 0),
    ):
        if value != expected:
            raise StageError(f"{name}: found {value!r}; expected for sequences: {expected!r}")


def check(config: Config, images: LabeledImages, backbone: str | None, looking_size: int | None) -> None:
    """Raise StageError if a segmenter cannot be built, initialised, trained or used for predictions; nothing is downloaded.

    Args:
        config: the values.
        images: the training images.
        backbone: name of the classifier's backbone, or None without a classifier.
        looking_size: size of the classifier's images, or None if it is not known yet.
    """
    size = config.size or looking_size or _USUAL_SIZE
    spec = _spec(config, images, size)
    model = outlined(lambda: build_segmenter(spec))
    if images.channels:
        _check_sequence_values(config)
    elif config.weights == "hub":
        check_hub(timm_name(config))
    else:
        source = None
        if backbone is not None:
            classifier = ClassifierSpec(backbone, spec.classes, spec.mean, spec.std)
            source = outlined(lambda: build_classifier(classifier)).backbone
        start_encoder(model, config, source)
    freeze_levels(model.get_submodule("encoder"), config.frozen_levels, config.encoder)
    crop = crop_of(images, min(config.crop, size))
    try_training(model, _schedule(config, config.length(len(images))), len(images), crop, "segmenter", len(spec.mean))
    if images.channels:  # the network accepts any length
        return
    narrowest = min((item.size for item in images.items), key=lambda size: min(size) / max(size))
    check_size(model, network_size(narrowest, size, 1.0))


def train(
    config: Config,
    images: LabeledImages,
    masks: MaskSource,
    classifier: Artifact | None,
    out: Path,
    length: TrainingLength,
    marks: MaskSource | None = None,
) -> tuple[nn.Module, SegmenterSpec, dict[str, list[float]]]:
    """Train a segmenter; returns it in eval mode, its spec, and the loss and the mIoU with the training masks of each epoch."""
    source = None
    size = config.size or _USUAL_SIZE
    if classifier is not None:
        network, classifier_spec = load_classifier(classifier.read_bytes, str(classifier.folder))
        source, size = network.backbone, config.size or classifier_spec.size
    spec = _spec(config, images, size)
    torch.manual_seed(config.rng_seed)  # for the initial weights of the decoder
    model = build_segmenter(spec)
    start_encoder(model, config, source)
    freeze_levels(model.get_submodule("encoder"), config.frozen_levels, config.encoder)
    crop = crop_of(images, min(config.crop, size))
    transform = training_augmentation(crop, size, config.scale, config.color_jitter, images.channels)
    focus = Focus(config.foreground, images_by_class(images, masks)) if config.foreground > 0 else None
    marks_of = marks.mask if marks else None
    data = TrainingImages(
        images.items, len(images.classes), transform, spec.mean, spec.std, config.rng_seed, masks.mask, length.draws, focus, marks_of,
    )  # fmt: skip
    schedule = _schedule(config, length)
    fresh = nn.ModuleList(child for name, child in model.named_children() if name != "encoder")

    def total_loss(logits: Tensor, masks: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        loss = weighted_mean(per_pixel(logits, masks, config.loss), weights)
        if config.dice > 0:
            loss = loss + config.dice * dice_loss(logits, masks, weights)
        if config.absent_class_weight > 0:
            loss = loss + config.absent_class_weight * absent_loss(logits, present)
        return loss

    def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        logits = network(batch["image"])
        measure.add(agreement(logits, batch["mask"]))
        decided = (batch["mask"] != IGNORE_INDEX).float()
        weights = with_said(decided, batch.get("marks"), config.marks_weight)
        return total_loss(logits, batch["mask"], weights, batch["present"])

    def taught_loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        images, masks, labels = batch["image"], batch["mask"], batch["present"]
        target, weights = teacher_targets(masks, network(images, taught=True).float().softmax(1), labels)
        weights = with_said(weights, batch.get("marks"), config.marks_weight)
        box = random_boxes(len(images), (masks.shape[1], masks.shape[2]), images.device)
        mixed = cutmix(images, box).contiguous(memory_format=torch.channels_last)
        logits = network(mixed)
        target, weights = cutmix(target, box), cutmix(weights, box)
        measure.add(agreement(logits, target))
        either = torch.maximum(labels, labels.roll(-1, 0))  # the classes of both images
        return total_loss(logits, target, weights, either)

    measure = Measure("miou", (len(images.classes) + 1, len(images.classes) + 2), _miou)
    if config.ema_decay == 0:
        return model, spec, fit(model, fresh, data, loss_of, schedule, out, "segmenter", measure)
    taught = TaughtNetwork(model, config.ema_decay)
    history = fit(taught, fresh, data, taught_loss_of, schedule, out, "segmenter", measure, taught.follow)
    taught.follow()
    return taught.teacher, spec, history


def images_by_class(images: LabeledImages, masks: MaskSource) -> dict[int, list[int]]:
    """Return the positions of the images whose mask contains the class, by class id."""
    positions: dict[int, list[int]] = {}
    for position, item in enumerate(images.items):
        counts = np.bincount(masks.mask(item.id).ravel(), minlength=IGNORE_INDEX + 1)
        for class_id in np.flatnonzero(counts[:IGNORE_INDEX]).tolist():
            if class_id != BACKGROUND:
                positions.setdefault(class_id, []).append(position)
    return positions


def agreement(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the (K + 1, K + 2) confusion matrix of masks (rows) and predictions, at every fourth row and column.

    Pixels of 255 are ignored. The last column, undecided pixels, is 0.

    Args:
        logits: (N, K + 1, H, W).
        masks: (N, H, W) int64.
    """
    rows, columns = (slice(min(2, extent // 2), None, _SAMPLED) for extent in masks.shape[1:])
    targets, labels = masks[:, rows, columns], logits.shape[1]
    predictions = logits[:, :, rows, columns].detach().argmax(1)
    # ignored pixels get a place of their own: selecting the others, or torch.bincount, would wait for the device
    pairs = torch.where(targets == IGNORE_INDEX, labels**2, targets * labels + predictions).flatten()
    counts = torch.zeros(labels**2 + 1, dtype=torch.long, device=pairs.device)
    counts.scatter_add_(0, pairs, torch.ones_like(pairs))
    return F.pad(counts[:-1].reshape(labels, labels), (0, 1))


def _miou(counts: Tensor) -> float:
    miou = mean_iou(iou_per_class(counts.numpy()))
    return 0.0 if math.isnan(miou) else miou  # JSON has no NaN


def timm_name(config: Config) -> str:
    """Return the name of the timm model whose weights the encoder starts from; StageError if the encoder is not from timm."""
    name = config.encoder.removeprefix("tu-")
    try:
        check_backbone(name)
    except StageError as error:
        raise StageError(
            f"segmenter.weights = {config.weights!r}: {config.encoder!r} is not a timm model; expected for it: file, none"
        ) from error
    return name


def start_encoder(model: nn.Module, config: Config, backbone: nn.Module | None) -> None:
    """Load the initial weights of the encoder, in place; `backbone` is that of the classifier, or None without one."""
    where = f"segmenter.weights = {config.weights!r}"
    if config.weights == "none":
        return
    if config.weights == "classifier":
        if backbone is None:
            raise StageError(f"{where}, but the recipe gives this step no classifier")
        state, where = (
            backbone.state_dict(),
            f"{where}: the classifier's backbone is not the encoder {config.encoder!r}",
        )
    elif config.weights == "file":
        if config.weights_file is None:
            raise StageError(f"{where} requires segmenter.weights_file")
        state, where = read_state(config.weights_file), str(config.weights_file)
    else:
        name = timm_name(config)
        source = build_classifier(ClassifierSpec(name, ("any",), (0.5,) * 3, (0.5,) * 3))
        load_backbone_weights(source, name, config.weights, None)
        state = source.backbone.state_dict()
    load_encoder(model, state, where)
