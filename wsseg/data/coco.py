"""COCO instances files: checked records of images, categories, and objects with their outlines."""

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
_NUMBER = re.compile(r"-?[0-9]{1,18}")  # Python refuses to convert thousands of digits
_IDS = ("id", "image_id", "category_id")


@dataclass(frozen=True)
class CocoImage:
    """An image record: item id, file name relative to the folder of images, and declared (H, W) or None."""

    item_id: str
    file_name: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class CocoObject:
    """An annotation.

    Args:
        where: name of the annotation in messages.
        name: name of its category; None if the category is the background.
        crowd: whether it is the outline of a group (``iscrowd``).
        outline: its polygons or runs; None if it has none.
        box: its ``bbox`` as a polygon; None if it has none.
        left_out: number of its polygons that enclose no area.
        fault: why its outline cannot be used; empty if it can.
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
        sha256: digest of the file.
        names: names of the categories in the order of their ids, without the background.
        images: image records, in the order of the file.
        objects: annotations by item id of their image.
    """

    sha256: str
    names: tuple[str, ...]
    images: tuple[CocoImage, ...]
    objects: dict[str, list[CocoObject]] = field(repr=False)

    @property
    def has_outlines(self) -> bool:
        """Whether an object has an outline, usable or not."""
        return any(o.outline is not None or o.fault for objects in self.objects.values() for o in objects)


_cache: dict[Path, Coco] = {}  # the files read last, because plans and checks read the same file several times
_CACHED = 2


def read_coco(path: Path) -> Coco:
    """Read a COCO instances file. It is parsed again only if its bytes have changed.

    Raises:
        DatasetError: not JSON, missing or malformed lists and keys, ids that are not unique, or unknown references.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    coco = _cache.pop(path, None)
    if coco is None or coco.sha256 != digest:
        try:
            content = json.loads(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise DatasetError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{path}: not valid JSON: {error}") from error
        del data
        coco = _checked(path, content, digest)
    _cache[path] = coco
    while len(_cache) > _CACHED:
        del _cache[next(iter(_cache))]
    return coco


def _checked(path: Path, content: Any, digest: str) -> Coco:
    for part, keys in _KEYS.items():
        rows = content.get(part) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise DatasetError(f"{path}: the list {part!r} is missing; expected a COCO instances file")
        wrong = [f"{part}[{i}]" for i, row in enumerate(rows) if not _is_record(row, keys)]
        if wrong:
            raise DatasetError(
                f"{path}: {listed(wrong)}: expected an object with {', '.join(keys)} (ids are numbers or strings, names are strings)"
            )
        if part != "annotations":
            _refuse_duplicates(path, f"{part} have the id", (_id(row["id"]) for row in rows))
    categories = _categories(path, content)
    images = {_id(row["id"]): _image(path, row) for row in content["images"]}
    _refuse_duplicates(path, "images have the file name (without suffix)", (i.item_id for i in images.values()))
    objects: dict[str, list[CocoObject]] = {image.item_id: [] for image in images.values()}
    unknown = []
    for i, row in enumerate(content["annotations"]):
        where = f"annotation {short(row['id'])}" if "id" in row else f"annotations[{i}]"
        image, category = images.get(_id(row["image_id"])), _id(row["category_id"])
        if image is None or category not in categories:
            unknown.append(where)
            continue
        objects[image.item_id].append(_object(path, where, row, categories[category]))
    if unknown:
        raise DatasetError(
            f"{path}: {listed(unknown)}: unknown image or category; expected ids of the lists 'images' and 'categories'"
        )
    names = tuple(dict.fromkeys(name for name in categories.values() if name is not None))
    return Coco(digest, names, tuple(images.values()), objects)


def _is_record(row: Any, keys: Iterable[str]) -> bool:
    if not isinstance(row, dict):
        return False
    return all(_id(row.get(key)) is not None if key in _IDS else isinstance(row.get(key), str) for key in keys)


def _id(value: Any) -> str | None:
    """Return an id as text, so that 1, 1.0 and "1" are equal; None for a value that cannot be an id."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if type(value) is int else None


def _refuse_duplicates(path: Path, what: str, ids: Iterator[str | None]) -> None:
    duplicates = [f"{item!r} ({count})" for item, count in Counter(ids).items() if count > 1]
    if duplicates:
        raise DatasetError(f"{path}: several {what} {listed(duplicates)}; expected each once")


def _categories(path: Path, content: dict[str, Any]) -> dict[str | None, str | None]:
    """Return the class name by category id, in the order of the ids; None is the background.

    A category without annotations is dropped if another category has its name (the first category in files of Roboflow).
    """
    used = {_id(row["category_id"]) for row in content["annotations"]}
    rows = {_id(row["id"]): composed(row["name"].strip()) for row in content["categories"]}
    counts = Counter(name for key, name in rows.items() if key in used)
    if duplicates := [f"{name!r} ({count})" for name, count in counts.items() if count > 1]:
        raise DatasetError(f"{path}: several categories have the name {listed(duplicates)}; expected each name once")
    kept = {key: name for key, name in rows.items() if key in used or name not in counts}
    ordered = sorted(kept, key=lambda key: (0, int(str(key)), "") if _NUMBER.fullmatch(str(key)) else (1, 0, str(key)))
    return {key: None if kept[key].strip("_").lower() == "background" else kept[key] for key in ordered}


def _image(path: Path, row: dict[str, Any]) -> CocoImage:
    name = row["file_name"].replace("\\", "/")
    if name.startswith("/") or ":/" in name:  # a path on another machine, or a URL
        name = name.rsplit("/", 1)[1]
    name = check_id(name.removeprefix("./"), str(path))
    stem = PurePosixPath(name).with_suffix("").as_posix()
    height, width = row.get("height"), row.get("width")
    if not height and not width:
        return CocoImage(stem, name, None)
    sides = [int(text) if (text := _id(side)) and _NUMBER.fullmatch(text) else 0 for side in (height, width)]
    if min(sides) <= 0:
        raise DatasetError(
            f"{path}: {name}: its height and width are {short(height)} and {short(width)}; expected integers (px), or neither"
        )
    return CocoImage(stem, name, (sides[0], sides[1]))


def _object(path: Path, where: str, row: dict[str, Any], name: str | None) -> CocoObject:
    stated = row.get("iscrowd")
    crowd = {"None": False, "False": False, "0": False, "True": True, "1": True}.get(_id(stated) or repr(stated))
    if crowd is None:
        raise DatasetError(f"{path}: {where}: its iscrowd is {short(stated)}; expected 0 or 1")
    segmentation, box = row.get("segmentation"), read_box(row.get("bbox"))
    try:
        outline = read_outline(segmentation)
    except ValueError as error:
        return CocoObject(where, name, crowd, None, box, fault=str(error))
    kept = len(outline.parts) if isinstance(outline, Polygons) else 0
    left_out = len(segmentation) - kept if isinstance(segmentation, list) else 0
    return CocoObject(where, name, crowd, outline, box, left_out)
