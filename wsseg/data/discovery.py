"""`wsseg init`: what data set lies in a folder, and the config that describes it.

Each form of labels (`wsseg.data.formats`) is read into class names by photograph and split. If one form is found, or all that
are found say the same, a config is written; otherwise the user is asked, in one line. What the pipeline reads by itself is
named in the config as it is; all else becomes a CSV ``image_id,classes`` beside the config.
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
from wsseg.data.walk import data_files, data_folders, is_image
from wsseg.errors import DatasetError, listed

_LOOKED_AT = 20  # photographs, to tell sizes
_SMALLEST, _LARGEST, _STEP = 128, 320, 32  # px, of the sizes at which networks are trained


@dataclass
class Discovery:
    """A data set that was recognised.

    Args:
        data: the config's table ``[data]``; paths absolute.
        said: what was assumed and what was left out, one line each, without control characters.
        tables: class names by image id, by split, of labels that the pipeline does not read as they are.
        masks: for train: by image id, the file of a mask whose values above 0 mean one class, and that class's id;
            a photograph and 0 for a mask of background alone.
    """

    data: dict[str, Any]
    said: list[str] = field(default_factory=list)
    tables: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)
    masks: dict[str, tuple[Path, int]] = field(default_factory=dict)


def discover(folder: Path, kind: str = "", labels: tuple[Path, ...] = (), separator: str | None = None) -> Discovery:
    """Recognise the data set in a folder.

    Args:
        folder: what holds photographs and labels.
        kind: the form of labels to use (a key of `FORMATS`); empty for the one that is found.
        labels: the label files to use; empty for those that are found.
        separator: what stands between class names in one cell of a table; None to find it out.

    Raises:
        DatasetError: no such folder, or nothing that is recognised.
        AmbiguousLabelsError: the labels can be understood in two ways; the text says how to choose.
    """
    if folder.is_file():
        what = (
            "an archive: unpack it, and give the folder"
            if folder.suffix.lower() in ARCHIVES
            else "a file: give the folder"
        )
        raise DatasetError(f"{folder}: it is {what} that holds your photographs")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give the one that holds your photographs")
    found = FolderScan(folder.resolve(), frozenset(path.resolve() for path in labels), separator)
    for path in labels:
        if path.resolve() not in found.files:
            raise DatasetError(f"{path}: no such label file in {folder}")
    readings = []
    for form, look in FORMATS.items():
        if kind in ("", form) and (reading := look(found)):
            if any(reading.parts["train"].labels.values()):
                readings.append(reading)
            else:
                found.reasons.append(f"{found.shown(reading.parts['train'].where)} names no class")
    if not readings:
        raise DatasetError(f"{folder}: {_nothing(found)}")
    chosen = _chosen(readings, found)
    described = _described(chosen)
    described.said += _unlabelled(chosen, found)
    described.said += [f"left out: {line}" for line in found.reasons]
    if "val" not in described.data:
        described.said.append("nothing is held out: add a table [data.val] with masks to have results judged")
    described.said = list(map(_one_line, described.said))
    return described


def _chosen(readings: list[Interpretation], found: FolderScan) -> Interpretation:
    """Return the one reading, or the first of those that say the same.

    Raises:
        AmbiguousLabelsError: they say different things.
    """
    best = readings[0]
    for other in readings[1:]:
        if {s: part.labels for s, part in best.parts.items()} != {s: part.labels for s, part in other.parts.items()}:
            ways = [
                f"--kind {r.form} ({found.shown(r.parts['train'].where)}: {', '.join(r.names[:3])})" for r in readings
            ]
            raise AmbiguousLabelsError(
                f"{found.root}: its labels can be understood in {len(readings)} ways: choose {' or '.join(ways)}"
            )
        best.said.append(f"left out: the {other.form} labels, which say the same")
    return best


def _unlabelled(reading: Interpretation, found: FolderScan) -> list[str]:
    """Return a line about the photographs that no label names."""
    known = reading.left.union(*(part.labels for part in reading.parts.values()))
    counts = {found.shown(place): len(set(paths) - known) for place, paths in found.pictures.items()}
    parts = [f"{place} ({count})" for place, count in counts.items() if count]
    return [f"left out: {sum(counts.values())} images without label in {listed(parts)}"] if parts else []


def _described(reading: Interpretation) -> Discovery:
    """Return the config of a reading: with its own table if the pipeline then sees the same, else with a CSV of ours."""
    if reading.table and (reading.keep or _sees_the_same(reading.table, reading)):
        return Discovery(reading.table, reading.said)
    names = reading.names
    separator = next(mark for mark in ("|", ";", "/", "+", "~~") if not any(mark in name for name in names))
    data: dict[str, Any] = {"kind": "csv"}
    found = Discovery(data, reading.said)
    for split, part in reading.parts.items():
        base = common_folder(part.labels)
        data[split] = {"images": base}
        found.tables[split] = {_id(path, base): part.labels[path] for path in sorted(part.labels)}
    data["separator"] = separator
    if reading.masks:
        data["mask_classes"] = names
        base = data["train"]["images"]
        labels = reading.parts["train"].labels
        found.masks = {_id(path, base): (path, 0) for path in labels if not labels[path]} | {
            _id(path, base): (mask, names.index(name) + 1) for path, (mask, name) in reading.masks.items()
        }
    found.said.append("the labels are written as a CSV beside this config, in the form that wsseg reads")
    return found


def _sees_the_same(table: dict[str, Any], reading: Interpretation) -> bool:
    """Return whether the pipeline, given a table ``[data]``, sees the labels of a reading."""
    for split, part in reading.parts.items():
        listing = listing_of(table, split)
        if listing is None or {listing.paths[i]: listing.labels[i] for i in listing.paths} != part.labels:
            return False
    return True


def _id(path: Path, base: Path) -> str:
    return path.relative_to(base).with_suffix("").as_posix()


def _nothing(found: FolderScan) -> str:
    """Return what lies in the folder, why it is no data set, and what to do."""
    count = sum(map(len, found.pictures.values()))
    why = f"; {'; '.join(found.reasons)}" if found.reasons else ""
    expected = (
        "expected: a sub-folder of images for each class; a CSV with the header image_id,classes beside images; "
        "or labels of COCO, VOC, YOLO, CVAT, Label Studio, labelme or MVTec AD"
    )
    if count:
        masks = f" and {len(found.mask_folders)} folders of masks" if found.mask_folders else ""
        hint = (
            f"; if {listed(beside)} beside it says so, give {found.root.parent}"
            if (beside := _beside_it(found))
            else ""
        )
        holds = f"it holds {count} photographs{masks}, but nothing says what they show{why}{hint}; {expected}"
    elif archives := [path.name for path in found.files if path.suffix.lower() in ARCHIVES]:
        holds = f"it holds no photograph, but {listed(archives)}: unpack it first"
    elif found.files or found.mask_folders:
        holds = f"it holds no photograph{why}; {expected}"
    else:
        holds = "it is empty; give the folder that holds your photographs"
    return f"no data set was recognised: {holds}"


def _beside_it(found: FolderScan) -> list[str]:
    """Return the names of possible label files in the folder above."""
    try:
        files = data_files(found.root.parent)
    except DatasetError:
        return []
    return [path.name for path in files if path.suffix.lower() in (".csv", ".json", ".xml", ".yaml")]


# --- files -----------------------------------------------------------------------------------------------------------


def config_text(found: Discovery, target: Path) -> str:
    """Return a commented config for `target`; paths below its folder are written relative to it.

    Raises:
        DatasetError: a path is not Unicode text and cannot stand in a config.
    """
    base = target.resolve().parent

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return as_config_path(value.relative_to(base) if value.is_relative_to(base) else value)
        return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value

    data = dict(found.data)
    for split in found.tables:
        data[split] = data[split] | {"labels": base / _beside(target, f"{split}.csv").name}
    if found.masks:
        data["train"] = data["train"] | {"masks": base / _beside(target, "masks").name}
    size = network_size_for(_image_folders(found.data))
    lines = ["# written by wsseg init", *(f"# {line}" for line in found.said)]
    sizes = "\n".join(f"[{name}]\nsize = {size}\n" for name in ("classifier", "seeds", "segmenter"))
    text = (
        "\n".join(lines)
        + "\n"
        + to_toml({"rng_seed": 0, "data": plain(data)})
        + f"\n# px; of the photographs, at most {_LARGEST} to be quick\n"
        + sizes
    )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DatasetError(
            f"{_one_line(str(base))}: the name of a folder or class is not UTF-8 and cannot stand in a config; rename it"
        ) from error
    return text


def config_files(found: Discovery, target: Path) -> dict[Path, Callable[[], bytes]]:
    """Return the config and the files that belong to it (``NAME-train.csv``, ``NAME-masks``) with what makes their bytes.

    The config comes last.
    """
    config = config_text(found, target).encode()
    files: dict[Path, Callable[[], bytes]] = {}
    for split, rows in found.tables.items():
        files[_beside(target, f"{split}.csv")] = partial(_csv_bytes, rows, found.data["separator"])
    for item_id, (source, class_id) in found.masks.items():
        files[_beside(target, "masks") / f"{item_id}.png"] = partial(_mask_bytes, source, class_id)
    files[target] = lambda: config
    return files


def network_size_for(folders: Iterable[Path]) -> int:
    """Return the size at which networks see the photographs of some folders: their long side, within 128 and 320 px."""
    sides = []
    for path in (path for folder in folders for path in _some_images(folder)):
        with contextlib.suppress(DatasetError):  # `data check` names it
            sides.append(max(image_size(path)))
    usual = round(median(sides) / _STEP) * _STEP if sides else _LARGEST
    return min(max(usual, _SMALLEST), _LARGEST)


def _some_images(folder: Path, count: int = _LOOKED_AT) -> list[Path]:
    found = [path for path in data_files(folder) if is_image(path)]
    if not found:
        found = [path for child in data_folders(folder) for path in _some_images(child, 2)]
    return found[:count]


def _image_folders(data: dict[str, Any]) -> list[Path]:
    return [data["root"] / "JPEGImages" if data["kind"] == "voc" else data["train"]["images"]]


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f"{target.stem}-{what}")


def _mask_bytes(source: Path, class_id: int) -> bytes:
    """Return a mask of a class where another mask is not 0; without class all of it is background."""
    mask = (read_mask_file(source)[0] > 0) * class_id if class_id else np.zeros(image_size(source))
    return encode_mask(mask.astype(np.uint8))


def _csv_bytes(rows: dict[str, frozenset[str]], separator: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "classes"])
    writer.writerows([item_id, separator.join(sorted(names))] for item_id, names in rows.items())
    return text.getvalue().encode()


def _one_line(text: str) -> str:
    """Return a text with control characters escaped, so that a comment cannot end and a setting begin."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
