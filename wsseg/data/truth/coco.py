"""True masks from the outlines of a COCO file."""

import cv2
import numpy as np
from numpy.typing import NDArray

from wsseg.data.coco import CocoObject, read_coco
from wsseg.data.config import CocoData
from wsseg.data.file_memory import FileMemory
from wsseg.data.frames import photographs
from wsseg.data.images import LabeledImages
from wsseg.data.orientation import turn
from wsseg.data.outlines import Polygons, Runs
from wsseg.data.truth.evaluated import EvaluatedImages
from wsseg.errors import DatasetError
from wsseg.labels import BACKGROUND, IGNORE_INDEX
from wsseg.types import Mask


class CocoTruth(EvaluatedImages):
    """True masks from COCO polygons and RLE. If objects overlap, the smaller one is on top.

    ``iscrowd`` regions become 255, as is usual for segmentation from instances. The box of an object without outline becomes
    255 too; an image whose objects all have no outline is not evaluated. Coordinates on a canvas of another scale than the image
    file are scaled. Outlines are turned with a photograph that has an EXIF orientation, unless the file declares the upright
    size and that differs from the stored one.

    Raises:
        DatasetError: outlines that cannot be used, no outline at all, or coordinates that are fractions of the image.
    """

    def __init__(self, data: CocoData, images: LabeledImages, memory: FileMemory) -> None:
        super().__init__(images, data.on_bad_image == "skip")
        path = getattr(data, images.split).annotations
        coco = read_coco(path)
        self._photographs = photographs(images, memory)
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
        evaluated = [o for item_id in self.ids for o in self._objects[item_id]]
        polygons = [points for o in evaluated if isinstance(o.outline, Polygons) for points in o.outline.parts]
        if polygons and max(float(points.max()) for points in polygons) <= 1:
            raise DatasetError(
                f"{path}: all polygon coordinates are at most 1; expected coordinates in px, not fractions of the image"
            )
        if not any(o.outline is not None for o in evaluated):
            raise DatasetError(
                f"{path}: no image of {images.split} has an object with an outline (segmentation); this step needs them"
            )
        if boxed := sum(o.outline is None for o in evaluated):
            self.notes.append(
                f"{boxed} objects have a box and no outline; the pixels inside their boxes are not evaluated"
            )
        if points := sum(o.left_out for o in evaluated):
            self.notes.append(f"{points} polygons are points or lines and are left out")
        boxed_outlines = [o for o in evaluated if isinstance(o.outline, Polygons) and o.box is not None]
        mismatched = [o.where for o in boxed_outlines if not _overlap(o)]
        if len(mismatched) > len(boxed_outlines) // 2:
            self.notes.append(
                f"{len(mismatched)} of {len(boxed_outlines)} objects have a box (x, y, width, height) that does not match their polygons "
                f"(x1, y1, x2, y2, ...), such as {mismatched[0]}"
            )
        self._settle([coco.sha256, data.other_classes])

    def _relevant(self, objects: list[CocoObject]) -> list[CocoObject]:
        """Return the objects that determine pixels of the mask."""
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
        """Return why an annotation cannot be used, or an empty string."""
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
        """Return (canvas of an image's coordinates, size to draw at, orientation to apply)."""
        photograph = self._photographs[item_id]
        canvas = self._declared[item_id] or photograph.stored
        return canvas, *photograph.frame(canvas)

    def mask(self, item_id: str) -> Mask:
        """Return the (H, W) uint8 true mask of an item.

        Raises:
            DatasetError: the item is not evaluated.
        """
        self._check_judged(item_id)
        size = self._photographs[item_id].size
        mask = np.zeros(size, dtype=np.uint8)
        layers, ignored = [], []
        for annotation in self._objects[item_id]:
            if annotation.outline is None:
                ignored.append(self._box_region(item_id, annotation.box))
                continue
            region = self._region(item_id, annotation.outline)
            layers.append((int(region.sum()), self._value(annotation), region))
        for _, value, region in sorted(layers, key=lambda layer: -layer[0]):
            mask[region] = value
        for region in ignored:
            mask[region] = IGNORE_INDEX
        return mask

    def _region(self, item_id: str, outline: Polygons | Runs) -> NDArray[np.bool_]:
        """Return the (H, W) pixels of an outline in the upright photograph."""
        if isinstance(outline, Runs):
            size, orientation = self._photographs[item_id].frame(outline.size)
            region = outline.region()
            if region.shape != size:
                pixels = np.ascontiguousarray(region, dtype=np.uint8)
                region = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
        else:
            canvas, size, orientation = self._frame(item_id)
            region = outline.scaled(canvas, size).region(size)
        return turn(region.astype(np.uint8), orientation).astype(bool) if orientation != 1 else region

    def _box_region(self, item_id: str, box: Polygons | None) -> NDArray[np.bool_]:
        """Return the (H, W) pixels that a box touches, or all pixels if there is no box."""
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
    """Return whether the intersection over union of an object's box and its polygons' bounding box is at least 0.5."""
    boxes = []
    for outline in (annotation.outline, annotation.box):
        points = np.concatenate(outline.parts)  # type: ignore[union-attr]
        boxes.append((points.min(axis=0), points.max(axis=0)))
    (low, high), (other_low, other_high) = boxes
    common = np.maximum(np.minimum(high, other_high) - np.maximum(low, other_low), 0).prod()
    return bool(common >= 0.5 * ((high - low).prod() + (other_high - other_low).prod() - common))
