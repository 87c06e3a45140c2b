"""The table of digests of an artifact: ``files.txt``."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from wsseg.store.files import file_digest

# a line of files.txt; its name stays below its folder on every system: no part of it is empty, "." or ".."
_PART = rb"(?!\.{0,2}[/\n])[^/\n\x00-\x1f\x7f\\" + (b":" if os.name == "nt" else b"") + rb"]++"
_LINE = re.compile(rb"[0-9a-f]{64} [0-9]{1,18} (?:" + _PART + rb"/)*+" + _PART + rb"\n")
_LINES = re.compile(rb"(?:" + _LINE.pattern + rb")*+")  # one pass in C: a million names take half a second


class FileTable(Mapping[str, tuple[int, str]]):
    """(size in bytes, sha256) of each file of an artifact by its relative name, looked up in the text of ``files.txt``.

    A line is ``DIGEST SIZE NAME``, sorted by the bytes of the names: a lookup is a bisection, and a million files take no
    more memory than their text.

    Args:
        text: the whole file, whose digest was compared already.

    Raises:
        ValueError: a line has another form, or a name would leave the artifact's folder.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text
        if not _LINES.fullmatch(text):
            wrong = next(line for line in text.splitlines(keepends=True) or [b""] if not _LINE.fullmatch(line))
            raise ValueError(f"a line is not 'DIGEST SIZE NAME' with a name that stays in its folder: {wrong[:200]!r}")
        text.decode()

    @classmethod
    def of(cls, folder: Path, names: Iterable[str]) -> "FileTable":
        """Read the files `names` below `folder` and tell of them."""
        lines = sorted(name.encode() for name in names)
        for index, name in enumerate(lines):  # in place: at no time there are two lists
            size, digest = file_digest(folder / name.decode())
            lines[index] = b"%s %d %s\n" % (digest.encode(), size, name)
        return cls(b"".join(lines))

    @property
    def text(self) -> bytes:
        """The content of ``files.txt``."""
        return self._text

    def __getitem__(self, name: str) -> tuple[int, str]:
        wanted, low, high = name.encode(), 0, len(self._text)
        while low < high:  # a line that begins in [low, high) may be the one
            start = self._text.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = self._text.index(b"\n", start)
            digest, size, found = self._text[start:end].split(b" ", 2)
            if found == wanted:
                return int(size), digest.decode()
            low, high = (end + 1, high) if found < wanted else (low, start)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items())

    def items(self) -> Iterator[tuple[str, tuple[int, str]]]:  # type: ignore[override]
        """Yield (name, (size, digest)), one after the other."""
        start = 0
        while start < len(self._text):
            end = self._text.index(b"\n", start)
            digest, size, name = self._text[start:end].split(b" ", 2)
            yield name.decode(), (int(size), digest.decode())
            start = end + 1

    def __len__(self) -> int:
        return self._text.count(b"\n")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileTable) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)
