"""Reads the files that a user names. Only regular files are opened, so that no read blocks forever."""

import codecs
import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

MOST_BYTES = 2**30  # of a file that is read completely


def check_file(path: Path) -> None:
    """Raise OSError if a path is not a regular file or a link to one.

    Raises:
        OSError: the path is missing, a folder, a pipe, a device or a socket; `strerror` gives the reason.
    """
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, f"not a file name: {error}") from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder; expected a file")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a device or a socket; expected a regular file")


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading bytes.

    Raises:
        OSError: as `check_file`, or the file cannot be opened.
    """
    check_file(path)
    # without O_NONBLOCK, a pipe that takes the file's place after the check would make `open` wait for a writer
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags), "rb")


def read_file(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: as `open_file`, or the file has more than `most` bytes.
    """
    with open_file(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > most:
            raise OSError(errno.EFBIG, f"it has {size} bytes; expected at most {most}")
        return file.read()


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Return the text of a UTF-8 file, or of a UTF-16 file with a byte order mark. Line ends become ``\\n``.

    Raises:
        OSError: as `read_file`.
        UnicodeDecodeError: the file has another encoding.
    """
    data = read_file(path, most)
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
