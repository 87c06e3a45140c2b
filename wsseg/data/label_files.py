"""Label files as other tools write them: which classes they give to which image, by the names that they use.

Tables (CSV of spreadsheets, pandas, Kaggle, Roboflow, AutoML, Label Studio), JSON (COCO, Label Studio, labelme), XML
(labelImg, CVAT) and the text files of YOLO. Nothing here looks for images or decides which file is meant.
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
from wsseg.data.tables import NO_CLASS as NOTHING
from wsseg.errors import DatasetError
from wsseg.files import open_file, read_file, read_text

NO_CLASS = NOTHING | {"-", "_background_", "__background__", "ok", "good", "normal", "negative", "no_defect", "clean"}
SPLITS = {
    "train": "train", "training": "train", "trainval": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test", "eval": "test", "held_out": "test",
}  # fmt: skip
_IMAGE_COLUMNS = ("image_id", "image", "filename", "file_name", "file", "path", "filepath", "image_name", "name", "id")
_CLASS_COLUMNS = (
    "classes", "class", "class_name", "labels", "label", "label_name", "tags", "tag", "categories", "category",
    "category_name", "labelname", "choices", "choice", "target", "name",
)  # fmt: skip
_LOOKED_AT = 200  # rows, to tell which column names the images
_OWN_HEADER = ["image_id", "classes"]
_SPLIT_CELLS = frozenset({*SPLITS, "unassigned", ""})
_PRESENT = frozenset({"1", "1.0", "true"})
_BINARY = _PRESENT | {"0", "0.0", "false", ""}
_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file


class AmbiguousLabelsError(DatasetError):
    """Labels can be understood in two ways; the text names both and what chooses."""


@dataclass
class ParsedLabels:
    """Class names by image, as label files state them.

    Args:
        where: the file that was read, or the folder of files of one image each.
        classes: class names by the image's name: a path, an address, or a name without suffix.
        split: ``train``, ``val``, ``test``, or empty if nothing tells.
        separator: what stands between the class names of a table.
        said: what was assumed, one line each.
    """

    where: Path
    classes: dict[str, frozenset[str]]
    split: str = ""
    separator: str = " "
    said: list[str] = field(default_factory=list)


def name_parts(name: str) -> tuple[str, ...]:
    """Return the parts of the path that an image's name or address states, the last one without an image suffix."""
    if "://" in name or "?d=" in name:
        address, _, query = name.split("://", 1)[-1].partition("?")
        name = unquote(query[2:].split("&")[0] if query.startswith("d=") else address.partition("/")[2].split("#")[0])
    path = PurePosixPath(name.strip().replace("\\", "/"))
    if path.suffix.lower() in IMAGE_SUFFIXES:
        path = path.with_suffix("")
    return tuple(part for part in path.parts if part not in ("/", ".", ".."))


def without_upload(part: str) -> str:
    """Return the last part of a name without the digits that Label Studio puts before uploaded files."""
    return _UPLOAD.sub("", part)


# --- tables ----------------------------------------------------------------------------------------------------------


def read_table(path: Path, known: Callable[[str], bool], separator: str | None = None) -> list[ParsedLabels]:
    """Read a table in which one column names images and others their classes.

    Args:
        path: CSV file; the delimiter, a header and the columns are found out.
        known: whether an image of such a name was found.
        separator: of class names in one cell; None to find it out.

    Returns:
        One `ParsedLabels` for each split that a column of the table states, else one; none if no column names images.

    Raises:
        AmbiguousLabelsError: blanks in cells may separate classes or be parts of their names.
        DatasetError: the columns of classes cannot be told.
    """
    text, said = _table_text(path)
    rows = _rows(text)
    if not rows:
        return []
    column = _image_column(rows, known)
    if column is None:
        own = next((i for i, name in enumerate(rows[0]) if name.casefold() in _IMAGE_COLUMNS), None)
        if own is not None and any(name.casefold() in _CLASS_COLUMNS for i, name in enumerate(rows[0]) if i != own):
            example = f"no image was found for its rows, such as {rows[1][own]!r}" if rows[1:] else "it has no rows"
            raise DatasetError(f"{path}: {example}")
        return []
    header = [] if known(rows[0][column]) else rows[0]
    body = rows[1:] if header else rows
    cells = list(zip(*body, strict=True)) or [()] * len(rows[0])
    names = [name.casefold() for name in header] or [""] * len(cells)
    others = [i for i in range(len(cells)) if i != column and (any(cells[i]) or names[i])]
    part = next((i for i in others if any(cells[i]) and {c.casefold() for c in cells[i]} <= _SPLIT_CELLS), None)
    others = [i for i in others if i != part]
    chosen, hot = _class_columns(path, others, cells, names)
    by_image: dict[tuple[str, str], set[str]] = {}
    if hot:
        said.append(f"{path.name}: a column for each class, 1 where it is present")
        separator = "|"
        per_row = [{header[i] for i in chosen if row[i].casefold() in _PRESENT} for row in body]
    else:
        if header and names != _OWN_HEADER:
            said.append(f"{path.name}: images in column {header[column]!r}, classes in {header[chosen[0]]!r}")
        lists = [[_as_list(row[i]) for i in chosen] for row in body]
        if separator is None:
            plain = {" ".join(cell.split()) for row in lists for cell in row if isinstance(cell, str)}
            separator = separator_of(path, {c for c in plain - NO_CLASS if c}, names == _OWN_HEADER, said)
        per_row = [{name for cell in row for name in _names_in(cell, separator)} for row in lists]
    emptied = sorted({n for row in per_row for n in row if n.casefold() in NO_CLASS})
    if emptied:
        said.append(f"{path.name}: {', '.join(map(repr, emptied))} is read as no class")
    for row, found in zip(body, per_row, strict=True):
        if row[column]:
            split = SPLITS.get(row[part].casefold(), "") if part is not None else ""
            names_here = (name for name in found if name.casefold() not in NO_CLASS)
            by_image.setdefault((split, row[column]), set()).update(names_here)
    result = []
    for split in dict.fromkeys(split for split, _ in by_image):
        classes = {image: frozenset(found) for (own, image), found in by_image.items() if own == split}
        result.append(ParsedLabels(path, classes, split, separator, said))
    return result


def _table_text(path: Path) -> tuple[str, list[str]]:
    """Return a table's text and what was assumed about its encoding."""
    try:
        try:
            return read_text(path), []
        except UnicodeDecodeError:
            text = read_file(path).decode("cp1252", "replace")
            return text, [f"{path.name} is not UTF-8: read as Windows-1252, as Excel writes it"]
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error


def _rows(text: str) -> list[list[str]]:
    """Return the rows of a delimited text, without empty ones; none if it has no delimiter."""
    first, _, rest = text.partition("\n")
    delimiters = ",;\t"
    if match := re.fullmatch(r"sep=(.)\r?", first.strip("\ufeff")):
        delimiters, text = match[1], rest
    text = text.replace("\0", "")
    head = [line for line in text[:100_000].splitlines()[:_LOOKED_AT] if line.strip()]
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


def _image_column(rows: list[list[str]], known: Callable[[str], bool]) -> int | None:
    """Return the column whose cells name images that were found, at least every second one."""
    sample = rows[1 : _LOOKED_AT + 1] or rows
    found = []
    for i, name in enumerate(rows[0]):
        cells = [row[i] for row in sample if row[i]]
        share = sum(map(known, cells)) / len(cells) if cells else 0.0
        if share >= 0.5:
            found.append((share, name.casefold() in _IMAGE_COLUMNS, -i))
    return -max(found)[2] if found else None


def _class_columns(
    path: Path, others: list[int], cells: list[tuple[str, ...]], names: list[str]
) -> tuple[list[int], bool]:
    """Return the columns that hold classes, and whether each is one class (1 or 0)."""
    for wanted in _CLASS_COLUMNS:
        if chosen := [i for i in others if names[i] == wanted]:
            return chosen[:1], False
    binary = [i for i in others if names[i] and any(cells[i]) and {c.casefold() for c in cells[i]} <= _BINARY]
    if len(binary) > 1 or (len(binary) == 1 == len(others)):
        return binary, True
    texts = [i for i in others if any(cells[i]) and not any(map(_is_number, filter(None, cells[i])))]
    headless = not any(names)
    for choice in (others, texts):
        if len(choice) == 1 or (headless and choice is texts and choice):
            return choice, False
    raise DatasetError(
        f"{path}: which column holds the classes? found {', '.join(names[i] or '(no name)' for i in others)[:80] or 'none'}; "
        "name it 'classes'"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _as_list(cell: str) -> str | list[str]:
    """Return the items of a cell that holds a list of Python or JSON, else the cell."""
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


def separator_of(path: Path, cells: Collection[str], canonical: bool, said: list[str]) -> str:
    """Return what separates class names in cells: ``|``, ``;``, ``,`` or a blank; ``|`` if nothing does.

    A blank separates if the words next to each other also occur apart. Words that only occur together are one name.

    Args:
        path: for messages.
        cells: the different cells, without the empty one.
        canonical: whether the table has wsseg's own header, where a blank separates unless most words contradict.
        said: takes what was assumed.

    Raises:
        AmbiguousLabelsError: some words occur apart and others do not.
    """
    for mark in ("|", ";", ","):
        if any(mark in cell for cell in cells):
            return mark
    company: dict[str, set[str]] = {}
    for cell in cells:
        words = cell.casefold().split()
        for word in words:
            company[word] = company[word] & set(words) if word in company else set(words)
    joined = {word for cell in cells if len(cell.split()) > 1 for word in cell.casefold().split()}
    if not joined:
        return " " if canonical else "|"
    bound = {word for word in joined if len(company[word]) > 1}
    example = next(cell for cell in sorted(cells) if len(cell.split()) > 1)
    if len(bound) <= len(joined) * (0.5 if canonical else 0.1):
        said.append(
            f"{path.name}: a blank separates classes, as in {example!r}; if it is one class, use --separator '|'"
        )
        return " "
    if len(bound) >= 0.9 * len(joined):
        said.append(f"{path.name}: {example!r} is one class; if blanks separate classes, use --separator ' '")
        return "|"
    raise AmbiguousLabelsError(
        f"{path}: {example!r} may be one class or {len(example.split())}; "
        "use --separator '|' for one, or --separator ' ' if blanks separate classes"
    )


# --- JSON and XML ----------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or the list of those of a JSONL file; None if it is none, or above a gigabyte."""
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
    """Return whether a JSON's content is COCO's: images and categories, with or without annotations."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "categories"))


def coco_names(path: Path, content: dict[str, Any]) -> ParsedLabels:
    """Return the categories of each image of a COCO JSON; what is malformed is passed over here (the reader tells of it)."""
    categories = {str(c.get("id")): c.get("name") for c in _objects(content["categories"])}
    files = {str(i.get("id")): i.get("file_name") for i in _objects(content["images"])}
    classes: dict[str, set[str]] = {name: set() for name in files.values() if isinstance(name, str)}
    for annotation in _objects(content.get("annotations")):
        name, category = files.get(str(annotation.get("image_id"))), categories.get(str(annotation.get("category_id")))
        if isinstance(name, str) and isinstance(category, str):
            classes[name].add(category)
    return ParsedLabels(path, {name: frozenset(found) for name, found in classes.items()})


def label_studio_names(path: Path, content: Any) -> ParsedLabels | None:
    """Return the classes of Label Studio's tasks (JSON or JSON-MIN) or Hugging Face's metadata.jsonl; None if it is none."""
    classes: dict[str, frozenset[str]] = {}
    for task in _objects(content if isinstance(content, list) else None):
        data: dict[str, Any] = task["data"] if isinstance(task.get("data"), dict) else task
        image = next((v for v in data.values() if isinstance(v, str) and _names_an_image(v)), None)
        if image is None:
            continue
        if data is task:
            found = {n for key, value in task.items() if value is not image for n in _choices(key, value)}
            classes[image] = frozenset(found)
            continue
        annotations = [a for a in _objects(task.get("annotations")) if not a.get("was_cancelled")]
        if annotations:
            results = [r for a in annotations for r in _objects(a.get("result"))]
            values = [r["value"] for r in results if isinstance(r.get("value"), dict)]
            classes[image] = frozenset(n for value in values for key, v in value.items() for n in _choices(key, v))
    return ParsedLabels(path, classes) if any(classes.values()) else None


def _names_an_image(text: str) -> bool:
    return PurePosixPath(text.split("?d=")[-1].split("?")[0]).suffix.lower() in IMAGE_SUFFIXES


def _choices(key: str, value: Any) -> list[str]:
    """Return the class names in a value of Label Studio: a choice, a list of them, or regions with labels."""
    if not key.endswith(("choice", "choices", "label", "labels", "tag")):
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [n for k, v in value.items() for n in _choices(k, v)]
    items = value if isinstance(value, list) else []
    return [n for item in items for n in ([item] if isinstance(item, str) else _choices("labels", item))]


def labelme_classes(content: Any) -> frozenset[str] | None:
    """Return the labels of the shapes in a labelme JSON; None if it is none."""
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list) or "imagePath" not in content:
        return None
    return frozenset(s["label"] for s in _objects(content["shapes"]) if isinstance(s.get("label"), str))


def _objects(rows: Any) -> list[dict[str, Any]]:
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def read_xml(path: Path) -> frozenset[str] | list[ParsedLabels] | None:
    """Read an annotation in XML.

    Returns:
        The class names of one image (labelImg, VOC), the `ParsedLabels` of many (CVAT for images), or None for another XML.
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
    """Return the class ids in a text file of YOLO, one object a line; None for another text."""
    try:
        lines = read_text(path, 10_000_000).splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    matches = [_YOLO_LINE.fullmatch(line.strip()) for line in lines if line.strip()]
    return frozenset(int(m[1]) for m in matches if m) if all(matches) else None


def yolo_class_names(path: Path) -> dict[int, str]:
    """Return class names by id: ``names`` of a data.yaml, or the lines of classes.txt and obj.names.

    Raises:
        DatasetError: ``names`` is not a plain list or table.
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
            f"{path}: 'names' cannot be read; expected: a list of class names, or a table from id to name"
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
