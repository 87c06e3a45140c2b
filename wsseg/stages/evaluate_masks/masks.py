"""Metrics of masks against the truth."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsseg.data.masks import sampled
from wsseg.errors import StageError
from wsseg.labels import IGNORE_INDEX, ClassMap
from wsseg.metrics.boundary import boundary_counts, boundary_iou
from wsseg.metrics.calibration import calibration_error, cross_fitted, fit_temperature, ranges
from wsseg.metrics.confusion import (
    Counts,
    confusion,
    coverage,
    decided_only,
    iou_per_class,
    mean_iou,
    pixel_accuracy,
)
from wsseg.metrics.objects import MEASURES, SIZES, object_counts
from wsseg.stages.evaluate_masks.image_counts import ImageCounts
from wsseg.types import Mask


def named(values: NDArray[np.float64], classes: ClassMap) -> dict[str, float | None]:
    """Return values by class name; None, because JSON has no NaN, for a class that does not occur."""
    return {n: None if math.isnan(v) else float(v) for n, v in zip(classes.with_background, values, strict=True)}


def metrics_of(counts: Counts, classes: ClassMap) -> dict[str, Any]:
    """Return mIoU, IoU by class name, pixel accuracy, and the number of classes (with background) in the mean."""
    iou = iou_per_class(counts)
    miou = mean_iou(iou)
    return {
        "miou": None if math.isnan(miou) else miou,
        "iou": named(iou, classes),
        "pixel_accuracy": pixel_accuracy(counts),
        "classes_counted": int((~np.isnan(iou)).sum()),
    }


@dataclass(frozen=True)
class _MaskCounts:
    image: ImageCounts
    confusion: Counts
    boundary: NDArray[np.int64]
    objects: NDArray[np.int64]
    confidence: NDArray[np.int64]  # (101, 2) sampled pixels by confidence in percent: all, correct


class MaskJudge:
    """Evaluates masks over a data set. Memory does not grow with the number of images.

    Args:
        classes: the classes.
        boundary: whether boundary IoU is computed.
        undecided: whether masks may hold 255 (pseudo-masks); such pixels count as misses in `miou`.
    """

    def __init__(self, classes: ClassMap, boundary: bool, undecided: bool) -> None:
        self.classes, self.undecided, self.with_boundary = classes, undecided, boundary
        labels = len(classes) + 1
        self._confusion: Counts = np.zeros((labels, labels + 1), dtype=np.int64)
        self._boundary = np.zeros((labels, 2), dtype=np.int64)
        self._objects = np.zeros((labels, len(SIZES), len(MEASURES)), dtype=np.int64)
        self._confidence = np.zeros((2, 101, 2), dtype=np.int64)  # two halves: every second image
        self._images = 0

    def count(self, item_id: str, truth: Mask, mask: Mask, confidence: NDArray[np.uint8] | None = None) -> _MaskCounts:
        """Count one image without adding it, so that threads can share a judge.

        Args:
            item_id: id of the image.
            truth: (H, W); pixels of 255 are not evaluated.
            mask: (H, W).
            confidence: confidence of the mask in percent, at its sampled pixels (`wsseg.data.masks.sampled`).

        Raises:
            StageError: the sizes differ, a value is not a class id, or a prediction holds 255.
        """
        if not self.undecided and (mask == IGNORE_INDEX).any():
            raise StageError(f"{item_id}: the prediction holds 255; expected: a class id in every pixel")
        labels = len(self.classes) + 1
        try:
            counts = confusion(truth, mask, labels)
        except StageError as error:
            raise StageError(f"{item_id}: {error}") from error
        boundary, by_confidence = np.zeros_like(self._boundary), np.zeros_like(self._confidence[0])
        if self.with_boundary:
            boundary = boundary_counts(truth, mask, labels)
        if confidence is not None:
            by_confidence = _confidence_counts(item_id, sampled(truth), sampled(mask), confidence)
        objects = object_counts(truth, mask, labels)
        return _MaskCounts(ImageCounts.of(item_id, counts), counts, boundary, objects, by_confidence)

    def add(self, counts: _MaskCounts) -> None:
        """Add the counts of one image."""
        self._confusion += counts.confusion
        self._boundary += counts.boundary
        self._objects += counts.objects
        self._confidence[self._images % 2] += counts.confidence
        self._images += 1

    def metrics(self) -> dict[str, Any]:
        """Return the metrics as fractions.

        If the confidence is known, ``calibration_error`` is its expected calibration error; ``temperature`` is the one that
        fits all images, and ``calibration_error_scaled`` the error of each half of the images under the temperature of the
        other half (None for a single image).
        """
        metrics = {**metrics_of(self._confusion, self.classes), "images": self._images}
        if self.with_boundary:
            bands = boundary_iou(self._boundary)
            mean = mean_iou(bands)
            metrics["boundary_miou"] = None if math.isnan(mean) else mean
            metrics["boundary_iou"] = named(bands, self.classes)
        if self.undecided:
            decided = metrics_of(decided_only(self._confusion), self.classes)
            metrics |= {"coverage": coverage(self._confusion), "miou_decided": decided["miou"]}
        if self._confidence.any():
            after = cross_fitted(self._confidence)
            metrics["calibration_error"] = calibration_error(ranges([(self._confidence.sum(0), 1.0)]))
            metrics["temperature"] = fit_temperature(self._confidence.sum(0))
            metrics["calibration_error_scaled"] = None if after is None else calibration_error(after)
        return metrics

    def details(self) -> dict[str, Any]:
        """Return counts over all images.

        ``confusion`` has the truth in rows, and undecided in the last column. ``objects`` gives the numbers of
        `wsseg.metrics.objects` by class name, size and measure. ``calibration`` and ``calibration_scaled`` (see `metrics`)
        are there if the confidence is known: (mean confidence, fraction correct, pixels) of 20 ranges.
        """
        details: dict[str, Any] = {
            "confusion": self._confusion.tolist(),
            "labels": list(self.classes.with_background),
            "objects": {
                name: {size: dict(zip(MEASURES, row, strict=True)) for size, row in zip(SIZES, rows, strict=True)}
                for name, rows in zip(self.classes.with_background, self._objects.tolist(), strict=True)
                if any(map(any, rows))
            },
        }
        if self._confidence.any():
            details["calibration"] = ranges([(self._confidence.sum(0), 1.0)])
            details["calibration_scaled"] = cross_fitted(self._confidence)
        return details


def _confidence_counts(item_id: str, truth: Mask, mask: Mask, confidence: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return (101, 2): the number of pixels with each confidence, and how many of them are correct."""
    if confidence.shape != mask.shape or confidence.max() > 100:
        raise StageError(
            f"{item_id}: the confidence is {confidence.shape} up to {confidence.max()}; expected: {mask.shape}, 100"
        )
    evaluated = truth != IGNORE_INDEX
    every = np.bincount(confidence[evaluated], minlength=101)
    correct = np.bincount(confidence[evaluated & (truth == mask)], minlength=101)
    return np.stack([every, correct], axis=1)
