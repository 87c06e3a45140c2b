"""Corrections of image-level labels in a file of their own; the files of the data set stay as they are.

The file is a table with the columns ``image``, ``class`` and ``present``; other columns are ignored. ``present`` is 1 if the
image shows the class, 0 if it does not, and empty as long as nobody has decided.
"""

import csv
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from wsseg.data.layouts import Listing, list_split
from wsseg.data.reading import IMAGE_SUFFIXES
from wsseg.data.text_files import read_text
from wsseg.errors import DatasetError, counted, listed, nearest
from wsseg.names import check_id, composed

COLUMNS = ("image", "class", "present")
_DELIMITERS = ",;\t"
_PRESENT = {"1": True, "0": False, "": None}

Decisions = Mapping[tuple[str, str], bool]
"""Whether an image shows a class, by (image id, class name)."""


def decisions_of(data: Any, split: str, listing: Listing | None = None) -> Decisions:
    """Return the decisions of a split's overlay; empty if it has none.

    Args:
        data: one of the data configs.
        split: ``train`` or ``val``.
        listing: result of `list_split`, if the caller has it.

    Raises:
        DatasetError: see `read_overlay`.
    """
    path = getattr(data, split).label_overlay
    if path is None:
        return {}
    listing = listing or list_split(data, split)
    return read_overlay(path, {*listing.labels, *listing.label_without_image})


def read_overlay(path: Path, ids: Collection[str]) -> dict[tuple[str, str], bool]:
    """Return the decisions of an overlay; rows without a decision are left out.

    Args:
        path: the file. The delimiter is the comma, semicolon or tab that its header has.
        ids: image ids of the split. The file may name an image with its suffix.

    Raises:
        DatasetError: the file cannot be read, has another header, a row of another length, an unknown image, another
            value of ``present``, or two decisions that contradict each other.
    """
    header, _, body = read_text(path).partition("\n")
    delimiter = next((d for d in _DELIMITERS if set(COLUMNS) <= set(_cells(header, d))), "")
    if not delimiter:
        raise DatasetError(f"{path}: line 1: found {header[:60]!r}; expected the columns {', '.join(COLUMNS)}")
    names = _cells(header, delimiter)
    decisions: dict[tuple[str, str], bool] = {}
    rows = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            place = f"{path}: line {rows.line_num + 1}"
            if len(row) != len(names):
                raise DatasetError(f"{place}: found {len(row)} fields; expected {len(names)}, as in the header")
            image, class_name, present = (row[names.index(column)].strip() for column in COLUMNS)
            if present not in _PRESENT:
                raise DatasetError(f"{place}: present: found {present[:60]!r}; expected 1, 0 or an empty cell")
            if (decision := _PRESENT[present]) is None:
                continue
            pair = _known_id(image, ids, place), composed(class_name)
            if decisions.setdefault(pair, decision) != decision:
                raise DatasetError(f"{place}: {image!r} and {class_name!r} are decided twice, once 1 and once 0")
    except csv.Error as error:
        raise DatasetError(f"{path}: line {rows.line_num + 1}: {error}") from error
    return decisions


def apply_overlay(listing: Listing, decisions: Decisions, path: Path, classes: Collection[str]) -> str:
    """Change the labels of a listing by the decisions of an overlay.

    Args:
        listing: the listing; its labels are replaced.
        decisions: from `read_overlay`.
        path: the overlay, for messages.
        classes: names of the classes of the data set.

    Returns:
        The number of labels that were added and removed, as one line.

    Raises:
        DatasetError: a decision names a class that the data set does not have.
    """
    if unknown := sorted({name for _, name in decisions} - set(classes)):
        raise DatasetError(
            f"{path}: found classes that the data set does not have: {listed(unknown)}; "
            f"it has {', '.join(classes)}{nearest(unknown[0], classes)}"
        )
    added = removed = 0
    for (item_id, name), present in decisions.items():
        if item_id not in listing.labels:  # a label without an image, which is reported elsewhere
            continue
        before = listing.labels[item_id]
        listing.labels[item_id] = before | {name} if present else before - {name}
        added += present and name not in before
        removed += not present and name in before
    return f"{path}: {counted(added, 'label')} added, {removed} removed"


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"').strip().lower() for cell in line.split(delimiter)]


def _known_id(image: str, ids: Collection[str], place: str) -> str:
    """Return the id of an image as the data set writes it."""
    item_id = check_id(image.replace("\\", "/"), place)
    stem, dot, suffix = item_id.rpartition(".")
    if item_id not in ids and f"{dot}{suffix}".lower() in IMAGE_SUFFIXES:
        item_id = stem
    if item_id not in ids:
        raise DatasetError(
            f"{place}: {image!r} is no labelled image of this split{nearest(item_id, ids)}; "
            "expected: the path of an image below its folder"
        )
    return item_id
