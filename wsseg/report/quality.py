"""The quality of masks and seeds of a split, as `evaluate_masks` measured it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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


def worst_first(images: Iterable[ImageCounts]) -> list[tuple[float, str]]:
    """Return (mean IoU, id) of each image that has one, from the worst to the best."""
    return sorted((miou, image.id) for image in images if (miou := image.miou) is not None)


def worst_and_others(images: Sequence[ImageCounts], count: int) -> list[str]:
    """Return the ids of up to `count` images: half of them the worst, the others evenly spaced up to the best.

    Images without any evaluated pixel come last.
    """
    ranked = [item_id for _, item_id in worst_first(images)]
    ranked += sorted(image.id for image in images if image.miou is None)
    if len(ranked) <= count:
        return ranked
    worst, others = ranked[: count // 2], ranked[count // 2 :]
    places = count - len(worst)
    return worst + [others[(len(others) - 1) * k // max(places - 1, 1)] for k in range(places)]
