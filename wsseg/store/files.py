"""Files of the store: atomic writes, digests, and the files below a folder."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wsseg.errors import FormatError

FORMAT = 1  # of stores, manifests and records of runs; what names none is of the first
TEMPORARY = ".partial-"  # prefix of files that are being written


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that `path` holds all of it or does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{path.name[-40:]}"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries (renames in it) to the disk, on systems that can: Windows opens no folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network and shared folders that flush files alone
            raise
    finally:
        os.close(descriptor)


def files_below(folder: Path) -> Iterator[str]:
    """Yield the relative names (with /) of all files below a folder; a folder at a time is held in memory."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{prefix}{entry.name}/")
                else:
                    yield prefix + entry.name


def file_digest(path: Path) -> tuple[int, str]:
    """Return (bytes, sha256 hex) of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.stat().st_size, digest


def linked_part(folder: Path, name: str) -> Path | None:
    """Return the first part of a relative name below `folder` that is a link, or None."""
    path = folder
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            return path
    return None


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of `value` that digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def check_format(content: Mapping[str, Any], where: Path) -> None:
    """Raise FormatError for what another version of wsseg wrote in another form."""
    found = content.get("format", FORMAT)
    if found != FORMAT or isinstance(found, bool):
        raise FormatError(
            f"{where}: its format is {found!r}; this wsseg reads format {FORMAT}; use the version of wsseg that wrote it"
        )
