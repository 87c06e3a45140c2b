"""The records of a COCO instances file, each checked: images, categories and objects with their outlines."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from reprlib import repr as short
from typing import Any

from wsseg.data.outlines import Polygons, Runs, read_box, read_outline
from wsseg.errors import DatasetError, listed
from wsseg.files import read_file
from wsseg.names import check_id, composed

_KEYS = {"images": ("id", "file_name"), "annotations": ("image_id", "category_id"), "categories": ("id", "name")}
_NUMBER = re.compile(r"-?[0-9]{1,18}")  # Python converts no text of thousands of digits
_IDS = ("id", "image_id", "category_id")


@dataclass(frozen=True)
class CocoImage:
    """An image record: its item id, file name relative to the images' folder, and declared (H, W) if it states one."""

    item_id: str
    file_name: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class CocoObject:
    """An annotation.

    Args:
        where: words that name it in a message.
        name: of its category; None for a category that stands for the background.
        crowd: whether it outlines a group (``iscrowd``).
        outline: its polygons or runs; None if it states none.
        box: its ``bbox`` as a polygon; None if it states none.
        left_out: how many of its polygons enclose nothing.
        fault: why its outline cannot be used; empty for a sound one.
    """

    where: str
    name: str | None
    crowd: bool
    outline: Polygons | Runs | None
    box: Polygons | None
    left_out: int = 0
    fault: str = ""


@dataclass(frozen=True)
class Coco:
    """A checked instances file.

    Args:
        sha256: of the file.
        names: the categories' names in the order of their ids, without the background.
        images: the images, in the file's order.
        objects: each image's annotations by item id.
    """

    sha256: str
    names: tuple[str, ...]
    images: tuple[CocoImage, ...]
    objects: dict[str, list[CocoObject]] = field(repr=False)

    @property
    def has_outlines(self) -> bool:
        """Whether an object states an outline, a sound one or not."""
        return any(o.outline is not None or o.fault for objects in self.objects.values() for o in objects)


_known: dict[Path, Coco] = {}  # the files that were read last: plans and checks ask for the same ones several times
_MOST_KNOWN = 2


def read_coco(path: Path) -> Coco:
    """Read a COCO instances file; it is parsed once as long as its bytes are the same.

    Raises:
        DatasetError: not JSON, lists or keys that are missing or of another type, doubled ids, unknown references.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    known = _known.pop(path, None)
    if known is None or known.sha256 != digest:
        try:
            content = json.loads(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise DatasetError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{path}: not valid JSON: {error}") from error
        del data
        known = _checked(path, content, digest)
    _known[path] = known
    while len(_known) > _MOST_KNOWN:
        del _known[next(iter(_known))]
    return known


def _checked(path: Path, coco: Any, digest: str) -> Coco:
    for part, keys in _KEYS.items():
        rows = coco.get(part) if isinstance(coco, dict) else None
        if not isinstance(rows, list):
            raise DatasetError(f"{path}: the list {part!r} is missing; expected: a COCO instances file")
        wrong = [f"{part}[{i}]" for i, row in enumerate(rows) if not _is_record(row, keys)]
        if wrong:
            raise DatasetError(
                f"{path}: {listed(wrong)}: expected: an object with {', '.join(keys)} (ids numbers or texts, names texts)"
            )
        if part != "annotations":
            _refuse_doubled(path, f"{part} have the id", (_id(row["id"]) for row in rows))
    categories = _categories(path, coco)
    images = {_id(row["id"]): _image(path, row) for row in coco["images"]}
    _refuse_doubled(path, "images have the file name (without suffix)", (i.item_id for i in images.values()))
    objects: dict[str, list[CocoObject]] = {image.item_id: [] for image in images.values()}
    unknown = []
    for i, row in enumerate(coco["annotations"]):
        where = f"annotation {short(row['id'])}" if "id" in row else f"annotations[{i}]"
        image, category = images.get(_id(row["image_id"])), _id(row["category_id"])
        if image is None or category not in categories:
            unknown.append(where)
            continue
        objects[image.item_id].append(_object(path, where, row, categories[category]))
    if unknown:
        raise DatasetError(
            f"{path}: {listed(unknown)}: names an unknown image or category; expected: an id of the lists"
        )
    names = tuple(dict.fromkeys(name for name in categories.values() if name is not None))
    return Coco(digest, names, tuple(images.values()), objects)


def _is_record(row: Any, keys: Iterable[str]) -> bool:
    if not isinstance(row, dict):
        return False
    return all(_id(row.get(key)) is not None if key in _IDS else isinstance(row.get(key), str) for key in keys)


def _id(value: Any) -> str | None:
    """Return an id as text, so that 1, 1.0 and "1" are one; None for what is no id."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if type(value) is int else None


def _refuse_doubled(path: Path, what: str, ids: Iterator[str | None]) -> None:
    doubled = [f"{item!r} ({count})" for item, count in Counter(ids).items() if count > 1]
    if doubled:
        raise DatasetError(f"{path}: several {what} {listed(doubled)}; expected: each once")


def _categories(path: Path, coco: dict[str, Any]) -> dict[str | None, str | None]:
    """Return the class name by category id, in the order of the ids; None stands for the background.

    A category that no annotation uses gives its name away to another that has it too (the first one of Roboflow's files).
    """
    used = {_id(row["category_id"]) for row in coco["annotations"]}
    rows = {_id(row["id"]): composed(row["name"].strip()) for row in coco["categories"]}
    counts = Counter(name for key, name in rows.items() if key in used)
    if doubled := [f"{name!r} ({count})" for name, count in counts.items() if count > 1]:
        raise DatasetError(f"{path}: several categories have the name {listed(doubled)}; expected: each name once")
    kept = {key: name for key, name in rows.items() if key in used or name not in counts}
    ordered = sorted(kept, key=lambda key: (0, int(str(key)), "") if _NUMBER.fullmatch(str(key)) else (1, 0, str(key)))
    return {key: None if kept[key].strip("_").lower() == "background" else kept[key] for key in ordered}


def _image(path: Path, row: dict[str, Any]) -> CocoImage:
    name = row["file_name"].replace("\\", "/")
    if name.startswith("/") or ":/" in name:  # where the file lay on another machine, or its address
        name = name.rsplit("/", 1)[1]
    name = check_id(name.removeprefix("./"), str(path))
    stem = PurePosixPath(name).with_suffix("").as_posix()
    height, width = row.get("height"), row.get("width")
    if not height and not width:
        return CocoImage(stem, name, None)
    sides = [int(text) if (text := _id(side)) and _NUMBER.fullmatch(text) else 0 for side in (height, width)]
    if min(sides) <= 0:
        found = f"{short(height)} and {short(width)}"
        raise DatasetError(
            f"{path}: {name}: its height and width are {found}; expected: whole numbers of pixels, or none"
        )
    return CocoImage(stem, name, (sides[0], sides[1]))


def _object(path: Path, where: str, row: dict[str, Any], name: str | None) -> CocoObject:
    stated = row.get("iscrowd")
    crowd = {"None": False, "False": False, "0": False, "True": True, "1": True}.get(_id(stated) or repr(stated))
    if crowd is None:
        raise DatasetError(f"{path}: {where}: its iscrowd is {short(stated)}; expected: 0 or 1")
    segmentation, box = row.get("segmentation"), read_box(row.get("bbox"))
    try:
        outline = read_outline(segmentation)
    except ValueError as error:
        return CocoObject(where, name, crowd, None, box, fault=str(error))
    kept = len(outline.parts) if isinstance(outline, Polygons) else 0
    left_out = len(segmentation) - kept if isinstance(segmentation, list) else 0
    return CocoObject(where, name, crowd, outline, box, left_out)
