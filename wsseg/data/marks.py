"""Marks: what a person said of some pixels of training images.

A mark is a partial mask, an indexed PNG with the name of its image: ``marks/street/a.png`` for ``photos/street/a.jpg``. A pixel
is a class id ("this is it"), 0 ("this is none of the classes") or 255 (nothing was said). A stroke, a polygon, a corrected
prediction and a complete mask are the same thing in different amounts.

Marks are input of the training and no true masks: this module imports nothing of `wsseg.data.truth`, and what evaluates
imports nothing from here (`setup.cfg`).
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wsseg.data.file_memory import FileMemory
from wsseg.data.frames import Photograph, photographs
from wsseg.data.images import LabeledImages
from wsseg.data.layouts import list_split
from wsseg.data.masks import decode_mask, encode_mask
from wsseg.data.orientation import turned_with
from wsseg.data.photographs import image_files
from wsseg.data.reading import read_mask_file
from wsseg.data.text_files import read_text
from wsseg.errors import DatasetError, counted, listed
from wsseg.labels import BACKGROUND, IGNORE_INDEX, ClassMap
from wsseg.names import composed
from wsseg.types import LabeledImage, Mask

Part = Literal["all", "negative", "none"]
CLASS_FILE = "classes.txt"  # line K names the class of value K
_EXAMPLES = 3  # images that a message names per fault
_VERSION = 1  # bump when the same files give other marks


def load_marks(data: Any, images: LabeledImages, memory: FileMemory, judged: LabeledImages | None) -> "Marks":
    """Return the marks that a config names.

    Args:
        data: one of the data configs; ``data.train.marks`` is set.
        images: the training images.
        memory: inspections of earlier calls.
        judged: the images of val, None without val.

    Raises:
        DatasetError: see `Marks`.
    """
    listed_ids = list_split(data, "train").paths if data.train.limit else ()
    left_out = {*images.skipped, *listed_ids} - {item.id for item in images.items}
    return Marks(data.train.marks, images, memory, judged, left_out)


class Marks:
    """The marks of the training images, by item id.

    Files are read here and never again: while a run is in progress, a person may go on and mark further images.

    If the folder has a file ``classes.txt``, values are mapped to classes by the names in it; otherwise they are the class ids
    of the config.

    Args:
        folder: the folder of marks.
        images: the training images.
        memory: inspections of earlier calls.
        judged: the images of val, None without val.
        left_out: ids of further training images, which a limit leaves out or which cannot be read.

    Attributes:
        ids: the images of which something was said, sorted.
        notes: one line per finding.
        key: changes with any pixel of which something was said; empty if there is none.

    Raises:
        DatasetError: there is no such folder, or marks cannot be used; one line names all of them.
    """

    def __init__(
        self,
        folder: Path,
        images: LabeledImages,
        memory: FileMemory,
        judged: LabeledImages | None = None,
        left_out: Collection[str] = (),
    ) -> None:
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder (data.train.marks); create it, or remove the key")
        self.classes, self.notes = images.classes, list[str]()
        self._items = {item.id: item for item in images.items}
        self._content: dict[str, bytes] = {}  # PNG of class ids, by item id
        self._values: dict[str, tuple[int, ...]] = {}  # what is said of an image: class ids
        self._digests: dict[str, str] = {}
        files = image_files(folder, outputs=True)
        faults = _misplaced(files, self._items, judged, left_out)
        self._table = _value_table(folder, images.classes)
        self._photographs: dict[str, Photograph] = {}
        known = {item_id: path for item_id, path in files.items() if item_id in self._items}
        if known:
            self._photographs = photographs(images, memory)
        for item_id, path in known.items():
            try:
                mask = self._read(item_id, path)
            except DatasetError as error:
                faults.setdefault(str(error).removeprefix(f"{path}: "), []).append(item_id)
                continue
            values = tuple(np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist())
            if said := tuple(value for value in values if value != IGNORE_INDEX):
                self._content[item_id], self._values[item_id] = encode_mask(mask), said
                self._digests[item_id] = hashlib.sha256(mask.tobytes()).hexdigest()
        if faults:
            summary = "; ".join(f"{listed(ids, _EXAMPLES)}: {fault}" for fault, ids in faults.items())
            raise DatasetError(f"{folder}: {counted(sum(map(len, faults.values())), 'mark')} cannot be used: {summary}")
        self.ids = sorted(self._content)
        if unused := sorted(files.keys() & set(left_out)):
            self.notes.append(f"marks of images that are not used: {listed(unused)}")
        if unlabelled := [i for i in self.ids if set(self._values[i]) - {BACKGROUND, *self._items[i].class_ids}]:
            self.notes.append(
                f"marks of classes that the labels of their images do not name: {listed(unlabelled)}; add them to the labels"
            )

    @cached_property
    def key(self) -> str:
        """Fingerprint of everything that was said; empty if nothing was."""
        return _fingerprint(self._digests)

    def key_of(self, part: Part) -> str:
        """Return the fingerprint of a part of the marks; empty if there is none.

        Args:
            part: ``all``, ``negative`` (the pixels that say of some class that it is not there, see `negative`) or ``none``.
        """
        if part == "all":
            return self.key
        if part == "none":
            return ""
        digests = {}
        for item_id in self.ids:
            mask = negative(self.mask(item_id), self._items[item_id].class_ids)
            if (mask != IGNORE_INDEX).any():
                digests[item_id] = hashlib.sha256(mask.tobytes()).hexdigest()
        return _fingerprint(digests)

    def mask(self, item_id: str) -> Mask:
        """Return what was said of an image, (H, W) uint8: class ids, and 255 where nothing was said."""
        if item_id not in self._content:
            return np.full(self._items[item_id].size, IGNORE_INDEX, np.uint8)
        return decode_mask(self._content[item_id])

    def _read(self, item_id: str, path: Path) -> Mask:
        """Return the class ids of a file; DatasetError if its size or a value is not valid."""
        values, stated = read_mask_file(path)
        photograph = self._photographs[item_id]
        if stated is None:
            values = turned_with(values, photograph.size, photograph.orientation)
        if values.shape != photograph.size:
            raise DatasetError(f"{path}: the mark is {values.shape} (H, W), its image {photograph.size}")
        mask = self._table[values]
        if (mask < 0).any():
            unknown = np.unique(values[mask < 0]).tolist()
            expected = ", ".join(str(v) for v in np.flatnonzero(self._table >= 0)[:10])
            raise DatasetError(
                f"{path}: values {unknown} are not class ids; expected: {expected}, and 255 where nothing was said"
            )
        return mask.astype(np.uint8)


def negative(mask: Mask, class_ids: Iterable[int]) -> Mask:
    """Return the mark without the pixels that only say where a class is.

    What is left says of some class that it is not there: 0 says it of all classes, a class id says it of the other classes of
    the image.

    Args:
        mask: (H, W) uint8, a mark.
        class_ids: the classes of the image.
    """
    present = set(class_ids)
    only_positive = [v for v in range(1, IGNORE_INDEX) if not present - {v}]
    return np.where(np.isin(mask, only_positive), np.uint8(IGNORE_INDEX), mask)


def mark_files(masks: Mapping[str, Mask], classes: ClassMap) -> dict[str, bytes]:
    """Return the files of a folder of marks by name: one PNG per image id, and ``classes.txt``."""
    files = {f"{item_id}.png": encode_mask(mask) for item_id, mask in masks.items()}
    return files | {CLASS_FILE: "".join(f"{name}\n" for name in classes.names).encode()}


def _misplaced(
    files: Mapping[str, Path],
    items: Mapping[str, LabeledImage],
    judged: LabeledImages | None,
    left_out: Collection[str],
) -> dict[str, list[str]]:
    """Return the ids of marks of no training image, and of images that are judged, by fault."""
    faults: dict[str, list[str]] = {}
    judged_ids = {item.id for item in judged.items} if judged else set()
    judged_files = {item.sha256 for item in judged.items} if judged else set()
    for item_id in files:
        if item_id in items:
            fault = "its photograph is in val too, which is evaluated" if items[item_id].sha256 in judged_files else ""
        elif item_id in left_out:
            fault = ""
        elif item_id in judged_ids:
            fault = "an image of val, which is evaluated; only images of train may be marked"
        else:
            fault = "no image of train has this name"
        if fault:
            faults.setdefault(fault, []).append(item_id)
    return faults


def _value_table(folder: Path, classes: ClassMap) -> np.ndarray:
    """Return (256,) int16: the class id of each value of a mark, -1 for values without meaning."""
    path = folder / CLASS_FILE
    names: tuple[str, ...] = classes.names
    if path.is_file():
        names = tuple(composed(line.strip()) for line in read_text(path).splitlines() if line.strip())
    table = np.full(256, -1, np.int16)
    table[BACKGROUND], table[IGNORE_INDEX] = BACKGROUND, IGNORE_INDEX
    for value, name in enumerate(names[: IGNORE_INDEX - 1], start=1):
        if name in classes.names:
            table[value] = classes.id_of(name)
    return table


def _fingerprint(digests: Mapping[str, str]) -> str:
    if not digests:
        return ""
    return hashlib.sha256(json.dumps([_VERSION, sorted(digests.items())]).encode()).hexdigest()
