"""Pixel counts of each image by class, and the file that keeps them: one JSON object per line and image."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from wsseg.labels import BACKGROUND
from wsseg.metrics.confusion import Counts
from wsseg.metrics.errors import ClassPixels, class_pixels

FILE = "images.jsonl"


@dataclass(frozen=True)
class ImageCounts:
    """One image.

    Args:
        id: of the image.
        classes: pixel counts by class id (the background included) of the classes that the truth or the mask has.
    """

    id: str
    classes: dict[int, ClassPixels]

    @classmethod
    def of(cls, item_id: str, counts: Counts) -> "ImageCounts":
        """Return the counts of an image from its confusion matrix, (K + 1, K + 2)."""
        return cls(item_id, {k: c for k, c in enumerate(class_pixels(counts)) if c.iou is not None})

    @property
    def miou(self) -> float | None:
        """Mean IoU over the classes that the truth or the mask has; None if every pixel of the truth is 255."""
        values = [c.iou for c in self.classes.values() if c.iou is not None]
        return sum(values) / len(values) if values else None

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """The fractions of the evaluated pixels that are wrong, by kind: `wsseg.metrics.errors.KINDS`."""
        foreground = [c for k, c in self.classes.items() if k != BACKGROUND]
        missed = sum(c.missed for c in foreground)
        spill = sum(c.spill for c in foreground)
        wrong = sum(c.wrong for c in foreground) // 2  # each such pixel is counted by both of its classes
        undecided = sum(c.undecided for c in self.classes.values())
        total = max(sum(c.hits for c in self.classes.values()) + missed + spill + wrong + undecided, 1)
        return missed / total, spill / total, wrong / total, undecided / total

    def line(self) -> str:
        """Return the image's line: its id, and a list of hits, missed, spill, wrong and undecided by class id."""
        return json.dumps({"id": self.id, "classes": self.classes}, separators=(",", ":"))


def read_image_counts(data: bytes) -> Iterator[ImageCounts]:
    """Yield the images of a file."""
    for line in data.splitlines():
        row = json.loads(line)
        yield ImageCounts(row["id"], {int(k): ClassPixels(*counts) for k, counts in row["classes"].items()})
