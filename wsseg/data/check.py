"""`wsseg data check`: read everything once and say what is there and what is wrong."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from wsseg.data.images import class_map, list_split, load_images
from wsseg.data.reading import FileMemory
from wsseg.data.truth import has_truth, load_truth
from wsseg.errors import DatasetError
from wsseg.labels import ClassMap
from wsseg.progress import track


@dataclass
class SplitReport:
    """What was found in one split.

    Args:
        split: its name.
        images: readable, labelled images.
        classes: images by class name; those without any class under ``(none)``.
        sizes: images by (H, W).
        problems: one line each, to be mended.
        notes: one line each, worth knowing.
    """

    split: str
    images: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_data(data: Any, memory: FileMemory) -> list[SplitReport]:
    """Check every configured split; problems of the data become lines of the report, not exceptions.

    Raises:
        DatasetError: a split cannot be listed at all (missing folders, malformed label files).
    """
    reports = []
    classes: ClassMap | None = None
    for split in ("train", "val"):
        if getattr(data, split) is not None:
            report, classes = _check_split(data, split, memory, classes)
            reports.append(report)
    return reports


def _check_split(data: Any, split: str, memory: FileMemory, classes: ClassMap | None) -> tuple[SplitReport, ClassMap]:
    from dataclasses import replace

    report = SplitReport(split)
    listing = list_split(data, split)
    report.problems += [f"label without image: {i}" for i in listing.label_without_image]
    report.notes += [f"image without label, not used: {i}" for i in listing.image_without_label]
    classes = classes or class_map(data, listing)
    images = load_images(replace(data, on_bad_image="skip"), split, memory, classes)
    report.images = len(images)
    report.problems += [
        f"unreadable: {listing.paths[i]} ({why})" for i, why in images.skipped.items() if i in listing.paths
    ]
    counts = Counter(class_id for item in images.items for class_id in item.class_ids)
    report.classes = {name: counts[i] for i, name in enumerate(classes.names, start=1)}
    report.classes["(none)"] = sum(not item.class_ids for item in images.items)
    report.problems += [f"class without any image: {n}" for n, c in report.classes.items() if c == 0 and n != "(none)"]
    report.notes += [
        f"every image shows {name}: add some that do not, or the classifier cannot learn what it looks like"
        for name, count in report.classes.items()
        if split == "train" and name != "(none)" and count == report.images > 0
    ]
    report.sizes = Counter(item.size for item in images.items)
    if not has_truth(data, split):
        report.notes.append("no masks: this split cannot be judged")
        return report, classes
    try:
        truth = load_truth(data, images, memory)
    except DatasetError as error:
        report.problems.append(str(error))
        return report, classes
    for item in track(images.items, len(images), f"checking {split} masks"):
        try:
            truth.mask(item.id)
        except DatasetError as error:
            report.problems.append(str(error))
    return report, classes
