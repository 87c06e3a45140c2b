"""Files of the store: atomic writes, digests, and the files below a folder."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wsseg.errors import FormatError

FORMAT = 1  # of stores, manifests and run records; a file that states no format has the first one
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
    """Flush the entries of a folder (renames in it) to the disk; Windows cannot open folders and is skipped."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network and shared folders flush files only
            raise
    finally:
        os.close(descriptor)


def files_below(folder: Path) -> Iterator[str]:
    """Yield the relative names (with /) of all files below a folder; one folder at a time is listed in memory."""
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
    """Return (size in bytes, sha256 as hexadecimal digits) of a file."""
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
    """Return the canonical JSON text of `value`, which digests are computed from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def check_format(content: Mapping[str, Any], where: Path) -> None:
    """Raise FormatError if another version of wsseg wrote `content` in another format."""
    version = content.get("format", FORMAT)
    if version != FORMAT or isinstance(version, bool):
        raise FormatError(
            f"{where}: its format is {version!r}; this wsseg reads format {FORMAT}; use the version of wsseg that wrote it"
        )
