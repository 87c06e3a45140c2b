"""Training of the boundary branch over a frozen classifier."""

from pathlib import Path

import torch
from torch import Tensor, nn

from wsseg.data.images import LabeledImages
from wsseg.data.sizes import crop_of
from wsseg.data.transforms import TrainingImages, augmentation
from wsseg.models.boundary import STRIDE, BoundaryNetwork, BoundarySpec, affinity_loss
from wsseg.models.classifier import ClassifierSpec, backbone_statistics, build_classifier, load_classifier
from wsseg.models.training import Measure, Schedule, fit, try_training
from wsseg.models.weights import load_matching, outlined
from wsseg.stages.protocol import MaskSource
from wsseg.stages.train_affinity.config import Config
from wsseg.store.artifact import Artifact


def _schedule(config: Config) -> Schedule:
    return Schedule(
        config.epochs, config.batch_size, config.learning_rate, 1.0, config.weight_decay, "one_cycle",
        config.rng_seed, config.precision, config.device, config.workers,
        bool(config.compile),
    )  # fmt: skip


def check(config: Config, images: LabeledImages, backbone: str) -> None:
    """Raise StageError if no boundary network can be built over a classifier's backbone or trained with these values."""
    mean, std = backbone_statistics(backbone)
    source = outlined(lambda: build_classifier(ClassifierSpec(backbone, images.classes.names, mean, std)))
    model = outlined(lambda: BoundaryNetwork(backbone))
    load_matching(
        model.backbone,
        source.backbone.state_dict(),
        f"affinity: the feature levels of the classifier's backbone {backbone!r} do not share its weights (choose a CNN)",
    )
    try_training(model, _schedule(config), len(images), crop_of(images, config.size), "affinity")


def train(
    config: Config, images: LabeledImages, masks: MaskSource, classifier: Artifact, out: Path
) -> tuple[BoundaryNetwork, BoundarySpec, dict[str, list[float]]]:
    """Train a boundary network; returns it in eval mode, its spec, and the loss and the correct pairs of each epoch."""
    source, source_spec = load_classifier(classifier.read_bytes, str(classifier.folder))
    spec = BoundarySpec(source_spec.backbone, source_spec.mean, source_spec.std)
    torch.manual_seed(config.rng_seed)  # for the initial weights of the branch
    model = BoundaryNetwork(spec.backbone)
    load_matching(model.backbone, source.backbone.state_dict(), str(classifier.folder))
    transform = augmentation(
        crop_of(images, config.size), config.size, (config.scale[0], config.scale[1]), config.color_jitter
    )
    data = TrainingImages(
        images.items, len(images.classes), transform, spec.mean, spec.std, config.rng_seed, masks.mask
    )
    schedule = _schedule(config)

    def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        middle = STRIDE // 2  # a boundary value is compared with the pixel nearest to its centre
        boundary = network(batch["image"])
        masks = batch["mask"][:, middle::STRIDE, middle::STRIDE][:, : boundary.shape[1], : boundary.shape[2]]
        loss, counts = affinity_loss(boundary, masks, config.radius)
        measure.add(counts)
        return loss

    measure = Measure("pairs_right", (3, 2), lambda counts: float((counts[:, 0] / counts[:, 1].clamp_min(1)).mean()))
    fresh = nn.ModuleList([model.levels, model.head])
    return model, spec, fit(model, fresh, data, loss_of, schedule, out, "affinity", measure)
