"""Where masks are wrong: missed, spilt, wrong class or undecided, by image, class and size of the object."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wsseg.labels import BACKGROUND, IGNORE_INDEX, ClassMap
from wsseg.metrics.confusion import confusion, counts_at, iou_per_class, mean_iou
from wsseg.types import Mask

KINDS = ("missed", "spill", "wrong", "undecided")
SIZES = (("small", 0, 32**2), ("medium", 32**2, 96**2), ("large", 96**2, 2**62))  # px of an object, as COCO has them


@dataclass(frozen=True)
class ClassErrors:
    """Pixels of one class, or sums of them.

    Args:
        hits: truth and mask have it.
        missed: truth has it, the mask says background.
        spill: the truth is background, the mask has it.
        wrong: truth or mask has it, and the other has another class (in `confused`, by that class id).
        undecided: truth has it, the mask is 255.
    """

    hits: int = 0
    missed: int = 0
    spill: int = 0
    wrong: int = 0
    undecided: int = 0

    @property
    def errors(self) -> int:
        return self.missed + self.spill + self.wrong + self.undecided

    @property
    def iou(self) -> float | None:
        """Intersection over union; None where neither has the class."""
        union = self.hits + self.errors
        return self.hits / union if union else None

    def __add__(self, other: "ClassErrors") -> "ClassErrors":
        return ClassErrors(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))


def _values(errors: ClassErrors) -> tuple[int, ...]:
    return errors.hits, errors.missed, errors.spill, errors.wrong, errors.undecided


@dataclass(frozen=True)
class Judged:
    """One image.

    Args:
        id: of the image.
        miou: mean over the labels (background included) that truth or mask show; None where all is 255.
        shares: fraction of the judged pixels that is missed, spilt, of the wrong class, undecided: `KINDS`.
        classes: errors by class id, of those that truth or mask show.
    """

    id: str
    miou: float | None
    shares: tuple[float, float, float, float]
    classes: dict[int, ClassErrors]


@dataclass
class SizeErrors:
    """Objects (connected regions of one class in the truth) of one size.

    Args:
        objects: how many.
        pixels: of theirs.
        missed: pixels that the mask says are background, or leaves undecided.
        wrong: pixels that have another class.
    """

    objects: int = 0
    pixels: int = 0
    missed: int = 0
    wrong: int = 0


@dataclass
class Judgement:
    """All images of a split.

    Args:
        classes: the classes.
        images: each image, in the order they were judged.
        counts: (K + 1, K + 2) pixels, rows truth, columns given, the last one 255.
        by_size: by class id and name of the size.
    """

    classes: ClassMap
    images: list[Judged] = field(default_factory=list)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    by_size: dict[int, dict[str, SizeErrors]] = field(default_factory=dict)

    def add(self, judged: Judged, counts: NDArray[np.int64], sizes: dict[int, dict[str, SizeErrors]]) -> None:
        """Take one image in."""
        self.images.append(judged)
        self.counts = counts if not self.counts.size else self.counts + counts
        for class_id, by_name in sizes.items():
            own = self.by_size.setdefault(class_id, {name: SizeErrors() for name, _, _ in SIZES})
            for name, found in by_name.items():
                total = own[name]
                total.objects += found.objects
                total.pixels += found.pixels
                total.missed += found.missed
                total.wrong += found.wrong

    def errors(self, class_id: int) -> ClassErrors:
        """Return one class's errors over all images."""
        return class_errors(self.counts, class_id) if self.counts.size else ClassErrors()

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur, 255 counted as a miss; the figure that `evaluate_masks` gives."""
        return mean_iou(iou_per_class(self.counts))

    def confused_with(self, class_id: int) -> tuple[str, int]:
        """Return the name of the other class that is taken for this one, or it for them, most often, and the pixels."""
        taken = self.counts[class_id, :-1] + self.counts[:, class_id]
        taken[[BACKGROUND, class_id]] = 0
        other = int(taken.argmax())
        return self.classes.with_background[other], int(taken[other])


def class_errors(counts: NDArray[np.int64], class_id: int) -> ClassErrors:
    """Return one class's errors from a confusion matrix (K + 1, K + 2), rows truth, last column 255."""
    row, column = counts[class_id], counts[:, class_id]
    hits = int(row[class_id])
    others = int(row[1:-1].sum() + column[1:].sum())
    if class_id == BACKGROUND:  # what it misses is what the classes spill, and the other way round
        return ClassErrors(hits, int(row[1:-1].sum()), int(column[1:].sum()), 0, int(row[-1]))
    return ClassErrors(hits, int(row[BACKGROUND]), int(column[BACKGROUND]), others - 2 * hits, int(row[-1]))


def judge(item_id: str, truth: Mask, mask: Mask, labels: int) -> tuple[Judged, NDArray[np.int64], dict[int, Any]]:
    """Judge one mask: (what the image is, its confusion matrix, its objects by class id and size).

    Args:
        item_id: of the image.
        truth: (H, W) uint8, 255 is not judged.
        mask: (H, W) uint8, 255 is undecided.
        labels: number of classes, the background included.

    Raises:
        StageError: sizes differ, or a value is no class id.
    """
    counts = confusion(truth, mask, labels)
    total = max(int(counts.sum()), 1)
    present = [k for k in range(labels) if counts[k].any() or counts[:, k].any()]
    things = counts[1:, 1:-1]
    shares = (
        float(counts[1:, 0].sum() / total),
        float(counts[0, 1:-1].sum() / total),
        float((things.sum() - np.trace(things)) / total),
        float(counts[:, -1].sum() / total),
    )
    iou = iou_per_class(counts)
    judged = Judged(
        item_id,
        None if np.isnan(iou).all() else mean_iou(iou),
        shares,
        {k: class_errors(counts, k) for k in present if k != BACKGROUND},
    )
    return judged, counts, object_errors(truth, mask)


def object_errors(truth: Mask, mask: Mask) -> dict[int, dict[str, SizeErrors]]:
    """Return the errors within each object of the truth, by class id and size; objects are regions connected by 8 neighbours."""
    found: dict[int, dict[str, SizeErrors]] = {}
    for class_id in np.unique(truth):
        if class_id in (BACKGROUND, IGNORE_INDEX):
            continue
        regions, places = cv2.connectedComponents((truth == class_id).astype(np.uint8), connectivity=8)
        inside = places.ravel()
        given = mask.ravel()
        area = np.bincount(inside, minlength=regions)
        missed = np.bincount(inside[(given == BACKGROUND) | (given == IGNORE_INDEX)], minlength=regions)
        right = np.bincount(inside[given == class_id], minlength=regions)
        own = found[int(class_id)] = {name: SizeErrors() for name, _, _ in SIZES}
        for name, low, high in SIZES:
            of_size = (area[1:] >= low) & (area[1:] < high)
            own[name] = SizeErrors(
                int(of_size.sum()),
                int(area[1:][of_size].sum()),
                int(missed[1:][of_size].sum()),
                int((area - missed - right)[1:][of_size].sum()),
            )
    return found


def worst_first(images: Iterable[Judged]) -> list[Judged]:
    """Return images from the worst mean IoU to the best; those without any come last."""
    return sorted(images, key=lambda j: (j.miou is None, j.miou, j.id))


def shown(images: Sequence[Judged], most: int) -> list[str]:
    """Return the ids of up to `most` images to look at: half of them the worst, the rest evenly spaced up to the best."""
    order = [j.id for j in worst_first(images)]
    if len(order) <= most:
        return order
    half = most // 2
    rest, places = order[half:], most - half
    return order[:half] + [rest[(len(rest) - 1) * k // max(places - 1, 1)] for k in range(places)]


@dataclass(frozen=True)
class SeedCurves:
    """How seeds do at every background threshold 1/255 ... 1, and what their values are worth.

    Args:
        miou: mean IoU with background, by threshold.
        precision: of the foreground: of the pixels at or above the threshold, the fraction with the right class.
        recall: of the truth's foreground pixels, the fraction that is at or above the threshold with the right class.
        calibration: (mean value, fraction with the right class, pixels) of the pixels in each of 16 ranges of value.
    """

    miou: list[float]
    precision: list[float]
    recall: list[float]
    calibration: list[tuple[float, float, int]]


def seed_curves(histogram: NDArray[np.int64]) -> SeedCurves:
    """Read the curves off pixel counts (K + 1, K + 1, 256) by true class, most likely class and value.

    See `wsseg.metrics.confusion.threshold_counts`.
    """
    labels = len(histogram)
    things = histogram[:, 1:]
    right = sum((histogram[k, k] for k in range(1, labels)), np.zeros(256, np.int64))
    above = things.sum(axis=(0, 1))[::-1].cumsum()[::-1][1:]  # pixels whose value is 1..255 and higher
    hits = right[::-1].cumsum()[::-1][1:]
    truth = max(int(histogram[1:].sum()), 1)
    bins = []
    for values in np.array_split(np.arange(256), 16):
        pixels = things[..., values].sum(axis=(0, 1))
        if total := int(pixels.sum()):
            bins.append((float((pixels * values).sum() / total / 255), float(right[values].sum() / total), total))
    return SeedCurves(
        [mean_iou(iou_per_class(counts_at(histogram, t))) for t in range(1, 256)],
        (hits / np.maximum(above, 1)).tolist(),
        (hits / truth).tolist(),
        bins,
    )
