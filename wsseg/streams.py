"""Standard output and error as they may be: closed, gone with their terminal, or in an encoding that lacks characters."""

import codecs
import contextlib
import io
import os
import sys
from typing import TextIO

# what stands for characters that an encoding lacks; other ones are written as escapes
_PLAIN = {"↑": "^", "↓": "v", "±": "+/-", "·": "-", "…": "...", "×": "x"}
_ESCAPED_BYTES = 0xDC00  # Python keeps a byte of a file name that is not UTF-8 as this plus the byte


def prepare() -> None:
    """Let a command write any text to its standard streams; call it before anything is opened."""
    keep_descriptors()
    codecs.register_error("wsseg", _plain)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="wsseg")


def keep_descriptors() -> None:
    """Open the null device for each standard stream that is closed (as after ``2>&-``).

    The next files would take their numbers, and what libraries write to standard error would end up in those.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or _escape(c) for c in characters), error.end


def _escape(character: str) -> str:
    code = ord(character)
    if 0x80 <= code - _ESCAPED_BYTES <= 0xFF:
        return f"\\x{code - _ESCAPED_BYTES:02x}"
    return character.encode("ascii", "backslashreplace").decode()


class PatientStderr:
    """Standard error at the time of writing. What cannot be shown (its terminal was closed, its disk is full) ends no run."""

    @property
    def _stream(self) -> TextIO | None:
        """The stream, also while rich shows a bar there and puts something of its own in its place."""
        stream: TextIO | None = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        return stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush it if it is there."""
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def fileno(self) -> int:
        """Return its descriptor; rich asks for it to learn the terminal's width."""
        if self._stream is None:
            raise OSError("standard error is closed")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        """The encoding, which decides how rich draws a bar."""
        return getattr(self._stream, "encoding", None) or "utf-8"


STDERR: TextIO = PatientStderr()  # type: ignore[assignment]
