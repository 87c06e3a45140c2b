"""The file table of an artifact, ``files.txt``: one line ``DIGEST SIZE NAME`` per file, sorted by the bytes of the names."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from wsseg.store.files import file_digest

FileTable = dict[str, tuple[int, str]]
"""(size in bytes, sha256) by relative file name."""

# A name stays below its folder on every system: no part of it is empty, "." or "..".
_PART = rb"(?!\.{0,2}[/\n])[^/\n\x00-\x1f\x7f\\" + (b":" if os.name == "nt" else b"") + rb"]++"
_LINE = re.compile(rb"([0-9a-f]{64}) ([0-9]{1,18}) ((?:" + _PART + rb"/)*+" + _PART + rb")\n")


def parse_table(text: bytes) -> FileTable:
    """Return the files that a table lists.

    Args:
        text: the complete content of ``files.txt``; the caller has verified its digest.

    Raises:
        ValueError: a line has another form, or a name is not UTF-8 or would leave the artifact's folder.
    """
    files: FileTable = {}
    end = 0
    for line in _LINE.finditer(text):
        if line.start() != end:
            break
        digest, size, name = line.groups()
        files[name.decode()] = int(size), digest.decode()
        end = line.end()
    if end != len(text):
        wrong = text[end:].partition(b"\n")[0][:200]
        raise ValueError(f"a line is not 'DIGEST SIZE NAME' with a name that stays in its folder: {wrong!r}")
    return files


def table_text(folder: Path, names: Iterable[str]) -> bytes:
    """Return the table of the files `names` below `folder`; every file is read for its digest."""
    lines = []
    for name in sorted(names, key=str.encode):
        size, digest = file_digest(folder / name)
        lines.append(f"{digest} {size} {name}\n".encode())
    return b"".join(lines)
