"""`wsseg init`: what data set lies in a folder, and the config that describes it."""

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from wsseg.config import to_toml
from wsseg.data.reading import IMAGE_SUFFIXES, image_size, read_mask_file
from wsseg.errors import DatasetError, WssegError
from wsseg.files import read_text

BACKGROUND_FOLDERS = frozenset({"background", "none", "ok", "good", "normal", "negative", "no_defect", "clean"})
_HELD_OUT = ("val", "valid", "validation", "test", "held_out")
_DEPTH = 3  # folders below the one given that are looked into
_LOOKED_AT = 20  # ids, to tell which folder holds the images of a label file
_SMALLEST, _LARGEST, _STEP = 128, 320, 32  # px, of the sizes at which networks are trained


@dataclass
class Discovery:
    """A data set that was recognised.

    Args:
        data: the config's table ``[data]``; paths absolute.
        said: what was assumed, one line each.
    """

    data: dict[str, Any]
    said: list[str] = field(default_factory=list)


def discover(folder: Path) -> Discovery:
    """Recognise the data set in a folder: the VOC devkit, COCO instances, a CSV beside images, or a folder a class.

    Raises:
        DatasetError: no such folder, or nothing that is recognised.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give the one that holds your photographs")
    folder = folder.resolve()
    for look in (_voc, _coco, _csv, _folders):
        if found := look(folder):
            if "val" not in found.data:
                found.said.append("nothing is held out: add a table [data.val] with masks to have results judged")
            return found
    raise DatasetError(
        f"{folder}: no data set was recognised; legal: JPEGImages and ImageSets (VOC); a JSON with images, annotations and "
        "categories (COCO); a CSV with the header image_id,classes beside images; a sub-folder of images for each class"
    )


def config_text(found: Discovery, target: Path) -> str:
    """Return a commented config for `target`; paths below its folder are written relative to it."""
    base = target.resolve().parent

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return value.relative_to(base).as_posix() if value.is_relative_to(base) else str(value)
        return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value

    size = network_size_for(_image_folders(found.data))
    tables = {"rng_seed": 0, "data": plain(found.data)}
    lines = ["# written by wsseg init", *(f"# {line}" for line in found.said)]
    sizes = "\n".join(f"[{name}]\nsize = {size}\n" for name in ("classifier", "seeds", "segmenter"))
    return (
        "\n".join(lines)
        + "\n"
        + to_toml(tables)
        + f"\n# px; of the photographs, at most {_LARGEST} to be quick\n"
        + sizes
    )


def network_size_for(folders: Iterable[Path]) -> int:
    """Return the size at which networks see the photographs of some folders: their long side, within 128 and 320 px."""
    sides = []
    for path in (path for folder in folders for path in _some_images(folder)):
        try:
            sides.append(max(image_size(path)))
        except DatasetError:
            continue  # `data check` names it
    usual = round(median(sides) / _STEP) * _STEP if sides else _LARGEST
    return min(max(usual, _SMALLEST), _LARGEST)


# --- layouts -----------------------------------------------------------------------------------------------------


def _voc(folder: Path) -> Discovery | None:
    for root in _below(folder):
        lists = root / "ImageSets" / "Segmentation"
        if not (root / "JPEGImages").is_dir() or not lists.is_dir():
            continue
        names = {path.stem for path in lists.glob("*.txt")}
        if "train" not in names:
            continue
        data: dict[str, Any] = {"kind": "voc", "root": root, "train": {"list": "train"}}
        found = Discovery(data, [f"the VOC devkit's layout in {root.name}"])
        if "val" in names:
            data["val"] = {"list": "val"}
        if (labels := root / "labels.csv").is_file():
            data["labels"] = labels
            found.said.append("image-level labels from labels.csv")
        for masks in ("SegmentationClassAug", "SegmentationClass"):
            if (root / masks).is_dir():
                data["masks"] = masks
                break
        else:
            data["masks"] = ""
        data["classes"] = _voc_classes(data)
        found.said.append(f"{len(data['classes'])} of VOC's classes occur in train")
        return found
    return None


def _voc_classes(data: dict[str, Any]) -> list[str]:
    """Return the classes that occur in train, in VOC's order."""
    from wsseg.data.config import VocData, VocSplit
    from wsseg.data.images import list_split

    described = VocData(kind="voc", root=data["root"], train=VocSplit(list="train"), labels=data.get("labels"))
    listing = list_split(described, "train")
    present = frozenset().union(*listing.labels.values())
    return [name for name in listing.names if name in present]


def _coco(folder: Path) -> Discovery | None:
    from wsseg.data.coco import read_coco

    data: dict[str, Any] = {"kind": "coco"}
    said = []
    for path in _files(folder, ".json"):
        try:
            coco = read_coco(path)
        except WssegError:
            continue
        names = [image.file_name for image in coco.images[:_LOOKED_AT]]
        images = next((f for f in _below(folder) if names and all((f / name).is_file() for name in names)), None)
        split = _split_of(path.relative_to(folder))
        if images is not None and split not in data:
            data[split] = {"images": images, "annotations": path}
            said.append(f"{split}: COCO instances of {path.name}, images in {images.name}")
    return Discovery(data, said) if "train" in data else None


def _csv(folder: Path) -> Discovery | None:
    from wsseg.data.images import image_files

    data: dict[str, Any] = {"kind": "csv"}
    said = []
    for path in _files(folder, ".csv"):
        rows = _label_rows(path)
        if not rows:
            continue
        ids = [row[0] for row in rows[:_LOOKED_AT]]
        places = dict.fromkeys([*_below(path.parent), *_below(folder)])  # what is nearest to the labels comes first
        holding = [place for place in places if _holds(place, ids, IMAGE_SUFFIXES)]
        images = next((f for f in holding if not _looks_like_masks(f)), None)
        split = _split_of(path.relative_to(folder))
        if images is None or split in data:
            continue
        data[split] = {"images": images, "labels": path}
        said.append(
            f"{split}: labels of {path.name}, {len(image_files(images))} images in {images.relative_to(folder)}"
        )
        if masks := next((f for f in holding if f != images and _looks_like_masks(f)), None):
            data[split]["masks"] = masks
            said.append(f"{split}: masks in {masks.relative_to(folder)}")
        data["separator"] = next((s for s in ("|", ";", " ") if any(s in row[1] for row in rows)), " ")
    return Discovery(data, said) if "train" in data else None


def _folders(folder: Path) -> Discovery | None:
    children = {child.name: child for child in _below(folder, depth=1) if child != folder}
    parts = {"train": children["train"]} if "train" in children else {"train": folder}
    if "train" in children and (held := next((children[n] for n in _HELD_OUT if n in children), None)):
        parts["val"] = held
    classes = [
        child.name for child in _below(parts["train"], depth=1) if child != parts["train"] and _some_images(child)
    ]
    if not classes:
        return None
    data: dict[str, Any] = {"kind": "folder"} | {split: {"images": images} for split, images in parts.items()}
    background = [name for name in classes if name.lower() in BACKGROUND_FOLDERS]
    said = [f"a sub-folder for each class: {', '.join(name for name in classes if name not in background)}"]
    if background:
        data["background"] = background[0]
        said.append(f"{background[0]} holds images without any class")
    return Discovery(data, said)


# --- looking -----------------------------------------------------------------------------------------------------


def _below(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Yield a folder and those below it, nearest first; hidden ones and stores are left out."""
    level = [folder]
    for _ in range(depth + 1):
        yield from level
        level = [
            Path(entry.path)
            for parent in level
            for entry in sorted(_entries(parent), key=lambda entry: entry.name)
            if entry.is_dir() and not entry.name.startswith(".") and not (Path(entry.path) / "objects").is_dir()
        ]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be listed: {error.strerror}") from error


def _files(folder: Path, suffix: str) -> Iterator[Path]:
    for place in _below(folder):
        yield from sorted(Path(e.path) for e in _entries(place) if e.name.lower().endswith(suffix) and e.is_file())


def _split_of(path: Path) -> str:
    """Return ``val`` for a path that says so, else ``train``."""
    words = path.as_posix().lower().replace("/", " ").replace("_", " ").replace("-", " ").replace(".", " ").split()
    return "val" if any(word.rstrip("0123456789") in _HELD_OUT for word in words) else "train"


def _label_rows(path: Path) -> list[list[str]]:
    """Return the rows of a CSV ``image_id,classes``; nothing of another file."""
    try:
        rows = list(csv.reader(read_text(path).splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    if not rows or [cell.strip() for cell in rows[0]] != ["image_id", "classes"]:
        return []
    return [row for row in rows[1:] if len(row) == 2]


def _holds(folder: Path, ids: list[str], suffixes: Iterable[str]) -> bool:
    return bool(ids) and all(any((folder / f"{i}{s}").is_file() for s in suffixes) for i in ids)


def _looks_like_masks(folder: Path) -> bool:
    """Return whether the images of a folder are indexed or grey PNG files whose few values are class ids."""
    paths = _some_images(folder, count=3)
    for path in paths:
        try:
            values, _ = read_mask_file(path)
        except DatasetError:
            return False
        if np.count_nonzero(np.bincount(values.ravel())) > 32:
            return False
    return bool(paths)


def _some_images(folder: Path, count: int = _LOOKED_AT) -> list[Path]:
    found = sorted(Path(e.path) for e in _entries(folder) if Path(e.name).suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        found = [path for child in _below(folder, depth=1) if child != folder for path in _some_images(child, 2)][
            :count
        ]
    return found[:count]


def _image_folders(data: dict[str, Any]) -> list[Path]:
    if data["kind"] == "voc":
        return [data["root"] / "JPEGImages"]
    return [data["train"]["images"]]
