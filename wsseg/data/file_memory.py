"""What is remembered of image files, so that a data set is read in full only once."""

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import astuple
from pathlib import Path
from typing import Any

from wsseg.data.reading import Inspection, inspect_file, reason
from wsseg.parallel import map_threads
from wsseg.progress import track

log = logging.getLogger("wsseg")
_Stated = tuple[Path, tuple[int, ...]]  # a file; its bytes, its times of change and its inode
_DATABASE_ERRORS = (sqlite3.Error, UnicodeError)  # the second of damaged names in a message of the first
_REMEMBERED_AT_ONCE = 1000  # inspections that a kill may lose


class FileMemory:
    """Remembers `Inspection` of files by path, size, times of change and inode, so that a data set is read in full only once.

    It is a convenience: if its file is damaged or cannot be written, that is logged, and images are read again. A file that cannot
    be read is not remembered: the reason may be gone the next time.

    Args:
        path: the SQLite file; None to remember nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def forget(self) -> None:
        """Forget all files, so that each is read again."""
        try:
            with closing(self._connect()) as database, database:
                database.execute("DELETE FROM inspection")
        except _DATABASE_ERRORS as error:
            self._give_up(error)

    def inspect(self, paths: Iterable[Path], what: str) -> dict[Path, Inspection]:
        """Return the inspection of every file; only those unknown or changed are read, on all cores."""
        found: dict[Path, Inspection] = {}
        stated: list[_Stated] = []
        for path in paths:
            try:
                stat = path.stat()
            except OSError as error:
                found[path] = Inspection("", error=reason(error))
            else:
                stated.append((path, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)))
        found |= self._recalled(stated)
        unknown = [own for own in stated if own[0] not in found]
        fresh: list[tuple[_Stated, Inspection]] = []
        try:
            inspected = track(map_threads(inspect_file, [own[0] for own in unknown]), len(unknown), what)
            for own, seen in zip(unknown, inspected, strict=True):
                found[own[0]] = seen
                if not seen.error:
                    fresh.append((own, seen))
                if len(fresh) == _REMEMBERED_AT_ONCE:
                    self._remember(fresh)
                    fresh = []
        finally:
            self._remember(fresh)  # what was read before Ctrl-C is not read again
        return found

    def _recalled(self, stated: list[_Stated]) -> dict[Path, Inspection]:
        """Return what is known of files that have not changed since."""
        found = {}
        try:
            with closing(self._connect()) as database:
                for path, state in stated:
                    name = os.fsencode(path)
                    row = database.execute(
                        "SELECT state, seen, digest FROM inspection WHERE path=?", (name,)
                    ).fetchone()
                    # SQLite does not notice damage within a row
                    if row and row[0] == _packed(state) and row[2] == _row_digest(name, *row[:2]):
                        sha256, size, *rest = json.loads(row[1])
                        found[path] = Inspection(sha256, tuple(size), *rest)
        except _DATABASE_ERRORS as error:
            self._give_up(error)
        return found

    def _remember(self, fresh: list[tuple[_Stated, Inspection]]) -> None:
        rows = []
        for (path, state), seen in fresh:
            row = os.fsencode(path), _packed(state), _packed(astuple(seen))
            rows.append((*row, _row_digest(*row)))
        if not rows:
            return
        try:
            with closing(self._connect()) as database, database:
                database.executemany("INSERT OR REPLACE INTO inspection VALUES (?,?,?,?)", rows)
        except _DATABASE_ERRORS as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Go on in memory; a file that is no database, or a damaged one, is removed, so that the next run has a new one."""
        log.warning("%s: %s; the images are read again where it does not know them", self.path, error)
        # an operational error says locked, full, read-only: there the file itself is well
        if self.path is not None and not isinstance(error, sqlite3.OperationalError):
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.path = None

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path or ":memory:", timeout=60)
        database.text_factory = bytes  # damage may turn bytes into a text that is none
        database.execute(
            "CREATE TABLE IF NOT EXISTS inspection (path BLOB PRIMARY KEY, state BLOB, seen BLOB, digest BLOB)"
        )
        return database


def _packed(values: tuple[Any, ...]) -> bytes:
    return json.dumps(values).encode()


def _row_digest(*row: bytes) -> bytes:
    return hashlib.sha256(repr(row).encode()).digest()
