"""Photographs in folders, by id."""

import os

import numpy as np
import pytest

from tests.data.generated import load, picture
from wsseg.data.masks import encode_mask
from wsseg.data.photographs import photograph_files
from wsseg.errors import DatasetError
from wsseg.outputs import Outputs


def test_two_files_of_one_id_are_refused(csv):
    picture(csv.train.images / "a.jpg")
    with pytest.raises(DatasetError, match=r"a\.png and a\.jpg have the same id 'a'"):
        load(csv)


def test_names_that_cannot_be_ids_are_counted_in_one_line(csv):
    for name in ("a\u200bb", "c\\d"):
        picture(csv.train.images / f"{name}.png")
    with pytest.raises(DatasetError, match=r"'a\\u200bb' .* U\+200B \(ZERO WIDTH SPACE\); .*\(and 1 more files\)$"):
        load(csv)


def test_a_file_name_that_is_not_utf_8_is_refused_in_one_line(csv):
    path = os.fsencode(csv.train.images) + b"/caf\xe9.png"
    try:
        with open(path, "wb"):  # noqa: PTH123 (a name in bytes)
            pass
    except OSError:
        pytest.skip("the file system takes names in UTF-8 only")
    with pytest.raises(DatasetError, match="the byte 0xE9, which is not UTF-8") as excinfo:
        load(csv)
    str(excinfo.value).encode()


def test_photographs_below_a_folder_with_the_reasons_for_refused_files(tmp_path, caplog):
    for name in ("a.png", "a.jpg", "b\\c.png", "sub/d.JPG", ".ipynb_checkpoints/a.png", "._d.jpg"):
        picture(tmp_path / name)
    (tmp_path / "e.heic").write_bytes(b"x")
    refused = []
    assert list(photograph_files(tmp_path, refused)) == ["a", "sub/d"]
    assert [(path.name, why.partition(";")[0]) for path, why in refused] == [
        ("a.png", "a.png and a.jpg have the same id 'a'"),
        ("b\\c.png", r"'b\\c' cannot be an image id: it contains a backslash"),
    ]
    assert ".heic is not supported (1: e.heic)" in caplog.text
    with pytest.raises(DatasetError, match="have the same id 'a'"):
        photograph_files(tmp_path)


def test_a_folder_of_unsupported_photographs_is_refused_with_the_reason(tmp_path):
    (tmp_path / "e.heic").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"no image was found in it; 1 files .*\.heic is not supported"):
        photograph_files(tmp_path)


def test_true_masks_among_photographs_are_no_photographs(tmp_path, caplog):
    """The roots of MVTec AD and VOC contain folders of masks; a class of photographs may have the name of such a folder."""
    for name in ("test/red/0.png", "JPEGImages/a.jpg", "mask/b.png", "mask/c.jpg"):
        picture(tmp_path / name)
    for name in ("ground_truth/red/0_mask.png", "SegmentationClass/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(encode_mask(np.eye(8, dtype=np.uint8)))
    assert set(photograph_files(tmp_path)) == {"test/red/0", "JPEGImages/a", "mask/b", "mask/c"}
    assert "2 files or folders are skipped: a folder of masks (2: SegmentationClass, red)" in caplog.text
    assert set(photograph_files(tmp_path / "ground_truth")) == {"red/0_mask"}  # it was named


def test_outputs_among_photographs_are_no_photographs(tmp_path, caplog):
    picture(tmp_path / "a.jpg")
    Outputs([tmp_path / "a.jpg"]).write(tmp_path / "deep" / "b.png", encode_mask(np.eye(8, dtype=np.uint8)))
    assert set(photograph_files(tmp_path)) == {"a"}
    assert "1 files or folders are skipped: written by wsseg (listed in .wsseg-outputs) (1: b.png)" in caplog.text
    with pytest.raises(
        DatasetError, match=r"no image was found in it; .* written by wsseg \(listed in \.wsseg-outputs\)"
    ):
        photograph_files(tmp_path / "deep")
