"""Which files in the user's folders wsseg has written: they are never read as photographs or labels.

`wsseg.outputs` records each file that it writes in ``.wsseg-outputs`` beside it, one line ``DIGEST NAME`` per file; the name is
JSON text. A file counts as an output as long as it is unchanged: a mask that the user has corrected belongs to the user, but is no photograph either.
"""

import json
import os
import stat
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from wsseg.names import composed
from wsseg.store.files import file_digest

RECORD = ".wsseg-outputs"


def record_output(place: Path, digest: str) -> None:
    """Record a file before it gets its name, so that the record is complete even if the process is killed.

    Raises:
        OSError: the record cannot be written.
    """
    with (place.parent / RECORD).open("ab", buffering=0) as file:
        # the line break comes first, so that an incomplete line damages no other line
        file.write(f"\n{digest} {json.dumps(place.name)}".encode())


def read_record(folder: Path) -> dict[str, set[str]]:
    """Return the digests of the contents that wsseg has written into a folder, by file name in composed Unicode."""
    path = folder / RECORD
    try:
        status = path.stat()
        return _read_record(path, status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError:  # there is no record, or it cannot be read: all files belong to the user
        return {}


def outputs_among(folder: Path, names: Iterable[str]) -> list[str]:
    """Return those of the files in a folder that wsseg has written and nobody has changed since."""
    recorded = read_record(folder)
    return [name for name in names if _digest_of(folder / name) in recorded.get(composed(name), ())] if recorded else []


@lru_cache(maxsize=256)
def _read_record(path: Path, *_status: int) -> dict[str, set[str]]:
    """Return the content of a record; its status is a part of the key of the cache."""
    recorded: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        digest, _, text = line.partition(" ")
        try:
            name = json.loads(text)
        except ValueError:  # an incomplete line
            continue
        if isinstance(name, str):
            recorded.setdefault(composed(name), set()).add(digest)
    return recorded


def _digest_of(path: Path) -> str:
    """Return the digest of a regular file; an empty text for anything else, or if it cannot be read."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return ""
        return _digest(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    except OSError:
        return ""


@lru_cache(maxsize=2**16)
def _digest(path: Path, *_status: int) -> str:
    """Return the digest of a file; its status is a part of the key of the cache."""
    return file_digest(path)[1]
