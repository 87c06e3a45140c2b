"""Kinds of wrong pixels by class, read off a confusion matrix."""

from typing import NamedTuple

import numpy as np

from wsseg.labels import BACKGROUND
from wsseg.metrics.confusion import Counts

KINDS = ("missed", "spill", "wrong", "undecided")


class ClassPixels(NamedTuple):
    """Pixel counts of one class.

    Args:
        hits: the truth and the mask have the class.
        missed: the truth has the class, the mask has the background.
        spill: the truth has the background, the mask has the class.
        wrong: the truth or the mask has the class, and the other one has another foreground class.
        undecided: the truth has the class, the mask is 255.
    """

    hits: int = 0
    missed: int = 0
    spill: int = 0
    wrong: int = 0
    undecided: int = 0

    @property
    def errors(self) -> int:
        """Pixels that are wrong in any way."""
        return self.missed + self.spill + self.wrong + self.undecided

    @property
    def iou(self) -> float | None:
        """Intersection over union; None if neither the truth nor the mask has the class."""
        union = self.hits + self.errors
        return self.hits / union if union else None


def class_pixels(counts: Counts) -> list[ClassPixels]:
    """Return the pixel counts of each class id.

    The background misses what the classes spill, and spills what they miss.

    Args:
        counts: (K + 1, K + 2) confusion matrix; rows are the truth, the last column is undecided.
    """
    foreground = counts[1:, 1:-1]
    table = np.zeros((len(counts), len(ClassPixels._fields)), dtype=np.int64)
    table[:, 0] = np.diagonal(counts)
    table[1:, 1] = counts[1:, BACKGROUND]
    table[1:, 2] = counts[BACKGROUND, 1:-1]
    table[1:, 3] = foreground.sum(axis=1) + foreground.sum(axis=0) - 2 * np.diagonal(foreground)
    table[:, 4] = counts[:, -1]
    table[BACKGROUND, 1:3] = table[1:, 2].sum(), table[1:, 1].sum()
    return [ClassPixels(*row) for row in table.tolist()]
