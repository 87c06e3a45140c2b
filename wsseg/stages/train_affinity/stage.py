"""The stage `train_affinity`: writes a boundary network. Torch is imported in `run`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsseg.stages.layout import ArtifactMasks
from wsseg.stages.protocol import Role, check_photographs
from wsseg.stages.train_affinity import config as values
from wsseg.store.files import atomic_write


class TrainAffinity:
    name = "train_affinity"
    table = "affinity"
    version = 2
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "images": Role(("images",)),
        "masks": Role(("pseudo_masks",)),
        "classifier": Role(("classifier",)),
    }
    output = "affinity"
    distributed = True
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Build the network over the classifier's backbone without weights, and pass a batch through it."""
        from wsseg.stages.train_affinity.training import check

        check_photographs(self.name, inputs["images"])
        check(config, inputs["images"], inputs["classifier"].backbone)

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write network.safetensors and network.json; metric: the `loss` of the last epoch."""
        from wsseg.models.weights import network_bytes
        from wsseg.stages.train_affinity.training import train

        masks = ArtifactMasks(inputs["masks"])
        model, spec, history = train(config, inputs["images"], masks, inputs["classifier"], out)
        atomic_write(out / "network.safetensors", network_bytes(model))
        atomic_write(out / "network.json", json.dumps({**asdict(spec), "history": history}, indent=1).encode())
        return {"loss": history["loss"][-1]}
