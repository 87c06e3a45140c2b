"""Pixel counts of mask files, counted once and remembered by the digest of the file."""

import hashlib
import json
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsseg.data.mask_colors import MaskColors
from wsseg.data.reading import read_mask_file
from wsseg.errors import DatasetError
from wsseg.parallel import map_threads
from wsseg.progress import track

log = logging.getLogger("wsseg")
_VERSION = 2  # bump when the same file gives other facts, such as when `read_mask_file` reads other values


@dataclass(frozen=True)
class MaskFacts:
    """Counts of one mask file.

    Args:
        size: (H, W), turned by the EXIF orientation of the file.
        stated: that EXIF orientation; None if the file states none.
        pixels: number of pixels by value.
        border: number of pixels in the outermost rows and columns, by value.
        error: why the file cannot be used; empty if it can.
    """

    size: tuple[int, int] = (0, 0)
    stated: int | None = None
    pixels: Mapping[int, int] | None = None
    border: Mapping[int, int] | None = None
    error: str = ""


def facts_of(path: Path, sha256: str, colors: MaskColors | None = None) -> MaskFacts:
    """Read a mask file with a known digest and count its values."""
    try:
        values, stated = read_mask_file(path, sha256, colors)
    except DatasetError as error:
        return MaskFacts(error=str(error).removeprefix(f"{path}: "))
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    return MaskFacts((values.shape[0], values.shape[1]), stated, _counts(values), _counts(border))


def _counts(values: NDArray[np.uint8]) -> dict[int, int]:
    counts = np.bincount(values.ravel(), minlength=256)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


class MaskMemory:
    """Remembers `MaskFacts` by the sha256 of the file, so that each mask is counted once. Faults are not remembered.

    Args:
        path: an SQLite file; None to remember nothing.
        colors: mask values of colours, if masks may be colours.
    """

    def __init__(self, path: Path | None, colors: MaskColors | None = None) -> None:
        self.path, self.colors = path, colors
        self._color_text = json.dumps(list(colors.values.items())) if colors else ""

    def facts(self, digests: Mapping[Path, str], what: str) -> dict[Path, MaskFacts]:
        """Return the facts of each file, by path.

        Args:
            digests: current sha256 of each file.
            what: title of the progress line.
        """
        remembered = self._recall({self._row_key(digest) for digest in digests.values()})
        known = {p: remembered[key] for p, digest in digests.items() if (key := self._row_key(digest)) in remembered}
        unknown = [path for path in digests if path not in known]
        counted = map_threads(lambda path: facts_of(path, digests[path], self.colors), unknown)
        fresh = dict(zip(unknown, track(counted, len(unknown), what), strict=True))
        self._remember({self._row_key(digests[path]): facts for path, facts in fresh.items() if not facts.error})
        return known | fresh

    def _row_key(self, digest: str) -> str:
        """Return the key of a file's row: its digest, combined with the colours if masks may be colours."""
        return _check(digest, self._color_text) if self._color_text else digest

    def _recall(self, keys: set[str]) -> dict[str, MaskFacts]:
        facts = {}
        try:
            with closing(self._connect()) as database:
                for key in keys:
                    row = database.execute("SELECT facts FROM mask WHERE sha256=? AND version=?", (key, _VERSION))
                    if text := row.fetchone():
                        facts[key] = _from_text(key, text[0])
        except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
            log.info("%s: %s; the masks are counted again", self.path, error)
            return {}
        return facts

    def _remember(self, fresh: Mapping[str, MaskFacts]) -> None:
        rows = [(key, _VERSION, _to_text(key, facts)) for key, facts in fresh.items()]
        if not rows:
            return
        try:
            with closing(self._connect()) as database, database:
                database.executemany("INSERT OR REPLACE INTO mask VALUES (?,?,?)", rows)
        except sqlite3.Error as error:
            log.info("%s: %s; the masks will be counted again next time", self.path, error)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path or ":memory:", timeout=60)
        database.execute(
            "CREATE TABLE IF NOT EXISTS mask (sha256 TEXT, version INTEGER, facts TEXT, PRIMARY KEY (sha256, version))"
        )
        return database


def _to_text(key: str, facts: MaskFacts) -> str:
    text = json.dumps(
        [facts.size, facts.stated, list((facts.pixels or {}).items()), list((facts.border or {}).items())]
    )
    return f"{_check(key, text)} {text}"


def _from_text(key: str, row: str) -> MaskFacts:
    check, _, text = row.partition(" ")
    if check != _check(key, text):
        raise ValueError("a row is damaged")
    (height, width), stated, pixels, border = json.loads(text)
    return MaskFacts((height, width), stated, dict(pixels), dict(border))


def _check(key: str, text: str) -> str:
    """Return the digest of a row, because SQLite does not notice damage within one."""
    return hashlib.sha256(f"{key} {text}".encode()).hexdigest()
