"""What a mask file holds, counted once and remembered by the file's digest."""

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
        size: (H, W), turned by the orientation that the file states itself.
        stated: that EXIF orientation; None if it states none.
        pixels: pixels by value.
        border: pixels of the outermost rows and columns by value.
        error: why the file is no mask; empty for a sound one.
    """

    size: tuple[int, int] = (0, 0)
    stated: int | None = None
    pixels: Mapping[int, int] | None = None
    border: Mapping[int, int] | None = None
    error: str = ""


def facts_of(path: Path, sha256: str) -> MaskFacts:
    """Read a mask file, whose digest is known, and count its values."""
    try:
        values, stated = read_mask_file(path, sha256)
    except DatasetError as error:
        return MaskFacts(error=str(error).removeprefix(f"{path}: "))
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    return MaskFacts((values.shape[0], values.shape[1]), stated, _counted(values), _counted(border))


def _counted(values: NDArray[np.uint8]) -> dict[int, int]:
    counts = np.bincount(values.ravel(), minlength=256)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


class MaskMemory:
    """Remembers `MaskFacts` by the sha256 of the file, so that each mask is counted once. Faults are not remembered.

    Args:
        path: an SQLite file; None to remember nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def facts(self, digests: Mapping[Path, str], what: str) -> dict[Path, MaskFacts]:
        """Return the facts of each file, by its path; `digests` are of the files' bytes now."""
        known = self._recalled(set(digests.values()))
        found = {path: known[digest] for path, digest in digests.items() if digest in known}
        unknown = [path for path in digests if path not in found]
        found_now = map_threads(lambda path: facts_of(path, digests[path]), unknown)
        fresh = dict(zip(unknown, track(found_now, len(unknown), what), strict=True))
        self._remember({digests[path]: facts for path, facts in fresh.items() if not facts.error})
        return found | fresh

    def _recalled(self, digests: set[str]) -> dict[str, MaskFacts]:
        found = {}
        try:
            with closing(self._connect()) as database:
                for digest in digests:
                    row = database.execute("SELECT facts FROM mask WHERE sha256=? AND version=?", (digest, _VERSION))
                    if text := row.fetchone():
                        found[digest] = _from_text(digest, text[0])
        except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
            log.info("%s: %s; the masks are counted again", self.path, error)
            return {}
        return found

    def _remember(self, fresh: Mapping[str, MaskFacts]) -> None:
        rows = [(digest, _VERSION, _to_text(digest, facts)) for digest, facts in fresh.items()]
        if not rows:
            return
        try:
            with closing(self._connect()) as database, database:
                database.executemany("INSERT OR REPLACE INTO mask VALUES (?,?,?)", rows)
        except sqlite3.Error as error:
            log.info("%s: %s; the masks are counted again next time", self.path, error)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path or ":memory:", timeout=60)
        database.execute(
            "CREATE TABLE IF NOT EXISTS mask (sha256 TEXT, version INTEGER, facts TEXT, PRIMARY KEY (sha256, version))"
        )
        return database


def _to_text(digest: str, facts: MaskFacts) -> str:
    text = json.dumps(
        [facts.size, facts.stated, list((facts.pixels or {}).items()), list((facts.border or {}).items())]
    )
    return f"{_check(digest, text)} {text}"


def _from_text(digest: str, row: str) -> MaskFacts:
    check, _, text = row.partition(" ")
    if check != _check(digest, text):
        raise ValueError("a row is damaged")
    (height, width), stated, pixels, border = json.loads(text)
    return MaskFacts((height, width), stated, dict(pixels), dict(border))


def _check(digest: str, text: str) -> str:
    """SQLite does not notice damage within a row."""
    return hashlib.sha256(f"{digest} {text}".encode()).hexdigest()
