"""Label tables ``image_id,classes`` as people, pandas and spreadsheets write them."""

import csv
import io
import re
from collections.abc import Collection

from wsseg.errors import DatasetError
from wsseg.names import check_id, composed, refused_character

NO_CLASS = frozenset({"nan", "none", "null", "na", "n/a", "#n/a", "<na>", "background"})  # a whole cell, in any case
_COLUMNS = ("image_id", "classes")
_DELIMITERS = ",;\t"
_INDEX = re.compile(r"|unnamed: \d+")  # the header of the column that pandas adds
_LIST = re.compile(r"\[.*\]|\{.*\}|\(.*['\"].*\)", re.DOTALL)  # a list of Python, JSON or NumPy as text
_MARKS = re.compile(r"[,;|\t\r\n，；、]")  # what separates names in tables of other people


def label_table(
    text: str, where: str, separator: str, known: Collection[str], notes: list[str]
) -> dict[str, frozenset[str]]:
    """Return class names by image id, as they are written (``photos/a.jpg`` may be an id).

    The delimiter is a comma, a semicolon or a tab, whichever the header has. An empty cell, or one that says that there
    is nothing (`NO_CLASS`), is an image without any class.

    Args:
        text: the whole table.
        where: its file, for messages.
        separator: between the names in a cell; a blank stands for any white space.
        known: class names that the config states: they are names even if they look like something else.
        notes: takes a line for each thing that was assumed.

    Raises:
        DatasetError: another header, a row of other length, a doubled or refused id, a cell that holds a list, a class
            name that seems to hold several.
    """
    lines = io.StringIO(text, newline="")
    delimiter, width, columns, skipped = _header(text, where)
    for _ in range(skipped):
        next(lines)
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    labels: dict[str, frozenset[str]] = {}
    first: dict[str, str] = {}  # where each class name was found first
    nothing: dict[str, int] = {}
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
            written, cell = (cells[column] for column in columns)
            item_id = check_id(written.replace("\\", "/").removeprefix("./"), place)
            if item_id in labels:
                raise DatasetError(f"{place}: the image id {item_id!r} stands twice; write all its classes in one row")
            if cell.lower() in NO_CLASS and composed(cell) not in known:
                nothing[cell] = nothing.get(cell, 0) + 1
                cell = ""
            labels[item_id] = _names(cell, separator, place, known)
            for name in labels[item_id]:
                first.setdefault(name, place)
    except csv.Error as error:
        raise DatasetError(f"{where}: line {skipped + rows.line_num}: {error}") from error
    for name, place in first.items():
        _refuse_several(name, place, separator, known, first.keys())
    notes += [
        f"{where}: {count} cells hold {word!r} and are read as no class; name it in data.classes if it is one"
        for word, count in nothing.items()
    ]
    return labels


def _header(text: str, where: str) -> tuple[str, int, list[int], int]:
    """Return the delimiter, the number of columns, the places of `_COLUMNS`, and how many lines precede the rows."""
    lines = [line.strip() for line in io.StringIO(text[:10_000], newline="")] or [""]
    # before the header there may be empty lines, and Excel's own: sep=;
    skipped = (i for i, line in enumerate(lines) if line.strip(_DELIMITERS) and not re.fullmatch("(?i)sep=.", line))
    number = next(skipped, 0) + 1
    found = lines[number - 1]
    for delimiter in _DELIMITERS:
        names = [cell.strip().strip('"').strip().lower() for cell in found.split(delimiter)]
        while names and not names[-1]:
            names.pop()
        if all(names.count(column) == 1 for column in _COLUMNS) and all(
            name in _COLUMNS or _INDEX.fullmatch(name) for name in names
        ):
            return delimiter, len(names), [names.index(column) for column in _COLUMNS], number
    raise DatasetError(
        f"{where}: line {number}: found {found[:60]!r}; expected the header 'image_id,classes' and no other columns"
    )


def _names(cell: str, separator: str, place: str, known: Collection[str]) -> frozenset[str]:
    """Return the class names in a cell."""
    if _LIST.fullmatch(cell) and composed(cell) not in known:
        raise DatasetError(
            f"{place}: found the list {cell[:60]!r}; expected class names with {separator!r} between them (data.separator)"
        )
    names = frozenset(composed(n.strip()) for n in cell.split(None if separator == " " else separator)) - {""}
    for name in names:
        if character := refused_character(name):
            raise DatasetError(f"{place}: {name!r} cannot be a class name: it holds {character}")
    return names


def _refuse_several(name: str, place: str, separator: str, known: Collection[str], names: Collection[str]) -> None:
    """Refuse ``red,blue`` as one class, unless the config states it or, with a chosen separator, its parts are no classes.

    With the default separator, a blank, names have no blanks, so that a comma in one is most probably a separator too.
    """
    mark = _MARKS.search(name)
    if mark is None or name in known:
        return
    parts = [part.strip() for part in _MARKS.split(name)]
    if separator == " " or all(part in names for part in parts if part):
        raise DatasetError(
            f"{place}: the class name {name!r} holds {mark[0]!r}; set data.separator = {mark[0]!r} if it stands between "
            "names, or name the class in data.classes if it belongs to it"
        )
