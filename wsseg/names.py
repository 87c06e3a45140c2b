"""Names of images and classes: their Unicode form, and the characters that they may contain."""

import os
import re
import sys
import unicodedata

from wsseg.errors import DatasetError

_LONGEST = 240  # bytes of a part: an id plus a suffix is a file name, and most file systems allow 255
_REFUSED = frozenset(
    {"Cc", "Cf", "Cs", "Zl", "Zp"}
)  # control characters, invisible marks, lone surrogates, line separators
_JOINERS = "\u200c\u200d"  # invisible, but parts of emoji and of words in Persian and Indic scripts
_DRIVE = re.compile(r"[A-Za-z]:(/|$)")


def composed(name: str) -> str:
    """Return a name in Unicode's composed form (NFC); macOS stores ``é`` as ``e`` and an accent."""
    return unicodedata.normalize("NFC", name)


def printable(name: str) -> str:
    """Return the name of a file for printing; undecodable bytes and control characters are escaped."""
    return name if name.isprintable() else ascii(name)[1:-1]


def refused_character(name: str) -> str:
    """Return a description of the first character that a name may not contain; empty if all are allowed."""
    if name.isprintable():  # fast path for nearly all names; there may be a million
        return ""
    for character in name:
        if unicodedata.category(character) in _REFUSED and character not in _JOINERS:
            code = ord(character)
            if 0xDC80 <= code <= 0xDCFF:
                encoding = sys.getfilesystemencoding()
                hint = "" if encoding == "utf-8" else f" (the system's encoding is {encoding}; set PYTHONUTF8=1)"
                return f"the byte 0x{code - 0xDC00:02X}, which is not {encoding.upper()}{hint}"
            return f"U+{code:04X} ({unicodedata.name(character, 'a control character')})"
    return ""


def check_id(item_id: str, where: str) -> str:
    """Return `item_id` in composed form if it can be an image id, which is a relative path that stays in its folder.

    Args:
        item_id: the id.
        where: file or folder of the id, for the error message.

    Raises:
        DatasetError: the id contains ``..``, a backslash, a control character, or an empty or overlong part, or it is an
            absolute path.
    """
    parts = item_id.split("/")
    why = ""
    if character := refused_character(item_id):
        why = f"it contains {character}"
    elif "\\" in item_id:
        why = "it contains a backslash"
    elif _DRIVE.match(item_id) or (os.name == "nt" and ":" in item_id):
        why = "it names a drive"
    elif item_id.startswith("/"):
        why = "it is an absolute path"
    elif not item_id:
        why = "it is empty"
    elif any(part in ("", ".", "..") for part in parts):
        why = f"it contains the part {next(part for part in parts if part in ('', '.', '..'))!r}"
    elif any(len(composed(part).encode()) > _LONGEST for part in parts):
        why = f"a part is longer than {_LONGEST} bytes"
    if why:
        raise DatasetError(
            f"{where}: {item_id!r} cannot be an image id: {why}; "
            "expected: a relative path with /, without '..' and without invisible characters"
        )
    return composed(item_id)
