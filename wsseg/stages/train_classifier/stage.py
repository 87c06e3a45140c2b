"""The stage `train_classifier`: writes a network. Torch is imported in `run`; planning and cached runs do not need it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsseg.data.images import LabeledImages
from wsseg.stages.protocol import MarkSource, Role
from wsseg.stages.train_classifier import config as values
from wsseg.store.files import atomic_write


class TrainClassifier:
    name = "train_classifier"
    table = "classifier"
    version = 4
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "images": Role(("images",)),
        "marks": Role(("marks",), optional=True, part=values.Config.used_marks),
    }
    output = "classifier"
    distributed = True
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Build the network without memory for its weights, compare it with the initial weights, and pass a batch through it."""
        from wsseg.stages.train_classifier.training import check

        check(config, inputs["images"])

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write network.safetensors and network.json.

        Metrics: the `loss` of the last epoch, the values that were `chosen`, and with marks those of `marks_check.marks_metrics`.
        """
        from wsseg.models.weights import network_bytes, spec_values
        from wsseg.stages.train_classifier.training import train

        images: LabeledImages = inputs["images"]
        marks: MarkSource | None = inputs.get("marks")
        marked: dict[str, Any] = {}
        if marks is None:
            model, spec, history = train(config, images, out)
        else:
            from wsseg.stages.train_classifier.marks_check import marks_metrics, without_held_out

            learned, held_out = without_held_out(images, marks)
            model, spec, history = train(config, learned, out, marks)
            marked = marks_metrics(config, model, spec, images, marks, held_out)
        atomic_write(out / "network.safetensors", network_bytes(model))
        atomic_write(out / "network.json", json.dumps({**spec_values(spec), "history": history}, indent=1).encode())
        chosen = {name: getattr(spec, name) for name in ("size", "pooling") if getattr(config, name) is None}
        return {"loss": history["loss"][-1], **({"chosen": chosen} if chosen else {}), **marked}
