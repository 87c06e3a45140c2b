"""The stage `train_classifier`: writes a network. Torch is imported in `run`; planning and cached runs do not need it."""

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
    version = 4
    Config = values.Config
    inputs: Mapping[str, Role] = {"images": Role(("images",))}
    output = "classifier"
    distributed = True
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Build the network without memory for its weights, compare it with the initial weights, and pass a batch through it."""
        from wsseg.stages.train_classifier.training import check

        check(config, inputs["images"])

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write network.safetensors and network.json; metrics: the `loss` of the last epoch, and the size that was `chosen`."""
        from wsseg.models.weights import network_bytes
        from wsseg.stages.train_classifier.training import train

        images: LabeledImages = inputs["images"]
        model, spec, history = train(config, images, out)
        atomic_write(out / "network.safetensors", network_bytes(model))
        atomic_write(out / "network.json", json.dumps({**asdict(spec), "history": history}, indent=1).encode())
        return {"loss": history["loss"][-1], **({} if config.size else {"chosen": {"size": spec.size}})}
