"""Parse label files of other tools into class names by image name (`wsseg init`).

Tables (CSV of spreadsheets, pandas, Kaggle, Roboflow, AutoML, Label Studio), JSON (COCO, Label Studio, labelme), XML
(labelImg, CVAT) and the text files of YOLO. This module opens no image; `wsseg.data.matching` finds the photographs.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse as parse_xml

from wsseg.data.reading import IMAGE_SUFFIXES
from wsseg.data.tables import NO_CLASS as EMPTY_CELLS
from wsseg.errors import DatasetError
from wsseg.files import open_file, read_file, read_text

NO_CLASS = EMPTY_CELLS | {
    "-", "_background_", "__background__", "ok", "good", "normal", "negative", "no_defect", "clean",
}  # fmt: skip
SPLITS = {
    "train": "train", "training": "train", "trainval": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test", "eval": "test", "held_out": "test",
}  # fmt: skip
_IMAGE_COLUMNS = ("image_id", "image", "filename", "file_name", "file", "path", "filepath", "image_name", "name", "id")
_CLASS_COLUMNS = (
    "classes", "class", "class_name", "labels", "label", "label_name", "tags", "tag", "categories", "category",
    "category_name", "labelname", "choices", "choice", "target", "name",
)  # fmt: skip
_SAMPLE_ROWS = 200  # rows that decide which column has the image names
_WSSEG_HEADER = ["image_id", "classes"]
_SPLIT_CELLS = frozenset({*SPLITS, "unassigned", ""})
_PRESENT = frozenset({"1", "1.0", "true"})
_BINARY = _PRESENT | {"0", "0.0", "false", ""}
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")


class AmbiguousLabelsError(DatasetError):
    """The labels have two interpretations; the message names both and the option that chooses."""


@dataclass
class ParsedLabels:
    """Class names by image name, as one label file states them.

    Args:
        source: the label file, or the folder of label files of formats with one file per image.
        classes: class names by image name; the image name is a path, a URL or a file name without suffix.
        split: ``train``, ``val`` or ``test``; empty if the file states none.
        separator: the separator of class names in the cells of a table.
        notes: one line per assumption.
    """

    source: Path
    classes: dict[str, frozenset[str]]
    split: str = ""
    separator: str = " "
    notes: list[str] = field(default_factory=list)


def name_parts(name: str) -> tuple[str, ...]:
    """Return the path of an image name or URL as a tuple of parts, the last one without the image suffix."""
    if "://" in name or "?d=" in name:
        address, _, query = name.split("://", 1)[-1].partition("?")
        name = unquote(query[2:].split("&")[0] if query.startswith("d=") else address.partition("/")[2].split("#")[0])
    path = PurePosixPath(name.strip().replace("\\", "/"))
    if path.suffix.lower() in IMAGE_SUFFIXES:
        path = path.with_suffix("")
    return tuple(part for part in path.parts if part not in ("/", ".", ".."))


def without_upload_prefix(stem: str) -> str:
    """Return a file name without the eight hex digits that Label Studio prepends to uploaded files."""
    return _UPLOAD_PREFIX.sub("", stem)


# --- tables ----------------------------------------------------------------------------------------------------------


def read_table(path: Path, is_photograph: Callable[[str], bool], separator: str | None = None) -> list[ParsedLabels]:
    """Read a table with one column of image names and one or more columns of classes.

    Delimiter, header and columns are inferred from the content.

    Args:
        path: CSV file.
        is_photograph: returns whether a photograph of that name exists.
        separator: the separator of class names in a cell; None to infer it.

    Returns:
        One item per split that a column of the table states, else a single item; an empty list if no column has the
        names of photographs.

    Raises:
        AmbiguousLabelsError: blanks in cells may separate classes or belong to their names.
        DatasetError: the class columns cannot be determined.
    """
    text, notes = _table_text(path)
    rows = _rows(text)
    if not rows:
        return []
    image_column = _image_column(rows, is_photograph)
    if image_column is None:
        _refuse_unmatched(path, rows)
        return []
    header = [] if is_photograph(rows[0][image_column]) else rows[0]
    body = rows[1:] if header else rows
    columns = list(zip(*body, strict=True)) or [()] * len(rows[0])
    names = [name.casefold() for name in header] or [""] * len(columns)
    others = [i for i in range(len(columns)) if i != image_column and (any(columns[i]) or names[i])]
    split_column = next(
        (i for i in others if any(columns[i]) and {c.casefold() for c in columns[i]} <= _SPLIT_CELLS), None
    )
    others = [i for i in others if i != split_column]
    class_columns, one_hot = _class_columns(path, others, columns, names)
    if one_hot:
        notes.append(f"{path.name}: one column per class, 1 if the class is present")
        separator = "|"
        classes_per_row = [{header[i] for i in class_columns if row[i].casefold() in _PRESENT} for row in body]
    else:
        if header and names != _WSSEG_HEADER:
            notes.append(
                f"{path.name}: image names in column {header[image_column]!r}, classes in {header[class_columns[0]]!r}"
            )
        cells_per_row = [[_as_list(row[i]) for i in class_columns] for row in body]
        if separator is None:
            texts = {" ".join(cell.split()) for cells in cells_per_row for cell in cells if isinstance(cell, str)}
            separator = infer_separator(path, {t for t in texts - NO_CLASS if t}, names == _WSSEG_HEADER, notes)
        classes_per_row = [{name for cell in cells for name in _names_in(cell, separator)} for cells in cells_per_row]
    if no_class := sorted({n for classes in classes_per_row for n in classes if n.casefold() in NO_CLASS}):
        notes.append(f"{path.name}: {', '.join(map(repr, no_class))} read as no class")
    by_split: dict[str, dict[str, set[str]]] = {}
    for row, classes in zip(body, classes_per_row, strict=True):
        if image := row[image_column]:
            split = SPLITS.get(row[split_column].casefold(), "") if split_column is not None else ""
            known = by_split.setdefault(split, {}).setdefault(image, set())
            known |= {name for name in classes if name.casefold() not in NO_CLASS}
    return [
        ParsedLabels(path, {image: frozenset(names) for image, names in images.items()}, split, separator, notes)
        for split, images in by_split.items()
    ]


def _refuse_unmatched(path: Path, rows: list[list[str]]) -> None:
    """Raise a `DatasetError` if the header promises labels, although no row names a photograph."""
    header = [name.casefold() for name in rows[0]]
    column = next((i for i, name in enumerate(header) if name in _IMAGE_COLUMNS), None)
    if column is not None and any(name in _CLASS_COLUMNS for i, name in enumerate(header) if i != column):
        fault = f"its rows name no photograph of this folder, such as {rows[1][column]!r}" if rows[1:] else "no rows"
        raise DatasetError(f"{path}: {fault}")


def _table_text(path: Path) -> tuple[str, list[str]]:
    """Return a table's text and notes about its encoding."""
    try:
        try:
            return read_text(path), []
        except UnicodeDecodeError:
            text = read_file(path).decode("cp1252", "replace")
            return text, [f"{path.name}: not UTF-8, read as Windows-1252 (Excel)"]
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error


def _rows(text: str) -> list[list[str]]:
    """Return the non-empty rows of a delimited text, all of the same length; an empty list if there is no delimiter."""
    first, _, rest = text.partition("\n")
    delimiters = ",;\t"
    if match := re.fullmatch(r"sep=(.)\r?", first.strip("\ufeff")):
        delimiters, text = match[1], rest
    text = text.replace("\0", "")
    head = [line for line in text[:100_000].splitlines()[:_SAMPLE_ROWS] if line.strip()]
    delimiter = next((d for d in delimiters if head and d in head[0]), None)
    if delimiter is None:
        return []
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True))
    except csv.Error:
        return []
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    width = max(map(len, rows), default=0)
    return [row + [""] * (width - len(row)) for row in rows]


def _image_column(rows: list[list[str]], is_photograph: Callable[[str], bool]) -> int | None:
    """Return the column with the most names of photographs; None if no column has at least half of them."""
    sample = rows[1 : _SAMPLE_ROWS + 1] or rows
    candidates = []
    for i, name in enumerate(rows[0]):
        cells = [row[i] for row in sample if row[i]]
        fraction = sum(map(is_photograph, cells)) / len(cells) if cells else 0.0
        if fraction >= 0.5:
            candidates.append((fraction, name.casefold() in _IMAGE_COLUMNS, -i))
    return -max(candidates)[2] if candidates else None


def _class_columns(
    path: Path, others: list[int], columns: list[tuple[str, ...]], names: list[str]
) -> tuple[list[int], bool]:
    """Return the columns with classes, and whether they are one-hot (one column per class, with 1 or 0)."""
    for class_column in _CLASS_COLUMNS:
        if matching := [i for i in others if names[i] == class_column]:
            return matching[:1], False
    binary = [i for i in others if names[i] and any(columns[i]) and {c.casefold() for c in columns[i]} <= _BINARY]
    if len(binary) > 1 or (len(binary) == 1 == len(others)):
        return binary, True
    texts = [i for i in others if any(columns[i]) and not any(map(_is_number, filter(None, columns[i])))]
    has_header = any(names)
    for candidates in (others, texts):
        if len(candidates) == 1 or (not has_header and candidates is texts and candidates):
            return candidates, False
    header = ", ".join(names[i] or "(no name)" for i in others)[:80] or "none"
    raise DatasetError(
        f"{path}: several columns may hold the classes; found {header}; rename the right one to 'classes'"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _as_list(cell: str) -> str | list[str]:
    """Return the items of a cell with a Python or JSON list; other cells are returned unchanged."""
    if not cell.startswith(("[", "{")):
        return cell
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        quoted = re.findall(r"'([^']*)'|\"([^\"]*)\"", cell)
        return [a or b for a, b in quoted] if quoted else [item.strip() for item in cell.strip("[]{}").split(",")]
    if isinstance(value, dict):
        value = next(iter(value.values()), [])
    return [str(item).strip() for item in (value if isinstance(value, list) else [value])]


def _names_in(cell: str | list[str], separator: str) -> set[str]:
    parts = cell if isinstance(cell, list) else (cell.split() if separator == " " else cell.split(separator))
    return {" ".join(part.split()) for part in parts if part.strip()}


def infer_separator(path: Path, cells: Collection[str], wsseg_header: bool, notes: list[str]) -> str:
    """Return the separator of class names in cells: ``|``, ``;``, ``,`` or a blank; ``|`` if there is none.

    A blank separates if neighbouring words also occur apart. Words that only occur together are one name.

    Args:
        path: the table, for messages.
        cells: the distinct cells, without the empty one.
        wsseg_header: whether the header is ``image_id,classes``; a blank then separates unless most words contradict.
        notes: receives the assumption.

    Raises:
        AmbiguousLabelsError: some words occur apart and others do not.
    """
    for mark in ("|", ";", ","):
        if any(mark in cell for cell in cells):
            return mark
    companions: dict[str, set[str]] = {}  # by word: the words of all cells that contain it
    for cell in cells:
        words = cell.casefold().split()
        for word in words:
            companions[word] = companions[word] & set(words) if word in companions else set(words)
    adjacent = {word for cell in cells if len(cell.split()) > 1 for word in cell.casefold().split()}
    if not adjacent:
        return " " if wsseg_header else "|"
    bound = {word for word in adjacent if len(companions[word]) > 1}
    example = next(cell for cell in sorted(cells) if len(cell.split()) > 1)
    count = len(example.split())
    if len(bound) <= len(adjacent) * (0.5 if wsseg_header else 0.1):
        notes.append(f"{path.name}: {example!r} read as {count} classes; use --separator '|' if it is one class")
        return " "
    if len(bound) >= 0.9 * len(adjacent):
        notes.append(f"{path.name}: {example!r} read as one class; use --separator ' ' if blanks separate classes")
        return "|"
    raise AmbiguousLabelsError(
        f"{path}: ambiguous: {example!r} may be one class or {count}; use --separator '|' for one class, "
        "or --separator ' ' if blanks separate classes"
    )


# --- JSON and XML ----------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or the list of records of a JSONL file; None if it is unreadable or above 1 GB."""
    try:
        text = read_text(path)
        return (
            [json.loads(line) for line in text.split("\n") if line.strip()]
            if path.suffix.lower() == ".jsonl"
            else json.loads(text)
        )
    except (OSError, ValueError, RecursionError):
        return None


def is_coco(content: Any) -> bool:
    """Return whether JSON content is in COCO format: it has images and categories, maybe annotations."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "categories"))


def coco_labels(path: Path, content: dict[str, Any]) -> ParsedLabels:
    """Return the categories of each image in COCO content; malformed records are ignored here and reported by `read_coco`."""
    categories = {str(c.get("id")): c.get("name") for c in records(content["categories"])}
    files = {str(i.get("id")): i.get("file_name") for i in records(content["images"])}
    classes: dict[str, set[str]] = {name: set() for name in files.values() if isinstance(name, str)}
    for annotation in records(content.get("annotations")):
        name, category = files.get(str(annotation.get("image_id"))), categories.get(str(annotation.get("category_id")))
        if isinstance(name, str) and isinstance(category, str):
            classes[name].add(category)
    return ParsedLabels(path, {name: frozenset(names) for name, names in classes.items()})


def label_studio_labels(path: Path, content: Any) -> ParsedLabels | None:
    """Return the classes of Label Studio tasks (JSON, JSON-MIN) or of Hugging Face's metadata.jsonl; None for other content."""
    classes: dict[str, frozenset[str]] = {}
    for task in records(content):
        data: dict[str, Any] = task["data"] if isinstance(task.get("data"), dict) else task
        image = next((v for v in data.values() if isinstance(v, str) and is_image_name(v)), None)
        if image is None:
            continue
        if data is task:
            classes[image] = frozenset(
                n for key, value in task.items() if value is not image for n in _choices(key, value)
            )
            continue
        if annotations := [a for a in records(task.get("annotations")) if not a.get("was_cancelled")]:
            results = [r for a in annotations for r in records(a.get("result"))]
            values = [r["value"] for r in results if isinstance(r.get("value"), dict)]
            classes[image] = frozenset(n for value in values for key, v in value.items() for n in _choices(key, v))
    return ParsedLabels(path, classes) if any(classes.values()) else None


def is_image_name(text: str) -> bool:
    """Return whether a text is a path or an address of an image."""
    return PurePosixPath(text.split("?d=")[-1].split("?")[0]).suffix.lower() in IMAGE_SUFFIXES


def _choices(key: str, value: Any) -> list[str]:
    """Return the class names in a Label Studio value: a choice, a list of choices, or labelled regions."""
    if not key.endswith(("choice", "choices", "label", "labels", "tag")):
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [n for k, v in value.items() for n in _choices(k, v)]
    items = value if isinstance(value, list) else []
    return [n for item in items for n in ([item] if isinstance(item, str) else _choices("labels", item))]


def labelme_classes(content: Any) -> frozenset[str] | None:
    """Return the labels of the shapes in labelme content; None for other content."""
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list) or "imagePath" not in content:
        return None
    return frozenset(s["label"] for s in records(content["shapes"]) if isinstance(s.get("label"), str))


def records(rows: Any) -> list[dict[str, Any]]:
    """Return the objects in a JSON list; an empty list for anything else."""
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def read_xml(path: Path) -> frozenset[str] | list[ParsedLabels] | None:
    """Read an XML annotation file.

    Returns:
        The class names of one image (VOC, labelImg), the labels of many images (CVAT for images), or None for other XML.
    """
    try:
        with open_file(path) as file:
            root: Any = parse_xml(file).getroot()
    except (OSError, ParseError, DefusedXmlException, ValueError, LookupError):
        return None
    if root.tag == "annotation":
        names = (
            (o.findtext("name") or "").strip()
            for o in root.iter("object")
            if (o.findtext("difficult") or "0").strip() != "1"
        )
        return frozenset(filter(None, names))
    if root.tag != "annotations":
        return None
    by_split: dict[str, dict[str, frozenset[str]]] = {}
    for image in root.iter("image"):
        split = SPLITS.get((image.get("subset") or "").casefold(), "")
        labels = frozenset(label for child in image if (label := child.get("label")))
        by_split.setdefault(split, {})[image.get("name") or ""] = labels
    return [ParsedLabels(path, classes, split) for split, classes in by_split.items()]


# --- YOLO ------------------------------------------------------------------------------------------------------------

_YOLO_LINE = re.compile(r"(\d{1,6})(?:[ \t]+[-+.\deE]{1,32}){4,}")


def yolo_ids(path: Path) -> frozenset[int] | None:
    """Return the class ids in a YOLO text file with one object per line; None for other text."""
    try:
        lines = read_text(path, 10_000_000).splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    matches = [_YOLO_LINE.fullmatch(line.strip()) for line in lines if line.strip()]
    return frozenset(int(m[1]) for m in matches if m) if all(matches) else None


def yolo_class_names(path: Path) -> dict[int, str]:
    """Return class names by id: ``names`` in a data.yaml, or the lines of classes.txt or obj.names.

    Raises:
        DatasetError: ``names`` is not a plain list or mapping.
    """
    try:
        text = read_text(path, 1_000_000)
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if path.suffix.lower() not in (".yaml", ".yml"):
        return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    match = re.search(r"^names[ \t]*:[ \t]*(.*)$", text, re.MULTILINE)
    if match is None:
        return {}
    if match[1].startswith(("[", "{")):
        end = text.find("]" if match[1][0] == "[" else "}", match.start(1))
        entries = _flow_entries(text[match.start(1) + 1 : end]) if end > 0 else []
    else:
        entries = _block_entries(text[match.end() :].splitlines())
    names = {int(key) if key else i: name for i, (key, name) in enumerate(entries)}
    if not names or not all(names.values()):
        raise DatasetError(
            f"{path}: 'names' cannot be read; expected a list of class names, or a mapping from id to name"
        )
    return names


def _flow_entries(text: str) -> list[tuple[str, str]]:
    items = re.findall(r"\s*(?:(\d+)\s*:\s*)?(\"[^\"]*\"|'[^']*'|[^,'\"]+),?", text)
    return [(key, _scalar(value)) for key, value in items if value.strip()]


def _block_entries(lines: Iterable[str]) -> list[tuple[str, str]]:
    entries = []
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.match(r"\s*(?:-\s+|['\"]?(\d+)['\"]?\s*:\s+)(\S.*)$", line)
        if match is None:
            break
        entries.append((match[1] or "", _scalar(match[2])))
    return entries


def _scalar(text: str) -> str:
    text = text.strip()
    if text[:1] in "'\"" and len(text) > 1 and text[0] in text[1:]:
        return text[1 : text.index(text[0], 1)].strip()
    return re.sub(r"\s#.*", "", text).strip()
