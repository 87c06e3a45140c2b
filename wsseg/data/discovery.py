"""Discover the dataset in a folder and write a config for it (`wsseg init`).

Each format (`wsseg.data.formats`) interprets the folder as class names by photograph and split. If all interpretations
agree, a config is written; otherwise one line asks the user to choose. A dataset that the pipeline can read is named in
the config where it is; the labels of any other are copied to a CSV ``image_id,classes`` beside the config.
"""

import contextlib
import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from wsseg.config import as_config_path, to_toml
from wsseg.data.formats import FORMATS, Interpretation, common_folder, listing_of
from wsseg.data.label_files import AmbiguousLabelsError
from wsseg.data.masks import encode_mask
from wsseg.data.reading import image_size, read_mask_file
from wsseg.data.scan import ARCHIVES, FolderScan
from wsseg.data.sequence_discovery import sequence_table, sequence_values
from wsseg.data.walk import WRITTEN, data_files, data_folders, is_image
from wsseg.errors import DatasetError, counted, listed

_SAMPLED = 20  # photographs per folder that decide the size of the network's input
_LABEL_SUFFIXES = frozenset(
    {".csv", ".tsv", ".xlsx", ".xls", ".ods", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".parquet"}
)
_UNREAD_IMAGES = frozenset({
    ".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".dcm", ".svg",
})  # fmt: skip
_MIN_SIZE, _MAX_SIZE, _STEP = 128, 320, 32  # px


@dataclass
class Discovery:
    """A recognised dataset.

    Args:
        data: the config table ``[data]`` with absolute paths.
        notes: what was assumed and what is not used, one line each, without control characters.
        tables: by split, the class names by image id that are copied to a CSV file.
        masks: for train, by image id: a mask file whose non-zero pixels are one class, and its class id;
            a photograph and 0 for a mask of background only.
    """

    data: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    tables: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)
    masks: dict[str, tuple[Path, int]] = field(default_factory=dict)


def discover(folder: Path, kind: str = "", labels: tuple[Path, ...] = (), separator: str | None = None) -> Discovery:
    """Recognise the dataset in a folder.

    Args:
        folder: a folder of photographs and labels.
        kind: the format to use, a key of `FORMATS`; empty to try all.
        labels: the label files to use; empty to use those in the folder.
        separator: the separator of class names in one cell of a table; None to infer it.

    Raises:
        DatasetError: the folder does not exist, or no format is recognised.
        AmbiguousLabelsError: the labels have two interpretations; the message says how to choose.
    """
    if folder.is_file():
        what = "an archive; unpack it and" if folder.suffix.lower() in ARCHIVES else "a file;"
        raise DatasetError(f"{folder}: this is {what} pass the folder that holds your photographs")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; pass the folder that holds your photographs")
    scan = FolderScan(folder.resolve(), frozenset(path.resolve() for path in labels), separator)
    for path in labels:
        if path.resolve() not in scan.files:
            raise DatasetError(f"{path}: no such label file in {folder}")
    notes: list[str] = []
    if kind in ("", "sequences") and (table := sequence_table(scan, notes)):
        if "val" not in table:
            notes.append("no validation sequences: add [data.val] to measure the quality of the results")
        return Discovery(table, list(map(_one_line, notes)))
    interpretations = []
    for name, recognise in FORMATS.items():
        if kind in ("", name) and (interpretation := recognise(scan)):
            if any(interpretation.splits["train"].labels.values()):
                interpretations.append(interpretation)
            elif name != "folder" or not interpretations:  # `train/good` alone is not worth a note beside other labels
                scan.unused.append(f"{scan.relative(interpretation.splits['train'].source)}: no image has a class")
    if not interpretations:
        raise DatasetError(f"{folder}: {_why_nothing(scan)}")
    chosen = _chosen(interpretations, scan)
    discovery = _description(chosen)
    discovery.notes += _unlabelled(chosen, scan)
    discovery.notes += [f"not used: {line}" for line in scan.unused]
    if "val" not in discovery.data:
        discovery.notes.append("no validation images: add [data.val] with masks to measure the quality of the results")
    discovery.notes = list(map(_one_line, discovery.notes))
    return discovery


def _chosen(interpretations: list[Interpretation], scan: FolderScan) -> Interpretation:
    """Return the first interpretation if all others have the same labels.

    Raises:
        AmbiguousLabelsError: they have different labels.
    """
    first = interpretations[0]
    for other in interpretations[1:]:
        if _labels(other) != _labels(first):
            options = [
                f"--kind {i.format} ({scan.relative(i.splits['train'].source)}: {', '.join(i.class_names[:3])})"
                for i in interpretations
            ]
            raise AmbiguousLabelsError(
                f"{scan.root}: ambiguous: {len(interpretations)} sets of labels; choose {' or '.join(options)}"
            )
        first.notes.append(f"not used: the {other.format} labels, which are the same")
    return first


def _labels(interpretation: Interpretation) -> dict[str, dict[Path, frozenset[str]]]:
    return {split: part.labels for split, part in interpretation.splits.items()}


def _unlabelled(interpretation: Interpretation, scan: FolderScan) -> list[str]:
    """Return a line about the photographs without a label, or an empty list."""
    labelled = interpretation.unused.union(*_labels(interpretation).values())
    counts = {scan.relative(folder): len(set(paths) - labelled) for folder, paths in scan.photographs.items()}
    folders = [folder for folder, count in counts.items() if count]
    parts = folders if len(folders) == 1 else [f"{folder} ({counts[folder]})" for folder in folders]
    return [f"not used: {counted(sum(counts.values()), 'image')} without label in {listed(parts)}"] if parts else []


def _description(interpretation: Interpretation) -> Discovery:
    """Return the config table of an interpretation: its own if the pipeline reads the same labels, else one with copies."""
    table = interpretation.table
    if table and (interpretation.keep_table or _reads_the_same(table, interpretation)):
        return Discovery(table, interpretation.notes)
    names = interpretation.class_names
    separator = next(mark for mark in ("|", ";", "/", "+", "~~") if not any(mark in name for name in names))
    data: dict[str, Any] = {"kind": "csv"}
    discovery = Discovery(data, interpretation.notes)
    for split, labels in _labels(interpretation).items():
        base = common_folder(labels)
        data[split] = {"images": base}
        discovery.tables[split] = {_id(path, base): labels[path] for path in sorted(labels)}
    data["separator"] = separator
    if interpretation.masks:
        data["mask_classes"] = names
        base = data["train"]["images"]
        labels = interpretation.splits["train"].labels
        discovery.masks = {_id(path, base): (path, 0) for path in labels if not labels[path]} | {
            _id(path, base): (mask, names.index(name) + 1) for path, (mask, name) in interpretation.masks.items()
        }
    discovery.notes.append("the labels are copied to a CSV file beside the config; edit that file to change labels")
    return discovery


def _reads_the_same(table: dict[str, Any], interpretation: Interpretation) -> bool:
    """Return whether the pipeline, given a table ``[data]``, reads the labels of an interpretation."""
    for split, labels in _labels(interpretation).items():
        listing = listing_of(table, split)
        if listing is None or {path: listing.labels[i] for i, path in listing.paths.items()} != labels:
            return False
    return True


def _id(path: Path, base: Path) -> str:
    return path.relative_to(base).with_suffix("").as_posix()


def _why_nothing(scan: FolderScan) -> str:
    """Return why a folder is not recognised as a dataset, what is expected, and what to do."""
    count = sum(map(len, scan.photographs.values()))
    unused = f"; cannot be used: {'; '.join(scan.unused)}" if scan.unused else ""
    expected = (
        "expected two or more sub-folders of images (one per class; 'none' for images without any), a CSV file with the "
        "header image_id,classes, "
        "or labels of COCO, VOC, YOLO, CVAT, Label Studio, labelme or MVTec AD"
    )
    if count:
        masks = f" and {counted(len(scan.mask_folders), 'folder')} of masks" if scan.mask_folders else ""
        siblings = _label_files_beside(scan)
        unknown = [scan.relative(path) for path in scan.files if path.suffix.lower() in _LABEL_SUFFIXES]
        if unknown and not scan.unused:
            unused = f"; unknown format: {listed(unknown, 5)}"
        hint = f"; if {listed(siblings)} beside it has the labels, pass {scan.root.parent}" if siblings else ""
        return f"found {counted(count, 'photograph')}{masks}, but no labels{unused}{hint}; {expected}"
    if archives := [path.name for path in scan.files if path.suffix.lower() in ARCHIVES]:
        return f"found no photograph, but {listed(archives)}; unpack it first"
    if raw := [path.name for path in scan.files if path.suffix.lower() in _UNREAD_IMAGES]:
        return f"found no photograph that wsseg can read, but {listed(raw, 3)}; convert them to JPEG or PNG"
    if scan.written:
        return f"found no photograph, but {counted(len(scan.written), 'file')} {WRITTEN}; delete that list to use them as data"
    if scan.files or scan.mask_folders:
        return f"found no photograph{unused}; {expected}"
    return "this folder is empty; pass the folder that holds your photographs"


def _label_files_beside(scan: FolderScan) -> list[str]:
    """Return the names of files in the parent folder that may hold labels."""
    try:
        files = data_files(scan.root.parent)
    except DatasetError:
        return []
    return [path.name for path in files if path.suffix.lower() in _LABEL_SUFFIXES]


# --- files -----------------------------------------------------------------------------------------------------------


def config_text(discovery: Discovery, target: Path) -> str:
    """Return a commented config for `target`; paths below its folder are written relative to it.

    Raises:
        DatasetError: a name is not UTF-8 and cannot be written to a config.
    """
    base = target.resolve().parent

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return as_config_path(value.relative_to(base) if value.is_relative_to(base) else value)
        return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value

    data = dict(discovery.data)
    for split in discovery.tables:
        data[split] = data[split] | {"labels": base / _beside(target, f"{split}.csv").name}
    if discovery.masks:
        data["train"] = data["train"] | {"masks": base / _beside(target, "masks").name}
    lines = ["# written by wsseg init", *(f"# {line}" for line in discovery.notes)]
    text = "\n".join(lines) + "\n" + to_toml({"rng_seed": 0, "data": plain(data)}) + _stage_values(discovery.data)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DatasetError(
            f"{_one_line(str(base))}: the name of a folder or class is not UTF-8; rename it, because a config is UTF-8 text"
        ) from error
    return text


def _stage_values(data: dict[str, Any]) -> str:
    """Return the tables of the stages."""
    if data["kind"] == "sequences":
        return "\n# networks for sequences; size is the length of the training crops\n" + to_toml(sequence_values(data))
    size = network_size_for(_image_folders(data))
    sizes = "\n".join(f"[{name}]\nsize = {size}\n" for name in ("classifier", "seeds", "segmenter"))
    return f"\n# input size in px: that of the photographs, at most {_MAX_SIZE} to be fast\n" + sizes


def config_files(discovery: Discovery, target: Path) -> dict[Path, Callable[[], bytes]]:
    """Return the files to write: ``NAME-train.csv``, ``NAME-masks/...`` and, last, the config; each with its content."""
    config = config_text(discovery, target).encode()
    files: dict[Path, Callable[[], bytes]] = {}
    for split, rows in discovery.tables.items():
        files[_beside(target, f"{split}.csv")] = partial(_csv_bytes, rows, discovery.data["separator"])
    for item_id, (source, class_id) in discovery.masks.items():
        files[_beside(target, "masks") / f"{item_id}.png"] = partial(_mask_bytes, source, class_id)
    files[target] = lambda: config
    return files


def network_size_for(folders: Iterable[Path]) -> int:
    """Return the input size for photographs: the median of their longer sides, in steps of 32 from 128 to 320 px."""
    sides = []
    for path in (path for folder in folders for path in _some_images(folder)):
        with contextlib.suppress(DatasetError):  # `data check` reports it
            sides.append(max(image_size(path)))
    side = round(median(sides) / _STEP) * _STEP if sides else _MAX_SIZE
    return min(max(side, _MIN_SIZE), _MAX_SIZE)


def _some_images(folder: Path, count: int = _SAMPLED) -> list[Path]:
    images = [path for path in data_files(folder) if is_image(path)]
    if not images:
        images = [path for child in data_folders(folder) for path in _some_images(child, 2)]
    return images[:count]


def _image_folders(data: dict[str, Any]) -> list[Path]:
    return [data["root"] / "JPEGImages" if data["kind"] == "voc" else data["train"]["images"]]


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(f"{target.stem}-{suffix}")


def _mask_bytes(source: Path, class_id: int) -> bytes:
    """Return a mask with `class_id` where the source mask is not 0; for class id 0, a mask of background only."""
    mask = (read_mask_file(source)[0] > 0) * class_id if class_id else np.zeros(image_size(source))
    return encode_mask(mask.astype(np.uint8))


def _csv_bytes(rows: dict[str, frozenset[str]], separator: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "classes"])
    writer.writerows([item_id, separator.join(sorted(names))] for item_id, names in rows.items())
    return text.getvalue().encode()


def _one_line(text: str) -> str:
    """Return a text with control characters escaped, so that it cannot end a comment and start a setting."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
