"""The one reader of image files, on files of every kind, made here."""

import io
import sqlite3

import numpy as np
import pytest
from PIL import Image as PILImage

from wsseg.data.reading import FileMemory, inspect_file, read_image, read_mask_file, turn
from wsseg.errors import DatasetError

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3  # H != W, every pixel its own value


def saved(tmp_path, image, name="x.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_plain_rgb_is_read_as_it_is(tmp_path):
    assert np.array_equal(read_image(saved(tmp_path, PILImage.fromarray(RGB))), RGB)


def test_grey_becomes_three_equal_channels(tmp_path):
    image = read_image(saved(tmp_path, PILImage.fromarray(RGB[..., 0])))
    assert image.shape == (4, 6, 3) and np.array_equal(image, np.stack([RGB[..., 0]] * 3, axis=2))


def test_16_bit_grey_keeps_its_range(tmp_path):
    wide = np.array([[0, 257, 65535], [128, 129, 32896]], dtype=np.uint16)  # 257 is one step of 8 bits
    image = read_image(saved(tmp_path, PILImage.fromarray(wide)))
    assert image[..., 0].tolist() == [[0, 1, 255], [0, 1, 128]]


def test_transparent_pixels_lie_over_white_and_opaque_ones_stay(tmp_path):
    rgba = np.dstack([RGB, np.full((4, 6), 255, np.uint8)])
    rgba[0, 0, 3] = 0
    image = read_image(saved(tmp_path, PILImage.fromarray(rgba)))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(image[1:], RGB[1:])


def test_palette_and_cmyk(tmp_path):
    red = PILImage.new("RGB", (6, 4), (200, 10, 10))
    assert (read_image(saved(tmp_path, red.quantize(4))) == (200, 10, 10)).all()
    cmyk = read_image(saved(tmp_path, red.convert("CMYK"), "x.jpg", quality=100))
    assert np.abs(cmyk.astype(int) - (200, 10, 10)).max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, PILImage.fromarray(RGB), exif=exif)
    # EXIF 2.3, tag 274: which side of the scene row 0 and column 0 show
    expected = {
        1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1],
        5: RGB.transpose(1, 0, 2), 6: np.rot90(RGB, -1), 7: RGB[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(RGB),
    }[orientation]  # fmt: skip
    assert np.array_equal(read_image(path), expected)
    assert inspect_file(path).size == expected.shape[:2]
    assert np.array_equal(turn(RGB[..., 0], orientation), expected[..., 0])


def truncated(tmp_path):
    buffer = io.BytesIO()
    PILImage.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(buffer, "JPEG")
    path = tmp_path / "x.jpg"
    path.write_bytes(buffer.getvalue()[:-400])
    return path


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no image in a known format"),
        (b"<html>", "no image in a known format"),
        (b"\x89PNG\r\n\x1a\n", ""),
        (None, "no such file"),
    ],
)
def test_what_is_no_image_is_refused_by_name(tmp_path, content, reason):
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=f"x.png: {reason}"):
        read_image(path)
    assert inspect_file(path).error


def test_truncated_and_float_images_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="truncated"):
        read_image(truncated(tmp_path))
    path = saved(tmp_path, PILImage.fromarray(np.ones((3, 3), np.float32)), "x.tif")
    with pytest.raises(DatasetError, match="floating-point"):
        read_image(path)


def test_masks_are_values_not_colours(tmp_path):
    values = np.array([[0, 1, 255], [2, 2, 0]], dtype=np.uint8)
    palette = PILImage.fromarray(values)
    palette.putpalette([9, 9, 9] * 256)
    for image in (palette, PILImage.fromarray(values)):
        assert np.array_equal(read_mask_file(saved(tmp_path, image))[0], values)
    with pytest.raises(DatasetError, match="a mask of mode RGB; legal: palette or 8-bit grey"):
        read_mask_file(saved(tmp_path, PILImage.fromarray(RGB)))


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path, monkeypatch):
    from wsseg.data import reading

    read = []
    monkeypatch.setattr(reading, "inspect_file", lambda p, real=reading.inspect_file: read.append(p) or real(p))
    path = saved(tmp_path, PILImage.fromarray(RGB))
    memory = FileMemory(tmp_path / "files.sqlite")
    first = memory.inspect([path], "reading")
    assert memory.inspect([path], "reading") == first and read == [path]
    saved(tmp_path, PILImage.fromarray(RGB[:3]))
    assert memory.inspect([path], "reading")[path].size == (3, 6) and len(read) == 2


@pytest.mark.parametrize("content", [b"no database at all, " * 99, None, b""])
def test_a_memory_that_is_damaged_is_made_anew(tmp_path, caplog, content):
    """Garbage from the first byte, a database with garbage in its middle, and nothing at all."""
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


def test_a_memory_that_cannot_be_written_is_done_without(tmp_path, caplog):
    path = saved(tmp_path, PILImage.fromarray(RGB))
    assert FileMemory(tmp_path).inspect([path], "reading")[path].size == (4, 6)  # a folder is no database
    assert "the images are read again" in caplog.text
    file = tmp_path / "files.sqlite"
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE file (what TEXT)")  # another program's
    assert FileMemory(file).inspect([path], "reading")[path].size == (4, 6) and file.exists()
