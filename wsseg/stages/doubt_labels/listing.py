"""What `doubt_labels` stores: images by the doubt about their labels, and near-duplicates across train and val."""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from wsseg.data.label_overlay import COLUMNS, Decisions

FILE = "doubts.json"


@dataclass(frozen=True)
class DoubtedLabel:
    """One class of one image.

    Args:
        name: name of the class.
        labelled: whether the image is labelled with the class.
        doubt: probability that this is wrong, as if half of the images showed the class, in (0, 1).
        probably_wrong: whether the head is as sure as it is on the average image with the opposite label.
    """

    name: str
    labelled: bool
    doubt: float
    probably_wrong: bool


@dataclass(frozen=True)
class DoubtedImage:
    """One image.

    Args:
        id: id of the image.
        surprise: negative logarithm of the probability that all of its labels are right, not negative.
        labels: the classes that the image is labelled with, and those that it probably shows; the most doubted first.
    """

    id: str
    surprise: float
    labels: tuple[DoubtedLabel, ...]

    @property
    def doubt(self) -> float:
        """Probability that at least one label is wrong, in [0, 1]."""
        return 1 - math.exp(-self.surprise)

    @property
    def probably_wrong(self) -> bool:
        """Whether a label is probably wrong."""
        return any(label.probably_wrong for label in self.labels)

    @property
    def why(self) -> str:
        """The doubt in words: ``says scratch, looks like patch``."""
        doubted = [label for label in self.labels if label.doubt > 0.5 or label.probably_wrong] or self.labels[:1]
        surplus = " and ".join(label.name for label in doubted if label.labelled)
        missing = " and ".join(label.name for label in doubted if not label.labelled)
        if surplus and missing:
            return f"says {surplus}, looks like {missing}"
        return f"says {surplus}, which is not seen" if surplus else f"shows {missing} that no label names"


@dataclass(frozen=True)
class NearDuplicate:
    """Two photographs that look the same.

    Args:
        train: id of the training image.
        val: id of the validation image.
        similarity: see `wsseg.data.near_duplicates`; 1 for the same picture.
    """

    train: str
    val: str
    similarity: float


@dataclass(frozen=True)
class LabelDoubts:
    """The result of `doubt_labels`.

    Args:
        images: the training images of which a class could be judged, the most doubted first.
        near_duplicates: validation images that look like a training image.
        not_judged: names of the classes that too few images show, or do not show, to be judged.
    """

    images: Sequence[DoubtedImage]
    near_duplicates: Sequence[NearDuplicate]
    not_judged: Sequence[str]

    @property
    def probably_wrong(self) -> int:
        """Number of images with a label that is probably wrong."""
        return sum(image.probably_wrong for image in self.images)

    def undecided(self, decisions: Decisions) -> "LabelDoubts":
        """Return the doubts without the labels that a person has decided."""
        images = []
        for image in self.images:
            labels = tuple(label for label in image.labels if (image.id, label.name) not in decisions)
            certain = sum(-math.log1p(-label.doubt) for label in image.labels if label not in labels)
            if labels:
                images.append(replace(image, surprise=max(image.surprise - certain, 0.0), labels=labels))
        return replace(self, images=sorted(images, key=lambda image: (-image.surprise, image.id)))

    def summary(self, listed: Iterable[DoubtedImage]) -> dict[str, Any]:
        """Return the doubts as JSON values, with some of the images."""
        images = [{"doubt": i.doubt, "why": i.why, "probably_wrong": i.probably_wrong, **asdict(i)} for i in listed]
        pairs = [asdict(pair) for pair in self.near_duplicates]
        counts = {"images": len(self.images), "probably_wrong": self.probably_wrong}
        return {**counts, "listed": images, "near_duplicates": pairs, "not_judged": list(self.not_judged)}

    def encode(self) -> bytes:
        """Return the doubts as JSON bytes."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()


def decode(data: bytes) -> LabelDoubts:
    """Return the doubts in bytes of `LabelDoubts.encode`."""
    values = json.loads(data)
    images = [
        DoubtedImage(image["id"], image["surprise"], tuple(DoubtedLabel(**label) for label in image["labels"]))
        for image in values["images"]
    ]
    pairs = [NearDuplicate(**pair) for pair in values["near_duplicates"]]
    return LabelDoubts(images, pairs, values["not_judged"])


def overlay_table(images: Iterable[DoubtedImage], decisions: Decisions) -> bytes:
    """Return doubted labels as a label overlay: CSV with an empty cell ``present`` that a person fills in.

    Args:
        images: the images to list, one row per label, so that a class can be replaced by another.
        decisions: earlier decisions. They come first, so that the new table can replace the old one.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, "labelled", "doubt", "why"])
    for (item_id, name), present in decisions.items():
        writer.writerow([item_id, name, int(present), "", "", "decided before"])
    for image in images:
        for label in image.labels:
            writer.writerow([image.id, label.name, "", int(label.labelled), f"{label.doubt:.3f}", image.why])
    return text.getvalue().encode()


def tenth(count: int) -> int:
    """Return a tenth of a number of images, rounded up: how many are listed by default."""
    return math.ceil(count / 10)
