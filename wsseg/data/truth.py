"""Held-out masks that a person drew. Of the stages, none imports this room: truth is handed to those a recipe allows.

Truth is checked as a whole when it is loaded, before anything trains: every mask is read, every number of an outline is
tested, and masks are compared with the image-level labels. Images without truth are not judged, and that is said.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

import cv2
import numpy as np
from numpy.typing import NDArray

from wsseg.data.agreement import Pair, notes_on, problem_of
from wsseg.data.coco import CocoObject, read_coco
from wsseg.data.config import CocoData
from wsseg.data.file_memory import FileMemory
from wsseg.data.images import LabeledImages
from wsseg.data.mask_facts import MaskFacts, MaskMemory
from wsseg.data.orientation import stored_size, turn, turned_with
from wsseg.data.outlines import Polygons, Runs
from wsseg.data.reading import MOST_PIXELS, read_mask_file
from wsseg.data.voc import voc_names
from wsseg.errors import DatasetError, listed
from wsseg.labels import BACKGROUND, IGNORE_INDEX, ClassMap
from wsseg.types import Mask

_VERSION = 2  # bump when the same files give other masks
_SUFFIXES = (".png", ".PNG", ".tif", ".tiff", ".TIF", ".bmp", ".BMP")  # of masks: formats that keep every value
_SHOWN = 3  # files or images that a message names as examples


def has_truth(data: Any, split: str) -> bool:
    """Return whether the config names masks for a split; a COCO file names them if one of its objects has an outline."""
    part = getattr(data, split)
    if part is None:
        return False
    if data.kind == "coco":
        return read_coco(part.annotations).has_outlines
    if data.kind == "voc":
        return bool(data.masks) and (data.root / data.masks).is_dir()
    return part.masks is not None


def load_truth(data: Any, images: LabeledImages, memory: FileMemory) -> "PngTruth | CocoTruth":
    """Return the true masks of a split, checked.

    Raises:
        DatasetError: the config names no masks, no image has one, some cannot be used (all are listed; with
            ``on_bad_image = "skip"`` their images are not judged), or they contradict most of the image-level labels.
    """
    if not has_truth(data, images.split):
        raise DatasetError(f"data.{images.split}: the config names no masks; this step needs them")
    return CocoTruth(data, images, memory) if data.kind == "coco" else PngTruth(data, images, memory)


class _Truth:
    """What both kinds of true masks have in common.

    Args:
        images: the split.
        skip: whether images whose mask cannot be used are left out instead of refused.

    Attributes:
        ids: the images that are judged, sorted.
        notes: a line for each thing that is worth knowing, such as images that are not judged.
        key: changes with the masks, and with the images that are judged.
    """

    def __init__(self, images: LabeledImages, skip: bool) -> None:
        self.split, self.classes, self.ids = images.split, images.classes, [item.id for item in images.items]
        self.notes: list[str] = []
        self.key = ""
        self._images, self._skip = images, skip
        self._judged: frozenset[str] = frozenset()

    def _leave_out(self, reason: str, ids: list[str]) -> None:
        """Judge without some images, and say so."""
        if ids:
            gone = set(ids)
            self.ids = [item_id for item_id in self.ids if item_id not in gone]
            self.notes.append(
                f"{len(ids)} of {len(self._images)} images {reason} and are not judged: {listed(sorted(ids))}"
            )

    def _refuse(self, where: Path, faults: Mapping[str, str], advice: str = "") -> None:
        """Stop for masks that cannot be used (fault by item id), or judge without them."""
        if not faults:
            return
        by_reason: dict[str, list[str]] = {}
        for item_id, fault in faults.items():
            by_reason.setdefault(fault, []).append(item_id)
        told = listed(f"{_some(ids)} ({fault})" for fault, ids in by_reason.items())
        if self._skip:
            self._leave_out(f"have a mask that cannot be used ({told})", list(faults))
            return
        raise DatasetError(
            f"{where}: the masks of {len(faults)} of {len(self._images)} images cannot be used: {told}; "
            f'{advice}mend or remove them (an image without a mask is not judged), or set data.on_bad_image = "skip"'
        )

    def _check_judged(self, item_id: str) -> None:
        if item_id not in self._judged:
            raise DatasetError(f"{item_id}: it has no true mask, and is not judged")

    def _settle(self, content: Any) -> None:
        """Fix which images are judged, and the key."""
        text = json.dumps([_VERSION, self._images.key, self.ids, content])
        self.key = hashlib.sha256(text.encode()).hexdigest()
        self._judged = frozenset(self.ids)


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(ids[:_SHOWN]) + more


class PngTruth(_Truth):
    """True masks in image files whose values are class ids (palette or grey).

    A mask that states no EXIF orientation of its own is turned with its photograph: see `turned_with`.
    """

    def __init__(self, data: Any, images: LabeledImages, memory: FileMemory) -> None:
        super().__init__(images, data.on_bad_image == "skip")
        part = getattr(data, images.split)
        folder: Path = data.root / data.masks if data.kind == "voc" else part.masks
        names = mask_names(data, images.classes)
        self._table = _value_table(names, images.classes, data.other_classes)
        self._photographs = _photographs(images, memory)
        self._paths = {item.id: path for item in images.items if (path := _mask_file(folder, item.id))}
        if not self._paths:
            raise DatasetError(_no_mask(folder, images))
        self._leave_out("have no mask", [item.id for item in images.items if item.id not in self._paths])
        inspected = memory.inspect(self._paths.values(), f"reading {images.split} masks")
        self._sha256 = {item_id: inspected[path].sha256 for item_id, path in self._paths.items()}
        digests = {path: self._sha256[item_id] for item_id, path in self._paths.items()}
        facts = MaskMemory(memory.path).facts(digests, f"counting {images.split} masks")
        faults = {
            item_id: fault for item_id, path in self._paths.items() if (fault := self._fault(item_id, facts[path]))
        }
        shifted = len(faults) > len(self._paths) // 2 and not any(
            BACKGROUND in (f.pixels or {}) for f in facts.values()
        )
        advice = "no mask holds 0, the background, so the values look shifted by one; " if shifted else ""
        self._refuse(folder, faults, advice)
        items = {item.id: item for item in images.items}
        pairs = [self._pair(items[item_id], facts[self._paths[item_id]]) for item_id in self.ids]
        if problem := problem_of(pairs, names, images.classes, bool(getattr(data, "mask_classes", ()))):
            raise DatasetError(f"{folder}: {problem}")
        self.notes += notes_on(pairs)
        self._settle([sorted(self._sha256.items()), self._table.tolist()])

    def _fault(self, item_id: str, facts: MaskFacts) -> str:
        """Return why a mask cannot be used; empty for a sound one."""
        if facts.error:
            return facts.error
        photograph = self._photographs[item_id]
        size = facts.size
        if facts.stated is None and size == photograph.stored:
            size = photograph.size
        if size != photograph.size:
            return f"the mask is {size} (H, W), its image {photograph.size}"
        unknown = [value for value in sorted(facts.pixels or {}) if self._table[value] < 0]
        expected = ", ".join(str(v) for v in np.flatnonzero(self._table >= 0)[:10])
        return f"values {unknown} name no class; expected: {expected}" if unknown else ""

    def _pair(self, item: Any, facts: MaskFacts) -> Pair:
        return Pair(
            item.id,
            item.class_ids,
            self._by_class(facts.pixels),
            self._by_class(facts.border),
            frozenset(facts.pixels or ()),
        )

    def _by_class(self, counts: Mapping[int, int] | None) -> dict[int, int]:
        found: dict[int, int] = {}
        for value, count in (counts or {}).items():
            class_id = int(self._table[value])
            found[class_id] = found.get(class_id, 0) + count
        return found

    def mask(self, item_id: str) -> Mask:
        """Return the (H, W) uint8 true mask of an item that is judged.

        Raises:
            DatasetError: the item is not judged, or its file has changed since it was checked.
        """
        self._check_judged(item_id)
        path, photograph = self._paths[item_id], self._photographs[item_id]
        values, stated = read_mask_file(path, self._sha256[item_id])
        if stated is None:
            values = turned_with(values, photograph.size, photograph.orientation)
        mask = self._table[values]
        if values.shape != photograph.size or (mask < 0).any():  # what is remembered of the file is wrong
            raise DatasetError(f"{path}: it does not hold what was counted; remove files.sqlite from the store")
        return mask.astype(np.uint8)


@dataclass(frozen=True)
class _Photograph:
    """Sizes (H, W) of a photograph: as it is shown and as its file stores it, and the EXIF orientation between them."""

    size: tuple[int, int]
    orientation: int

    @property
    def stored(self) -> tuple[int, int]:
        return stored_size(self.size, self.orientation)

    def frame(self, canvas: tuple[int, int]) -> tuple[tuple[int, int], int]:
        """Return whose pixels the coordinates on a canvas mean: (size, orientation to apply).

        Raises:
            ValueError: the canvas has another shape than the photograph.
        """
        frames = ((self.stored, self.orientation), (self.size, 1))
        for alike in (tuple.__eq__, _proportional):
            for size, orientation in frames:
                if alike(canvas, size):
                    return size, orientation
        raise ValueError(
            f"it is declared as {canvas[1]} x {canvas[0]} px (width x height), its image is {self.size[1]} x {self.size[0]}"
        )


def _proportional(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether two sizes (H, W) are of one shape, up to a pixel of rounding."""
    if one[0] * one[1] > MOST_PIXELS:
        return False
    factor = max(other) / max(one)
    return all(abs(a * factor - b) <= max(1.0, factor) for a, b in zip(one, other, strict=True))


def _photographs(images: LabeledImages, memory: FileMemory) -> dict[str, _Photograph]:
    seen = memory.inspect([item.path for item in images.items], "reading images")
    return {item.id: _Photograph(item.size, seen[item.path].orientation) for item in images.items}


def _mask_file(folder: Path, item_id: str) -> Path | None:
    """Return the file of an item's mask; its name may have the other Unicode form."""
    names = dict.fromkeys((item_id, normalize("NFD", item_id)))
    return next((path for name in names for s in _SUFFIXES if (path := folder / f"{name}{s}").is_file()), None)


def _no_mask(folder: Path, images: LabeledImages) -> str:
    """Return where masks were looked for, and what is there instead."""
    if not folder.is_dir():
        return f"{folder}: no such folder; data.{images.split} looks for masks there"
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())[:_SHOWN]
    return (
        f"{folder}: none of the {len(images)} images of {images.split} has a mask there; "
        f"expected: {images.items[0].id}.png (or .tif, .bmp); found: {', '.join(found) or 'no file'}"
    )


def mask_names(data: Any, classes: ClassMap) -> tuple[str, ...]:
    """Return the class names that mask values 1..K mean in the files."""
    return voc_names(data, frozenset(classes.names)) if data.kind == "voc" else (data.mask_classes or classes.names)


def _value_table(names: tuple[str, ...], classes: ClassMap, other_classes: str) -> NDArray[np.int16]:
    """Return (256,) int16: class id of each mask value; -1 for values that mean nothing."""
    table = np.full(256, -1, dtype=np.int16)
    table[BACKGROUND], table[IGNORE_INDEX] = BACKGROUND, IGNORE_INDEX
    other = IGNORE_INDEX if other_classes == "ignore" else BACKGROUND
    for value, name in enumerate(names, start=1):
        table[value] = classes.id_of(name) if name in classes.names else other
    return table


class CocoTruth(_Truth):
    """True masks from COCO polygons and RLE; where objects overlap, the smaller one lies on top.

    ``iscrowd`` regions become 255, as the field does for segmentation from instances. Where an object has a box and no
    outline, its box becomes 255; an image whose objects have no outlines at all is not judged. Coordinates on a canvas of
    another scale than the image file are scaled. Those of a photograph with an EXIF orientation are turned with it,
    unless the file declares the upright size and that differs from the stored one.
    """

    def __init__(self, data: CocoData, images: LabeledImages, memory: FileMemory) -> None:
        super().__init__(images, data.on_bad_image == "skip")
        path = getattr(data, images.split).annotations
        coco = read_coco(path)
        self._photographs = _photographs(images, memory)
        self._declared = {image.item_id: image.size for image in coco.images}
        self._other = IGNORE_INDEX if data.other_classes == "ignore" else BACKGROUND
        self._objects = {item_id: self._relevant(coco.objects[item_id]) for item_id in self.ids}
        faults, boxes_only, unplaced = {}, [], []
        for item_id, objects in self._objects.items():
            if objects and not any(o.outline is not None or o.fault for o in objects):
                boxes_only.append(item_id)
            elif fault := next((text for o in objects if (text := self._fault(item_id, o))), ""):
                faults[item_id] = fault
            elif any(o.outline is None and o.box is None for o in objects):
                unplaced.append(item_id)
        self._refuse(path, faults)
        self._leave_out("have objects without outlines (segmentation)", boxes_only)
        self._leave_out("have objects with neither outline nor box", unplaced)
        judged = [o for item_id in self.ids for o in self._objects[item_id]]
        polygons = [points for o in judged if isinstance(o.outline, Polygons) for points in o.outline.parts]
        if polygons and max(float(points.max()) for points in polygons) <= 1:
            raise DatasetError(
                f"{path}: no polygon reaches beyond 1; expected: coordinates in px, not fractions of the image"
            )
        if not any(o.outline is not None for o in judged):
            raise DatasetError(
                f"{path}: no image of {images.split} has an object with an outline (segmentation); this step needs them"
            )
        if boxed := sum(o.outline is None for o in judged):
            self.notes.append(f"{boxed} objects have a box and no outline: what is inside their boxes is not judged")
        if points := sum(o.left_out for o in judged):
            self.notes.append(f"{points} polygons are points or lines, and are left out")
        boxed_too = [o for o in judged if isinstance(o.outline, Polygons) and o.box is not None]
        elsewhere = [o.where for o in boxed_too if not _overlap(o)]
        if len(elsewhere) > len(boxed_too) // 2:
            self.notes.append(
                f"{len(elsewhere)} of {len(boxed_too)} objects have a box (x, y, width, height) elsewhere than their polygons "
                f"(x1, y1, x2, y2, ...), such as {elsewhere[0]}"
            )
        self._settle([coco.sha256, data.other_classes])

    def _relevant(self, objects: list[CocoObject]) -> list[CocoObject]:
        """Return the objects that decide pixels."""
        return [
            o for o in objects
            if o.name is not None and (o.outline is not None or o.fault or self._value(o) != BACKGROUND)
        ]  # fmt: skip

    def _value(self, annotation: CocoObject) -> int:
        if annotation.crowd:
            return IGNORE_INDEX
        if annotation.name in self.classes.names:
            return self.classes.id_of(annotation.name)
        return self._other

    def _fault(self, item_id: str, annotation: CocoObject) -> str:
        """Return why an annotation cannot be used; empty for a sound one."""
        try:
            if annotation.fault:
                raise ValueError(annotation.fault)
            if isinstance(annotation.outline, Runs):
                self._photographs[item_id].frame(annotation.outline.size)
            else:
                canvas, size, _ = self._frame(item_id)
                if annotation.outline is not None:
                    annotation.outline.scaled(canvas, size).check(size)
        except ValueError as error:
            return f"{annotation.where}: {error}"
        return ""

    def _frame(self, item_id: str) -> tuple[tuple[int, int], tuple[int, int], int]:
        """Return (canvas that an image's coordinates are on, size to draw at, orientation to apply)."""
        photograph = self._photographs[item_id]
        canvas = self._declared[item_id] or photograph.stored
        return canvas, *photograph.frame(canvas)

    def mask(self, item_id: str) -> Mask:
        """Return the (H, W) uint8 true mask of an item that is judged; DatasetError for another."""
        self._check_judged(item_id)
        size = self._photographs[item_id].size
        mask = np.zeros(size, dtype=np.uint8)
        layers, unknown = [], []
        for annotation in self._objects[item_id]:
            if annotation.outline is None:
                unknown.append(self._boxed(item_id, annotation.box))
                continue
            region = self._region(item_id, annotation.outline)
            layers.append((int(region.sum()), self._value(annotation), region))
        for _, value, region in sorted(layers, key=lambda layer: -layer[0]):
            mask[region] = value
        for region in unknown:
            mask[region] = IGNORE_INDEX
        return mask

    def _region(self, item_id: str, outline: Polygons | Runs) -> NDArray[np.bool_]:
        """Return the (H, W) pixels of an object in the upright photograph."""
        if isinstance(outline, Runs):
            size, orientation = self._photographs[item_id].frame(outline.size)
            region = outline.region()
            if region.shape != size:
                small = np.ascontiguousarray(region, dtype=np.uint8)
                region = cv2.resize(small, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
        else:
            canvas, size, orientation = self._frame(item_id)
            region = outline.scaled(canvas, size).region(size)
        return turn(region.astype(np.uint8), orientation).astype(bool) if orientation != 1 else region

    def _boxed(self, item_id: str, box: Polygons | None) -> NDArray[np.bool_]:
        """Return the (H, W) pixels that a box touches; all of them without a box."""
        canvas, size, orientation = self._frame(item_id)
        region = np.zeros(size, dtype=np.uint8)
        if box is None:
            return ~region.astype(bool)
        corners = box.scaled(canvas, size).parts[0]
        left, top = np.floor(np.clip(corners.min(axis=0), 0, size[::-1])).astype(int)
        right, bottom = np.ceil(np.clip(corners.max(axis=0), 0, size[::-1])).astype(int)
        region[top:bottom, left:right] = 1
        return (turn(region, orientation) if orientation != 1 else region).astype(bool)


def _overlap(annotation: CocoObject) -> bool:
    """Return whether an object's box and the box around its polygons are half the same, or more."""
    boxes = []
    for outline in (annotation.outline, annotation.box):
        points = np.concatenate(outline.parts)  # type: ignore[union-attr]
        boxes.append((points.min(axis=0), points.max(axis=0)))
    (low, high), (other_low, other_high) = boxes
    common = np.maximum(np.minimum(high, other_high) - np.maximum(low, other_low), 0).prod()
    return bool(common >= 0.5 * ((high - low).prod() + (other_high - other_low).prod() - common))
