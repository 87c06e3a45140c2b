"""The stage `predict_masks`: writes a mask (indexed PNG, VOC palette) and a confidence (small grey PNG) per image.

Torch is imported in `run`.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wsseg import processes
from wsseg.data.images import LabeledImages
from wsseg.data.masks import encode_grey, encode_mask
from wsseg.errors import StageError
from wsseg.progress import track
from wsseg.stages.layout import confidence_path, mask_path, score_path
from wsseg.stages.predict_masks import config as values
from wsseg.stages.protocol import Role, check_classes, check_crf
from wsseg.store.artifact import Artifact
from wsseg.store.files import atomic_write


class PredictMasks:
    name = "predict_masks"
    table = "predictions"
    version = 6
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "images": Role(("images",)),
        "segmenter": Role(("segmenter",)),
        "classifier": Role(("classifier",), optional=True),
    }
    output = "predictions"
    distributed = True
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Check the CRF, and that classifier and segmenter expect the same input, if both are used."""
        images: LabeledImages = inputs["images"]
        check_crf(config.crf, images)
        if images.channels:
            return
        if "classifier" in inputs and config.min_class_probability > 0:
            from wsseg.models.classifier import backbone_statistics
            from wsseg.models.segmenter import encoder_statistics

            _check_statistics(
                backbone_statistics(inputs["classifier"].backbone), encoder_statistics(inputs["segmenter"].encoder)
            )

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write masks/<id>.png (without 255) and confidence/<id>.png for each image; metric: `images`.

        For sequences, scores/<id>.png has the probability of each class at each place: (K, L) grey, 255 times the value.

        The confidence is the probability of the mask's class in percent, at every eighth row and column.
        """
        from wsseg.data.batches import batches_by_size
        from wsseg.data.items import read_item
        from wsseg.models.classifier import load_classifier
        from wsseg.models.segmenter import load_segmenter
        from wsseg.stages.predict_masks.prediction import Predictor

        images: LabeledImages = inputs["images"]
        segmenter: Artifact = inputs["segmenter"]
        model, spec = load_segmenter(segmenter.read_bytes, str(segmenter.folder))
        check_classes("segmenter", spec.classes, images)
        classifier = None
        if "classifier" in inputs and config.min_class_probability > 0:
            classifier, classifier_spec = load_classifier(
                inputs["classifier"].read_bytes, str(inputs["classifier"].folder)
            )
            check_classes("classifier", classifier_spec.classes, images)
            _check_statistics((classifier_spec.mean, classifier_spec.std), (spec.mean, spec.std))
        predictor = Predictor(model, spec, config, classifier)
        batches = processes.share(batches_by_size(images.items, config.batch_size))
        missing = [b for b in batches if not all(mask_path(out, item.id).is_file() for item in b)]
        for batch in track(missing, len(batches), "predictions", "batches", len(batches) - len(missing)):
            photographs = [partial(read_item, item) for item in batch]
            for item, prediction in zip(batch, predictor.predictions(photographs, batch[0].size), strict=True):
                if not mask_path(out, item.id).is_file():  # it exists if the batch was interrupted
                    if prediction.scores is not None:
                        grey = np.rint(255 * prediction.scores[1:, 0]).astype(np.uint8)
                        atomic_write(score_path(out, item.id), encode_grey(grey))
                    atomic_write(confidence_path(out, item.id), encode_grey(prediction.confidence))
                    atomic_write(mask_path(out, item.id), encode_mask(prediction.mask))
        return {"images": len(images)} if processes.all_done() else {}


def _check_statistics(classifier: object, segmenter: object) -> None:
    if classifier != segmenter:
        raise StageError(
            "predictions.min_class_probability: classifier and segmenter differ in the mean and std of their input; "
            "expected: the same backbone"
        )
