"""Text files of a data set: UTF-8, read whole."""

from pathlib import Path

from wsseg import files
from wsseg.errors import DatasetError


def read_text(path: Path) -> str:
    """Return the content of a text file.

    Raises:
        DatasetError: the file cannot be read, or is not UTF-8.
    """
    try:
        return files.read_text(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8") from error
