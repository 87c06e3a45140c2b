"""Training of the segmentation network on masks that may hold 255."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.data.images import LabeledImages
from wsseg.data.transforms import TrainingImages, augmentation
from wsseg.errors import StageError
from wsseg.labels import IGNORE_INDEX
from wsseg.models.classifier import ClassifierSpec, build_classifier, load_backbone_weights, load_classifier
from wsseg.models.segmenter import SegmenterSpec, build_segmenter, encoder_statistics, load_encoder
from wsseg.models.training import Schedule, fit, freeze_levels
from wsseg.stages.base import MaskSource
from wsseg.stages.train_segmenter.config import Config
from wsseg.store import Artifact


def masked_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean cross-entropy over the pixels that are not 255; zero where all of them are.

    Args:
        logits: (N, K + 1, H, W).
        masks: (N, H, W) int64.
    """
    total = F.cross_entropy(logits.float(), masks, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (masks != IGNORE_INDEX).sum().clamp_min(1)


def train(
    config: Config, images: LabeledImages, masks: MaskSource, classifier: Artifact | None, out: Path
) -> tuple[nn.Module, SegmenterSpec, list[float]]:
    """Train a segmenter; returns it in eval mode, how to build it again, and the loss of each epoch."""
    if len(config.scale) != 2 or config.scale[0] > config.scale[1]:
        raise StageError(f"segmenter.scale: found {list(config.scale)}; legal: [smallest, largest]")
    mean, std = encoder_statistics(config.encoder)
    spec = SegmenterSpec(
        config.architecture, config.encoder, config.decoder, images.classes.names, config.size, mean, std
    )
    torch.manual_seed(config.rng_seed)  # the decoder's first weights
    model = build_segmenter(spec)
    start_encoder(model, config, classifier)
    freeze_levels(model.get_submodule("encoder"), config.frozen_levels, config.encoder)
    transform = augmentation(config.size, (config.scale[0], config.scale[1]), config.color)
    data = TrainingImages(images.items, len(images.classes), transform, mean, std, config.rng_seed, masks.mask)
    schedule = Schedule(
        config.epochs, config.batch_size, config.learning_rate, config.head_factor, config.weight_decay,
        config.schedule, config.rng_seed, config.precision, config.device, config.workers,
    )  # fmt: skip
    fresh = nn.ModuleList(child for name, child in model.named_children() if name != "encoder")

    def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return masked_cross_entropy(network(batch["image"]), batch["mask"])

    losses = fit(model, fresh, data, loss_of, schedule, out, "segmenter")
    return model, spec, losses


def start_encoder(model: nn.Module, config: Config, classifier: Artifact | None) -> None:
    """Load the weights that the encoder starts from, in place."""
    if config.weights == "none":
        return
    if config.weights == "classifier":
        if classifier is None:
            raise StageError('segmenter.weights = "classifier", but the recipe gives this step no classifier')
        source, _ = load_classifier(classifier.read_bytes, str(classifier.folder))
    else:
        backbone = config.encoder.removeprefix("tu-")
        source = build_classifier(ClassifierSpec(backbone, ("any",), (0.5,) * 3, (0.5,) * 3))
        load_backbone_weights(source, backbone, config.weights, config.weights_file)
    load_encoder(model, source.backbone.state_dict(), f"segmenter.weights = {config.weights!r}")
