"""The stage `estimate_quality`: writes estimate.json. Torch is imported in `run`."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsseg.data.images import LabeledImages
from wsseg.data.sampling import evenly_spaced
from wsseg.stages.estimate_quality import config as values
from wsseg.stages.layout import ArtifactMasks
from wsseg.stages.protocol import Role, check_classes
from wsseg.store.artifact import Artifact
from wsseg.store.files import atomic_write

_NETWORK = "network.safetensors"


class EstimateQuality:
    name = "estimate_quality"
    table = "quality_estimate"
    version = 1
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "images": Role(("images",)),
        "masks": Role(("pseudo_masks", "predictions")),
        "segmenter": Role(("segmenter",)),  # the network that made the masks
        "previous": Role(("segmenter",), optional=True),  # the network of an earlier round
        "first": Role(("pseudo_masks",), optional=True),  # the pseudo-masks that no segmenter has changed
    }
    output = "quality_estimate"
    distributed = False
    measures = True

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """All values are valid with all inputs."""

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write estimate.json; the metric `estimate` has `miou` and `iou` by class name, each [estimate, low, high].

        A class that the masks do not contain has the estimate None. `evidence` has the IoU of each kind of evidence by class.
        """
        import torch

        from wsseg.models.cpu.folding import folded
        from wsseg.models.device import resolve_device
        from wsseg.models.segmenter import load_segmenter
        from wsseg.stages.estimate_quality.estimating import estimate_classes, estimate_mean
        from wsseg.stages.estimate_quality.evidence import gather_evidence

        images: LabeledImages = inputs["images"]
        segmenter: Artifact = inputs["segmenter"]
        previous: Artifact | None = inputs.get("previous")
        if previous is not None and previous.files[_NETWORK] == segmenter.files[_NETWORK]:
            previous = None  # the round trained nothing: an agreement with itself is no evidence
        device = resolve_device(config.device)
        networks: list[Any] = []
        for artifact in filter(None, (segmenter, previous)):
            model, spec = load_segmenter(artifact.read_bytes, str(artifact.folder))
            check_classes("segmenter", spec.classes, images)
            model = folded(model, torch.zeros(1, 3, 64, 64))
            networks.append(model.to(device, memory_format=torch.channels_last))  # type: ignore[call-overload]
        chosen = set(evenly_spaced([item.id for item in images.items], config.images or len(images)))
        read = replace(images, items=tuple(item for item in images.items if item.id in chosen))
        evidence = gather_evidence(
            read.items,
            ArtifactMasks(inputs["masks"]),
            ArtifactMasks(inputs["first"]) if "first" in inputs else None,
            networks[0],
            networks[1] if previous is not None else None,
            spec,
            inputs["masks"].kind == "pseudo_masks",
            config,
            device,
        )
        names = images.classes.with_background
        estimates = estimate_classes(evidence)
        report = {
            "estimate": {"miou": estimate_mean(estimates), "iou": dict(zip(names, estimates, strict=True))},
            "evidence": {
                kind: {n: None if math.isnan(v) else float(v) for n, v in zip(names, iou, strict=True)}
                for kind, iou in evidence.items()
            },
            "conditions": {"split": images.split, "images": len(read), "masks": inputs["masks"].manifest["step"]},
        }
        atomic_write(out / "estimate.json", json.dumps(report, indent=1).encode())
        return report
