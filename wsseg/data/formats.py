"""The forms in which data sets of images and labels lie in folders, each read into one shape: a `Interpretation`."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsseg.config import parse_table, plain
from wsseg.data.config import DATA_KINDS
from wsseg.data.label_files import (
    NO_CLASS,
    SPLITS,
    AmbiguousLabelsError,
    ParsedLabels,
    read_table,
    yolo_class_names,
    yolo_ids,
)
from wsseg.data.layouts import Listing, list_split
from wsseg.data.scan import MASK_FOLDERS, FolderScan, Labels, SplitLabels, joined
from wsseg.data.voc import list_file
from wsseg.data.walk import data_folders
from wsseg.errors import DatasetError, WssegError, listed
from wsseg.labels import VOC_CLASSES
from wsseg.names import composed

_IMAGE_FOLDERS = frozenset({"image", "images", "img", "imgs", "jpegimages", "photos", "pictures", "photographs"})
_NO_CLASSES = _IMAGE_FOLDERS | MASK_FOLDERS | {"label", "labels", "annotation", "annotations", "imagesets", "labelstxt"}
_COCO_OTHERS = ("person_keypoints_", "captions_", "stuff_", "panoptic_", "image_info_")  # beside instances_*.json


@dataclass
class Interpretation:
    """A data set as one form of labels describes it.

    Args:
        form: its name in `FORMATS`.
        parts: by ``train`` and ``val``.
        said: what was assumed and left out, one line each.
        table: the config's table ``[data]`` with which the pipeline may read the same; None if there is none.
        keep: whether `table` holds even if the pipeline refuses it, so that the check says why.
        masks: by photograph, the file of a mask whose values above 0 mean one class, and that class.
        left: photographs with labels that are said to be left out.
    """

    form: str
    parts: dict[str, SplitLabels]
    said: list[str]
    table: dict[str, Any] | None = None
    keep: bool = False
    masks: dict[Path, tuple[Path, str]] = field(default_factory=dict)
    left: set[Path] = field(default_factory=set)

    @property
    def names(self) -> list[str]:
        """All class names."""
        return sorted(frozenset().union(*(names for part in self.parts.values() for names in part.labels.values())))


def listing_of(table: dict[str, Any], split: str) -> Listing | None:
    """Return how the pipeline lists a split, given a table ``[data]``; None if it refuses."""
    try:
        return list_split(_parsed(table), split)
    except WssegError:
        return None


def _parsed(table: dict[str, Any]) -> Any:
    values = {k: {n: plain(v) for n, v in t.items()} if isinstance(t, dict) else plain(t) for k, t in table.items()}
    return parse_table(DATA_KINDS[table["kind"]], values, "data", Path("init"))


def _settled(found: FolderScan, form: str, parts: list[SplitLabels]) -> Interpretation | None:
    """Choose what is train and what is val among the parts of one form; say what is left out.

    Raises:
        AmbiguousLabelsError: several parts may be train, and they say different things.
    """
    if not parts:
        return None
    said: list[str] = []
    groups: dict[str, list[SplitLabels]] = {}
    for part in parts:
        groups.setdefault(part.split, []).append(part)
    if "train" not in groups:
        groups["train"] = groups.pop("") if "" in groups else groups.pop(next(iter(groups)))
    if "val" not in groups and "test" in groups:
        groups["val"] = groups.pop("test")
    chosen: dict[str, SplitLabels] = {}
    for split in ("train", "val"):
        if split in groups:
            part = chosen[split] = _largest(found, split, groups.pop(split), said)
            where, base = found.shown(part.where), found.shown(part.base)
            said.append(f"{split}: {form} labels of {where}, {len(part.labels)} images in {base}")
            if part.lost:
                said.append(f"{split}: {len(part.lost)} labels have no image: {listed(part.lost)}")
    for split, others in groups.items():
        of = f" of {split}" if split else ""
        said += [f"left out: {found.shown(part.where)} ({len(part.labels)} images{of})" for part in others]
    return Interpretation(form, chosen, said, left={path for part in parts for path in part.labels})


def _largest(found: FolderScan, split: str, parts: list[SplitLabels], said: list[str]) -> SplitLabels:
    """Return the part that says all that the others say."""
    best, *others = sorted(parts, key=lambda part: len(part.labels), reverse=True)
    for other in others:
        if any(best.labels.get(path) != names for path, names in other.labels.items()):
            option = "give one of them as FOLDER" if best.where.is_dir() else "choose with --labels FILE"
            raise AmbiguousLabelsError(
                f"{found.root}: {found.shown(best.where)} and {found.shown(other.where)} both have labels for {split}; {option}"
            )
        said.append(f"left out: {found.shown(other.where)}, whose labels {found.shown(best.where)} has as well")
    return best


def _one(found: FolderScan, what: str, roots: Iterable[Path]) -> None:
    """Ask if there are several data sets of one kind."""
    if len(several := sorted(map(found.shown, roots))) > 1:
        raise AmbiguousLabelsError(
            f"{found.root}: {len(several)} {what}: {listed(several)}; give one of them as FOLDER"
        )


def _simple(
    form: str, sources: Callable[[FolderScan], list[ParsedLabels]]
) -> Callable[[FolderScan], Interpretation | None]:
    """Return the reader of a form whose files say all by themselves."""

    def look(found: FolderScan) -> Interpretation | None:
        return _settled(found, form, [part for named in sources(found) for part in joined(found, named)])

    return look


# --- label files -----------------------------------------------------------------------------------------------------


def _voc(found: FolderScan) -> Interpretation | None:
    """PASCAL VOC: an XML file an image, in Annotations or beside the images; lists in ImageSets if there are any."""
    _one(found, "VOC devkits", found.devkits)
    if found.devkits and not found.wanted:
        return _voc_devkit(found, found.devkits[0])
    return _settled(found, "voc", [p for named in found.xml_labels["voc"] for p in joined(found, named)])


def _voc_devkit(found: FolderScan, root: Path) -> Interpretation | None:
    lists = {}
    for name in ("train", "trainval", "val", "test"):
        with contextlib.suppress(DatasetError):
            lists[name] = list_file(root, name)
    if not lists:
        found.reasons.append(f"{found.shown(root)}: ImageSets has no list train.txt")
        return None
    train = "train" if "train" in lists else next(iter(lists))
    held = next((name for name in ("val", "test") if name in lists and name != train), None)
    used = {"train": train} | ({"val": held} if held else {})
    table: dict[str, Any] = {"kind": "voc", "root": root} | {split: {"list": name} for split, name in used.items()}
    said = [
        f"the VOC devkit's layout in {found.shown(root)}, lists {' and '.join(used.values())} of "
        f"{found.shown(lists[train].parent)}"
    ]
    if left := [name for name in lists if name not in used.values()]:
        said.append(f"left out: the lists {', '.join(left)}")
    if (labels := root / "labels.csv").is_file():
        table["labels"] = labels
        said.append("image-level labels from labels.csv")
    listings = {split: list_split(_parsed(table), split) for split in used}
    names = listings["train"].names
    table["masks"] = next((n for n in ("SegmentationClassAug", "SegmentationClass") if (root / n).is_dir()), "")
    if table["masks"] and names != VOC_CLASSES and not (root / "labelmap.txt").is_file():
        said.append(f"left out: {table['masks']}, as nothing tells the order of its classes: add labelmap.txt")
        table["masks"] = ""
    present = frozenset().union(*listings["train"].labels.values())
    table["classes"] = [name for name in names if name in present]
    said.append(f"{len(table['classes'])} of {len(names)} classes occur in train")
    parts = {
        split: SplitLabels(root, split, root / "JPEGImages", {own.paths[i]: own.labels[i] for i in own.paths})
        for split, own in listings.items()
    }
    return Interpretation("voc", parts, said, table, keep=True)


def _coco(found: FolderScan) -> Interpretation | None:
    """COCO instances, as COCO, CVAT, Roboflow and others name and place them."""
    parts: list[SplitLabels] = []
    beside: list[SplitLabels] = []
    for named in found.json_labels["coco"]:
        own = joined(found, named)
        if not own:
            found.reasons.append(f"{found.shown(named.where)}: its images were not found")
        (beside if named.where.name.startswith(_COCO_OTHERS) else parts).extend(own)
    if parts:
        found.reasons += [f"{found.shown(part.where)}, which is not of instances" for part in beside]
    reading = _settled(found, "coco", parts or beside)
    if reading is None:
        return None
    table: dict[str, Any] = {"kind": "coco"}
    for split, part in reading.parts.items():
        table[split] = {"images": part.base, "annotations": part.where}
    listing = listing_of(table, "train")
    if listing is not None and (unused := [name for name in listing.names if name not in reading.names]):
        table["classes"] = [name for name in listing.names if name in reading.names]
        reading.said.append(f"left out: categories without any image: {listed(unused)}")
    reading.table = table
    reading.keep = listing is None  # the check says why
    return reading


def _csv(found: FolderScan) -> Interpretation | None:
    """Tables of images and classes."""
    parts = []
    for path in found.label_files(".csv", ".tsv", ".txt"):
        if "submission" in path.name.lower() and not found.wanted:  # of a competition
            found.reasons.append(f"{found.shown(path)}, which is a form to fill in")
            continue
        try:
            tables = read_table(path, found.knows, found.separator)
        except AmbiguousLabelsError:
            raise
        except DatasetError as error:
            found.reasons.append(str(error))
            continue
        parts += [part for named in tables for part in joined(found, named)]
    reading = _settled(found, "csv", parts)
    if reading is None:
        return None
    table: dict[str, Any] = {"kind": "csv"}
    for split, part in reading.parts.items():
        table[split] = {"images": part.base, "labels": part.where}
        reading.said += [line for line in (part.named.said if part.named else []) if line not in reading.said]
        if masks := found.masks_of(part):
            table[split]["masks"] = masks
            reading.said.append(f"{split}: masks in {found.shown(masks)}")
    separators = {part.named.separator for part in reading.parts.values() if part.named}
    table["separator"] = (
        min(separators, key=("|", ";", ",", " ").index) if separators <= set("|;, ") else separators.pop()
    )
    reading.table = table
    return reading


def _yolo(found: FolderScan) -> Interpretation | None:
    """YOLO: a text file an image, in ``labels`` instead of ``images`` or beside it; class names in one file."""
    texts = {path: ids for path in found.label_files(".txt") if (ids := yolo_ids(path)) is not None}
    if not any(texts.values()):
        return None
    ids_of: dict[Path, frozenset[int] | None] = {}
    for folder, paths in found.pictures.items():
        homes = [folder, folder / "labels", *_label_folders(folder, found.root)]
        own = {path: next((texts[t] for h in homes if (t := h / f"{path.stem}.txt") in texts), None) for path in paths}
        if any(ids is not None for ids in own.values()):
            ids_of |= own
    if not any(ids_of.values()):
        return None
    names: dict[int, str] = {}
    for path in found.files:
        if path.suffix.lower() in (".yaml", ".yml", ".names") or path.name.lower() == "classes.txt":
            try:
                names = names or yolo_class_names(path)
            except DatasetError as error:
                found.reasons.append(str(error))
    if not names:
        found.reasons.append("labels of YOLO without class names: add data.yaml, classes.txt or obj.names")
        return None
    unknown = sorted(frozenset().union(*filter(None, ids_of.values())) - names.keys())
    if unknown:
        found.reasons.append(
            f"labels of YOLO have the class ids {listed(map(str, unknown))}, for which no name is given"
        )
        return None
    groups: dict[str, Labels] = {}
    for path, ids in ids_of.items():
        groups.setdefault(found.split_of(path.parent), {})[path] = frozenset(names[i] for i in ids or ())
    reading = _settled(
        found,
        "yolo",
        [SplitLabels(common_folder(own), split, common_folder(own), own) for split, own in groups.items()],
    )
    if reading and (without := sum(ids_of[path] is None for part in reading.parts.values() for path in part.labels)):
        reading.said.append(f"{without} images have no text file: they show none of the classes, as YOLO defines it")
    return reading


def _label_folders(folder: Path, root: Path) -> list[Path]:
    """Return the folders of labels for a folder of images: ``labels`` in the place of one part of its path."""
    parts = folder.relative_to(root).parts
    places = [i for i, part in enumerate(parts) if part.lower() in _IMAGE_FOLDERS]
    return [root.joinpath(*parts[:i], "labels", *parts[i + 1 :]) for i in reversed(places)]


def common_folder(paths: Iterable[Path]) -> Path:
    """Return the deepest folder that holds all paths."""
    return Path(os.path.commonpath([path.parent for path in paths]))


# --- folders alone ---------------------------------------------------------------------------------------------------


def _mvtec(found: FolderScan) -> Interpretation | None:
    """MVTec AD: sound pieces alone in train, those with defects in test, their masks in ground_truth."""
    readings = {}
    for root in [] if found.wanted else found.folders:
        if not all((root / name).is_dir() for name in ("train", "test")):
            continue
        labels: Labels = {}
        masks: dict[Path, tuple[Path, str]] = {}
        for folder in (*data_folders(root / "train"), *data_folders(root / "test")):
            names = frozenset({folder.name} - {folder.name} if folder.name.lower() in NO_CLASS else {folder.name})
            for path in found.pictures.get(folder, []):
                labels[path] = names
                truth = root / "ground_truth" / folder.name / f"{path.stem}_mask.png"
                if names and truth.is_file():
                    masks[path] = (truth, folder.name)
        if any(labels[path] for path in labels if path.is_relative_to(root / "train")) or not any(labels.values()):
            continue
        said = [
            f"the layout of MVTec AD in {found.shown(root)}: its {len(labels)} images of train and test are all used for "
            "training, as only test shows defects"
        ]
        if len(masks) == sum(map(bool, labels.values())):
            said.append(f"{len(masks)} masks of ground_truth are copied beside this config, with class ids as values")
        elif masks:
            said.append(f"left out: ground_truth, which has masks for {len(masks)} images alone")
            masks = {}
        readings[root] = Interpretation("mvtec", {"train": SplitLabels(root, "train", root, labels)}, said, masks=masks)
    _one(found, "data sets of MVTec AD", readings)
    return next(iter(readings.values()), None)


def _folders(found: FolderScan) -> Interpretation | None:
    """A sub-folder of images for each class, maybe below train and val."""
    places = {} if found.wanted else _class_roots(found)
    parts = []
    background: set[str] = set()
    for split, place in places.items():
        labels: Labels = {}
        for folder in _class_folders(found, place):
            is_background = folder.name.lower() in NO_CLASS
            background |= {folder.name} if is_background else set()
            labels |= dict.fromkeys(found.below(folder), frozenset(() if is_background else {composed(folder.name)}))
        parts.append(SplitLabels(place, split, place, labels))
        _ask_if_groups(found, place)
    reading = _settled(found, "folder", parts)
    if reading is None:
        return None
    reading.said.append(f"a sub-folder for each class: {listed(reading.names)}")
    table: dict[str, Any] = {"kind": "folder"}
    for split, part in reading.parts.items():
        table[split] = {"images": part.base}
        if masks := found.masks_of(part):
            table[split]["masks"] = masks
            reading.said.append(f"{split}: masks in {found.shown(masks)}")
    if background:
        table["background"] = sorted(background)[0]
        reading.said.append(f"images without any class: {' and '.join(sorted(background))}")
    reading.table = table
    reading.keep = listing_of(table, "train") is None  # the check says why
    return reading


def _class_roots(found: FolderScan) -> dict[str, Path]:
    """Return the folders whose children are classes, by split."""
    place = _single(found, found.root)
    children = [child for child in data_folders(place) if found.holds(child)]
    splits: dict[str, Path] = {}
    for child in reversed(children):
        if (split := SPLITS.get(_word(child))) and _class_folders(found, inner := _single(found, child)):
            splits[split] = inner
    own = _class_folders(found, place)
    if splits:
        if own:
            found.reasons.append(
                f"the folders {listed(c.name for c in own)} beside {' and '.join(map(found.shown, splits.values()))}"
            )
        return splits
    return {"": place} if len(own) > 1 else {}


def _single(found: FolderScan, place: Path) -> Path:
    """Return the folder below that lies alone in each folder above it, such as ``images``."""
    while not _class_folders(found, place) or len(_class_folders(found, place)) == 1:
        children = [child for child in data_folders(place) if found.holds(child)]
        if len(children) != 1 or found.pictures.get(children[0]):
            break
        place = children[0]
    return place


def _class_folders(found: FolderScan, place: Path) -> list[Path]:
    """Return the child folders that may be classes, by their names and by what they hold."""
    children = [c for c in data_folders(place) if c.name.lower() not in _NO_CLASSES and found.holds(c)]
    named_split = [child for child in children if _word(child) in SPLITS]
    # VOC has a class 'train'; a folder of that name is one if it is alone and others are classes
    is_class = len(named_split) == 1 and len(children) > 2 and bool(found.pictures.get(named_split[0]))
    return [child for child in children if is_class or child not in named_split]


def _word(folder: Path) -> str:
    return folder.name.lower().rstrip("0123456789")


def _ask_if_groups(found: FolderScan, place: Path) -> None:
    """Ask if what would be classes are groups (years, cameras) that all hold the same sub-folders."""
    folders = _class_folders(found, place)
    if len(folders) > 1 and not any(found.pictures.get(folder) for folder in folders):
        inner = Counter(child.name for folder in folders for child in data_folders(folder) if found.holds(child))
        if repeated := sorted(name for name, count in inner.items() if count > 1):
            raise AmbiguousLabelsError(
                f"{found.root}: the classes may be {', '.join(f.name for f in folders[:3])} or {', '.join(repeated[:3])}; "
                f"give {found.shown(folders[0])} as FOLDER for the latter, or write a CSV with the header image_id,classes"
            )


FORMATS: dict[str, Callable[[FolderScan], Interpretation | None]] = {
    "voc": _voc,
    "coco": _coco,
    "csv": _csv,
    "mvtec": _mvtec,
    "yolo": _yolo,
    "cvat": _simple("cvat", lambda found: found.xml_labels["cvat"]),
    "labelstudio": _simple("labelstudio", lambda found: found.json_labels["labelstudio"]),
    "labelme": _simple("labelme", lambda found: found.json_labels["labelme"]),
    "folder": _folders,
}
"""Readers of the forms, the richest form first."""
