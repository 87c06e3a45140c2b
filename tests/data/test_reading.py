"""The one reader of image files, on files of every kind, made here."""

import io
import sqlite3

import numpy as np
import pytest
from PIL import Image as PILImage

from wsseg.data.reading import (
    FileMemory,
    inspect_file,
    photograph_bytes,
    read_image,
    read_mask_file,
    read_photograph,
    turn,
    turned_with,
)
from wsseg.errors import DatasetError
from wsseg.types import LabeledImage

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


STORED = np.arange(1, 7, dtype=np.uint8).reshape(2, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif", "x.webp"])
def test_the_orientation_is_known_and_applied_in_every_format(tmp_path, name, orientation):
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    pixels = np.kron(np.stack([STORED * 40] * 3, axis=2), np.ones((16, 16, 1), np.uint8))
    path = saved(tmp_path, PILImage.fromarray(pixels), name, exif=exif, quality=100)
    assert inspect_file(path).orientation == orientation
    shown = read_image(path)[8::16, 8::16, 0]
    assert np.array_equal(np.rint(shown / 40), turn(STORED, orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_of_the_stored_size_is_turned_with_its_photograph(orientation):
    upright = turn(STORED, orientation)
    assert np.array_equal(turned_with(STORED, upright.shape, orientation), upright)
    if orientation > 4:  # drawn on the upright photograph, as its size shows
        assert np.array_equal(turned_with(upright, upright.shape, orientation), upright)


def test_a_mask_that_states_an_orientation_of_its_own_is_turned_by_it(tmp_path):
    exif = PILImage.Exif()
    exif[0x0112] = 7
    values, stated = read_mask_file(saved(tmp_path, PILImage.fromarray(STORED), exif=exif))
    assert stated == 7 and np.array_equal(values, turn(STORED, 7))


def test_a_photograph_that_changed_since_it_was_listed_is_refused(tmp_path):
    path = saved(tmp_path, PILImage.fromarray(RGB))
    item = LabeledImage("x", path, (), (4, 6), inspect_file(path).sha256)
    assert np.array_equal(read_photograph(item), RGB) and photograph_bytes(item) == path.read_bytes()
    sha256 = inspect_file(path).sha256
    saved(tmp_path, PILImage.fromarray(RGB[..., 0]))
    for read in (lambda: read_photograph(item), lambda: photograph_bytes(item), lambda: read_mask_file(path, sha256)):
        with pytest.raises(DatasetError, match="x.png: it has changed since this run began; run again"):
            read()


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
    with pytest.raises(DatasetError, match=r"a mask of colours \(mode RGB\); expected a palette or grey PNG"):
        read_mask_file(saved(tmp_path, PILImage.fromarray(RGB)))


def test_masks_in_several_equal_channels_are_read_and_others_refused(tmp_path):
    values = np.array([[0, 1, 2], [7, 255, 0]], np.uint8)
    opaque = np.full_like(values, 255)
    for channels in ([values] * 3, [values, values, values, opaque], [values, opaque]):
        assert np.array_equal(read_mask_file(saved(tmp_path, PILImage.fromarray(np.dstack(channels))))[0], values)
    for channels in ([values, values, 255 - values], [values, values, values, values], [values, values]):
        with pytest.raises(DatasetError, match="expected a palette or grey PNG"):
            read_mask_file(saved(tmp_path, PILImage.fromarray(np.dstack(channels))))
    with pytest.raises(DatasetError, match="a mask of mode F"):
        read_mask_file(saved(tmp_path, PILImage.fromarray(values.astype(np.float32)), "x.tif"))
    with pytest.raises(DatasetError, match="a mask in a JPEG file, which does not keep its values"):
        PILImage.fromarray(values).save(tmp_path / "jpeg.png", format="JPEG")
        read_mask_file(tmp_path / "jpeg.png")


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
        other.execute("CREATE TABLE inspection (what TEXT)")  # another program's
    assert FileMemory(file).inspect([path], "reading")[path].size == (4, 6) and file.exists()
