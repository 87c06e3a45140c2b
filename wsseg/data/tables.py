"""Label tables ``image_id,classes``, as people, pandas and spreadsheets write them."""

import csv
import io
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from wsseg.data.text_files import read_text
from wsseg.errors import DatasetError
from wsseg.names import check_id, composed, refused_character

NO_CLASS = frozenset(
    {"nan", "none", "null", "na", "n/a", "#n/a", "<na>", "background"}
)  # a complete cell, in upper or lower case
_COLUMNS = ("image_id", "classes")
_DELIMITERS = ",;\t"
_INDEX = re.compile(r"|unnamed: \d+")  # the header of the column that pandas adds
_LIST = re.compile(r"\[.*\]|\{.*\}|\(.*['\"].*\)", re.DOTALL)  # a list that Python, JSON or NumPy wrote as text
_MARKS = re.compile(r"[,;|\t\r\n，；、]")  # separators of names in tables of other tools


def read_label_csv(
    path: Path,
    separator: str,
    known: Collection[str] = (),
    notes: list[str] | None = None,
    others: Collection[str] = (),
) -> dict[str, frozenset[str]]:
    """Read a label table from a file; see `label_table`.

    Raises:
        DatasetError: the file cannot be read, or is not a label table.
    """
    return label_table(read_text(path), str(path), separator, known, notes if notes is not None else [], others)


def read_covariates(path: Path, names: Sequence[str]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the values of further columns of a label table by image id, each as (column, value).

    Raises:
        DatasetError: the file cannot be read, or lacks one of the columns.
    """
    text = read_text(path)
    delimiter, _, columns, skipped = _header(text, str(path), names)
    lines = text.split("\n")
    header = [cell.strip().strip('"').strip().lower() for cell in lines[skipped - 1].split(delimiter)]
    if missing := [name for name in names if name.lower() not in header]:
        raise DatasetError(
            f"{path}: line {skipped}: no column {missing[0]!r} (data.covariates); found {', '.join(header)}"
        )
    places = [header.index(name.lower()) for name in names]
    values: dict[str, tuple[tuple[str, str], ...]] = {}
    for row in csv.reader(lines[skipped:], delimiter=delimiter, skipinitialspace=True):
        if len(row) > max(columns[0], *places):
            values[composed(row[columns[0]].strip())] = tuple(
                (name, row[place].strip()) for name, place in zip(names, places, strict=True)
            )
    return values


def label_table(
    text: str, where: str, separator: str, known: Collection[str], notes: list[str], others: Collection[str] = ()
) -> dict[str, frozenset[str]]:
    """Return class names by image id, as the table writes it (``photos/a.jpg`` may be an id).

    The delimiter is the comma, semicolon or tab that the header has. An image whose cell is empty, or holds a word for
    "no class" (`NO_CLASS`), has no class.

    Args:
        text: content of the table.
        where: its file, for messages.
        separator: separator of the names in a cell; a blank means any white space.
        known: class names in the config. They are names even if they look like a list or like "no class".
        notes: one line per assumption is appended.
        others: names of further columns, which are left to `read_covariates`.

    Raises:
        DatasetError: another header, a row of another length, an id that occurs twice or is refused, a cell that holds a
            list, or a class name that seems to hold several names.
    """
    lines = io.StringIO(text, newline="")
    delimiter, width, columns, skipped = _header(text, where, others)
    for _ in range(skipped):
        next(lines)
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    labels: dict[str, frozenset[str]] = {}
    first_places: dict[str, str] = {}  # where each class name occurs first
    no_class_cells: dict[str, int] = {}
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            while len(cells) > width and not cells[-1]:
                cells.pop()
            if not any(cells):
                continue
            place = f"{where}: line {skipped + rows.line_num}"
            if len(cells) != width:
                raise DatasetError(
                    f"{place}: found {len(cells)} fields; expected {width}: {delimiter.join(_COLUMNS)}, "
                    f"in quotes if a field holds {delimiter!r}"
                )
            name_cell, cell = (cells[column] for column in columns)
            item_id = check_id(name_cell.replace("\\", "/").removeprefix("./"), place)
            if item_id in labels:
                raise DatasetError(f"{place}: the image id {item_id!r} occurs twice; write all its classes in one row")
            if cell.lower() in NO_CLASS and composed(cell) not in known:
                no_class_cells[cell] = no_class_cells.get(cell, 0) + 1
                cell = ""
            labels[item_id] = _names(cell, separator, place, known)
            for name in labels[item_id]:
                first_places.setdefault(name, place)
    except csv.Error as error:
        raise DatasetError(f"{where}: line {skipped + rows.line_num}: {error}") from error
    for name, place in first_places.items():
        _refuse_several(name, place, separator, known, first_places.keys())
    notes += [
        f"{where}: {count} cells hold {word!r}, read as no class; if it is a class, name it in data.classes"
        for word, count in no_class_cells.items()
    ]
    return labels


def _header(text: str, where: str, others: Collection[str] = ()) -> tuple[str, int, list[int], int]:
    """Return the delimiter, the number of columns, the positions of `_COLUMNS`, and the number of lines before the rows."""
    lines = [line.strip() for line in io.StringIO(text[:10_000], newline="")] or [""]
    # empty lines and Excel's line sep=; may come before the header
    candidates = (i for i, line in enumerate(lines) if line.strip(_DELIMITERS) and not re.fullmatch("(?i)sep=.", line))
    number = next(candidates, 0) + 1
    header = lines[number - 1]
    known = (*_COLUMNS, *map(str.lower, others))
    for delimiter in _DELIMITERS:
        names = [cell.strip().strip('"').strip().lower() for cell in header.split(delimiter)]
        while names and not names[-1]:
            names.pop()
        if all(names.count(column) == 1 for column in _COLUMNS) and all(
            name in known or _INDEX.fullmatch(name) for name in names
        ):
            return delimiter, len(names), [names.index(column) for column in _COLUMNS], number
    raise DatasetError(
        f"{where}: line {number}: found {header[:60]!r}; expected the header '{','.join(known)}' and no other columns"
    )


def _names(cell: str, separator: str, place: str, known: Collection[str]) -> frozenset[str]:
    """Return the class names in a cell."""
    if _LIST.fullmatch(cell) and composed(cell) not in known:
        raise DatasetError(
            f"{place}: found the list {cell[:60]!r}; expected class names separated by {separator!r} (data.separator)"
        )
    names = frozenset(composed(n.strip()) for n in cell.split(None if separator == " " else separator)) - {""}
    for name in names:
        if character := refused_character(name):
            raise DatasetError(f"{place}: {name!r} cannot be a class name: it holds {character}")
    return names


def _refuse_several(name: str, place: str, separator: str, known: Collection[str], names: Collection[str]) -> None:
    """Refuse a class name such as ``red,blue`` that seems to hold several names.

    A name in the config is accepted. If the config chooses a separator, so is a name whose parts are no classes. With the
    default separator, a blank, names have no blanks, so a comma in a name is most probably a separator too.
    """
    mark = _MARKS.search(name)
    if mark is None or name in known:
        return
    parts = [part.strip() for part in _MARKS.split(name)]
    if separator == " " or all(part in names for part in parts if part):
        raise DatasetError(
            f"{place}: the class name {name!r} holds {mark[0]!r}; set data.separator = {mark[0]!r} if it separates "
            "names, or name the class in data.classes if it is part of the name"
        )
