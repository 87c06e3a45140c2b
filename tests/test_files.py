"""No read blocks forever: pipes, devices and folders are refused in one line wherever files are read."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from wsseg.config import find_file, hashed, read_toml
from wsseg.data.coco import read_coco
from wsseg.data.reading import image_size, read_image, read_mask_file
from wsseg.data.tables import read_label_csv
from wsseg.data.text_files import read_text
from wsseg.data.voc import annotated_classes
from wsseg.errors import WssegError
from wsseg.files import check_file, read_file
from wsseg.files import read_text as text_of
from wsseg.models.weights import read_state

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")


@dataclass(frozen=True)
class Values:
    weights_file: Path


READERS = {
    "config": read_toml,
    "weights' digest": lambda path: hashed(Values(path)),
    "weights": read_state,
    "list": read_text,
    "labels": lambda path: read_label_csv(path, " "),
    "coco": read_coco,
    "xml": lambda path: annotated_classes(path, True),
    "photograph": read_image,
    "mask": read_mask_file,
    "head": image_size,
}


@pytest.fixture(autouse=True)
def patience():
    """Fail instead of waiting for a writer."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(10)
    yield
    signal.alarm(0)


@pytest.fixture(params=["pipe", "link to a pipe", "device", "folder"])
def odd(request, tmp_path):
    path = tmp_path / "x.pth"
    if request.param == "folder":
        path.mkdir()
        return path
    os.mkfifo(tmp_path / "pipe")
    path.symlink_to("/dev/zero" if request.param == "device" else tmp_path / "pipe")
    return tmp_path / "pipe" if request.param == "pipe" else path


@pytest.mark.parametrize("what", READERS)
def test_only_regular_files_are_read(what, odd):
    if what == "weights' digest" and odd.is_dir():
        pytest.skip("a checkpoint may be a folder; its reader refuses one that is none")
    with pytest.raises(WssegError, match="it is a (folder|pipe, a device or a socket); expected a") as refused:
        READERS[what](odd)
    assert str(odd) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("what", READERS)
def test_a_missing_file_and_a_name_with_a_zero_byte_are_reported(what, tmp_path):
    for name in ("nothing.pth", "zero\0.pth"):
        with pytest.raises(WssegError):
            READERS[what](tmp_path / name)


def test_a_config_that_is_a_pipe_is_reported(tmp_path):
    os.mkfifo(tmp_path / "x.toml")
    with pytest.raises(WssegError, match=r"x.toml: cannot be read: it is a pipe, a device or a socket"):
        read_toml(find_file(str(tmp_path / "x.toml"), "configs"))


def test_links_to_regular_files_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"text")
    (tmp_path / "b").symlink_to("a")
    assert read_file(tmp_path / "b") == b"text"


def test_a_pipe_that_replaces_a_file_does_not_block(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "x")
    monkeypatch.setattr("wsseg.files.check_file", lambda _: None)
    assert read_file(tmp_path / "x") == b""


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert read_file(tmp_path / "x", most=5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes; expected at most 4"):
        read_file(tmp_path / "x", most=4)


def test_text_has_no_byte_order_mark_and_newlines_only(tmp_path):
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert text_of(tmp_path / "x") == "a\nb\nc\n"


def test_a_name_of_another_kind_is_an_os_error():
    with pytest.raises(OSError, match="not a file name"):
        check_file(Path("a\0b"))
