"""Marks from what annotation tools export, and from folders of masks with other values or colours."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from wsseg.data.annotations import Annotations, Drawing, read_annotations
from wsseg.data.frames import Photograph
from wsseg.data.images import LabeledImages
from wsseg.data.label_files import name_parts, without_upload_prefix
from wsseg.data.mask_colors import Color, MaskColors
from wsseg.data.orientation import turn, turned_with
from wsseg.data.photographs import image_files
from wsseg.data.reading import read_mask_file
from wsseg.data.text_files import read_text
from wsseg.data.voc import label_map
from wsseg.errors import DatasetError, counted, listed, nearest
from wsseg.labels import BACKGROUND, IGNORE_INDEX, ClassMap
from wsseg.names import composed
from wsseg.types import Mask

UNSAID = "unsaid"  # name of 255 in `--value`
_LABEL_MAP = "labelmap.txt"


@dataclass
class ImportedMarks:
    """Marks by image id, and one line per finding."""

    marks: dict[str, Mask] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def import_marks(
    source: Path,
    images: LabeledImages,
    photographs: Mapping[str, Photograph],
    complete: bool = False,
    values: Mapping[str, str] | None = None,
) -> ImportedMarks:
    """Read marks of training images.

    Args:
        source: an export of Label Studio, CVAT or COCO, or a folder of masks.
        images: the training images.
        photographs: their sizes and orientations.
        complete: whether the annotation of an image is complete: what was not drawn on is background, not unsaid.
        values: for a folder of masks, the value (``7``) or colour (``255,0,0``) by class name; ``background`` and ``unsaid``
            are names too. None means the folder's labelmap.txt, or class ids.

    Raises:
        DatasetError: a file cannot be read, an image or a class is unknown, or a size does not fit; one line.
    """
    if source.is_dir():
        return _from_folder(source, images, photographs, complete, values or {})
    if values:
        raise DatasetError(f"{source}: values of classes are for a folder of masks; this file names its classes")
    return _from_annotations(source, read_annotations(source), images, photographs, complete)


# --- exports of tools ------------------------------------------------------------------------------------------------


def _from_annotations(
    source: Path,
    annotations: Annotations,
    images: LabeledImages,
    photographs: Mapping[str, Photograph],
    complete: bool,
) -> ImportedMarks:
    drawings = [drawing for drawing in annotations.drawings if drawing.shapes or complete]
    items = _matched(source, [drawing.image for drawing in drawings], images)
    labels = {shape.label for drawing in drawings for shape in drawing.shapes} - {None}
    _check_classes(source, labels, images.classes)  # type: ignore[arg-type]
    imported = ImportedMarks()
    for drawing, item_id in zip(drawings, items, strict=True):
        photograph = photographs[item_id]
        if item_id in imported.marks:
            raise DatasetError(f"{source}: {drawing.image!r} is annotated twice; remove one of them")
        rest = BACKGROUND if complete else IGNORE_INDEX
        mark = np.full(photograph.size, rest, np.uint8)
        if drawing.shapes:
            mark = _painted(source, drawing, photograph, images.classes, rest)
        if (mark != IGNORE_INDEX).any():
            imported.marks[item_id] = mark
    if annotations.left_out:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(annotations.left_out.items()))
        imported.notes.append(f"{annotations.tool}: left out, because they have no area: {kinds}")
    return imported


def _painted(source: Path, drawing: Drawing, photograph: Photograph, classes: ClassMap, rest: int) -> Mask:
    """Return the shapes of an image as a mark of its photograph, upright."""
    canvas = drawing.size or photograph.size
    if drawing.upright and canvas == photograph.size:
        size, orientation = canvas, 1
    else:
        try:
            size, orientation = photograph.frame(canvas)
        except ValueError as error:
            raise DatasetError(f"{source}: {drawing.image!r}: {error}") from error
    mark = np.full(canvas, rest, np.uint8)
    for shape in drawing.shapes:
        mark[shape.draw()] = BACKGROUND if shape.label is None else classes.id_of(composed(shape.label))
    if mark.shape != size:
        mark = np.asarray(cv2.resize(mark, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))
    return turn(mark, orientation) if orientation != 1 else mark


# --- folders of masks ------------------------------------------------------------------------------------------------


def _from_folder(
    folder: Path,
    images: LabeledImages,
    photographs: Mapping[str, Photograph],
    complete: bool,
    values: Mapping[str, str],
) -> ImportedMarks:
    files = image_files(folder, outputs=True)  # corrected predictions are marks, too
    items = _matched(folder, files, images)
    colors, table = _meanings(folder, values, images.classes)
    imported = ImportedMarks()
    for (name, path), item_id in zip(files.items(), items, strict=True):
        photograph = photographs[item_id]
        mask, stated = read_mask_file(path, None, colors)
        if stated is None:
            mask = turned_with(mask, photograph.size, photograph.orientation)
        if mask.shape != photograph.size:
            raise DatasetError(f"{path}: the mask is {mask.shape} (H, W), its image {photograph.size}")
        mark = table[mask]
        if (mark < 0).any():
            unknown = np.unique(mask[mark < 0]).tolist()
            raise DatasetError(
                f"{path}: values {unknown} have no class; name each with --value NAME=VALUE, "
                f"such as --value {images.classes.names[0]}={unknown[0]}"
            )
        if complete:
            mark[mark == IGNORE_INDEX] = BACKGROUND
        if item_id in imported.marks:
            raise DatasetError(f"{path}: {item_id} has two masks; remove one ({name})")
        if (mark != IGNORE_INDEX).any():
            imported.marks[item_id] = mark.astype(np.uint8)
    if not imported.marks:
        raise DatasetError(f"{folder}: no mask says anything of an image of train")
    return imported


def _meanings(folder: Path, values: Mapping[str, str], classes: ClassMap) -> tuple[MaskColors | None, np.ndarray]:
    """Return the colours of the masks, if they are colours, and (256,) int16: the class id of each value."""
    table = np.full(256, -1, np.int16)
    if not values and (folder / _LABEL_MAP).is_file():
        path = folder / _LABEL_MAP
        colors_by_name = label_map(read_text(path), str(path))
        values = {name: ",".join(map(str, color)) for name, color in colors_by_name.items() if color is not None}
    if not values:
        table[: len(classes) + 1] = range(len(classes) + 1)
        table[IGNORE_INDEX] = IGNORE_INDEX
        return None, table
    ids = {name: _value_id(folder, name, classes) for name in values}
    numbers = {name: _parsed(folder, name, text) for name, text in values.items()}
    colors = {color: ids[name] for name, color in numbers.items() if isinstance(color, tuple)}
    if not colors:
        table[IGNORE_INDEX] = IGNORE_INDEX
        for name, number in numbers.items():
            table[number] = ids[name]
        return None, table
    if len(colors) < len(numbers):
        raise DatasetError(f"{folder}: {', '.join(values.values())}: expected values or colours, not both")
    table[:] = range(256)
    return MaskColors(colors, "--value or labelmap.txt"), table


def _value_id(folder: Path, name: str, classes: ClassMap) -> int:
    if name.lower() == "background":
        return BACKGROUND
    if name == UNSAID:
        return IGNORE_INDEX
    _check_classes(folder, [name], classes)
    return classes.id_of(composed(name))


def _parsed(folder: Path, name: str, text: str) -> int | Color:
    parts = text.split(",")
    if len(parts) in (1, 3) and all(part.strip().isdecimal() and int(part) < 256 for part in parts):
        numbers = [int(part) for part in parts]
        return numbers[0] if len(parts) == 1 else (numbers[0], numbers[1], numbers[2])
    raise DatasetError(f"{folder}: {name}={text}: expected a value from 0 to 255, or a colour R,G,B")


# --- names -----------------------------------------------------------------------------------------------------------


def _check_classes(source: Path, names: Iterable[str], classes: ClassMap) -> None:
    if unknown := sorted({composed(name) for name in names} - set(classes.names)):
        raise DatasetError(
            f"{source}: found classes that the config does not have: {listed(unknown)}; it has background, "
            f"{', '.join(classes.names)}{nearest(unknown[0], classes.names)}"
        )


def _matched(source: Path, names: Iterable[str], images: LabeledImages) -> list[str]:
    """Return the id of the training image that each name means.

    A name is a path or an address. It means the image whose id ends like it, or like which it ends; the prefix of Label Studio's
    uploads is removed if nothing matches with it.

    Raises:
        DatasetError: names that mean no image of train, or several.
    """
    by_stem: dict[str, list[str]] = {}
    for item in images.items:
        by_stem.setdefault(item.id.rsplit("/", 1)[-1], []).append(item.id)
    found: list[str] = []
    unknown: list[str] = []
    for name in names:
        parts = tuple(map(composed, name_parts(name)))
        candidates = _candidates(parts, by_stem)
        if not candidates and parts:
            candidates = _candidates((*parts[:-1], without_upload_prefix(parts[-1])), by_stem)
            candidates = candidates or _candidates((without_upload_prefix(parts[-1]),), by_stem)
        if len(candidates) > 1:
            raise DatasetError(f"{source}: {name!r} may be {listed(candidates)}; expected a path that tells them apart")
        found += candidates
        if not candidates:
            unknown.append(name)
    if unknown:
        raise DatasetError(
            f"{source}: {counted(len(unknown), 'annotated image')} not among the images of train: {listed(unknown)}; "
            "remove them from the export (images of val must not be marked)"
        )
    return found


def _candidates(parts: tuple[str, ...], by_stem: Mapping[str, list[str]]) -> list[str]:
    """Return the ids that end with the path `parts`, or with which it ends; the longest match wins."""
    matches: dict[int, list[str]] = {}
    for item_id in by_stem.get(parts[-1], []) if parts else []:
        own = tuple(item_id.split("/"))
        length = min(len(own), len(parts))
        if own[-length:] == parts[-length:]:
            matches.setdefault(length, []).append(item_id)
    return matches[max(matches)] if matches else []
