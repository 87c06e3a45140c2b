"""The stage `train_segmenter`: writes a network. Torch is imported in `run`; planning and cached runs do not need it."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsseg.data.images import LabeledImages
from wsseg.stages.layout import ArtifactMasks
from wsseg.stages.protocol import MaskSource, Role, TruthSource
from wsseg.stages.train_segmenter import config as values
from wsseg.store.artifact import Artifact
from wsseg.store.files import atomic_write

log = logging.getLogger("wsseg")


class TrainSegmenter:
    name = "train_segmenter"
    table = "segmenter"
    version = 5
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "images": Role(("images",)),
        "masks": Role(("pseudo_masks", "truth")),  # truth requires supervision = "truth" in the recipe
        "classifier": Role(("classifier",), optional=True),
        "previous": Role(("segmenter",), optional=True),  # the network of the previous round, which made the masks
        "marks": Role(("marks",), optional=True),
    }
    output = "segmenter"
    distributed = True
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Build the network without memory for its weights, compare it with the initial weights, and pass a batch through it."""
        from wsseg.stages.train_segmenter.training import check

        classifier = inputs.get("classifier")
        backbone, size = (classifier.backbone, classifier.size) if classifier is not None else (None, None)
        check(config, inputs["images"], backbone, size)

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write network.safetensors and network.json.

        Metrics: the `loss` of the last epoch, and `images_without_mask` if true masks are missing. If a round of self-training
        changed a fraction of at most `stop_below_change`, the previous network is copied; the metric is that fraction, `stopped`.
        """
        changed = inputs["masks"].manifest["metrics"].get("changed") if isinstance(inputs["masks"], Artifact) else None
        if changed is not None and changed <= config.stop_below_change and "previous" in inputs:
            log.info(
                "segmenter: %.2f %% of the pixels changed (training skipped, previous network kept)", 100 * changed
            )
            for name in ("network.safetensors", "network.json"):
                atomic_write(out / name, inputs["previous"].read_bytes(name))
            return {"stopped": changed}
        from wsseg.models.weights import network_bytes, spec_values
        from wsseg.stages.train_segmenter.training import train

        masks: MaskSource = ArtifactMasks(inputs["masks"]) if isinstance(inputs["masks"], Artifact) else inputs["masks"]
        images = inputs["images"] if isinstance(masks, ArtifactMasks) else with_truth(inputs["images"], inputs["masks"])
        length = config.length(len(images), exact=not isinstance(masks, ArtifactMasks))
        model, spec, history = train(config, images, masks, inputs.get("classifier"), out, length, inputs.get("marks"))
        atomic_write(out / "network.safetensors", network_bytes(model))
        atomic_write(out / "network.json", json.dumps({**spec_values(spec), "history": history}, indent=1).encode())
        left_out = len(inputs["images"]) - len(images)
        chosen = {} if config.size else {"chosen": {"size": spec.size}}
        return {"loss": history["loss"][-1], **({"images_without_mask": left_out} if left_out else {}), **chosen}


def with_truth(images: LabeledImages, truth: TruthSource) -> LabeledImages:
    """Return the images that have a true mask; a warning reports the number of others."""
    ids = frozenset(truth.ids)
    kept = tuple(item for item in images.items if item.id in ids)
    if len(kept) < len(images):
        log.warning(
            "segmenter: %d of %d images have no true mask and are skipped", len(images) - len(kept), len(images)
        )
    return replace(images, items=kept)
