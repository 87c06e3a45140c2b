"""Counts of masks and seeds against the truth, and the metrics computed from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsseg.data.masks import sampled
from wsseg.data.photographs import image_files
from wsseg.data.reading import read_mask_file
from wsseg.data.text_files import read_text
from wsseg.errors import DatasetError, StageError, listed
from wsseg.labels import BACKGROUND, IGNORE_INDEX, ClassMap
from wsseg.metrics.boundary import boundary_counts, boundary_iou
from wsseg.metrics.confusion import (
    Counts,
    confusion,
    counts_at,
    coverage,
    decided_only,
    iou_per_class,
    mean_iou,
    pixel_accuracy,
    threshold_counts,
)
from wsseg.metrics.objects import MEASURES, SIZES, object_counts
from wsseg.progress import track
from wsseg.saliency.seeds import enlarged
from wsseg.stages.evaluate_masks.image_counts import ImageCounts
from wsseg.types import Mask, Seed

_RANGES = 20  # of confidence
_SEED_RANGES = 16  # of the values of a seed


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
        self._confidence = np.zeros((101, 2), dtype=np.int64)
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
        boundary, by_confidence = np.zeros_like(self._boundary), np.zeros_like(self._confidence)
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
        self._confidence += counts.confidence
        self._images += 1

    def metrics(self) -> dict[str, Any]:
        """Return the metrics as fractions."""
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
            metrics["calibration_error"] = calibration_error(self._calibration())
        return metrics

    def details(self) -> dict[str, Any]:
        """Return counts over all images.

        ``confusion`` has the truth in rows, and undecided in the last column. ``objects`` gives the numbers of
        `wsseg.metrics.objects` by class name, size and measure. ``calibration`` is there if the confidence is known.
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
            details["calibration"] = self._calibration()
        return details

    def _calibration(self) -> list[tuple[float, float, int]]:
        """Return (mean confidence, fraction correct, sampled pixels) of each of 20 ranges of confidence that occurs."""
        ranges = []
        for values in np.array_split(np.arange(101), _RANGES):
            pixels, correct = self._confidence[values].T
            if total := int(pixels.sum()):
                ranges.append((float((pixels * values).sum() / total / 100), float(correct.sum() / total), total))
        return ranges


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


def calibration_error(calibration: Sequence[tuple[float, float, int]]) -> float:
    """Return the expected calibration error (Guo et al. 2017): mean |confidence - fraction correct|, weighted by pixels.

    Args:
        calibration: (mean confidence, fraction correct, pixels) of each range of confidence.
    """
    total = sum(pixels for _, _, pixels in calibration)
    return sum(abs(confidence - correct) * pixels for confidence, correct, pixels in calibration) / total


@dataclass(frozen=True)
class _SeedCounts:
    truth_ids: NDArray[np.intp]  # (R,) class ids in the truth
    seed_ids: NDArray[np.intp]  # (C,) the background and the classes of the seed
    counts: Counts  # (R, C, 256)


class SeedJudge:
    """Evaluates seeds at every background threshold in one pass.

    The best threshold is chosen on the truth, so its metrics are a diagnostic and not a result. `histogram` is the sum of
    `threshold_counts` over all images, (K + 1, K + 1, 256).
    """

    def __init__(self, classes: ClassMap) -> None:
        self.classes = classes
        labels = len(classes) + 1
        self.histogram: Counts = np.zeros((labels, labels, 256), dtype=np.int64)
        self._images = 0

    def count(self, item_id: str, truth: Mask, seed: Seed) -> _SeedCounts:
        """Count one image without adding it, so that threads can share a judge.

        Only the classes of the image are counted: with 81 class ids, the counts of all would take 14 MB per image.

        Raises:
            StageError: the sizes differ, or the truth contains an unknown class id.
        """
        if seed.size != truth.shape:
            raise StageError(f"{item_id}: the seed has the image size {seed.size} (H, W), the truth {truth.shape}")
        truth_ids = np.flatnonzero(np.bincount(truth.ravel(), minlength=256)[:IGNORE_INDEX])
        if len(truth_ids) and truth_ids[-1] > len(self.classes):
            raise StageError(f"{item_id}: the truth contains {truth_ids[-1]}; expected: 0..{len(self.classes)}, 255")
        places = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        places[truth_ids] = np.arange(len(truth_ids))
        seed_ids = np.array([BACKGROUND, *seed.class_ids], dtype=np.intp)
        best, score = _highest(seed)
        counts = threshold_counts(places[truth], best, score, max(len(truth_ids), len(seed_ids)))
        return _SeedCounts(truth_ids, seed_ids, counts[: len(truth_ids), : len(seed_ids)])

    def add(self, counts: _SeedCounts) -> None:
        """Add the counts of one image."""
        self.histogram[np.ix_(counts.truth_ids, counts.seed_ids)] += counts.counts
        self._images += 1

    def metrics(self) -> dict[str, Any]:
        """Return the metrics at the threshold with the highest mIoU."""
        curve = self._curve()
        best = max(curve, key=lambda t: (curve[t], -t))
        return {
            **metrics_of(counts_at(self.histogram, best), self.classes),
            "best_threshold": best / 255,
            "images": self._images,
        }

    def details(self) -> dict[str, Any]:
        """Return curves over the background threshold, the calibration, and the confusion matrix at the best threshold.

        ``curve`` holds [threshold, mIoU], and ``precision`` and ``recall`` are those of the foreground at the same
        thresholds. ``calibration`` holds (mean value, fraction correct, pixels) of each range of the seeds' values.
        """
        curve = self._curve()
        best = max(curve, key=lambda t: (curve[t], -t))
        foreground = self.histogram[:, 1:].sum(axis=(0, 1))  # pixels by value
        correct = sum((self.histogram[k, k] for k in range(1, len(self.histogram))), np.zeros(256, np.int64))
        at_least, hits = (values[::-1].cumsum()[::-1][list(curve)] for values in (foreground, correct))
        return {
            "curve": [[t / 255, value] for t, value in curve.items()],
            "precision": (hits / np.maximum(at_least, 1)).tolist(),
            "recall": (hits / max(int(self.histogram[1:].sum()), 1)).tolist(),
            "calibration": [
                (float((foreground[v] * v).sum() / total / 255), float(correct[v].sum() / total), total)
                for v in np.array_split(np.arange(256), _SEED_RANGES)
                if (total := int(foreground[v].sum()))
            ],
            "confusion": counts_at(self.histogram, best).tolist(),
            "labels": list(self.classes.with_background),
        }

    def _curve(self) -> dict[int, float]:
        """Return mIoU by threshold, 1 to 255."""
        return {
            t: float(np.nan_to_num(mean_iou(iou_per_class(counts_at(self.histogram, t))))) for t in range(1, 256, 2)
        }


def _highest(seed: Seed) -> tuple[Mask, NDArray[np.uint8]]:
    """Return (H, W): the channel of the highest map, counted from 1 (0 if there is no map), and its value, 0..255."""
    best, score = np.zeros(seed.size, np.uint8), np.zeros(seed.size, np.float32)
    for channel in range(len(seed.class_ids)):  # one map at a time, because each takes 4 bytes per pixel at full size
        (large,) = enlarged(
            Seed(seed.class_ids[channel : channel + 1], seed.maps[channel : channel + 1], seed.size)
        ).maps
        best[(large > score) | (channel == 0)] = channel + 1
        np.maximum(score, large, out=score)
    return best, np.rint(score * 255).astype(np.uint8)


def judge_folders(predictions: Path, truth: Path, class_file: Path, undecided: bool) -> dict[str, Any]:
    """Evaluate a folder of masks against a folder of true masks with the same ids.

    Args:
        predictions: folder of indexed PNG masks.
        truth: folder of the true masks.
        class_file: text file; line K is the name of class id K.
        undecided: whether 255 in predictions counts as a miss; otherwise it is an error.

    Raises:
        DatasetError: both folders are the same, ids occur in one folder only, masks cannot be read, differ in size or
            hold values that are not class ids (all are listed), or no mask shows a class.
    """
    classes = ClassMap(tuple(line.strip() for line in read_text(class_file).splitlines() if line.strip()))
    if predictions.resolve() == truth.resolve():
        raise DatasetError(f"{predictions}: it is given as predictions and as truth; expected: two folders")
    predicted, true = image_files(predictions), image_files(truth)
    for name, ids, folder in (
        ("no prediction", true.keys() - predicted.keys(), predictions),
        ("no truth", predicted.keys() - true.keys(), truth),
    ):
        if ids:
            raise DatasetError(
                f"{len(ids)} masks have {name} in {folder}: {listed(sorted(ids))}; expected: the same names in both folders"
            )
    if not true:
        raise DatasetError(f"{truth}: no mask was found in it")
    judge = MaskJudge(classes, boundary=True, undecided=undecided)
    values: dict[Path, set[int]] = {predictions: set(), truth: set()}
    faults: dict[str, list[str]] = {}
    for item_id in track(sorted(true), len(true), "evaluating masks"):
        try:
            masks = [read_mask_file(files[item_id])[0] for files in (true, predicted)]
            judge.add(judge.count("", *masks))
        except (DatasetError, StageError) as error:
            faults.setdefault(str(error).removeprefix(": "), []).append(item_id)
            continue
        for folder, mask in zip((truth, predictions), masks, strict=True):
            values[folder] |= set(np.unique(mask).tolist())
    if faults:
        lines = listed(
            f"{', '.join(ids[:3])}{' ...' if len(ids) > 3 else ''}: {fault}" for fault, ids in faults.items()
        )
        count = sum(map(len, faults.values()))
        raise DatasetError(f"{count} of {len(true)} masks cannot be evaluated: {lines}")
    for folder, values_in in values.items():
        if values_in <= {BACKGROUND, IGNORE_INDEX} and (IGNORE_INDEX in values_in or folder == truth):
            raise DatasetError(
                f"{folder}: no mask shows a class, the values are {', '.join(map(str, sorted(values_in)))}; expected: class "
                f"ids 1 to {len(classes)}, where 255 means 'not evaluated'; divide masks of 0 and 255 by 255"
            )
    return judge.metrics()
