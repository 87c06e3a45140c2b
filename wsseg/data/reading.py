"""The only reader of image files."""

import contextlib
import hashlib
import io
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import UnidentifiedImageError
from PIL.ImageFile import ImageFile

from wsseg.data.mask_colors import MaskColors
from wsseg.data.orientation import INVERSE, stored_size, turn, turned_view
from wsseg.errors import DatasetError
from wsseg.files import open_file, read_file
from wsseg.types import Image, LabeledImage, Mask

log = logging.getLogger("wsseg")
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm"}
)
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")  # the JPEG reader also opens MPO, which many phones write
MOST_PIXELS = 100_000_000  # of one image; a file of a few kilobytes may declare billions
MOST_MEMORY = 3 * 2**29  # bytes that all threads of a process together use while they read images
# of memory for decoding and conversion, without the file; measured by tests/stress/inputs.py
BYTES_PER_PIXEL = {"PNG": 9, "BMP": 9, "JPEG": 13, "MPO": 13, "TIFF": 13, "PPM": 16, "WEBP": 20}
_SLOW_CODECS = {"ppm", "ppm_plain", "bmp_rle"}  # Pillow decodes these in Python
_MOST_SLOW_PIXELS = 4_000_000
_MOST_SCANS = 64  # of a JPEG; each one passes over the complete image, and photographs have about ten
_DARK_BELOW = 64  # largest value of an image, of 255
_BLOCK = 512  # px of height and width that are converted at once
# the error of a damaged file is enough, and images of the size that Pillow warns about are expected here
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=PILImage.DecompressionBombWarning)
PILImage.init()  # not thread-safe if the first image triggers it
_EXIF_ORIENTATION = 0x0112
_SEVERAL_PAGES = "it has several pages; only the first is read"
_DARK = "its 16-bit values use less than a quarter of their range, so it is dark; if it should be brighter, save it with 8 bits"


class _Memory:
    """A number of bytes that threads reserve and release; a thread that needs more than is free waits."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reserved(self, amount: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()


_memory = _Memory(MOST_MEMORY)


@contextlib.contextmanager
def _known_errors() -> Iterator[None]:
    """Turn every exception of Pillow's parsers into an OSError with a reason."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise OSError(f"not an image in a supported format ({', '.join(_FORMATS)})") from error
    except PILImage.DecompressionBombError as error:
        raise OSError(f"it declares too many pixels; expected at most {MOST_PIXELS // 10**6} megapixels") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # struct.error, TypeError, SyntaxError ...: Pillow does not document them
        raise OSError(f"{str(error) or 'damaged'} ({type(error).__name__})") from error


@_known_errors()
def _header(file: BinaryIO) -> ImageFile:
    """Open an image without decoding it; refuse one whose decoding needs too much time or memory."""
    image: ImageFile = PILImage.open(file, formats=_FORMATS)
    size = f"it is {image.width} x {image.height}"
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        raise OSError(f"{size}; expected at most {MOST_PIXELS // 10**6} megapixels, so shrink it")
    if pixels > _MOST_SLOW_PIXELS and any(tile[0] in _SLOW_CODECS for tile in image.tile):
        raise OSError(
            f"{size}, in a variant of {image.format} that is slow to decode; "
            f"expected at most {_MOST_SLOW_PIXELS // 10**6} megapixels, so save it as PNG"
        )
    return image


@contextlib.contextmanager
def _file_in_memory(path: Path) -> Iterator[bytes]:
    """Read an image file, and reserve the memory for its decoding until the block ends.

    Raises:
        OSError: the file is not a regular file or not an image, or its decoding needs too much memory.
    """
    with open_file(path) as file:
        image = _header(file)
        need = image.width * image.height * BYTES_PER_PIXEL[image.format or ""]
        need += os.fstat(file.fileno()).st_size
        del image
        if need > MOST_MEMORY:
            raise OSError(
                f"reading it needs {need >> 20} MiB of memory; expected at most {MOST_MEMORY >> 20} MiB, so shrink it"
            )
        with _memory.reserved(need):
            file.seek(0)
            yield file.read()


@dataclass(frozen=True)
class _Decoded:
    """An image with its pixels.

    Args:
        image: the pixels as the file stores them, except that Pillow turns TIFF upright.
        stated: EXIF orientation of the file; None if it states none.
        turn: EXIF orientation that is still to be applied.
        raw_mode: Pillow's name for the stored pixels, such as ``L;4`` for 4-bit grey.
        most: the value of white in a PPM or PGM; 0 in other formats.
        note: an oddity that `wsseg data check` reports; empty if there is none.
    """

    image: PILImage.Image
    stated: int | None
    turn: int
    raw_mode: str
    most: int
    note: str


@_known_errors()
def _decode(data: bytes) -> _Decoded:
    image = _header(io.BytesIO(data))
    if image.format in ("JPEG", "MPO") and (scans := _jpeg_scans(data)) > _MOST_SCANS:
        raise OSError(f"it has {scans} scans; expected at most {_MOST_SCANS}, so save it again")
    args: Any = image.tile[0][3] if image.tile else ""
    args = args if isinstance(args, tuple) else (args,)
    most = args[1] if image.format == "PPM" and len(args) == 2 else 0
    # the second picture of an MPO is a preview or a depth map, which some phones add to nearly every photograph
    note = _SEVERAL_PAGES if getattr(image, "is_animated", False) and image.format != "MPO" else ""
    stated = _orientation(image) if image.format == "TIFF" else None  # Pillow applies and removes it in `load`
    image.load()
    left = _orientation(image)
    return _Decoded(image, stated or left, left or 1, str(args[0]), most, note)


def _orientation(image: PILImage.Image) -> int | None:
    """Return the EXIF orientation of an image, 1 (upright) to 8, or None if it states none."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION)
    except Exception as error:
        raise OSError(
            f"its EXIF data cannot be read ({error}); save the image again, or remove its EXIF data"
        ) from error
    return int(value) if value is not None and value in range(1, 9) else None


_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # 00 and D0..D7 belong to the compressed pixels
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
_JPEG_ALONE = (0x01, 0xD8)  # markers without a length


def _jpeg_scans(data: bytes) -> int:
    """Return the number of scans of the first picture in a JPEG file."""
    scans, place = 0, 0
    while match := _JPEG_MARKER.search(data, place):
        marker, place = match[1][0], match.end()
        if marker == _JPEG_END:
            break
        scans += marker == _JPEG_SCAN
        if marker not in _JPEG_ALONE:
            place += int.from_bytes(data[place : place + 2], "big")
    return scans


@_known_errors()
def _to_rgb(decoded: _Decoded) -> Image:
    """Return an upright 8-bit RGB array, shape (H, W, 3).

    16-bit grey is divided by 257, transparent pixels are blended with white, and CMYK, palette and grey are converted. The
    conversion works block by block, so that it needs little memory.

    Raises:
        OSError: pixel values with an unknown range (32-bit integers beyond 16 bits, floating point).
    """
    width, height = decoded.image.size
    upright = np.empty((*stored_size((height, width), decoded.turn), 3), np.uint8)
    stored = turned_view(upright, INVERSE.get(decoded.turn, decoded.turn))  # a view: pixels written to it are upright
    for top in range(0, height, _BLOCK):
        for left in range(0, width, _BLOCK):
            bottom, right = min(top + _BLOCK, height), min(left + _BLOCK, width)
            block = decoded.image.crop((left, top, right, bottom))
            stored[top:bottom, left:right] = _block_to_rgb(block, decoded.raw_mode)
    return upright


def _block_to_rgb(image: PILImage.Image, raw_mode: str) -> Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("32-bit pixel values beyond 0..65535; expected 8 or 16 bits per channel")
        white = 4095 if raw_mode == "I;12" else 65535
        image = PILImage.fromarray(((wide * 255 + white // 2) // white).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixel values; expected 8 or 16 bits per channel")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = PILImage.alpha_composite(PILImage.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def image_size(path: Path) -> tuple[int, int]:
    """Return the (H, W) of the stored pixels of an image, from the header of its file.

    Raises:
        DatasetError: the file is missing, not an image, or too large.
    """
    try:
        with open_file(path) as file:
            image = _header(file)
            return image.height, image.width
    except OSError as error:
        raise DatasetError(f"{path}: {reason(error)}") from error


def read_image(path: Path, sha256: str | None = None) -> Image:
    """Read a photograph as upright 8-bit RGB, shape (H, W, 3).

    Args:
        path: the file.
        sha256: expected digest of its bytes; None to accept any.

    Raises:
        DatasetError: the file is missing, damaged, not an image, or has another digest.
    """
    try:
        with _file_in_memory(path) as data:
            _compare(data, sha256)
            return _to_rgb(_decode(data))
    except OSError as error:
        raise DatasetError(f"{path}: {reason(error)}") from error


def read_photograph(item: LabeledImage) -> Image:
    """Read a photograph of a data set with `read_image`, if its file has not changed since the data set was listed.

    Raises:
        DatasetError: as in `read_image`.
    """
    return read_image(item.path, item.sha256)


def photograph_bytes(item: LabeledImage) -> bytes:
    """Return the bytes of a photograph's file, if it has not changed since the data set was listed.

    Raises:
        DatasetError: the file cannot be read, or has changed.
    """
    try:
        data = read_file(item.path)
        _compare(data, item.sha256)
    except OSError as error:
        raise DatasetError(f"{item.path}: {reason(error)}") from error
    return data


def _compare(data: bytes, sha256: str | None) -> None:
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise OSError(
            "it has changed since this run started; run again, and if this message returns, run 'wsseg data check --full' first"
        )


def read_mask_file(path: Path, sha256: str | None = None, colors: MaskColors | None = None) -> tuple[Mask, int | None]:
    """Read a mask (palette, grey, or known colours), turned by its own EXIF orientation if it states one.

    Values are the stored ones: grey of 1, 2 or 4 bits and grey of a PGM are not stretched to 0..255.

    Args:
        path: the file.
        sha256: expected digest of its bytes; None to accept any.
        colors: mask values of colours; None if a mask of colours cannot be used.

    Returns:
        The (H, W) uint8 values, and the EXIF orientation of the file (None if it states none).

    Raises:
        DatasetError: the file is missing, cannot be read, has unknown colours or values beyond 0..255, or has another digest.
    """
    try:
        with _file_in_memory(path) as data:
            _compare(data, sha256)
            decoded = _decode(data)
            return turn(_mask_values(decoded, colors), decoded.turn), decoded.stated
    except OSError as error:
        raise DatasetError(f"{path}: {reason(error)}") from error


@_known_errors()
def _mask_values(decoded: _Decoded, colors: MaskColors | None) -> Mask:
    mode, raw_mode = decoded.image.mode, decoded.raw_mode
    if decoded.image.format in ("JPEG", "MPO"):
        raise OSError(
            "a mask in a JPEG file, which does not keep its values; expected a PNG: export the mask again from its source"
        )
    values = np.asarray(decoded.image)
    if mode in ("RGB", "RGBA", "LA"):
        values = _one_channel(values, mode, colors if not decoded.most else None)
    elif mode not in ("1", "L", "P", "I") and not mode.startswith("I;16"):
        raise OSError(f"a mask of mode {mode}; expected a palette or grey PNG whose values are class ids")
    if decoded.most:  # Pillow stretches 0..most to 8 or 16 bits
        values = np.rint(values * (decoded.most / (65535 if mode == "I" else 255)))
    elif raw_mode.startswith(("L;2", "L;4")):  # and these to 8 bits
        values = values // (85 if raw_mode.startswith("L;2") else 17)
    if values.min() < 0 or values.max() > 255:
        raise OSError(f"mask values from {values.min():.0f} to {values.max():.0f}; expected class ids from 0 to 255")
    return values.astype(np.uint8)


def _one_channel(pixels: NDArray[np.uint8], mode: str, colors: MaskColors | None) -> Mask:
    """Return the mask values of (H, W, C) pixels: those of their colours if all are known, else those of equal channels.

    An alpha channel must be opaque.
    """
    opaque = pixels[..., :-1] if mode.endswith("A") else pixels
    if mode.endswith("A") and (pixels[..., -1] != 255).any():
        raise OSError(
            f"a mask of mode {mode} with transparent pixels; expected a palette or grey PNG whose values are class ids"
        )
    unknown = ""
    if colors is not None and mode != "LA":
        try:
            return colors.mask(opaque)
        except ValueError as error:
            unknown = f"; {error}"
    if (opaque != opaque[..., :1]).any():
        raise OSError(
            f"a mask of colours (mode {mode}){unknown}; expected a palette or grey PNG: write the class id in place of each colour"
        )
    return opaque[..., 0]


def reason(error: OSError) -> str:
    """Return a short reason why a file could not be read."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return error.strerror or str(error) or type(error).__name__


@dataclass(frozen=True)
class Inspection:
    """Facts about one image file.

    Args:
        sha256: digest of its bytes; empty if they were not read.
        size: (H, W), upright.
        orientation: EXIF orientation of the file; 1 (upright) if it states none.
        error: why it cannot be used; empty for a readable image.
        note: an oddity of a readable image; empty if there is none.
    """

    sha256: str
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    error: str = ""
    note: str = ""


def inspect_file(path: Path) -> Inspection:
    """Read and decode an image file, and return its facts; errors become part of them."""
    digest = ""
    try:
        with _file_in_memory(path) as data:
            digest = hashlib.sha256(data).hexdigest()
            decoded = _decode(data)
            image = _to_rgb(decoded)
    except OSError as error:
        return Inspection(digest, error=reason(error))
    height, width = image.shape[:2]
    note = decoded.note
    if not note and (decoded.image.mode == "I" or ";16" in decoded.raw_mode) and image.max() < _DARK_BELOW:
        note = _DARK
    return Inspection(digest, (height, width), decoded.stated or 1, "", note)
