"""Memory of inspected image files, so that a data set is read completely only once."""

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
_State = tuple[int, ...]  # of a file: its size, its times of change and its inode
_DATABASE_ERRORS = (sqlite3.Error, UnicodeError)  # UnicodeError: sqlite3 puts damaged names into its messages
_ROWS_PER_WRITE = 1000  # inspections that are lost if the process is killed


class FileMemory:
    """Remembers the `Inspection` of files by path, size, times of change and inode.

    If its database is damaged or cannot be written, this is logged, and images are read again. Files that cannot be read are
    not remembered, because the reason may be gone next time.

    Args:
        path: the SQLite database; None to remember nothing.
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
        """Return the inspection of each file; only unknown and changed files are read, on all cores.

        Args:
            paths: the files.
            what: title of the progress line.
        """
        inspections: dict[Path, Inspection] = {}
        states: dict[Path, _State] = {}
        for path in paths:
            try:
                stat = path.stat()
            except OSError as error:
                inspections[path] = Inspection("", error=reason(error))
            else:
                states[path] = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        inspections |= self._recall(states)
        unknown = [path for path in states if path not in inspections]
        fresh: list[tuple[Path, _State, Inspection]] = []
        try:
            inspected = track(map_threads(inspect_file, unknown), len(unknown), what)
            for path, inspection in zip(unknown, inspected, strict=True):
                inspections[path] = inspection
                if not inspection.error:
                    fresh.append((path, states[path], inspection))
                if len(fresh) == _ROWS_PER_WRITE:
                    self._remember(fresh)
                    fresh = []
        finally:
            self._remember(fresh)  # files read before Ctrl-C are not read again
        return inspections

    def _recall(self, states: dict[Path, _State]) -> dict[Path, Inspection]:
        """Return the remembered inspections of unchanged files."""
        inspections = {}
        try:
            with closing(self._connect()) as database:
                for path, state in states.items():
                    name = os.fsencode(path)
                    row = database.execute(
                        "SELECT state, seen, digest FROM inspection WHERE path=?", (name,)
                    ).fetchone()
                    # SQLite does not notice damage within a row
                    if row and row[0] == _packed(state) and row[2] == _row_digest(name, *row[:2]):
                        sha256, size, *rest = json.loads(row[1])
                        inspections[path] = Inspection(sha256, tuple(size), *rest)
        except _DATABASE_ERRORS as error:
            self._give_up(error)
        return inspections

    def _remember(self, fresh: list[tuple[Path, _State, Inspection]]) -> None:
        rows = []
        for path, state, inspection in fresh:
            row = os.fsencode(path), _packed(state), _packed(astuple(inspection))
            rows.append((*row, _row_digest(*row)))
        if not rows:
            return
        try:
            with closing(self._connect()) as database, database:
                database.executemany("INSERT OR REPLACE INTO inspection VALUES (?,?,?,?)", rows)
        except _DATABASE_ERRORS as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Continue without a database. A damaged one is removed, so that the next run creates a new one."""
        log.warning("%s: %s; images that are not remembered are read again", self.path, error)
        # an operational error means locked, full or read-only; the file itself is sound
        if self.path is not None and not isinstance(error, sqlite3.OperationalError):
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.path = None

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path or ":memory:", timeout=60)
        database.text_factory = bytes  # a damaged text may not be valid UTF-8
        database.execute(
            "CREATE TABLE IF NOT EXISTS inspection (path BLOB PRIMARY KEY, state BLOB, seen BLOB, digest BLOB)"
        )
        return database


def _packed(values: tuple[Any, ...]) -> bytes:
    return json.dumps(values).encode()


def _row_digest(*row: bytes) -> bytes:
    return hashlib.sha256(repr(row).encode()).digest()
