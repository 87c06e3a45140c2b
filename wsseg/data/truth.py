"""Held-out masks that a person drew. Of the stages, none imports this room: truth is handed to those a recipe allows."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsseg.data.config import CocoData
from wsseg.data.images import LabeledImages, coco_id, listed, read_coco
from wsseg.data.reading import FileMemory, read_mask_file, turned_with
from wsseg.errors import DatasetError
from wsseg.labels import BACKGROUND, IGNORE_INDEX, VOC_CLASSES, ClassMap
from wsseg.types import Mask


def has_truth(data: Any, split: str) -> bool:
    """Return whether the config names masks for a split."""
    part = getattr(data, split)
    if part is None:
        return False
    if data.kind == "coco":
        return True
    if data.kind == "voc":
        return bool(data.masks) and (data.root / data.masks).is_dir()
    return part.masks is not None


def load_truth(data: Any, images: LabeledImages, memory: FileMemory) -> "PngTruth | CocoTruth":
    """Return the true masks of a split.

    Raises:
        DatasetError: images without a mask (all ids are listed), or masks that the config does not name.
    """
    if not has_truth(data, images.split):
        raise DatasetError(f"data.{images.split}: the config names no masks; this step needs them")
    return CocoTruth(data, images) if data.kind == "coco" else PngTruth(data, images, memory)


class PngTruth:
    """True masks in indexed PNG files (palette or grey).

    A mask that states no EXIF orientation of its own is turned with its photograph: see `turned_with`.
    """

    def __init__(self, data: Any, images: LabeledImages, memory: FileMemory) -> None:
        self.split, self.classes, self.ids = images.split, images.classes, [item.id for item in images.items]
        part = getattr(data, images.split)
        folder: Path = data.root / data.masks if data.kind == "voc" else part.masks
        self._paths = {item.id: folder / f"{item.id}.png" for item in images.items}
        missing = [item_id for item_id, path in self._paths.items() if not path.is_file()]
        if missing:
            raise DatasetError(f"{folder}: {len(missing)} images have no mask: {listed(missing)}")
        self._table = _value_table(mask_names(data, images.classes), images.classes, data.other_classes)
        self._images = {item.id: item for item in images.items}
        self._orientation = {i.id: o for i, o in zip(images.items, _orientations(images, memory), strict=True)}
        seen = memory.inspect(self._paths.values(), f"reading {images.split} masks")
        self._sha256 = {item_id: seen[path].sha256 for item_id, path in self._paths.items()}
        content = sorted(self._sha256.items())
        self.key = _key(images, [content, self._table.tolist()])

    def mask(self, item_id: str) -> Mask:
        """Return the (H, W) uint8 true mask of an item.

        Raises:
            DatasetError: another size than the image's, or values that name no class.
        """
        path, size = self._paths[item_id], self._images[item_id].size
        values, stated = read_mask_file(path, self._sha256[item_id])
        if stated is None:
            values = turned_with(values, size, self._orientation[item_id])
        if values.shape != size:
            raise DatasetError(f"{path}: the mask is {values.shape} (H, W), its image {size}")
        mask = self._table[values]
        if (mask < 0).any():
            unknown = sorted({int(v) for v in values[mask < 0]})
            raise DatasetError(f"{path}: values {unknown} name no class; legal: 0, 255 and the class ids")
        return mask.astype(np.uint8)


def _orientations(images: LabeledImages, memory: FileMemory) -> list[int]:
    seen = memory.inspect([item.path for item in images.items], "reading images")
    return [seen[item.path].orientation for item in images.items]


def mask_names(data: Any, classes: ClassMap) -> tuple[str, ...]:
    """Return the class names that mask values 1..K mean in the files."""
    return VOC_CLASSES if data.kind == "voc" else (data.mask_classes or classes.names)


def _value_table(names: tuple[str, ...], classes: ClassMap, other_classes: str) -> NDArray[np.int16]:
    """Return (256,) int16: class id of each mask value; -1 for values that mean nothing."""
    table = np.full(256, -1, dtype=np.int16)
    table[BACKGROUND], table[IGNORE_INDEX] = BACKGROUND, IGNORE_INDEX
    other = IGNORE_INDEX if other_classes == "ignore" else BACKGROUND
    for value, name in enumerate(names, start=1):
        table[value] = classes.id_of(name) if name in classes.names else other
    return table


class CocoTruth:
    """True masks from COCO polygons and RLE (pycocotools); where objects overlap, the smaller one lies on top.

    ``iscrowd`` regions become 255, as the field does for segmentation from instances.
    """

    def __init__(self, data: CocoData, images: LabeledImages) -> None:
        path = getattr(data, images.split).annotations
        coco = read_coco(path)
        names = {c["id"]: c["name"] for c in coco["categories"]}
        ids = {image["id"]: coco_id(image, path) for image in coco["images"]}
        self._path = path
        self.split, self.classes, self.ids = images.split, images.classes, [item.id for item in images.items]
        self._sizes = {item.id: item.size for item in images.items}
        self._other = data.other_classes
        self._objects: dict[str, list[dict[str, Any]]] = {item_id: [] for item_id in self._sizes}
        for annotation in coco["annotations"]:
            item_id = ids[annotation["image_id"]]
            if item_id in self._objects:
                self._objects[item_id].append({**annotation, "name": names[annotation["category_id"]]})
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.key = _key(images, [digest, data.other_classes])

    def mask(self, item_id: str) -> Mask:
        """Return the (H, W) uint8 true mask of an item; DatasetError where a segmentation is malformed."""
        size = self._sizes[item_id]
        layers = []
        for annotation in self._objects[item_id]:
            region = self._region(annotation, size)
            if annotation.get("iscrowd"):
                value = IGNORE_INDEX
            elif annotation["name"] in self.classes.names:
                value = self.classes.id_of(annotation["name"])
            else:
                value = IGNORE_INDEX if self._other == "ignore" else BACKGROUND
            layers.append((int(region.sum()), value, region))
        mask = np.zeros(size, dtype=np.uint8)
        for _, value, region in sorted(layers, key=lambda layer: -layer[0]):
            mask[region] = value
        return mask

    def _region(self, annotation: dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
        from pycocotools import mask as coco_mask  # C extension, needed for COCO only

        segmentation = annotation.get("segmentation")
        where = f"{self._path}: annotation {annotation.get('id')}"
        try:
            if isinstance(segmentation, list):
                rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size)) if segmentation else None
            elif isinstance(segmentation, dict) and tuple(segmentation["size"]) == size:
                uncompressed = isinstance(segmentation["counts"], list)
                rle = coco_mask.frPyObjects(segmentation, *size) if uncompressed else segmentation
            else:
                raise DatasetError(
                    f"{where}: its segmentation is neither polygons nor an RLE of the image's size {size}"
                )
            return np.zeros(size, bool) if rle is None else coco_mask.decode(rle).astype(bool)
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{where}: malformed segmentation: {error}") from error


def _key(images: LabeledImages, content: Any) -> str:
    return hashlib.sha256(json.dumps([images.key, content]).encode()).hexdigest()
