"""Training of the segmentation network on masks that may contain 255 (undecided)."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.data.batches import network_size
from wsseg.data.images import LabeledImages
from wsseg.data.transforms import TrainingImages, augmentation
from wsseg.errors import StageError
from wsseg.labels import IGNORE_INDEX
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
from wsseg.models.training import Measure, Schedule, fit, try_training
from wsseg.models.weights import outlined, read_state
from wsseg.stages.protocol import MaskSource
from wsseg.stages.train_segmenter.config import Config
from wsseg.stages.train_segmenter.losses import absent_loss, per_pixel, weighted_mean
from wsseg.stages.train_segmenter.teacher import TaughtNetwork, cutmix, random_boxes, teacher_targets
from wsseg.store.artifact import Artifact

# px, distance of the pixels that the mIoU of an epoch counts; counting all of them would take 2 % of the training's time
_SAMPLED = 4


def _schedule(config: Config) -> Schedule:
    return Schedule(
        config.epochs, config.batch_size, config.learning_rate, config.head_lr_multiplier, config.weight_decay,
        config.schedule, config.rng_seed, config.precision, config.device, config.workers,
    )  # fmt: skip


def check(config: Config, images: LabeledImages, backbone: str | None) -> None:
    """Raise StageError if a segmenter cannot be built, initialised, trained or used for predictions; nothing is downloaded.

    Args:
        config: the values.
        images: the training images.
        backbone: name of the classifier's backbone, or None without a classifier.
    """
    mean, std = encoder_statistics(config.encoder)
    classes = images.classes.names
    spec = SegmenterSpec(config.architecture, config.encoder, config.decoder, classes, config.size, mean, std)
    model = outlined(lambda: build_segmenter(spec))
    if config.weights == "hub":
        check_hub(timm_name(config))
    else:
        source = None
        if backbone is not None:
            source = outlined(lambda: build_classifier(ClassifierSpec(backbone, classes, mean, std))).backbone
        start_encoder(model, config, source)
    freeze_levels(model.get_submodule("encoder"), config.frozen_levels, config.encoder)
    try_training(model, _schedule(config), len(images), config.size, "segmenter")
    narrowest = min((item.size for item in images.items), key=lambda size: min(size) / max(size))
    check_size(model, network_size(narrowest, config.size, 1.0))


def train(
    config: Config, images: LabeledImages, masks: MaskSource, classifier: Artifact | None, out: Path
) -> tuple[nn.Module, SegmenterSpec, dict[str, list[float]]]:
    """Train a segmenter; returns it in eval mode, its spec, and the loss and the mIoU with the training masks of each epoch."""
    mean, std = encoder_statistics(config.encoder)
    spec = SegmenterSpec(
        config.architecture, config.encoder, config.decoder, images.classes.names, config.size, mean, std
    )
    torch.manual_seed(config.rng_seed)  # for the initial weights of the decoder
    model = build_segmenter(spec)
    source = None
    if config.weights == "classifier" and classifier is not None:
        source = load_classifier(classifier.read_bytes, str(classifier.folder))[0].backbone
    start_encoder(model, config, source)
    freeze_levels(model.get_submodule("encoder"), config.frozen_levels, config.encoder)
    transform = augmentation(config.size, (config.scale[0], config.scale[1]), config.color_jitter)
    data = TrainingImages(images.items, len(images.classes), transform, mean, std, config.rng_seed, masks.mask)
    schedule = _schedule(config)
    fresh = nn.ModuleList(child for name, child in model.named_children() if name != "encoder")

    def with_absent_loss(loss: Tensor, logits: Tensor, present: Tensor) -> Tensor:
        weight = config.absent_class_weight
        return loss + weight * absent_loss(logits, present) if weight > 0 else loss

    def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        logits = network(batch["image"])
        measure.add(agreement(logits, batch["mask"]))
        losses = per_pixel(logits, batch["mask"], config.loss)
        loss = weighted_mean(losses, (batch["mask"] != IGNORE_INDEX).float())
        return with_absent_loss(loss, logits, batch["present"])

    def taught_loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        taught.follow()
        images, masks, labels = batch["image"], batch["mask"], batch["present"]
        target, weights = teacher_targets(masks, network(images, taught=True).float().softmax(1), labels)
        box = random_boxes(len(images), (masks.shape[1], masks.shape[2]), images.device)
        mixed = cutmix(images, box).contiguous(memory_format=torch.channels_last)
        logits = network(mixed)
        measure.add(agreement(logits, cutmix(target, box)))
        loss = weighted_mean(per_pixel(logits, cutmix(target, box), config.loss), cutmix(weights, box))
        return with_absent_loss(loss, logits, torch.maximum(labels, labels.roll(-1, 0)))  # the classes of both images

    measure = Measure("miou", (len(images.classes) + 1, len(images.classes) + 2), _miou)
    if config.ema_decay == 0:
        return model, spec, fit(model, fresh, data, loss_of, schedule, out, "segmenter", measure)
    taught = TaughtNetwork(model, config.ema_decay)
    history = fit(taught, fresh, data, taught_loss_of, schedule, out, "segmenter", measure)
    taught.follow()
    return taught.teacher, spec, history


def agreement(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the (K + 1, K + 2) confusion matrix of masks (rows) and predictions, at every fourth row and column.

    Pixels of 255 are ignored. The last column, undecided pixels, is 0.

    Args:
        logits: (N, K + 1, H, W).
        masks: (N, H, W) int64.
    """
    targets, labels = masks[:, 2::_SAMPLED, 2::_SAMPLED], logits.shape[1]
    predictions = logits[:, :, 2::_SAMPLED, 2::_SAMPLED].detach().argmax(1)
    pairs = (targets * labels + predictions)[targets != IGNORE_INDEX]
    counts = torch.bincount(pairs, minlength=labels**2).reshape(labels, labels)
    return F.pad(counts, (0, 1))


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
