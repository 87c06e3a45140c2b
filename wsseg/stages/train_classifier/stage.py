"""I/O of `train_classifier`. Torch is imported in `run`, so that planning and cached runs do without it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsseg.data.images import LabeledImages
from wsseg.stages.protocol import Role
from wsseg.stages.train_classifier import config as values
from wsseg.store.files import atomic_write


class TrainClassifier:
    name = "train_classifier"
    table = "classifier"
    version = 3
    Config = values.Config
    inputs: Mapping[str, Role] = {"images": Role(("images",))}
    output = "classifier"
    distributed = True
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Outline the network, fit its weights into it, and pass a batch through."""
        from wsseg.stages.train_classifier.training import check

        check(config, inputs["images"])

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write network.safetensors and network.json; metric: the last epoch's loss."""
        from wsseg.models.weights import network_bytes
        from wsseg.stages.train_classifier.training import train

        images: LabeledImages = inputs["images"]
        model, spec, history = train(config, images, out)
        atomic_write(out / "network.safetensors", network_bytes(model))
        atomic_write(out / "network.json", json.dumps({**asdict(spec), "history": history}, indent=1).encode())
        return {"loss": history["loss"][-1]}
