"""I/O of `train_classifier`. Torch is imported in `run`, so that planning and cached runs do without it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsseg.data.images import LabeledImages
from wsseg.stages.base import Role
from wsseg.stages.train_classifier import config as values
from wsseg.store import atomic_write


class TrainClassifier:
    name = "train_classifier"
    table = "classifier"
    version = 3
    Config = values.Config
    inputs: Mapping[str, Role] = {"images": Role(("images",)), "val_images": Role(("images",), optional=True)}
    output = "classifier"
    distributed = True

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write network.safetensors and network.json; metrics are those of the validation images, where given."""
        from wsseg.models.weights import network_bytes
        from wsseg.stages.train_classifier.training import judge, train

        images: LabeledImages = inputs["images"]
        model, spec, history = train(config, images, out)
        metrics: dict[str, Any] = {"loss": history["loss"][-1]}
        if "val_images" in inputs:
            metrics |= judge(model, spec, inputs["val_images"], config)
        atomic_write(out / "network.safetensors", network_bytes(model))
        atomic_write(out / "network.json", json.dumps({**asdict(spec), "history": history}, indent=1).encode())
        return metrics
