"""Standard output and error that work if they are closed, lost their terminal, or have an encoding without some characters."""

import codecs
import contextlib
import io
import os
import sys
from typing import TextIO

# replacements of characters that an encoding lacks; other characters are written as escapes
_PLAIN = {"↑": "^", "↓": "v", "±": "+/-", "·": "-", "…": "...", "×": "x"}
_ESCAPED_BYTES = 0xDC00  # Python represents an undecodable byte of a file name by this code plus the byte


def prepare() -> None:
    """Prepare the standard streams for any text; a command calls it before it opens files."""
    keep_descriptors()
    codecs.register_error("wsseg", _plain)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="wsseg")


def keep_descriptors() -> None:
    """Open the null device for each standard stream that is closed, as after ``2>&-``.

    Otherwise the next opened files get the descriptors of the streams, and libraries write their error output into them.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is `number`


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
    """The current standard error. Text that cannot be written (closed terminal, full disk) is dropped and ends no run."""

    @property
    def _stream(self) -> TextIO | None:
        """The real stream, also while rich replaces it by a proxy to draw a bar."""
        stream: TextIO | None = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        return stream

    def write(self, text: str) -> int:
        """Write `text` if the stream accepts it."""
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream if it is open."""
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def fileno(self) -> int:
        """Return the descriptor, from which rich gets the width of the terminal."""
        if self._stream is None:
            raise OSError("standard error is closed")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        """The encoding of the stream; rich chooses the characters of a bar by it."""
        return getattr(self._stream, "encoding", None) or "utf-8"


STDERR: TextIO = PatientStderr()  # type: ignore[assignment]
