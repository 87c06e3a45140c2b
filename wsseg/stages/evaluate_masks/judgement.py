"""What is counted, and the figures that are read off the counts."""

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
from wsseg.progress import track
from wsseg.saliency.seeds import enlarged
from wsseg.types import Mask, Seed

_RANGES = 20  # of confidence


def named(values: NDArray[np.float64], classes: ClassMap) -> dict[str, float | None]:
    """Return values by class name; None (not NaN, which is no JSON) for a class that occurs nowhere."""
    return {n: None if math.isnan(v) else float(v) for n, v in zip(classes.with_background, values, strict=True)}


def metrics_of(counts: Counts, classes: ClassMap) -> dict[str, Any]:
    """Return mIoU, IoU per class name, pixel accuracy and how many classes (the background included) count."""
    iou = iou_per_class(counts)
    miou = mean_iou(iou)
    return {
        "miou": None if math.isnan(miou) else miou,
        "iou": named(iou, classes),
        "pixel_accuracy": pixel_accuracy(counts),
        "classes_counted": int((~np.isnan(iou)).sum()),
    }


@dataclass(frozen=True)
class _Counted:
    counts: Counts
    boundary: NDArray[np.int64]
    confidence: NDArray[np.int64]  # (101, 2) sampled pixels by confidence in percent: all, right


class MaskJudge:
    """Judges masks against truth over a data set.

    Args:
        classes: the classes.
        boundary: whether boundary IoU is counted.
        undecided: whether masks may hold 255 (pseudo-masks); such pixels then count as misses in `miou`.
    """

    def __init__(self, classes: ClassMap, boundary: bool, undecided: bool) -> None:
        self.classes, self.undecided, self.with_boundary = classes, undecided, boundary
        labels = len(classes) + 1
        self._counts: Counts = np.zeros((labels, labels + 1), dtype=np.int64)
        self._boundary = np.zeros((labels, 2), dtype=np.int64)
        self._confidence = np.zeros((101, 2), dtype=np.int64)
        self._images = 0

    def count(self, item_id: str, truth: Mask, mask: Mask, confidence: NDArray[np.uint8] | None = None) -> _Counted:
        """Count one image; changes nothing.

        Args:
            item_id: of the image.
            truth: (H, W), 255 is not judged.
            mask: (H, W).
            confidence: of the mask, in percent, where masks are sampled (`wsseg.data.masks.sampled`).

        Raises:
            StageError: the sizes differ, a value is no class id, or a prediction holds 255.
        """
        if not self.undecided and (mask == IGNORE_INDEX).any():
            raise StageError(f"{item_id}: the prediction holds 255; a prediction decides every pixel")
        labels = len(self.classes) + 1
        try:
            counts = confusion(truth, mask, labels)
        except StageError as error:
            raise StageError(f"{item_id}: {error}") from error
        sure = np.zeros_like(self._confidence)
        if confidence is not None:
            sure = _confidence_counts(item_id, sampled(truth), sampled(mask), confidence)
        if not self.with_boundary:
            return _Counted(counts, np.zeros_like(self._boundary), sure)
        return _Counted(counts, boundary_counts(truth, mask, labels), sure)

    def add(self, counted: _Counted) -> None:
        """Add what `count` returned."""
        self._counts += counted.counts
        self._boundary += counted.boundary
        self._confidence += counted.confidence
        self._images += 1

    def metrics(self) -> dict[str, Any]:
        """Return the figures, fractions all."""
        metrics = {**metrics_of(self._counts, self.classes), "images": self._images}
        if self.with_boundary:
            bands = boundary_iou(self._boundary)
            mean = mean_iou(bands)
            metrics["boundary_miou"] = None if math.isnan(mean) else mean
            metrics["boundary_iou"] = named(bands, self.classes)
        if self.undecided:
            decided = metrics_of(decided_only(self._counts), self.classes)
            metrics |= {"coverage": coverage(self._counts), "miou_decided": decided["miou"]}
        if self._confidence.any():
            metrics["calibration_error"] = calibration_error(self._calibration())
        return metrics

    def details(self) -> dict[str, Any]:
        """Return the confusion matrix (rows truth, columns given, last column undecided), and the calibration where known."""
        details = {"confusion": self._counts.tolist(), "labels": list(self.classes.with_background)}
        return {**details, "calibration": self._calibration()} if self._confidence.any() else details

    def _calibration(self) -> list[tuple[float, float, int]]:
        """Return (mean confidence, fraction right, sampled pixels) of each of 20 ranges of confidence that occurs."""
        found = []
        for values in np.array_split(np.arange(101), _RANGES):
            pixels, right = self._confidence[values].T
            if total := int(pixels.sum()):
                found.append((float((pixels * values).sum() / total / 100), float(right.sum() / total), total))
        return found


def _confidence_counts(item_id: str, truth: Mask, mask: Mask, confidence: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return (101, 2) how many pixels have a confidence, and how many of them are right."""
    if confidence.shape != mask.shape or confidence.max() > 100:
        raise StageError(
            f"{item_id}: the confidence is {confidence.shape} up to {confidence.max()}; expected: {mask.shape}, 100"
        )
    judged = truth != IGNORE_INDEX
    every = np.bincount(confidence[judged], minlength=101)
    right = np.bincount(confidence[judged & (truth == mask)], minlength=101)
    return np.stack([every, right], axis=1)


def calibration_error(calibration: Sequence[tuple[float, float, int]]) -> float:
    """Return the expected calibration error (Guo et al. 2017): how far confidence is from being right, weighted by pixels.

    Args:
        calibration: (mean confidence, fraction right, pixels) of each range of confidence.
    """
    total = sum(pixels for _, _, pixels in calibration)
    return sum(abs(confidence - right) * pixels for confidence, right, pixels in calibration) / total


@dataclass(frozen=True)
class _SeedCounts:
    truth_ids: NDArray[np.intp]  # (R,) class ids that occur in the truth
    seed_ids: NDArray[np.intp]  # (C,) the background, and the classes of the seed
    counts: Counts  # (R, C, 256)


class SeedJudge:
    """Judges seeds at every background threshold at once. The best one is chosen on truth: a diagnostic, no result.

    `histogram` is what `threshold_counts` returns, summed over images: (K + 1, K + 1, 256).
    """

    def __init__(self, classes: ClassMap) -> None:
        self.classes = classes
        labels = len(classes) + 1
        self.histogram: Counts = np.zeros((labels, labels, 256), dtype=np.int64)
        self._images = 0

    def count(self, item_id: str, truth: Mask, seed: Seed) -> _SeedCounts:
        """Count the classes that occur in one image; changes nothing.

        With all classes, the counts of one image would take 14 MB for 81 class ids.

        Raises:
            StageError: the sizes differ, or the truth holds an unknown class id.
        """
        if seed.size != truth.shape:
            raise StageError(f"{item_id}: the seed is of an image of {seed.size} (H, W), its truth {truth.shape}")
        truth_ids = np.flatnonzero(np.bincount(truth.ravel(), minlength=256)[:IGNORE_INDEX])
        if len(truth_ids) and truth_ids[-1] > len(self.classes):
            raise StageError(f"{item_id}: the truth holds {truth_ids[-1]}; expected: 0..{len(self.classes)}, 255")
        places = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        places[truth_ids] = np.arange(len(truth_ids))
        seed_ids = np.array([BACKGROUND, *seed.class_ids], dtype=np.intp)
        best, score = _highest(seed)
        counts = threshold_counts(places[truth], best, score, max(len(truth_ids), len(seed_ids)))
        return _SeedCounts(truth_ids, seed_ids, counts[: len(truth_ids), : len(seed_ids)])

    def add(self, counted: _SeedCounts) -> None:
        """Add what `count` returned."""
        self.histogram[np.ix_(counted.truth_ids, counted.seed_ids)] += counted.counts
        self._images += 1

    def metrics(self) -> dict[str, Any]:
        """Return the figures at the threshold with the highest mIoU."""
        curve = self._curve()
        best = max(curve, key=lambda t: (curve[t], -t))
        return {
            **metrics_of(counts_at(self.histogram, best), self.classes),
            "best_threshold": best / 255,
            "images": self._images,
        }

    def details(self) -> dict[str, Any]:
        """Return mIoU at each threshold, and the confusion matrix at the best one."""
        curve = self._curve()
        best = max(curve, key=lambda t: (curve[t], -t))
        return {
            "curve": [[t / 255, value] for t, value in curve.items()],
            "confusion": counts_at(self.histogram, best).tolist(),
            "labels": list(self.classes.with_background),
        }

    def _curve(self) -> dict[int, float]:
        return {
            t: float(np.nan_to_num(mean_iou(iou_per_class(counts_at(self.histogram, t))))) for t in range(1, 256, 2)
        }


def _highest(seed: Seed) -> tuple[Mask, NDArray[np.uint8]]:
    """Return (H, W) the channel of the highest map, counted from 1 (0 if there is none), and its value, 0..255."""
    best, score = np.zeros(seed.size, np.uint8), np.zeros(seed.size, np.float32)
    for channel in range(len(seed.class_ids)):  # one map at a time: at full size each takes 4 bytes per pixel
        (large,) = enlarged(
            Seed(seed.class_ids[channel : channel + 1], seed.maps[channel : channel + 1], seed.size)
        ).maps
        best[(large > score) | (channel == 0)] = channel + 1
        np.maximum(score, large, out=score)
    return best, np.rint(score * 255).astype(np.uint8)


def judge_folders(predictions: Path, truth: Path, class_file: Path, undecided: bool) -> dict[str, Any]:
    """Judge one folder of masks against another, by equal ids.

    Args:
        predictions: folder of indexed PNG masks.
        truth: folder of the true ones.
        class_file: text file; line K is the name of class id K.
        undecided: whether 255 in predictions is a miss; otherwise it is refused.

    Raises:
        DatasetError: one folder for both, ids that stand in one folder only, masks that cannot be read, of another size,
            or with values that are no class ids (all are listed), or masks that show no class at all.
    """
    classes = ClassMap(tuple(line.strip() for line in read_text(class_file).splitlines() if line.strip()))
    if predictions.resolve() == truth.resolve():
        raise DatasetError(f"{predictions}: it is given as predictions and as truth; expected: two folders")
    given, true = image_files(predictions), image_files(truth)
    for name, ids, other in (
        ("no prediction", true.keys() - given.keys(), predictions),
        ("no truth", given.keys() - true.keys(), truth),
    ):
        if ids:
            raise DatasetError(
                f"{len(ids)} masks have {name} in {other}: {listed(sorted(ids))}; expected: the same names in both folders"
            )
    if not true:
        raise DatasetError(f"{truth}: no mask was found in it")
    judge = MaskJudge(classes, boundary=True, undecided=undecided)
    values: dict[Path, set[int]] = {predictions: set(), truth: set()}
    faults: dict[str, list[str]] = {}
    for item_id in track(sorted(true), len(true), "judging masks"):
        try:
            masks = [read_mask_file(files[item_id])[0] for files in (true, given)]
            judge.add(judge.count("", *masks))
        except (DatasetError, StageError) as error:
            faults.setdefault(str(error).removeprefix(": "), []).append(item_id)
            continue
        for folder, mask in zip((truth, predictions), masks, strict=True):
            values[folder] |= set(np.unique(mask).tolist())
    if faults:
        told = listed(f"{', '.join(ids[:3])}{' ...' if len(ids) > 3 else ''}: {fault}" for fault, ids in faults.items())
        count = sum(map(len, faults.values()))
        raise DatasetError(f"{count} of {len(true)} masks cannot be judged: {told}")
    for folder, found in values.items():
        if found <= {BACKGROUND, IGNORE_INDEX} and (IGNORE_INDEX in found or folder == truth):
            raise DatasetError(
                f"{folder}: no mask shows a class, the values are {', '.join(map(str, sorted(found)))}; expected: class ids "
                f"1 to {len(classes)}, where 255 means 'not judged'; divide masks of 0 and 255 by 255"
            )
    return judge.metrics()
