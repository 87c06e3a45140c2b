"""The stage `measure_classifier`: writes report.json. Torch is imported in `run`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsseg.data.images import LabeledImages
from wsseg.stages.measure_classifier import config as values
from wsseg.stages.protocol import Role, check_classes
from wsseg.store.artifact import Artifact
from wsseg.store.files import atomic_write


class MeasureClassifier:
    name = "measure_classifier"
    table = "classifier_quality"
    version = 2
    Config = values.Config
    inputs: Mapping[str, Role] = {"images": Role(("images",)), "classifier": Role(("classifier",))}
    output = "classifier_report"
    distributed = False
    measures = True

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """All values are valid with all inputs."""

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write report.json; metrics: `map`, `ap` per class name, `exact_match` and the `conditions` of the measurement."""
        from wsseg.models.classifier import load_classifier
        from wsseg.stages.measure_classifier.measuring import metrics_of

        images: LabeledImages = inputs["images"]
        classifier: Artifact = inputs["classifier"]
        model, spec = load_classifier(classifier.read_bytes, str(classifier.folder))
        check_classes("classifier", spec.classes, images)
        metrics = metrics_of(model, spec, images, config)
        rng_seed = classifier.manifest["config"]["rng_seed"]
        conditions = {"split": images.split, "images": len(images), "size": spec.size, "rng_seed": rng_seed}
        report = {**metrics, "conditions": conditions}
        atomic_write(out / "report.json", json.dumps(report, indent=1).encode())
        return report
