"""The reader of image files, on generated files of every kind."""

import io
import os
import re
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

from wsseg.data import reading
from wsseg.data.orientation import turn, turned_with
from wsseg.data.reading import (
    image_size,
    inspect_file,
    photograph_bytes,
    read_image,
    read_mask_file,
    read_photograph,
)
from wsseg.errors import DatasetError
from wsseg.types import LabeledImage

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3  # H != W, every pixel its own value


def saved(tmp_path, image, name="x.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_rgb_is_read_unchanged(tmp_path):
    assert np.array_equal(read_image(saved(tmp_path, PILImage.fromarray(RGB))), RGB)


def test_grey_becomes_three_equal_channels(tmp_path):
    image = read_image(saved(tmp_path, PILImage.fromarray(RGB[..., 0])))
    assert image.shape == (4, 6, 3) and np.array_equal(image, np.stack([RGB[..., 0]] * 3, axis=2))


def test_16_bit_grey_keeps_its_range(tmp_path):
    wide = np.array([[0, 257, 65535], [128, 129, 32896]], dtype=np.uint16)  # 257 is one step of 8 bits
    image = read_image(saved(tmp_path, PILImage.fromarray(wide)))
    assert image[..., 0].tolist() == [[0, 1, 255], [0, 1, 128]]


def test_transparent_pixels_become_white_and_opaque_ones_stay(tmp_path):
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
def test_the_orientation_is_reported_and_applied_in_every_format(tmp_path, name, orientation):
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


def test_a_mask_is_turned_by_its_own_orientation(tmp_path):
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
        with pytest.raises(DatasetError, match="x.png: it has changed since this run started; run again"):
            read()


def test_packed_12_bit_grey_keeps_its_range(tmp_path):
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<I", 12) + b"\xff\xf8\x00\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    (tmp_path / "x.tif").write_bytes(data)
    assert read_image(tmp_path / "x.tif")[..., 0].tolist() == [[255, 128]]  # 4095 and 2048


def test_oddities_of_an_image_are_noted(tmp_path):
    dark, bright = np.full((2, 3), 4095, np.uint16), np.full((2, 3), 65535, np.uint16)
    for image in (PILImage.fromarray(dark), PILImage.fromarray(dark.astype(np.int32))):
        assert "16-bit values use less than a quarter" in inspect_file(saved(tmp_path, image, "x.tif")).note
    rgb = np.dstack([dark] * 3)
    cv2.imwrite(str(tmp_path / "x.png"), rgb)
    assert "16-bit values use less than a quarter" in inspect_file(tmp_path / "x.png").note
    page = PILImage.fromarray(RGB)
    for name in ("x.tif", "x.png", "x.webp"):
        several = saved(tmp_path, page, name, save_all=True, append_images=[PILImage.fromarray(255 - RGB)])
        assert inspect_file(several).note == "it has several pages; only the first is read"
    assert not inspect_file(saved(tmp_path, PILImage.fromarray(bright))).note
    assert not inspect_file(saved(tmp_path, PILImage.new("L", (3, 2)))).note  # a black image is not dark by mistake


def grey_png(values, bits):
    """Return a grey PNG of `bits` per pixel, which Pillow cannot write."""
    height, width = values.shape
    rows = b"".join(b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :]).tobytes() for row in values)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_masks_of_few_bits_keep_their_values(tmp_path, bits):
    values = np.random.default_rng(0).integers(0, 2**bits, (5, 7), dtype=np.uint8)
    path = tmp_path / "x.png"
    path.write_bytes(grey_png(values, bits))
    assert np.array_equal(read_mask_file(path)[0], values)


@pytest.mark.parametrize("most", [1, 3, 20, 255, 300, 65535])
def test_masks_as_pgm_keep_their_values(tmp_path, most):
    values = np.random.default_rng(0).integers(0, min(most, 255) + 1, (5, 7), dtype=np.uint8)
    path = tmp_path / "x.pgm"
    path.write_bytes(b"P5 7 5 %d\n" % most + values.astype("u1" if most < 256 else ">u2").tobytes())
    assert np.array_equal(read_mask_file(path)[0], values)


def test_masks_as_ppm_of_equal_channels_keep_their_values(tmp_path):
    values = np.arange(6, dtype=np.uint8).reshape(2, 3) % 4
    path = tmp_path / "x.ppm"
    path.write_bytes(b"P6 3 2 3\n" + np.dstack([values] * 3).tobytes())
    assert np.array_equal(read_mask_file(path)[0], values)


def test_16_and_32_bit_masks_are_read_if_their_values_are_class_ids(tmp_path):
    values = np.array([[0, 1, 255], [2, 2, 0]])
    for kind in (np.uint16, np.int32):
        assert np.array_equal(
            read_mask_file(saved(tmp_path, PILImage.fromarray(values.astype(kind)), "x.tif"))[0], values
        )
    with pytest.raises(DatasetError, match="mask values from 0 to 256; expected class ids from 0 to 255"):
        read_mask_file(saved(tmp_path, PILImage.fromarray((values + (values == 255)).astype(np.uint16))))


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (513, 2)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16", "P"])
def test_narrow_images_are_read_unchanged(tmp_path, shape, mode):
    values = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape) % 200
    image = (
        PILImage.fromarray(values * 257)
        if mode == "I;16"
        else PILImage.fromarray(values.astype(np.uint8)).convert(mode)
    )
    exif = PILImage.Exif()
    exif[0x0112] = 8
    expected = np.rot90(np.stack([values] * 3, axis=2))
    path = saved(tmp_path, image, exif=exif)
    assert np.array_equal(read_image(path), expected) and image_size(path) == shape


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp"])
def test_damaged_exif_data_give_pixels_or_a_reason(tmp_path, name):
    """Each byte of the EXIF data is changed in turn; none of the results raises another error."""
    exif = PILImage.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", 72.0
    exif.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    block = exif.tobytes()
    rng, reasons = np.random.default_rng(0), set()
    path = tmp_path / name
    for place in range(6, len(block)):
        odd = bytearray(block)
        odd[place : place + 1 + place % 3] = rng.bytes(1 + place % 3)
        PILImage.fromarray(RGB).save(path, exif=bytes(odd))
        seen = inspect_file(path)
        assert seen.error or sorted(seen.size) == [4, 6]
        reasons.add(seen.error[:28])
    assert reasons <= {"", "its EXIF data cannot be read"}


def test_an_image_with_exif_data_that_cannot_be_rewritten_is_read(tmp_path):
    """Pillow rewrites EXIF data when it turns an image, and fails at values of the wrong type."""
    exif = PILImage.Exif()
    exif[0x0112], exif[0x0100] = 6, 5
    block = exif.tobytes().replace(struct.pack(">HHI", 0x0100, 3, 1), struct.pack(">HHI", 0x0100, 2, 4))
    block = block.replace(struct.pack("<HHI", 0x0100, 4, 1), struct.pack("<HHI", 0x0100, 2, 4))
    path = saved(tmp_path, PILImage.fromarray(RGB), "x.png", exif=block)
    assert read_image(path).shape == (6, 4, 3)


@pytest.mark.parametrize(
    "error", [struct.error("odd"), TypeError("odd"), SyntaxError("odd"), KeyError("odd"), AssertionError()]
)
@pytest.mark.parametrize("place", ["open", "crop"])
def test_every_exception_of_a_parser_becomes_a_reason(tmp_path, monkeypatch, error, place):
    path = saved(tmp_path, PILImage.fromarray(RGB))

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(*{"open": (PILImage, "open"), "crop": (PILImage.Image, "crop")}[place], fails)
    assert re.search(r"(odd|damaged).*\(" + type(error).__name__, inspect_file(path).error)
    with pytest.raises(DatasetError, match="x.png: "):
        read_image(path)


def test_jpegs_of_hundreds_of_scans_are_refused(tmp_path):
    path = saved(tmp_path, PILImage.fromarray(RGB), "x.jpg", progressive=True)
    data = path.read_bytes()
    last = data[data.rindex(b"\xff\xda") : -2]
    path.write_bytes(data[:-2] + 20 * last + b"\xff\xd9\0\0" + 99 * last)  # bytes after the end do not count
    assert not inspect_file(path).error
    path.write_bytes(data[:-2] + 200 * last + b"\xff\xd9")
    assert re.fullmatch(r"it has 2\d\d scans; expected at most 64, so save it again", inspect_file(path).error)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("x.ppm", b"P6 1000000000 1 255\n"),
        ("x.pgm", b"P5 1 1000000000 255\n"),
        ("x.pbm", b"P4 1000000000 1000000000\n"),
        ("x.bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, 10**9, 1, 1, 24, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_images_that_declare_a_billion_pixels_are_refused_by_their_header(tmp_path, name, head):
    path = tmp_path / name
    path.write_bytes(head + bytes(100))
    with pytest.raises(DatasetError, match="expected at most 100 megapixels"):
        read_image(path)


def test_a_slow_variant_is_refused_beyond_four_megapixels(tmp_path):
    path = tmp_path / "x.ppm"
    path.write_bytes(b"P3 3000 2000 255\n" + b"1 " * 100)
    assert "slow to decode; expected at most 4 megapixels" in inspect_file(path).error


def test_an_image_that_needs_too_much_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_MEMORY", 4 * 6 * 20 + 100)
    assert not inspect_file(saved(tmp_path, PILImage.fromarray(RGB), "x.webp")).error
    path = saved(tmp_path, PILImage.fromarray(np.vstack([RGB] * 5)), "x.webp")
    assert "of memory" in inspect_file(path).error


def test_threads_wait_for_memory():
    memory, order = reading._Memory(10), []

    def use(amount):
        with memory.reserved(amount):
            order.append(amount)

    with memory.reserved(6):
        waiting = [threading.Thread(target=use, args=(amount,)) for amount in (5, 4)]
        for thread in waiting:
            thread.start()
        waiting[1].join(5)
        assert order == [4]
    waiting[0].join(5)
    assert order == [4, 5]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipes_devices_and_folders_are_not_images(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    (tmp_path / "y.png").mkdir()
    (tmp_path / "z.png").symlink_to("/dev/zero")
    for name, reason in (
        ("x", "a pipe, a device or a socket"),
        ("y", "a folder"),
        ("z", "a pipe, a device or a socket"),
    ):
        path = tmp_path / f"{name}.png"
        assert reason in inspect_file(path).error
        for read in (read_image, read_mask_file, image_size):
            with pytest.raises(DatasetError, match=reason):
                read(path)


def truncated(tmp_path):
    buffer = io.BytesIO()
    PILImage.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(buffer, "JPEG")
    path = tmp_path / "x.jpg"
    path.write_bytes(buffer.getvalue()[:-400])
    return path


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image in a supported format"),
        (b"<html>", "not an image in a supported format"),
        (b"\x89PNG\r\n\x1a\n", ""),
        (None, "no such file"),
    ],
)
def test_files_that_are_not_images_are_refused_by_name(tmp_path, content, reason):
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


def test_masks_are_read_as_values_and_not_as_palette_colours(tmp_path):
    values = np.array([[0, 1, 255], [2, 2, 0]], dtype=np.uint8)
    palette = PILImage.fromarray(values)
    palette.putpalette([9, 9, 9] * 256)
    for image in (palette, PILImage.fromarray(values)):
        assert np.array_equal(read_mask_file(saved(tmp_path, image))[0], values)
    with pytest.raises(DatasetError, match=r"a mask of colours \(mode RGB\); expected a palette or grey PNG"):
        read_mask_file(saved(tmp_path, PILImage.fromarray(RGB)))


def test_masks_of_several_channels_are_read_if_these_are_equal(tmp_path):
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
