"""True masks of sequences: intervals of a BED file, or an array of class ids."""

import hashlib
from pathlib import Path

import numpy as np

from wsseg.data.config import SequencesData
from wsseg.data.images import LabeledImages
from wsseg.data.text_files import read_text
from wsseg.data.truth.agreement import Pair, notes_on, problem_of
from wsseg.data.truth.evaluated import EvaluatedImages
from wsseg.errors import DatasetError, listed
from wsseg.labels import BACKGROUND, IGNORE_INDEX, ClassMap
from wsseg.types import LabeledImage, LabeledSequence, Mask


class SequenceTruth(EvaluatedImages):
    """The true mask (1, L) of each sequence of a split.

    In a BED file, a sequence without an interval is background. A place that intervals of two classes share is 255.

    Raises:
        DatasetError: the file cannot be read, names no sequence of the split, or contradicts most of the labels.
    """

    def __init__(self, data: SequencesData, images: LabeledImages) -> None:
        super().__init__(images, data.on_bad_image == "skip")
        path: Path = getattr(data, images.split).masks
        if path.suffix.lower() == ".npy":
            self._masks = _from_array(path, images)
        else:
            self._masks = _from_bed(path, images, data.other_classes, self.notes)
        pairs = [_pair(item, self._masks[item.id]) for item in images.items]
        if problem := problem_of(pairs, images.classes.names, images.classes, True):
            raise DatasetError(f"{path}: {problem}")
        self.notes += notes_on(pairs)
        digest = hashlib.sha256()
        for item_id in self.ids:
            digest.update(self._masks[item_id].tobytes())
        self._settle(["sequences", digest.hexdigest()])

    def mask(self, item_id: str) -> Mask:
        """Return the (1, L) uint8 true mask of an item.

        Raises:
            DatasetError: the item is not evaluated.
        """
        self._check_judged(item_id)
        return self._masks[item_id]


def _pair(item: LabeledImage, mask: Mask) -> Pair:
    counts = np.bincount(mask.ravel(), minlength=256)
    pixels = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    return Pair(item.id, item.class_ids, pixels, {}, frozenset(pixels))


def _from_bed(path: Path, images: LabeledImages, other_classes: str, notes: list[str]) -> dict[str, Mask]:
    masks: dict[str, Mask] = {item.id: np.zeros(item.size, np.uint8) for item in images.items}
    other = IGNORE_INDEX if other_classes == "ignore" else BACKGROUND
    elsewhere, found = 0, 0
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        fields = line.split("\t")
        where = f"{path}: line {number}"
        if len(fields) < 4:
            raise DatasetError(
                f"{where}: found {len(fields)} fields; expected: sequence, start, end and class, with tabs"
            )
        name, start_text, end_text, class_name = (text.strip() for text in fields[:4])
        if not (start_text.isdecimal() and end_text.isdecimal()):
            raise DatasetError(
                f"{where}: found {start_text!r}, {end_text!r}; expected: two whole numbers, start and end"
            )
        start, end = int(start_text), int(end_text)
        if name not in masks:
            elsewhere += 1
            continue
        row = masks[name][0]
        if not start < end <= len(row):
            raise DatasetError(
                f"{where}: found {start} to {end}; expected: 0 <= start < end <= {len(row)}, the length of {name}"
            )
        found += 1
        value = _class_id(images.classes, class_name, other)
        part = row[start:end]
        row[start:end] = np.where((part == BACKGROUND) | (part == value), value, IGNORE_INDEX)
    if not found:
        raise DatasetError(
            f"{path}: none of its {elsewhere} intervals is in a sequence of {images.split}; expected names such as "
            f"{images.items[0].id!r} in the first column"
        )
    if elsewhere:
        notes.append(f"{path}: {elsewhere} intervals of sequences that are not used")
    return masks


def _class_id(classes: ClassMap, name: str, other: int) -> int:
    return classes.id_of(name) if name in classes.names else other


def _from_array(path: Path, images: LabeledImages) -> dict[str, Mask]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    length = images.items[0].size[1]
    needed = 1 + max(item.record for item in images.items if isinstance(item, LabeledSequence))
    if array.ndim != 2 or array.dtype.kind not in "iu" or len(array) < needed or array.shape[1] != length:
        raise DatasetError(
            f"{path}: found {array.shape} of {array.dtype}; expected: whole numbers ({needed}, {length}), one row per record of "
            "the array of the sequences"
        )
    known = (*range(len(images.classes) + 1), IGNORE_INDEX)
    masks = {}
    for item in images.items:
        row = np.asarray(array[item.record]) if isinstance(item, LabeledSequence) else None
        if row is None:
            continue
        if unknown := sorted(set(np.unique(row).tolist()) - set(known)):
            raise DatasetError(
                f"{path}: {item.id}: found {listed(map(str, unknown), 5)}; expected: class ids 0 to {len(images.classes)}, or 255"
            )
        masks[item.id] = row.astype(np.uint8)[None]
    return masks
