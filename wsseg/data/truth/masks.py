"""True masks from image files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from wsseg.data.file_memory import FileMemory
from wsseg.data.frames import photographs
from wsseg.data.images import LabeledImages
from wsseg.data.orientation import turned_with
from wsseg.data.reading import read_mask_file
from wsseg.data.truth.agreement import Pair, notes_on, problem_of
from wsseg.data.truth.evaluated import EvaluatedImages
from wsseg.data.truth.mask_facts import MaskFacts, MaskMemory
from wsseg.data.voc import mask_colors, voc_names
from wsseg.errors import DatasetError
from wsseg.labels import BACKGROUND, IGNORE_INDEX, ClassMap
from wsseg.types import LabeledImage, Mask

_SUFFIXES = (".png", ".PNG", ".tif", ".tiff", ".TIF", ".bmp", ".BMP")  # formats that keep every value
_EXAMPLES = 3  # files that a message names


class MaskFileTruth(EvaluatedImages):
    """True masks in image files whose values are class ids (palette or grey).

    In a VOC devkit with a ``labelmap.txt``, masks may also be colours. A mask that states no EXIF orientation of its own is
    turned with its photograph: see `turned_with`.

    Raises:
        DatasetError: no image has a mask, masks that cannot be used, or masks that contradict the labels.
    """

    def __init__(self, data: Any, images: LabeledImages, memory: FileMemory) -> None:
        super().__init__(images, data.on_bad_image == "skip")
        is_voc = data.kind == "voc"
        folder: Path = data.root / data.masks if is_voc else getattr(data, images.split).masks
        names = (
            voc_names(data, frozenset(images.classes.names)) if is_voc else data.mask_classes or images.classes.names
        )
        self._colors = mask_colors(data) if is_voc else None
        self._table = _value_table(names, images.classes, data.other_classes)
        self._photographs = photographs(images, memory)
        self._paths = {item.id: path for item in images.items if (path := _mask_file(folder, item.id))}
        if not self._paths:
            raise DatasetError(_no_mask(folder, images))
        self._leave_out("have no mask", [item.id for item in images.items if item.id not in self._paths])
        inspections = memory.inspect(self._paths.values(), f"reading {images.split} masks")
        self._sha256 = {item_id: inspections[path].sha256 for item_id, path in self._paths.items()}
        digests = {path: self._sha256[item_id] for item_id, path in self._paths.items()}
        facts = MaskMemory(memory.path, self._colors).facts(digests, f"counting {images.split} masks")
        faults = {
            item_id: fault for item_id, path in self._paths.items() if (fault := self._fault(item_id, facts[path]))
        }
        shifted = len(faults) > len(self._paths) // 2 and not any(
            BACKGROUND in (f.pixels or {}) for f in facts.values()
        )
        advice = "no mask contains 0, the background, so the values may be shifted by one; " if shifted else ""
        self._refuse(folder, faults, advice)
        items = {item.id: item for item in images.items}
        pairs = [self._pair(items[item_id], facts[self._paths[item_id]]) for item_id in self.ids]
        if problem := problem_of(pairs, names, images.classes, bool(getattr(data, "mask_classes", ()))):
            raise DatasetError(f"{folder}: {problem}")
        self.notes += notes_on(pairs)
        content = [sorted(self._sha256.items()), self._table.tolist()]
        self._settle([*content, list(self._colors.values.items())] if self._colors else content)

    def _fault(self, item_id: str, facts: MaskFacts) -> str:
        """Return why a mask cannot be used, or an empty string."""
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
        return f"values {unknown} are not class ids; expected: {expected}" if unknown else ""

    def _pair(self, item: LabeledImage, facts: MaskFacts) -> Pair:
        return Pair(
            item.id,
            item.class_ids,
            self._by_class(facts.pixels),
            self._by_class(facts.border),
            frozenset(facts.pixels or ()),
        )

    def _by_class(self, counts: Mapping[int, int] | None) -> dict[int, int]:
        by_class: dict[int, int] = {}
        for value, count in (counts or {}).items():
            class_id = int(self._table[value])
            by_class[class_id] = by_class.get(class_id, 0) + count
        return by_class

    def mask(self, item_id: str) -> Mask:
        """Return the (H, W) uint8 true mask of an item.

        Raises:
            DatasetError: the item is not evaluated, or its file has changed since it was checked.
        """
        self._check_judged(item_id)
        path, photograph = self._paths[item_id], self._photographs[item_id]
        values, stated = read_mask_file(path, self._sha256[item_id], self._colors)
        if stated is None:
            values = turned_with(values, photograph.size, photograph.orientation)
        mask = self._table[values]
        if values.shape != photograph.size or (mask < 0).any():  # the remembered facts of the file are wrong
            raise DatasetError(
                f"{path}: its content differs from its remembered counts; remove files.sqlite from the store"
            )
        return mask.astype(np.uint8)


def _mask_file(folder: Path, item_id: str) -> Path | None:
    """Return the file of an item's mask, or None; its name may have the other Unicode form."""
    names = dict.fromkeys((item_id, normalize("NFD", item_id)))
    return next((path for name in names for s in _SUFFIXES if (path := folder / f"{name}{s}").is_file()), None)


def _no_mask(folder: Path, images: LabeledImages) -> str:
    """Return a message that no image has a mask: the folder, the expected name and the names of existing files."""
    if not folder.is_dir():
        return f"{folder}: no such folder; it should hold the masks of data.{images.split}"
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file())[:_EXAMPLES]
    return (
        f"{folder}: none of the {len(images)} images of {images.split} has a mask here; "
        f"expected: {images.items[0].id}.png (or .tif, .bmp); found: {', '.join(names) or 'no file'}"
    )


def _value_table(names: tuple[str, ...], classes: ClassMap, other_classes: str) -> NDArray[np.int16]:
    """Return (256,) int16: the class id of each mask value, -1 for values without meaning."""
    table = np.full(256, -1, dtype=np.int16)
    table[BACKGROUND], table[IGNORE_INDEX] = BACKGROUND, IGNORE_INDEX
    other = IGNORE_INDEX if other_classes == "ignore" else BACKGROUND
    for value, name in enumerate(names, start=1):
        table[value] = classes.id_of(name) if name in classes.names else other
    return table
