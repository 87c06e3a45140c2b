"""Metrics of scores at the places of sequences: average precision per place, and whether the peak hits the truth."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsseg.labels import IGNORE_INDEX, ClassMap
from wsseg.types import Mask

TOLERANCE = 2  # places between a peak and the truth that count as a hit


class PlaceJudge:
    """Evaluates scores over a data set. Memory does not grow with the number of sequences.

    Args:
        classes: the classes.
    """

    def __init__(self, classes: ClassMap) -> None:
        self.classes = classes
        self._places = np.zeros((len(classes), 2, 256), np.int64)  # by class, truth and score
        self._peaks = np.zeros((len(classes), 2), np.int64)  # sequences that show the class, and hits

    def add(self, truth: Mask, scores: Mapping[int, NDArray[np.uint8]]) -> None:
        """Add one sequence.

        Args:
            truth: (1, L); places of 255 are not evaluated.
            scores: (L,) score of a class by its id; 0 everywhere for a class that is missing.
        """
        row = truth[0]
        judged = row != IGNORE_INDEX
        for channel in range(len(self.classes)):
            score = scores.get(channel + 1)
            score = np.zeros(row.shape, np.uint8) if score is None else score
            shown = row == channel + 1
            for is_class, places in enumerate((judged & ~shown, shown)):
                self._places[channel, is_class] += np.bincount(score[places], minlength=256)
            if shown.any():
                distance = np.abs(np.flatnonzero(shown) - int(score.argmax())).min()
                self._peaks[channel] += 1, bool(score.any()) and distance <= TOLERANCE

    def metrics(self) -> dict[str, Any]:
        """Return ``place_ap`` and ``peak_hits`` by class name (None if the truth never shows it), and their means.

        ``place_ap`` is the average precision of the places (area under precision and recall, without interpolation);
        ``peak_hits`` the fraction of the sequences with the class in which the highest score is within two places of it.
        """
        precision, hits = {}, {}
        for channel, name in enumerate(self.classes.names):
            total, hit = self._peaks[channel].tolist()
            precision[name] = average_precision(self._places[channel]) if total else None
            hits[name] = hit / total if total else None
        return {
            "place_ap": precision,
            "place_map": _mean(precision.values()),
            "peak_hits": hits,
            "peak_hit_rate": _mean(hits.values()),
        }


def average_precision(counts: NDArray[np.int64]) -> float:
    """Return the average precision of (2, 256) numbers of places without and with the class, by score."""
    wrong, correct = counts[:, ::-1].cumsum(axis=1)  # at or above each score, from the highest
    gained = np.diff(correct, prepend=0)
    return float((gained * correct / np.maximum(correct + wrong, 1)).sum() / max(int(correct[-1]), 1))


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
