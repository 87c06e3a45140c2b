"""Metrics of seeds against the truth, at every background threshold."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsseg.errors import StageError
from wsseg.labels import BACKGROUND, IGNORE_INDEX, ClassMap
from wsseg.metrics.confusion import Counts, counts_at, iou_per_class, mean_iou, threshold_counts
from wsseg.saliency.seeds import enlarged
from wsseg.stages.evaluate_masks.masks import metrics_of
from wsseg.types import Mask, Seed

_RANGES = 16  # of the values of a seed


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
                for v in np.array_split(np.arange(256), _RANGES)
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
