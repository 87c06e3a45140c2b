"""Memory of inspected files: changes are noticed, and damaged rows are not used."""

import errno
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from wsseg.data import file_memory, reading
from wsseg.data.file_memory import FileMemory
from wsseg.data.reading import (
    Inspection,
)

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3  # H != W, every pixel its own value


def saved(tmp_path, image, name="x.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_a_file_is_read_once_and_again_after_a_change(tmp_path, monkeypatch):

    read = []
    monkeypatch.setattr(file_memory, "inspect_file", lambda p, real=reading.inspect_file: read.append(p) or real(p))
    path = saved(tmp_path, PILImage.fromarray(RGB))
    memory = FileMemory(tmp_path / "files.sqlite")
    first = memory.inspect([path], "reading")
    assert memory.inspect([path], "reading") == first and read == [path]
    saved(tmp_path, PILImage.fromarray(RGB[:3]))
    assert memory.inspect([path], "reading")[path].size == (3, 6) and len(read) == 2


def test_a_change_that_keeps_size_and_time_is_noticed(tmp_path):
    """rsync and unzip set the time of the last change back."""
    path = saved(tmp_path, PILImage.fromarray(RGB), "x.bmp")
    memory = FileMemory(tmp_path / "files.sqlite")
    first = memory.inspect([path], "reading")[path]
    stat = path.stat()
    saved(tmp_path, PILImage.fromarray(255 - RGB), "x.bmp")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert memory.inspect([path], "reading")[path].sha256 != first.sha256


def test_memory_is_forgotten_on_request(tmp_path, monkeypatch):
    path = saved(tmp_path, PILImage.fromarray(RGB))
    FileMemory(tmp_path / "files.sqlite").inspect([path], "reading")
    memory = FileMemory(tmp_path / "files.sqlite")
    memory.forget()
    monkeypatch.setattr(file_memory, "inspect_file", lambda _: Inspection("read again"))
    assert memory.inspect([path], "reading")[path].sha256 == "read again"


def test_errors_are_not_remembered(tmp_path, monkeypatch):
    path = saved(tmp_path, PILImage.fromarray(RGB))
    memory = FileMemory(tmp_path / "files.sqlite")

    def too_many(_):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(reading, "open_file", too_many)
        assert memory.inspect([path], "reading")[path].error == "Too many open files"
    assert memory.inspect([path], "reading")[path].size == (4, 6)


def test_a_damaged_row_is_not_used(tmp_path):
    """Each byte of the database is changed in turn; inspections are right, or files are read again."""
    path = saved(tmp_path, PILImage.fromarray(RGB))
    file = tmp_path / "files.sqlite"
    expected = FileMemory(file).inspect([path], "reading")
    whole = file.read_bytes()
    places = [i for i, byte in enumerate(whole) if byte]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        assert FileMemory(file).inspect([path], "reading") == expected


def test_names_that_are_not_utf8_are_remembered(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    try:
        PILImage.fromarray(RGB).save(path, "PNG")
    except (OSError, UnicodeError):
        pytest.skip("the file system takes UTF-8 names only")
    memory = FileMemory(tmp_path / "files.sqlite")
    assert memory.inspect([path], "reading") == memory.inspect([path], "reading") and memory.path


@pytest.mark.parametrize("content", [b"no database at all, " * 99, None, b""])
def test_a_damaged_database_is_recreated(tmp_path, caplog, content):
    """Garbage from the first byte, a database with garbage in the middle, and an empty file."""
    path = saved(tmp_path, PILImage.fromarray(RGB))
    file = tmp_path / "files.sqlite"
    if content is None:
        FileMemory(file).inspect([path], "reading")
        whole = file.read_bytes()
        content = whole[:100] + bytes(len(whole) - 100)
    file.write_bytes(content)
    expected = FileMemory().inspect([path], "reading")
    assert FileMemory(file).inspect([path], "reading") == expected
    caplog.clear()
    assert FileMemory(file).inspect([path], "reading") == expected
    assert FileMemory(file).inspect([path], "reading") == expected and not caplog.records


def test_without_a_writable_database_files_are_read_again(tmp_path, caplog):
    path = saved(tmp_path, PILImage.fromarray(RGB))
    assert FileMemory(tmp_path).inspect([path], "reading")[path].size == (4, 6)  # a folder is not a database
    assert "images that are not remembered are read again" in caplog.text
    file = tmp_path / "files.sqlite"
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE inspection (what TEXT)")  # of another program
    assert FileMemory(file).inspect([path], "reading")[path].size == (4, 6) and file.exists()
