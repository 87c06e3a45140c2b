"""The quality of masks and seeds of a split, as `evaluate_masks` measured it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from wsseg.labels import BACKGROUND, ClassMap
from wsseg.metrics.confusion import Counts
from wsseg.metrics.errors import ClassPixels, class_pixels
from wsseg.stages.evaluate_masks.image_counts import FILE, ImageCounts, read_image_counts
from wsseg.store.artifact import Artifact


@dataclass(frozen=True)
class MaskQuality:
    """Masks of a split against the truth.

    Args:
        classes: the classes.
        images: the counts of each image.
        confusion: (K + 1, K + 2) pixels over all images; rows are the truth, the last column is undecided.
        objects: by class name and size, the numbers of `wsseg.metrics.objects.MEASURES` over all images.
    """

    classes: ClassMap
    images: Sequence[ImageCounts]
    confusion: Counts
    objects: Mapping[str, Mapping[str, Mapping[str, int]]]

    @cached_property
    def by_class(self) -> list[ClassPixels]:
        """Pixel counts over all images by class id."""
        return class_pixels(self.confusion)

    def confused_with(self, class_id: int) -> str:
        """Return the name of the foreground class that is most often confused with a class."""
        pixels = self.confusion[class_id, :-1] + self.confusion[:, class_id]
        pixels[[BACKGROUND, class_id]] = 0
        return self.classes.with_background[int(pixels.argmax())]


def mask_quality(evaluation: Artifact, classes: ClassMap) -> MaskQuality | None:
    """Return what an artifact of `evaluate_masks` holds about masks; None if it was made before it had counts per image."""
    if FILE not in evaluation.files:
        return None
    report = evaluation.read_json("report.json")
    images = list(read_image_counts(evaluation.read_bytes(FILE)))
    return MaskQuality(classes, images, np.array(report["confusion"], np.int64), report["objects"])


@dataclass(frozen=True)
class SeedCurves:
    """Seeds of a split against the truth.

    Args:
        thresholds: background thresholds.
        miou: mean IoU with background, by threshold.
        precision: fraction of the foreground pixels (at or above the threshold) that have the correct class.
        recall: fraction of the truth's foreground pixels that are at or above the threshold with the correct class.
        calibration: (mean value, fraction correct, pixels) of each range of the seeds' values.
    """

    thresholds: Sequence[float]
    miou: Sequence[float]
    precision: Sequence[float]
    recall: Sequence[float]
    calibration: Sequence[tuple[float, float, int]]


def seed_curves(evaluation: Artifact) -> SeedCurves | None:
    """Return what an artifact of `evaluate_masks` holds about seeds; None if it was made before it had these curves."""
    report = evaluation.read_json("report.json")
    if "precision" not in report:
        return None
    thresholds, miou = zip(*report["curve"], strict=True)
    return SeedCurves(thresholds, miou, report["precision"], report["recall"], report["calibration"])


@dataclass(frozen=True)
class Scores:
    """What the images of a split are ordered by.

    Args:
        measure: ``IoU``, ``agreement`` or ``confidence``.
        meaning: what the measure compares, for the page.
        images: mean over the classes of each image, in [0, 1], by id.
        classes: by class id and image id, of the images whose labels name the class.
        areas: with ``agreement``, the fraction of the pixels that have the class in the last masks, by class id and image id.
    """

    measure: str
    meaning: str
    images: Mapping[str, float]
    classes: Mapping[int, Mapping[str, float]]
    areas: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


def scores_of(quality: MaskQuality, evaluated: str) -> Scores:
    """Return the IoU of each image and class."""
    classes: dict[int, dict[str, float]] = {}
    for image in quality.images:
        for class_id, pixels in image.classes.items():
            if class_id != BACKGROUND and pixels.iou is not None:
                classes.setdefault(class_id, {})[image.id] = pixels.iou
    images = {image.id: miou for image in quality.images if (miou := image.miou) is not None}
    return Scores("IoU", f"the IoU of {evaluated} with the true masks", images, classes)


def worst_and_others(scores: Mapping[str, float | None], count: int) -> list[str]:
    """Return the ids of up to `count` images: half of them the worst, the others evenly spaced up to the best.

    Args:
        scores: by id; None for images that were not measured, which come last.
        count: the largest number of ids.
    """
    ranked = sorted(scores, key=lambda item_id: (scores[item_id] is None, scores[item_id] or 0.0, item_id))
    if len(ranked) <= count:
        return ranked
    worst, others = ranked[: count // 2], ranked[count // 2 :]
    places = count - len(worst)
    return worst + [others[(len(others) - 1) * k // max(places - 1, 1)] for k in range(places)]
