"""The temperature of a network's confidences, from the evaluation of its predictions in an earlier run."""

from typing import Any, NamedTuple

from wsseg.config import plain
from wsseg.running.sources import referring_runs
from wsseg.store.artifact import Artifact
from wsseg.store.objects import ArtifactStore

_DECIDING = ("scales", "flip", "crf", "min_class_probability")  # the values of [predictions] that confidences depend on


class Calibration(NamedTuple):
    """How confidences of a network were scaled on images with true masks.

    Args:
        temperature: see `wsseg.metrics.calibration.scaled`.
        images: number of the images.
        before: expected calibration error without scaling.
        after: the same with scaling, each half of the images with the temperature of the other half.
    """

    temperature: float
    images: int
    before: float
    after: float


def calibration_of(store: ArtifactStore, segmenter: Artifact, config: Any) -> Calibration | None:
    """Return the calibration that the newest evaluation of a network found.

    Args:
        store: the store of the network.
        segmenter: the network.
        config: values of ``[predictions]``. Only predictions with the same scales, flip and CRF count, because these values
            change the confidences.

    Returns:
        None if no run has evaluated such predictions on true masks, or on one image only.
    """
    values = plain(config)
    for record in reversed(referring_runs(store, segmenter)):
        steps = record["steps"].values()
        made = {
            step["key"]
            for step in steps
            if step["stage"] == "predict_masks"
            and step["inputs"].get("segmenter") == segmenter.key
            and all(step["config"].get(name) == values[name] for name in _DECIDING)
        }
        for step in steps:
            if step["stage"] == "evaluate_masks" and step["inputs"].get("masks") in made:
                report = store.get(step["key"])
                metrics = report.manifest["metrics"] if report else {}
                if metrics.get("calibration_error_scaled") is not None:
                    return Calibration(
                        metrics["temperature"],
                        metrics["images"],
                        metrics["calibration_error"],
                        metrics["calibration_error_scaled"],
                    )
    return None
