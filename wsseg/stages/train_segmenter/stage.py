"""I/O of `train_segmenter`. Torch is imported in `run`, so that planning and cached runs do without it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsseg.stages.base import ArtifactMasks, MaskSource, Role
from wsseg.stages.train_segmenter import config as values
from wsseg.store import Artifact, atomic_write


class TrainSegmenter:
    name = "train_segmenter"
    table = "segmenter"
    version = 2
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "images": Role(("images",)),
        "masks": Role(("pseudo_masks", "truth")),  # truth only where the recipe says supervision = "truth"
        "classifier": Role(("classifier",), optional=True),
    }
    output = "segmenter"
    distributed = True

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write network.safetensors and network.json; metric: the last epoch's loss."""
        from wsseg.models.weights import network_bytes
        from wsseg.stages.train_segmenter.training import train

        masks: MaskSource = ArtifactMasks(inputs["masks"]) if isinstance(inputs["masks"], Artifact) else inputs["masks"]
        model, spec, losses = train(config, inputs["images"], masks, inputs.get("classifier"), out)
        atomic_write(out / "network.safetensors", network_bytes(model))
        atomic_write(out / "network.json", json.dumps({**asdict(spec), "losses": losses}, indent=1).encode())
        return {"loss": losses[-1]}
