"""Reading of sequences: DNA and RNA from FASTA files, signals from NumPy arrays.

Letters become four channels A, C, G and T (0 or 255, like the pixels of a photograph); N and other ambiguity codes are 0 in
all of them, lower case counts as upper case, and U is T. Signals keep their values.

An array file is a ``.npy`` of shape (N, C, L), or (N, L) for one channel, or a ``.npz`` that holds it under the name ``values``,
and may hold ``ids`` (N,) and ``channels`` (C,), both texts. Without ``ids``, the records are called 0, 1, 2 ...
"""

import gzip
import hashlib
import io
import zipfile
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsseg.errors import DatasetError, extra
from wsseg.files import check_file, open_file
from wsseg.names import check_id
from wsseg.types import LabeledSequence

LETTERS = ("A", "C", "G", "T")
FASTA_SUFFIXES = (".fa", ".fasta", ".fna", ".ffn", ".fa.gz", ".fasta.gz", ".fna.gz", ".ffn.gz")
ARRAY_SUFFIXES = (".npy", ".npz")
_AMBIGUOUS = b"NRYSWKMBDHV"
_UNKNOWN, _REFUSED = 4, 255  # codes of letters that are no base
_CODES = np.full(256, _REFUSED, np.uint8)
for _code, _letters in enumerate((b"Aa", b"Cc", b"Gg", b"TtUu", _AMBIGUOUS + _AMBIGUOUS.lower())):
    _CODES[list(_letters)] = _code
_ONE_HOT = np.concatenate([np.eye(4, dtype=np.uint8) * 255, np.zeros((1, 4), np.uint8)])
_MOST_TEXT = 2**32  # bytes of an unpacked FASTA file; a packed one of a few megabytes may hold more


def mirror_axes(channels: tuple[str, ...]) -> tuple[int, ...]:
    """Return the axes of (N, C, H, W) that a mirrored copy reverses.

    That of a photograph is flipped, and that of DNA is its reverse complement: the channels A, C, G, T in reverse order are
    T, G, C, A. A signal has none, because time has a direction.

    Args:
        channels: names of the channels; empty for photographs.
    """
    if not channels:
        return (3,)
    return (1, 3) if channels == LETTERS else ()


class Records(Protocol):
    """The sequences of a file.

    `channels` names the channels: the four bases, or those of a signal. `lengths` are numbers of bases or samples.
    """

    ids: list[str]
    channels: tuple[str, ...]
    lengths: NDArray[np.int64]

    def values(self, record: int) -> NDArray[Any]:
        """Return a record as an image of height 1: (1, L, C), uint8 (letters) or float32 (signals)."""
        ...

    def digest(self, record: int) -> str:
        """Return the sha256 of a record's values."""
        ...


class Letters:
    """DNA or RNA, one byte per base in memory."""

    channels: tuple[str, ...] = LETTERS

    def __init__(self, path: Path) -> None:
        with extra("sequences", "FASTA files"):
            from Bio.SeqIO import FastaIO
        self.ids: list[str] = []
        codes, ends = bytearray(), [0]
        for title, text in FastaIO.SimpleFastaParser(io.TextIOWrapper(_unpacked(path), encoding="latin-1")):
            name = check_id((title.split() or [""])[0], str(path))
            letters = text.encode("latin-1")
            part = _CODES[np.frombuffer(letters, np.uint8)]
            if (refused := np.flatnonzero(part == _REFUSED)).size:
                place = int(refused[0])
                raise DatasetError(
                    f"{path}: {name}: found {chr(letters[place])!r} at base {place + 1}; expected: the letters of DNA or RNA "
                    "(A, C, G, T, U, N and other IUPAC codes)"
                )
            if not len(part):
                raise DatasetError(f"{path}: {name}: the record has no sequence; remove it")
            self.ids.append(name)
            codes += part.tobytes()
            ends.append(len(codes))
        self.codes = np.frombuffer(bytes(codes), np.uint8)
        self.ends = np.array(ends, np.int64)
        self.lengths = np.diff(self.ends)

    def bases(self, record: int) -> NDArray[np.uint8]:
        """Return the (L,) codes of a record: 0 to 3 for A, C, G and T, 4 for an unknown base."""
        return self.codes[self.ends[record] : self.ends[record + 1]]

    def values(self, record: int) -> NDArray[np.uint8]:
        return _ONE_HOT[self.bases(record)][None]

    def digest(self, record: int) -> str:
        return hashlib.sha256(self.bases(record).tobytes()).hexdigest()


class Signals:
    """Windows of a signal, all of one length; a ``.npy`` file stays on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        ids, channels = None, None
        try:
            check_file(path)
            if path.suffix.lower() == ".npy":
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            else:
                with np.load(path, allow_pickle=False) as content:
                    if "values" not in content:
                        raise DatasetError(
                            f"{path}: found the arrays {', '.join(content) or 'none'}; expected: 'values' (N, C, L), and "
                            "optionally 'ids' and 'channels'"
                        )
                    array = content["values"]
                    ids = content.get("ids", None)
                    channels = content.get("channels", None)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
        if array.ndim not in (2, 3) or 0 in array.shape or array.dtype.kind not in "fiu":
            raise DatasetError(
                f"{path}: found an array {array.shape} of {array.dtype}; expected: numbers (N, C, L), or (N, L) for one channel"
            )
        self._array = array if array.ndim == 3 else array[:, None]
        count, width, length = self._array.shape
        for name, given, expected in (("ids", ids, count), ("channels", channels, width)):
            if given is not None and (given.shape != (expected,) or given.dtype.kind not in "Uiu"):
                raise DatasetError(f"{path}: {name}: found {given.shape} of {given.dtype}; expected: {expected} texts")
        self.ids = [check_id(str(name), str(path)) for name in (range(count) if ids is None else ids.tolist())]
        self.channels = tuple(map(str, range(1, width + 1) if channels is None else channels.tolist()))
        self.lengths = np.full(count, length, np.int64)

    def values(self, record: int) -> NDArray[np.float32]:
        return np.ascontiguousarray(self._array[record].T, np.float32)[None]

    def digest(self, record: int) -> str:
        window = np.ascontiguousarray(self._array[record])
        if not np.isfinite(window).all():
            raise DatasetError(f"{self._path}: {self.ids[record]}: it holds NaN or infinity; expected: finite numbers")
        return hashlib.sha256(window.tobytes()).hexdigest()


def _unpacked(path: Path) -> io.BytesIO:
    """Return the bytes of a text file, unpacked if its content is gzip.

    Raises:
        DatasetError: the file cannot be read, is a damaged archive, or is too large.
    """
    try:
        with open_file(path) as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            source: Any = gzip.GzipFile(fileobj=file) if packed else file
            data = source.read(_MOST_TEXT + 1)
    except (OSError, EOFError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > _MOST_TEXT:
        raise DatasetError(
            f"{path}: it has more than {_MOST_TEXT} bytes; expected at most that; split it into several files"
        )
    if data.lstrip()[:1] not in (b">", b""):
        raise DatasetError(f"{path}: found {data.lstrip()[:20]!r}; expected FASTA, whose first line starts with '>'")
    return io.BytesIO(data)


def read_records(path: Path) -> Records:
    """Return the sequences of a file. The files that were read last stay in memory.

    Raises:
        DatasetError: the file is missing, damaged or empty, has an unknown suffix, or two records have one name.
        MissingExtraError: a FASTA file, and Biopython is not installed.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from error
    return _records(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)
def _records(path: Path, _size: int, _changed: int) -> Records:
    name = path.name.lower()
    if name.endswith(FASTA_SUFFIXES):
        records: Records = Letters(path)
    elif name.endswith(ARRAY_SUFFIXES):
        records = Signals(path)
    else:
        expected = ", ".join((*FASTA_SUFFIXES, *ARRAY_SUFFIXES))
        raise DatasetError(f"{path}: unknown format of sequences; expected a name that ends in {expected}")
    if not records.ids:
        raise DatasetError(f"{path}: it holds no sequence")
    twice = [item_id for item_id, count in Counter(records.ids).items() if count > 1]
    if twice:
        raise DatasetError(
            f"{path}: {len(twice)} names occur twice, such as {twice[0]!r}; expected: one record per name"
        )
    return records


def read_sequence(item: LabeledSequence) -> NDArray[Any]:
    """Return the values of a sequence as an image of height 1, (1, L, C): uint8 0 or 255 for letters, float32 for signals.

    Raises:
        DatasetError: its file cannot be read, or the record has changed since the data set was listed.
    """
    records = read_records(item.path)
    if item.record >= len(records.ids) or records.digest(item.record) != item.sha256:
        raise DatasetError(f"{item.path}: {item.id}: it has changed since this run started; run again")
    return records.values(item.record)
