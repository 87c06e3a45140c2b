"""`wsseg data check`: read everything once and say what is there and what is wrong."""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from wsseg.data.file_memory import FileMemory
from wsseg.data.images import LabeledImages, class_map, load_images
from wsseg.data.layouts import list_split
from wsseg.data.tables import NO_CLASS
from wsseg.data.truth.loading import has_truth, load_truth
from wsseg.errors import DatasetError, listed
from wsseg.labels import ClassMap
from wsseg.types import LabeledImage


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


_LISTED = re.compile(r"[\[\]{}\"|;,]|^'|'$")  # what is left of a list that was not split, such as ['red', 'blue']


def check_data(data: Any, memory: FileMemory) -> list[SplitReport]:
    """Check every configured split; problems of the data become lines of the report, not exceptions.

    Raises:
        DatasetError: a split cannot be listed at all (missing folders, malformed label files).
    """
    reports = []
    train: LabeledImages | None = None
    for split in ("train", "val"):
        if getattr(data, split) is not None:
            report, images = _check_split(data, split, memory, train.classes if train else None)
            reports.append(report)
            if train is not None:
                _compare(train, images, report)
            train = images
    return reports


def _check_split(
    data: Any, split: str, memory: FileMemory, classes: ClassMap | None
) -> tuple[SplitReport, LabeledImages]:
    report = SplitReport(split)
    listing = list_split(data, split)
    report.problems += [f"label without image: {i}" for i in listing.label_without_image]
    report.notes += listing.warnings()
    classes = classes or class_map(data, listing)
    images = load_images(replace(data, on_bad_image="skip"), split, memory, classes, listing)
    report.images = len(images)
    report.problems += [
        f"unreadable: {listing.paths[i]} ({why})" for i, why in images.skipped.items() if i in listing.paths
    ]
    _check_classes(data, images, report)
    if split == "train":
        report.notes += _odd_names(classes.names) + _contradictions(images)
    report.notes += _odd_files(images, memory)
    report.sizes = Counter(item.size for item in images.items)
    if not has_truth(data, split):
        report.notes.append("no masks: this split cannot be judged")
        return report, images
    try:
        truth = load_truth(data, images, memory)
    except DatasetError as error:
        report.problems.append(str(error))
        return report, images
    report.notes += truth.notes
    return report, images


def _check_classes(data: Any, images: LabeledImages, report: SplitReport) -> None:
    """Count the images of each class, and tell of classes that none or all of them show."""
    names = images.classes.names
    counts = Counter(class_id for item in images.items for class_id in item.class_ids)
    report.classes = {name: counts[i] for i, name in enumerate(names, start=1)}
    unseen = [name for name in names if not report.classes[name]]
    if images.split == "train":
        report.problems += [f"class without any image: {n}" for n in unseen if n in data.classes]
        if len(unseen) == len(names):
            report.problems.append("no image shows any class: nothing can be learned")
        elif nobody := [n for n in unseen if n not in data.classes]:
            report.notes.append(
                f"classes without any image: {listed(nobody)}; they cannot be learned: data.classes can name the others"
            )
        report.notes += [
            f"every image shows {name}: add some that do not, or the classifier cannot learn what it looks like"
            for name in names
            if report.classes[name] == report.images > 0
        ]
    elif unseen:
        report.notes.append(f"classes without any image: {listed(unseen)}; they are not judged")
    report.classes["(none)"] = sum(not item.class_ids for item in images.items)


def _odd_names(names: tuple[str, ...]) -> list[str]:
    """Return notes about class names that a label file's form may have made."""
    notes = []
    if lists := [name for name in names if _LISTED.search(name)]:
        notes.append(f"class names that look like lists: {listed(map(repr, lists))}; see data.separator and the labels")
    if nothing := [name for name in names if name.strip().lower() in NO_CLASS | {"-"}]:
        notes.append(
            f"class names that look like 'no class': {listed(map(repr, nothing))}; leave the field of such images empty"
        )
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(" ".join(name.casefold().replace("_", " ").split()), []).append(name)
    notes += [
        f"class names that are nearly the same: {', '.join(map(repr, same))}; they are different classes"
        for same in spellings.values()
        if len(same) > 1
    ]
    return notes


def _contradictions(images: LabeledImages) -> list[str]:
    """Return a note about images of equal content and unequal labels."""
    first: dict[str, LabeledImage] = {}
    pairs = []
    for item in images.items:
        other = first.setdefault(item.sha256, item)
        if other.class_ids != item.class_ids:
            pairs.append(f"{other.id} and {item.id}")
    return [f"the same image with different labels: {listed(pairs)}"] if pairs else []


def _compare(train: LabeledImages, val: LabeledImages, report: SplitReport) -> None:
    """Tell of val's images that train has as well: the same file is a problem, another one of equal content a note."""
    by_digest = {item.sha256: item for item in train.items}
    paths = {item.path.resolve() for item in train.items}
    files = [item.id for item in val.items if item.path.resolve() in paths]
    copies = [
        f"{item.id} (train: {by_digest[item.sha256].id})"
        for item in val.items
        if item.sha256 in by_digest and item.path.resolve() not in paths
    ]
    better = "so that the results look better than they are"
    if files:
        report.problems.append(
            f"{len(files)} of {len(val)} images are in train as well, {better}: {listed(files)}; take them out of one of the two"
        )
    if copies:
        report.notes.insert(0, f"{len(copies)} of {len(val)} images have copies in train, {better}: {listed(copies)}")


def _odd_files(images: LabeledImages, memory: FileMemory) -> list[str]:
    """Return a line for each oddity of readable images: pages that are left out, values that are dark."""
    seen = memory.inspect([item.path for item in images.items], f"looking at {images.split} images")
    ids: dict[str, list[str]] = {}
    for item in images.items:
        if note := seen[item.path].note:
            ids.setdefault(note, []).append(item.id)
    return [f"{len(own)} images: {note}: {listed(own)}" for note, own in ids.items()]
