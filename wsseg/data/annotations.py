"""What a person drew in an annotation tool: labelled regions of images, read from the files that the tool exports.

Label Studio (JSON: brush, polygon, rectangle), CVAT ("CVAT for images 1.1" XML: mask, polygon, rectangle) and COCO instances
(polygons, RLE). Each number is checked before an allocation depends on it.
"""

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray

from wsseg.data.coco import read_coco
from wsseg.data.label_files import is_image_name, records
from wsseg.data.outlines import Polygons
from wsseg.data.reading import MOST_PIXELS
from wsseg.data.text_files import read_text
from wsseg.errors import DatasetError

Region = NDArray[np.bool_]


@dataclass(frozen=True)
class Shape:
    """A labelled region: its class name (None is the background), and the function that draws it, (H, W) bool."""

    label: str | None
    draw: Callable[[], Region]


@dataclass(frozen=True)
class Drawing:
    """What was drawn on one image.

    Args:
        image: path, address or file name of the image, as the tool states it.
        size: (H, W) of the canvas that the shapes are drawn on; None if nothing was drawn.
        shapes: the shapes, the topmost last.
        upright: whether the tool shows a photograph upright; False if a canvas of equal sides may be the stored photograph.
    """

    image: str
    size: tuple[int, int] | None
    shapes: tuple[Shape, ...]
    upright: bool = True


@dataclass
class Annotations:
    """The content of an export.

    Args:
        tool: name of the format, for messages.
        drawings: one item per annotated image; an image on which a person drew nothing has no shapes.
        left_out: number of shapes that enclose no area or are of another kind, by kind.
    """

    tool: str
    drawings: list[Drawing] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_annotations(path: Path) -> Annotations:
    """Read an export; its format is recognised by its content.

    Raises:
        DatasetError: an unknown format, or content that is not valid; one line.
    """
    text = read_text(path)
    if text.lstrip().startswith("<"):
        return _read_cvat(path, text)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: neither XML nor JSON: {error}; expected an export of {_EXPECTED}") from error
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        return _read_coco_file(path)
    tasks = [content] if isinstance(content, dict) else content
    if (
        isinstance(tasks, list)
        and tasks
        and all(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks)
    ):
        return _read_label_studio(path, tasks)
    raise DatasetError(f"{path}: found JSON of another kind; expected an export of {_EXPECTED}")


_EXPECTED = "Label Studio (JSON), CVAT (CVAT for images 1.1, XML) or COCO (instances JSON)"


# --- Label Studio ----------------------------------------------------------------------------------------------------


def _read_label_studio(path: Path, tasks: list[dict[str, Any]]) -> Annotations:
    """Read the annotations of tasks; predictions are no answer of a person and are not read."""
    found = Annotations("Label Studio")
    for number, task in enumerate(tasks):
        where = f"{path}: task {task.get('id', number)}"
        image = next((v for v in task["data"].values() if isinstance(v, str) and is_image_name(v)), None)
        answers = [answer for answer in records(task.get("annotations")) if not answer.get("was_cancelled")]
        if not answers:
            continue
        if image is None:
            raise DatasetError(f"{where}: its data names no image; expected a path or an address")
        shapes: list[Shape] = []
        sizes: set[tuple[int, int]] = set()
        for result in (r for answer in answers for r in records(answer.get("result"))):
            shape = _label_studio_shape(where, result, sizes, found.left_out)
            if shape is not None:
                shapes.append(shape)
        if len(sizes) > 1:
            raise DatasetError(f"{where}: its shapes state several sizes of the image: {sorted(sizes)}")
        found.drawings.append(Drawing(image, next(iter(sizes), None), tuple(shapes)))
    if not found.drawings:
        raise DatasetError(f"{path}: no task has an annotation; expected tasks that a person has submitted")
    return found


def _label_studio_shape(
    where: str, result: dict[str, Any], sizes: set[tuple[int, int]], left_out: Counter[str]
) -> Shape | None:
    """Return the shape of a result, or None if it is of another kind."""
    kind, value = result.get("type"), result.get("value")
    if kind not in ("brushlabels", "polygonlabels", "rectanglelabels") or not isinstance(value, dict):
        left_out[str(kind)] += 1
        return None
    labels = value.get(kind)
    if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
        raise DatasetError(f"{where}: a region has the labels {labels!r}; expected one label")
    if result.get("image_rotation"):
        raise DatasetError(f"{where}: the image was turned in Label Studio; turn it back and export again")
    size = _size(where, result.get("original_height"), result.get("original_width"))
    sizes.add(size)
    if kind == "brushlabels":
        code = value.get("rle")
        return Shape(_class_name(labels[0]), _checked(where, lambda: label_studio_region(code, size)))
    scale = np.array([size[1], size[0]]) / 100  # coordinates are percent of the width and the height
    if kind == "polygonlabels":
        points = _numbers(where, value.get("points")).reshape(-1, 2) * scale
    else:
        if value.get("rotation"):
            raise DatasetError(f"{where}: a rectangle is turned by {value['rotation']}; draw a polygon instead")
        x, y, w, h = _numbers(where, [value.get(k) for k in ("x", "y", "width", "height")])
        points = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]]) * scale
    return _polygon(where, labels[0], points, size, left_out)


def label_studio_region(code: Any, size: tuple[int, int]) -> Region:
    """Return the (H, W) pixels of a run-length code of Label Studio, a list of bytes.

    32 bits for the number of RGBA bytes, 5 bits for the bits per word minus 1, four times 4 bits for the bits of the four sizes
    of run lengths minus 1; then runs of one repeated word or of single words (see `wsseg.export.masks.label_studio_rle`). A
    pixel is inside if its alpha is at least 128.

    Raises:
        ValueError: the code is damaged, or of an image of another size.
    """
    if not isinstance(code, list) or not all(type(byte) is int and 0 <= byte <= 255 for byte in code):
        raise ValueError("its rle is no list of bytes")
    bits = np.unpackbits(np.array(code, np.uint8))
    place = 0

    def read(count: int) -> int:
        nonlocal place
        if place + count > len(bits):
            raise ValueError("its rle ends too early")
        place += count
        return int("".join(map(str, bits[place - count : place])), 2)

    total, word = read(32), read(5) + 1
    lengths = [read(4) + 1 for _ in range(4)]
    if word != 8 or total != 4 * size[0] * size[1]:
        raise ValueError(f"its rle holds {total} words of {word} bits; expected {4 * size[0] * size[1]} of 8 bits")
    values = np.empty(total, np.uint8)
    filled = 0
    while filled < total:
        repeated = read(1)
        count = read(lengths[read(2)]) + 1
        if filled + count > total or (not repeated and place + 8 * count > len(bits)):
            raise ValueError("its rle holds too many words")
        if repeated:
            values[filled : filled + count] = read(8)
        else:
            values[filled : filled + count] = np.packbits(bits[place : place + 8 * count])
            place += 8 * count
        filled += count
    return np.asarray(values.reshape(*size, 4)[:, :, 3] >= 128)


# --- CVAT ------------------------------------------------------------------------------------------------------------


def _read_cvat(path: Path, text: str) -> Annotations:
    try:
        root = fromstring(text)
    except (DefusedXmlException, SyntaxError, ValueError) as error:
        raise DatasetError(f"{path}: not valid XML: {error}") from error
    if root.tag != "annotations":
        raise DatasetError(f"{path}: found the element {root.tag!r}; expected <annotations> of CVAT for images 1.1")
    if root.find("track") is not None:
        raise DatasetError(f"{path}: CVAT for video; export the task as 'CVAT for images 1.1'")
    found = Annotations("CVAT")
    for element in root.iter("image"):
        name = element.get("name") or ""
        where = f"{path}: image {name!r}"
        size = _size(where, element.get("height"), element.get("width"))
        children = sorted(element, key=lambda child: int(_number(where, child.get("z_order") or "0")))
        shapes = [_cvat_shape(where, child, size, found.left_out) for child in children]
        found.drawings.append(Drawing(name, size, tuple(shape for shape in shapes if shape is not None)))
    return found


def _cvat_shape(where: str, child: Any, size: tuple[int, int], left_out: Counter[str]) -> Shape | None:
    label = child.get("label") or ""
    if child.tag == "mask":
        return Shape(_class_name(label), _checked(where, lambda: cvat_region(child.attrib, size)))
    if child.tag == "polygon":
        pairs = [pair.split(",") for pair in (child.get("points") or "").split(";")]
        points = _numbers(where, pairs).reshape(-1, 2)
        return _polygon(where, label, points, size, left_out)
    if child.tag == "box" and not _number(where, child.get("rotation") or "0"):
        left, top, right, bottom = (_number(where, child.get(k)) for k in ("xtl", "ytl", "xbr", "ybr"))
        points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        return _polygon(where, label, points, size, left_out)
    left_out[str(child.tag)] += 1
    return None


def cvat_region(mask: Any, size: tuple[int, int]) -> Region:
    """Return the (H, W) pixels of a ``mask`` element of CVAT.

    ``rle`` holds run lengths in row order, alternately off and on, of a box with ``left``, ``top``, ``width`` and ``height``.

    Raises:
        ValueError: the runs do not fill the box, or the box is not inside the image.
    """
    left, top, width, height = (int(mask.get(name) or "-1") for name in ("left", "top", "width", "height"))
    if min(left, top) < 0 or min(width, height) < 1 or left + width > size[1] or top + height > size[0]:
        raise ValueError(f"its box ({left}, {top}, {width} x {height}) is not inside the image")
    runs = np.array([int(run) for run in (mask.get("rle") or "").split(",") if run.strip()], dtype=object)
    if any(run < 0 for run in runs) or sum(runs) != width * height:
        raise ValueError(f"its runs cover {sum(runs)} pixels; expected {width} x {height}")
    region = np.zeros(size, bool)
    on = np.repeat(np.arange(len(runs)) % 2 == 1, runs.astype(np.int64))
    region[top : top + height, left : left + width] = on.reshape(height, width)
    return region


# --- COCO ------------------------------------------------------------------------------------------------------------


def _read_coco_file(path: Path) -> Annotations:
    """Read the outlines of a COCO file; smaller objects lie above larger ones."""
    coco = read_coco(path)
    found = Annotations("COCO")
    for image in coco.images:
        objects = coco.objects[image.item_id]
        if not objects:
            continue
        if image.size is None:
            raise DatasetError(f"{path}: {image.file_name}: its height and width are missing")
        size = _size(f"{path}: {image.file_name}", *image.size)
        shapes = []
        for annotation in objects:
            if annotation.fault:
                raise DatasetError(f"{path}: {annotation.where}: {annotation.fault}")
            if annotation.outline is None:
                found.left_out["box"] += 1
                continue
            outline = annotation.outline
            draw = (lambda o=outline, s=size: o.region(s)) if isinstance(outline, Polygons) else outline.region
            shapes.append(Shape(annotation.name, _checked(f"{path}: {annotation.where}", draw)))
        regions = [(shape, int(shape.draw().sum())) for shape in shapes]
        ordered = tuple(shape for shape, _ in sorted(regions, key=lambda pair: -pair[1]))
        found.drawings.append(Drawing(image.file_name, size, ordered, upright=False))
    return found


# --- shared ----------------------------------------------------------------------------------------------------------


def _class_name(label: str) -> str | None:
    return None if label.strip("_ ").lower() == "background" else label


def _polygon(
    where: str, label: str, points: NDArray[np.float64], size: tuple[int, int], left_out: Counter[str]
) -> Shape | None:
    if len(points) < 3 or not np.ptp(points, axis=0).all():
        left_out["line"] += 1
        return None
    return Shape(_class_name(label), _checked(where, lambda: Polygons((points,)).region(size)))


def _checked(where: str, draw: Callable[[], Region]) -> Callable[[], Region]:
    """Return the function with its ValueError as a DatasetError."""

    def drawn() -> Region:
        try:
            return draw()
        except ValueError as error:
            raise DatasetError(f"{where}: {error}") from error

    return drawn


def _size(where: str, height: Any, width: Any) -> tuple[int, int]:
    rows, columns = (_number(where, side) for side in (height, width))
    if not (rows > 0 and columns > 0 and rows * columns <= MOST_PIXELS and rows % 1 == columns % 1 == 0):
        raise DatasetError(f"{where}: the image is {width!r} x {height!r}; expected whole numbers of pixels")
    return int(rows), int(columns)


def _number(where: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DatasetError(f"{where}: found {value!r}; expected a number")
    return number


def _numbers(where: str, values: Any) -> NDArray[np.float64]:
    """Return a list of numbers, or of pairs of numbers, as a flat array."""
    rows = values if isinstance(values, list) else [values]
    numbers = [_number(where, value) for row in rows for value in (row if isinstance(row, list) else [row])]
    if len(numbers) % 2:
        raise DatasetError(f"{where}: found {len(numbers)} coordinates; expected pairs x, y")
    return np.array(numbers, np.float64)
