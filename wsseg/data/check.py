"""Check a dataset for problems before a run (`wsseg data check`): every file is read once."""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wsseg.data.file_memory import FileMemory
from wsseg.data.images import LabeledImages, class_map, load_images
from wsseg.data.layouts import list_split
from wsseg.data.marks import load_marks
from wsseg.data.sequence_checks import sequence_notes, split_findings
from wsseg.data.tables import NO_CLASS
from wsseg.data.truth.loading import has_truth, load_truth
from wsseg.errors import DatasetError, counted, listed
from wsseg.labels import ClassMap
from wsseg.types import LabeledImage, LabeledSequence


@dataclass
class SplitReport:
    """Contents and problems of one split.

    Args:
        split: ``train`` or ``val``.
        what: ``image`` or ``sequence``.
        images: number of readable, labelled images.
        classes: number of images by class name; images without any class are counted as ``(none)``.
        sizes: number of images by size (H, W) in px.
        problems: faults that must be fixed, one line each.
        notes: findings that may be intended, one line each.
    """

    split: str
    what: str = "image"
    images: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


_LIST_MARKS = re.compile(r"[\[\]{}\"|;,]|^'|'$")  # left over from an unsplit list such as ['red', 'blue']


def check_data(data: Any, memory: FileMemory) -> list[SplitReport]:
    """Check every configured split; faults of the data become lines of the report, not exceptions.

    Raises:
        DatasetError: a split cannot be listed (missing folders, malformed label files).
    """
    train, train_images = _check_split(data, "train", memory)
    if data.val is None:
        _check_marks(data, train_images, None, memory, train)
        return [train]
    val, val_images = _check_split(data, "val", memory, train_images.classes)
    _check_overlap(train_images, val_images, val)
    _check_marks(data, train_images, val_images, memory, train)
    if data.kind == "sequences":
        problems, notes = split_findings(train_images, val_images, data.group)
        val.problems += problems
        val.notes += notes
    return [train, val]


def _check_marks(
    data: Any, images: LabeledImages, judged: LabeledImages | None, memory: FileMemory, report: SplitReport
) -> None:
    """Report marks that cannot be used, and the number of those that can."""
    if getattr(data.train, "marks", None) is None:  # sequences have no marks
        return
    try:
        marks = load_marks(data, images, memory, judged)
    except DatasetError as error:
        report.problems.append(str(error))
        return
    report.notes += [f"marks: {counted(len(marks.ids), 'image')}", *marks.notes]


def _check_split(
    data: Any, split: str, memory: FileMemory, classes: ClassMap | None = None
) -> tuple[SplitReport, LabeledImages]:
    report = SplitReport(split, "sequence" if data.kind == "sequences" else "image")
    listing = list_split(data, split)
    if ids := listing.label_without_image:
        report.problems.append(f"{counted(len(ids), 'label')} without {report.what}: {listed(ids)}")
    report.notes += listing.warnings()
    classes = classes or class_map(data, listing)
    images = load_images(replace(data, on_bad_image="skip"), split, memory, classes, listing)
    report.images = len(images)
    report.problems += [
        f"unreadable image: {listing.paths[i]} ({why})" for i, why in images.skipped.items() if i in listing.paths
    ]
    _check_classes(data, images, report)
    if split == "train":
        report.notes += _suspicious_names(classes.names) + _contradictions(images, report.what)
    report.notes += sequence_notes(images) if images.channels else _file_notes(images, memory)
    report.sizes = Counter(item.size for item in images.items)
    if not has_truth(data, split):
        if split == "val":
            report.notes.append("no masks: the quality of the results is not measured")
        return report, images
    try:
        report.notes += load_truth(data, images, memory).notes
    except DatasetError as error:
        report.problems.append(str(error))
    return report, images


def _check_classes(data: Any, images: LabeledImages, report: SplitReport) -> None:
    """Count the images of each class, and report classes that no image or every image has."""
    names = images.classes.names
    counts = Counter(class_id for item in images.items for class_id in item.class_ids)
    report.classes = {name: counts[i] for i, name in enumerate(names, start=1)}
    absent = [name for name in names if not report.classes[name]]
    if images.split == "train":
        report.problems += [
            f"no training {report.what} is labelled {name!r}; add some, or remove it from data.classes"
            for name in absent
            if name in data.classes
        ]
        if len(absent) == len(names):
            report.problems.append(f"no training {report.what} has a class; nothing can be learned")
        elif unlisted := [name for name in absent if name not in data.classes]:
            report.notes.append(
                f"classes without training {report.what}s cannot be learned: {listed(unlisted)}; list the others in data.classes"
            )
        report.notes += [
            f"every training {report.what} is labelled {name!r}; add {report.what}s without it, or the class cannot be learned"
            for name in names
            if report.classes[name] == report.images > 0
        ]
    elif absent:
        report.notes.append(
            f"classes without validation {report.what}s: {listed(absent)}; their quality is not measured"
        )
    report.classes["(none)"] = sum(not item.class_ids for item in images.items)


def _suspicious_names(names: tuple[str, ...]) -> list[str]:
    """Return notes about class names that may be artifacts of a label file's format."""
    notes = []
    if lists := [name for name in names if _LIST_MARKS.search(name)]:
        notes.append(
            f"class names that look like lists: {listed(map(repr, lists))}; check data.separator and the label file"
        )
    if empty := [name for name in names if name.strip().lower() in NO_CLASS | {"-"}]:
        notes.append(
            f"class names that look like 'no class': {listed(map(repr, empty))}; leave the label of such images empty"
        )
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(" ".join(name.casefold().replace("_", " ").split()), []).append(name)
    notes += [
        f"class names with similar spelling: {', '.join(map(repr, similar))}; they are separate classes"
        for similar in spellings.values()
        if len(similar) > 1
    ]
    return notes


def _contradictions(images: LabeledImages, what: str) -> list[str]:
    """Return a note about identical items with different labels, or an empty list."""
    first_of: dict[str, LabeledImage] = {}
    pairs = []
    for item in images.items:
        first = first_of.setdefault(item.sha256, item)
        if first.class_ids != item.class_ids:
            pairs.append(f"{first.id} and {item.id}")
    return [f"identical {what}s with different labels: {listed(pairs)}"] if pairs else []


def _check_overlap(train: LabeledImages, val: LabeledImages, report: SplitReport) -> None:
    """Report validation images that are also in train: the same file is a problem, a copy of it is a note."""
    by_digest = {item.sha256: item for item in train.items}
    places = {_place(item) for item in train.items}
    files = [item.id for item in val.items if _place(item) in places]
    copies = [
        f"{item.id} (train: {by_digest[item.sha256].id})"
        for item in val.items
        if item.sha256 in by_digest and _place(item) not in places
    ]
    total = counted(len(val), f"validation {report.what}")
    if files:
        report.problems.append(
            f"{len(files)} of {total} also in train: {listed(files)}; remove them from one split, or the results look "
            "better than they are"
        )
    if copies:
        report.notes.insert(
            0,
            f"{len(copies)} of {total} identical to training {report.what}s: {listed(copies)}; the results look better than they are",
        )


def _place(item: LabeledImage) -> tuple[Path, int]:
    """Return where an item is: its file, and its position in it."""
    return item.path.resolve(), item.record if isinstance(item, LabeledSequence) else 0


def _file_notes(images: LabeledImages, memory: FileMemory) -> list[str]:
    """Return one note per property of readable images that may be unintended, such as several pages or dark values."""
    inspections = memory.inspect([item.path for item in images.items], f"inspecting {images.split} images")
    ids_of: dict[str, list[str]] = {}
    for item in images.items:
        if note := inspections[item.path].note:
            ids_of.setdefault(note, []).append(item.id)
    return [f"{counted(len(ids), 'image')}: {note}: {listed(ids)}" for note, ids in ids_of.items()]
