"""Recognise dataset formats in a scanned folder (`wsseg init`): each one becomes an `Interpretation`."""

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
from wsseg.data.mask_folders import MASK_FOLDERS
from wsseg.data.matching import Labels, SplitLabels, match_photographs
from wsseg.data.scan import FolderScan
from wsseg.data.voc import list_file
from wsseg.data.walk import data_folders
from wsseg.errors import DatasetError, WssegError, counted, listed
from wsseg.labels import VOC_CLASSES
from wsseg.names import composed

_IMAGE_FOLDERS = frozenset({"image", "images", "img", "imgs", "jpegimages", "photos", "pictures", "photographs"})
_NEVER_CLASSES = (
    _IMAGE_FOLDERS | MASK_FOLDERS | {"label", "labels", "annotation", "annotations", "imagesets", "labelstxt"}
)
_OTHER_COCO_TASKS = ("person_keypoints_", "captions_", "stuff_", "panoptic_", "image_info_")  # beside instances_*.json


@dataclass
class Interpretation:
    """A dataset as one format interprets the files of a folder.

    Args:
        format: a key of `FORMATS`.
        splits: labels by ``train`` and ``val``.
        notes: what was assumed and what is not used, one line each.
        table: a config table ``[data]`` that may describe the same dataset without a copy; None if there is none.
        keep_table: whether to use `table` even if the pipeline refuses it, so that the check reports the reason.
        masks: by photograph, a mask file whose non-zero pixels are one class, and that class.
        unused: photographs that have labels but are not used, as the notes report.
    """

    format: str
    splits: dict[str, SplitLabels]
    notes: list[str]
    table: dict[str, Any] | None = None
    keep_table: bool = False
    masks: dict[Path, tuple[Path, str]] = field(default_factory=dict)
    unused: set[Path] = field(default_factory=set)

    @property
    def class_names(self) -> list[str]:
        """All class names, sorted."""
        return sorted(frozenset().union(*(names for split in self.splits.values() for names in split.labels.values())))


def listing_of(table: dict[str, Any], split: str) -> Listing | None:
    """Return how the pipeline lists a split, given a table ``[data]``; None if it refuses the table."""
    try:
        return list_split(_parsed(table), split)
    except WssegError:
        return None


def _parsed(table: dict[str, Any]) -> Any:
    values = {k: {n: plain(v) for n, v in t.items()} if isinstance(t, dict) else plain(t) for k, t in table.items()}
    return parse_table(DATA_KINDS[table["kind"]], values, "data", Path("init"))


def _assign_splits(scan: FolderScan, name: str, candidates: list[SplitLabels]) -> Interpretation | None:
    """Choose train and val among the labels of one format, and note which labels are not used.

    Raises:
        AmbiguousLabelsError: several label files of one split contradict each other.
    """
    if not candidates:
        return None
    notes: list[str] = []
    groups: dict[str, list[SplitLabels]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.split, []).append(candidate)
    if "train" not in groups:
        groups["train"] = groups.pop("") if "" in groups else groups.pop(next(iter(groups)))
    if "val" not in groups and "test" in groups:
        groups["val"] = groups.pop("test")
    chosen: dict[str, SplitLabels] = {}
    for split in ("train", "val"):
        if split in groups:
            labels = chosen[split] = _most_complete(scan, split, groups.pop(split), notes)
            origin = "" if labels.source == labels.base else f" from {scan.relative(labels.source)}"
            notes.append(
                f"{split}: {counted(len(labels.labels), 'image')} in {scan.relative(labels.base)}, {name} labels{origin}"
            )
            if labels.unmatched:
                notes.append(
                    f"{split}: not used: {counted(len(labels.unmatched), 'label')} without image: "
                    f"{listed(labels.unmatched)}"
                )
    for split, others in groups.items():
        of_split = f" of split {split}" if split else ""
        notes += [
            f"not used: {scan.relative(other.source)} ({counted(len(other.labels), 'image')}{of_split})"
            for other in others
        ]
    unused = {path for candidate in candidates for path in candidate.labels}
    return Interpretation(name, chosen, notes, unused=unused)


def _most_complete(scan: FolderScan, split: str, candidates: list[SplitLabels], notes: list[str]) -> SplitLabels:
    """Return the labels that contain those of all other candidates."""
    best, *others = sorted(candidates, key=lambda candidate: len(candidate.labels), reverse=True)
    for other in others:
        if any(best.labels.get(path) != names for path, names in other.labels.items()):
            remedy = "pass one of them as FOLDER" if best.source.is_dir() else "choose one with --labels FILE"
            raise AmbiguousLabelsError(
                f"{scan.root}: ambiguous: {scan.relative(best.source)} and {scan.relative(other.source)} have "
                f"different labels for {split}; {remedy}"
            )
        notes.append(f"not used: {scan.relative(other.source)}, whose labels are all in {scan.relative(best.source)}")
    return best


def _refuse_several(scan: FolderScan, what: str, roots: Iterable[Path]) -> None:
    """Raise an `AmbiguousLabelsError` if there are several datasets of one format."""
    if len(names := sorted(map(scan.relative, roots))) > 1:
        raise AmbiguousLabelsError(
            f"{scan.root}: found {len(names)} {what}: {listed(names)}; pass one of them as FOLDER"
        )


def _from_label_files(
    name: str, parsed: Callable[[FolderScan], list[ParsedLabels]]
) -> Callable[[FolderScan], Interpretation | None]:
    """Return the recogniser of a format whose label files need nothing but the photographs."""

    def recognise(scan: FolderScan) -> Interpretation | None:
        return _assign_splits(scan, name, [labels for item in parsed(scan) for labels in match_photographs(scan, item)])

    return recognise


# --- label files -----------------------------------------------------------------------------------------------------


def _voc(scan: FolderScan) -> Interpretation | None:
    """PASCAL VOC: one XML file per image, in Annotations or beside the images, and lists in ImageSets if there are any."""
    _refuse_several(scan, "VOC devkits", scan.voc_devkits)
    if scan.voc_devkits and not scan.chosen_files:
        return _voc_devkit(scan, scan.voc_devkits[0])
    parsed = scan.xml_labels["voc"]
    return _assign_splits(scan, "voc", [labels for item in parsed for labels in match_photographs(scan, item)])


def _voc_devkit(scan: FolderScan, root: Path) -> Interpretation | None:
    lists = {}
    for name in ("train", "trainval", "val", "test"):
        with contextlib.suppress(DatasetError):
            lists[name] = list_file(root, name)
    if not lists:
        scan.unused.append(f"{scan.relative(root)}: VOC devkit without the list train.txt in ImageSets")
        return None
    train = "train" if "train" in lists else next(iter(lists))
    val = next((name for name in ("val", "test") if name in lists and name != train), None)
    list_names = {"train": train} | ({"val": val} if val else {})
    table: dict[str, Any] = {"kind": "voc", "root": root} | {s: {"list": name} for s, name in list_names.items()}
    notes = [
        f"VOC devkit in {scan.relative(root)}, lists {' and '.join(list_names.values())} of "
        f"{scan.relative(lists[train].parent)}"
    ]
    if unused_lists := [name for name in lists if name not in list_names.values()]:
        notes.append(f"not used: the lists {', '.join(unused_lists)}")
    if (labels := root / "labels.csv").is_file():
        table["labels"] = labels
        notes.append("image-level labels from labels.csv")
    listings = {split: list_split(_parsed(table), split) for split in list_names}
    names = listings["train"].names
    table["masks"] = next((n for n in ("SegmentationClassAug", "SegmentationClass") if (root / n).is_dir()), "")
    if table["masks"] and names != VOC_CLASSES and not (root / "labelmap.txt").is_file():
        notes.append(f"not used: {table['masks']}: the order of its classes is unknown; add labelmap.txt")
        table["masks"] = ""
    present = frozenset().union(*listings["train"].labels.values())
    table["classes"] = [name for name in names if name in present]
    notes.append(f"classes that occur in train: {len(table['classes'])} of {len(names)}")
    splits = {
        split: SplitLabels(
            root, split, root / "JPEGImages", {path: listing.labels[i] for i, path in listing.paths.items()}
        )
        for split, listing in listings.items()
    }
    return Interpretation("voc", splits, notes, table, keep_table=True)


def _coco(scan: FolderScan) -> Interpretation | None:
    """COCO instances, as COCO, CVAT, Roboflow and others name and place them."""
    instances: list[SplitLabels] = []
    other_tasks: list[SplitLabels] = []
    for parsed in scan.json_labels["coco"]:
        labels = match_photographs(scan, parsed)
        if not labels:
            scan.unused.append(f"{scan.relative(parsed.source)}: its images are not in this folder")
        (other_tasks if parsed.source.name.startswith(_OTHER_COCO_TASKS) else instances).extend(labels)
    if instances:
        scan.unused += [f"{scan.relative(labels.source)}: not an instances file" for labels in other_tasks]
    interpretation = _assign_splits(scan, "coco", instances or other_tasks)
    if interpretation is None:
        return None
    table: dict[str, Any] = {"kind": "coco"}
    for split, split_labels in interpretation.splits.items():
        table[split] = {"images": split_labels.base, "annotations": split_labels.source}
    listing = listing_of(table, "train")
    class_names = interpretation.class_names
    if listing is not None and (without_image := [name for name in listing.names if name not in class_names]):
        table["classes"] = [name for name in listing.names if name in class_names]
        interpretation.notes.append(f"not used: categories without any image: {listed(without_image)}")
    interpretation.table = table
    interpretation.keep_table = listing is None
    return interpretation


def _csv(scan: FolderScan) -> Interpretation | None:
    """Tables of images and classes."""
    candidates = []
    for path in scan.label_files(".csv", ".tsv", ".txt"):
        if "submission" in path.name.lower() and not scan.chosen_files:  # of a Kaggle competition
            scan.unused.append(f"{scan.relative(path)}: a submission template")
            continue
        try:
            tables = read_table(path, scan.is_photograph_name, scan.separator)
        except AmbiguousLabelsError:
            raise
        except DatasetError as error:
            scan.unused.append(str(error).replace(str(path), scan.relative(path), 1))
            continue
        candidates += [labels for table in tables for labels in match_photographs(scan, table)]
    interpretation = _assign_splits(scan, "csv", candidates)
    if interpretation is None:
        return None
    table: dict[str, Any] = {"kind": "csv"}
    separators = set()
    for split, labels in interpretation.splits.items():
        table[split] = {"images": labels.base, "labels": labels.source}
        if labels.parsed:
            separators.add(labels.parsed.separator)
            interpretation.notes += [note for note in labels.parsed.notes if note not in interpretation.notes]
        _add_masks(scan, interpretation, table, split)
    table["separator"] = (
        min(separators, key=("|", ";", ",", " ").index) if separators <= set("|;, ") else separators.pop()
    )
    interpretation.table = table
    return interpretation


def _add_masks(scan: FolderScan, interpretation: Interpretation, table: dict[str, Any], split: str) -> None:
    """Add the folder that has a mask for each image of a split to the table ``[data]``, if there is one."""
    labels = interpretation.splits[split]
    ids = [path.relative_to(labels.base).with_suffix("").as_posix() for path in labels.labels]
    if masks := scan.masks_for(ids, labels.split):
        table[split]["masks"] = masks
        interpretation.notes.append(f"{split}: masks in {scan.relative(masks)}")


def _yolo(scan: FolderScan) -> Interpretation | None:
    """YOLO: one text file per image, beside it or in ``labels`` instead of ``images``; class names in one file."""
    ids_of_text = {path: ids for path in scan.label_files(".txt") if (ids := yolo_ids(path)) is not None}
    if not any(ids_of_text.values()):
        return None
    ids_of_image: dict[Path, frozenset[int] | None] = {}
    for folder, paths in scan.photographs.items():
        label_folders = [folder, folder / "labels", *_label_folders(folder, scan.root)]
        ids_here = {}
        for path in paths:
            texts = (label_folder / f"{path.stem}.txt" for label_folder in label_folders)
            ids_here[path] = next((ids_of_text[text] for text in texts if text in ids_of_text), None)
        if any(ids is not None for ids in ids_here.values()):
            ids_of_image |= ids_here
    if not any(ids_of_image.values()):
        return None
    names: dict[int, str] = {}
    for path in scan.files:
        if path.suffix.lower() in (".yaml", ".yml", ".names") or path.name.lower() == "classes.txt":
            try:
                names = names or yolo_class_names(path)
            except DatasetError as error:
                scan.unused.append(str(error).replace(str(path), scan.relative(path), 1))
    if not names:
        scan.unused.append("YOLO labels: no class names; add data.yaml, classes.txt or obj.names")
        return None
    if unnamed := sorted(frozenset().union(*filter(None, ids_of_image.values())) - names.keys()):
        scan.unused.append(f"YOLO labels: no name for the class ids {listed(map(str, unnamed))}")
        return None
    groups: dict[str, Labels] = {}
    for path, ids in ids_of_image.items():
        groups.setdefault(scan.split_of(path.parent), {})[path] = frozenset(names[i] for i in ids or ())
    candidates = [
        SplitLabels(common_folder(labels), split, common_folder(labels), labels) for split, labels in groups.items()
    ]
    interpretation = _assign_splits(scan, "yolo", candidates)
    if interpretation:
        used = [path for labels in interpretation.splits.values() for path in labels.labels]
        if without_text := sum(ids_of_image[path] is None for path in used):
            interpretation.notes.append(f"{counted(without_text, 'image')} without text file: no class, as in YOLO")
    return interpretation


def _label_folders(folder: Path, root: Path) -> list[Path]:
    """Return the label folders of an image folder: its path with ``labels`` in the place of ``images`` or the like."""
    parts = folder.relative_to(root).parts
    places = [i for i, part in enumerate(parts) if part.lower() in _IMAGE_FOLDERS]
    return [root.joinpath(*parts[:i], "labels", *parts[i + 1 :]) for i in reversed(places)]


def common_folder(paths: Iterable[Path]) -> Path:
    """Return the deepest folder that contains all paths."""
    return Path(os.path.commonpath([path.parent for path in paths]))


# --- folders only ----------------------------------------------------------------------------------------------------


def _mvtec(scan: FolderScan) -> Interpretation | None:
    """MVTec AD: train has normal images only, test has those with defects, ground_truth has their masks."""
    interpretations = {}
    for root in [] if scan.chosen_files else scan.folders:
        if not all((root / name).is_dir() for name in ("train", "test")):
            continue
        labels: Labels = {}
        masks: dict[Path, tuple[Path, str]] = {}
        for folder in (*data_folders(root / "train"), *data_folders(root / "test")):
            names: frozenset[str] = frozenset() if folder.name.lower() in NO_CLASS else frozenset({folder.name})
            for path in scan.photographs.get(folder, []):
                labels[path] = names
                mask = root / "ground_truth" / folder.name / f"{path.stem}_mask.png"
                if names and mask.is_file():
                    masks[path] = (mask, folder.name)
        if any(labels[path] for path in labels if path.is_relative_to(root / "train")) or not any(labels.values()):
            continue
        notes = [
            f"MVTec AD in {scan.relative(root)}: all {len(labels)} images of train and test are used for training, "
            "because only test has images with defects"
        ]
        if len(masks) == sum(map(bool, labels.values())):
            notes.append(
                f"{counted(len(masks), 'mask')} of ground_truth copied beside the config, with class ids as values"
            )
        elif masks:
            notes.append(f"not used: ground_truth, which has masks for only {counted(len(masks), 'image')}")
            masks = {}
        interpretations[root] = Interpretation(
            "mvtec", {"train": SplitLabels(root, "train", root, labels)}, notes, masks=masks
        )
    _refuse_several(scan, "MVTec AD datasets", interpretations)
    return next(iter(interpretations.values()), None)


def _folders(scan: FolderScan) -> Interpretation | None:
    """One sub-folder of images per class, maybe below train and val."""
    roots = {} if scan.chosen_files else _class_roots(scan)
    candidates = []
    background: set[str] = set()
    for split, root in roots.items():
        labels: Labels = {}
        for folder in _class_folders(scan, root):
            is_background = folder.name.lower() in NO_CLASS
            background |= {folder.name} if is_background else set()
            names: frozenset[str] = frozenset() if is_background else frozenset({composed(folder.name)})
            labels |= dict.fromkeys(scan.photographs_below(folder), names)
        candidates.append(SplitLabels(root, split, root, labels))
        _refuse_groups(scan, root)
    interpretation = _assign_splits(scan, "folder", candidates)
    if interpretation is None:
        return None
    interpretation.notes.append(f"one sub-folder per class: {listed(interpretation.class_names)}")
    table: dict[str, Any] = {"kind": "folder"}
    for split, split_labels in interpretation.splits.items():
        table[split] = {"images": split_labels.base}
        _add_masks(scan, interpretation, table, split)
    if background:
        table["background"] = sorted(background)[0]
        interpretation.notes.append(f"images without any class in: {' and '.join(sorted(background))}")
    interpretation.table = table
    interpretation.keep_table = listing_of(table, "train") is None
    return interpretation


def _class_roots(scan: FolderScan) -> dict[str, Path]:
    """Return the folders whose sub-folders are classes, by split."""
    root = _without_wrappers(scan, scan.root)
    splits: dict[str, Path] = {}
    for child in reversed([child for child in data_folders(root) if scan.has_photographs(child)]):
        if (split := SPLITS.get(_word(child))) and _class_folders(scan, inner := _without_wrappers(scan, child)):
            splits[split] = inner
    classes = _class_folders(scan, root)
    if splits:
        if classes:
            scan.unused.append(
                f"the folders {listed(c.name for c in classes)} beside {' and '.join(map(scan.relative, splits.values()))}"
            )
        return splits
    return {"": root} if len(classes) > 1 else {}


def _without_wrappers(scan: FolderScan, folder: Path) -> Path:
    """Descend as long as there is a single sub-folder that holds folders only, such as ``dataset/images``."""
    while len(_class_folders(scan, folder)) <= 1:
        children = [child for child in data_folders(folder) if scan.has_photographs(child)]
        if len(children) != 1 or scan.photographs.get(children[0]):
            break
        folder = children[0]
    return folder


def _class_folders(scan: FolderScan, folder: Path) -> list[Path]:
    """Return the sub-folders that may be classes, by their names and contents."""
    children = [c for c in data_folders(folder) if c.name.lower() not in _NEVER_CLASSES and scan.has_photographs(c)]
    splits = [child for child in children if _word(child) in SPLITS]
    # VOC has a class 'train': a single folder with the name of a split is a class if there are other classes
    is_class = len(splits) == 1 and len(children) > 2 and bool(scan.photographs.get(splits[0]))
    return [child for child in children if is_class or child not in splits]


def _word(folder: Path) -> str:
    return folder.name.lower().rstrip("0123456789")


def _refuse_groups(scan: FolderScan, root: Path) -> None:
    """Raise an `AmbiguousLabelsError` if the sub-folders seem to be groups (years, cameras) with the same classes each."""
    folders = _class_folders(scan, root)
    if len(folders) > 1 and not any(scan.photographs.get(folder) for folder in folders):
        inner = Counter(
            child.name for folder in folders for child in data_folders(folder) if scan.has_photographs(child)
        )
        if repeated := sorted(name for name, count in inner.items() if count > 1):
            raise AmbiguousLabelsError(
                f"{scan.root}: ambiguous: the classes may be {', '.join(f.name for f in folders[:3])} or "
                f"{', '.join(repeated[:3])}; pass {scan.relative(folders[0])} as FOLDER for the latter, or write a CSV "
                "with the header image_id,classes"
            )


FORMATS: dict[str, Callable[[FolderScan], Interpretation | None]] = {
    "voc": _voc,
    "coco": _coco,
    "csv": _csv,
    "mvtec": _mvtec,
    "yolo": _yolo,
    "cvat": _from_label_files("cvat", lambda scan: scan.xml_labels["cvat"]),
    "labelstudio": _from_label_files("labelstudio", lambda scan: scan.json_labels["labelstudio"]),
    "labelme": _from_label_files("labelme", lambda scan: scan.json_labels["labelme"]),
    "folder": _folders,
}
"""The recogniser of each format, by its name in ``--kind``; the most explicit formats come first."""
