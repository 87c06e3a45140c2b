"""The one reader of image files, and what it remembers of files it has seen."""

import contextlib
import hashlib
import io
import logging
import os
import sqlite3
import threading
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

from wsseg.errors import DatasetError
from wsseg.progress import track
from wsseg.types import Image, Mask

log = logging.getLogger("wsseg")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")  # the JPEG reader also opens MPO, what many phones write
MOST_PIXELS = 100_000_000  # of one image: a file of some kilobytes may declare billions
_BAND_PIXELS = 4_000_000  # converted at a time
_LARGE_PIXELS = 16_000_000  # images beyond are decoded one at a time, whatever the number of threads
_one_large = threading.Lock()
# a damaged file is told of by its error alone; and the size that Pillow warns of is legal here
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=PILImage.DecompressionBombWarning)
PILImage.init()  # not thread-safe when it happens at the first picture
_EXIF_ORIENTATION = 0x0112


@contextlib.contextmanager
def opened_image(data: bytes) -> Iterator[PILImage.Image]:
    """Decode an image file completely; a large one alone, until the block ends, whatever the number of threads.

    Raises:
        OSError, ValueError: it is unreadable or too large, with the reason; whatever the block raises is told the same way.
    """
    try:
        image = PILImage.open(io.BytesIO(data), formats=_FORMATS)
        pixels = image.width * image.height
        if pixels > MOST_PIXELS:
            raise OSError(
                f"it is {image.width} x {image.height}; legal: at most {MOST_PIXELS // 10**6} megapixels, so shrink it"
            )
        with _one_large if pixels > _LARGE_PIXELS else contextlib.nullcontext():
            image.load()
            yield image
    except UnidentifiedImageError as error:
        raise OSError(f"no image in a known format ({', '.join(_FORMATS)})") from error
    except (PILImage.DecompressionBombError, SyntaxError, EOFError, IndexError, OverflowError) as error:
        raise OSError(str(error) or type(error).__name__) from error


def orientation_of(image: PILImage.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8."""
    value = image.getexif().get(_EXIF_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def to_rgb(image: PILImage.Image) -> Image:
    """Return an upright 8-bit RGB array, shape (H, W, 3); `image` is turned upright itself.

    16-bit grey is divided by 257; transparent pixels are laid over white; CMYK, palette and grey are converted. It is done
    band by band: a photograph of 100 megapixels takes seven bytes a pixel, and not three times that.

    Raises:
        ValueError: pixel values whose range is unknown (32-bit integer beyond 16 bits, float).
    """
    ImageOps.exif_transpose(image, in_place=True)
    width, height = image.size
    result = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band = image if bottom - top == height else image.crop((0, top, width, bottom))
        if "transparency" in image.info:
            band.info["transparency"] = image.info["transparency"]
        result[top:bottom] = _band_to_rgb(band)
    return result


def _band_to_rgb(image: PILImage.Image) -> Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("32-bit pixel values beyond 0..65535; legal: 8 or 16 bits a channel")
        image = PILImage.fromarray(((wide + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixel values; legal: 8 or 16 bits a channel")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = PILImage.new("RGBA", image.size, "white")
        image = PILImage.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))


def read_image(path: Path) -> Image:
    """Read a photograph as upright 8-bit RGB, shape (H, W, 3).

    Raises:
        DatasetError: the file is missing, damaged or no image.
    """
    try:
        with opened_image(path.read_bytes()) as image:
            return to_rgb(image)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {_reason(error)}") from error


def read_mask_file(path: Path) -> tuple[Mask, int | None]:
    """Read an indexed PNG mask (palette or grey), turned by its own EXIF orientation where it states one.

    Returns:
        The (H, W) uint8 values, and the orientation the file states (None where it states none).

    Raises:
        DatasetError: missing, unreadable, or not one channel of 8 bits.
    """
    try:
        with opened_image(path.read_bytes()) as found:
            stated = found.getexif().get(_EXIF_ORIENTATION)
            image = ImageOps.exif_transpose(found)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {_reason(error)}") from error
    if image.mode == "1":
        image = image.convert("L").point(lambda v: v // 255)
    if image.mode not in ("P", "L"):
        raise DatasetError(
            f"{path}: a mask of mode {image.mode}; legal: palette or 8-bit grey PNG whose values are class ids"
        )
    return np.asarray(image), stated


def turn(mask: Mask, orientation: int) -> Mask:
    """Apply an EXIF orientation (1..8) to a mask."""
    image = PILImage.fromarray(mask)
    image.getexif()[_EXIF_ORIENTATION] = orientation
    turned = ImageOps.exif_transpose(image)
    return np.asarray(turned)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


# --- what is remembered of files -------------------------------------------------------------------------------------

_Stated = tuple[Path, int, int]  # a file, its bytes, and when it was changed last (ns)
_REMEMBERED_AT_ONCE = 1000  # inspections that a kill may lose


@dataclass(frozen=True)
class Inspection:
    """What one file holds. `error` is empty for a readable image; `size` is (H, W), upright."""

    sha256: str
    size: tuple[int, int]
    orientation: int
    error: str


def inspect_file(path: Path) -> Inspection:
    """Read and decode a file once."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Inspection("", (0, 0), 1, _reason(error))
    digest = hashlib.sha256(data).hexdigest()
    try:
        with opened_image(data) as image:
            orientation = orientation_of(image)
            height, width = to_rgb(image).shape[:2]
    except (OSError, ValueError) as error:
        return Inspection(digest, (0, 0), 1, _reason(error))
    return Inspection(digest, (height, width), orientation, "")


class FileMemory:
    """Remembers `Inspection` by (path, size, mtime_ns), so that a data set is read in full only once.

    It is a convenience: where its file is damaged or cannot be written, that is logged, and images are read again.

    Args:
        path: the SQLite file; None to remember within this object only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def inspect(self, paths: Iterable[Path], what: str) -> dict[Path, Inspection]:
        """Return the inspection of every file; only those unknown or changed are read, on all cores."""
        found: dict[Path, Inspection] = {}
        stated: list[_Stated] = []
        for path in paths:
            try:
                stat = path.stat()
            except OSError as error:
                found[path] = Inspection("", (0, 0), 1, _reason(error))
            else:
                stated.append((path, stat.st_size, stat.st_mtime_ns))
        found |= self._recalled(stated)
        unknown = [own for own in stated if own[0] not in found]
        fresh: list[tuple[_Stated, Inspection]] = []
        try:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                inspected = track(_map_in_order(pool, [own[0] for own in unknown]), len(unknown), what)
                for own, seen in zip(unknown, inspected, strict=True):
                    found[own[0]] = seen
                    fresh.append((own, seen))
                    if len(fresh) == _REMEMBERED_AT_ONCE:
                        self._remember(fresh)
                        fresh = []
        finally:
            self._remember(fresh)  # what was read before Ctrl-C is not read again
        return found

    def _recalled(self, stated: list[_Stated]) -> dict[Path, Inspection]:
        """Return what is known of files that have not changed since."""
        found = {}
        try:
            with closing(self._connect()) as database:
                for path, size, mtime in stated:
                    row = database.execute(
                        "SELECT sha256, height, width, orientation, error FROM file WHERE path=? AND size=? AND mtime=?",
                        (str(path), size, mtime),
                    ).fetchone()
                    if row:
                        found[path] = Inspection(row[0], (row[1], row[2]), row[3], row[4])
        except sqlite3.Error as error:
            self._give_up(error)
        return found

    def _remember(self, fresh: list[tuple[_Stated, Inspection]]) -> None:
        rows = [
            (str(path), size, mtime, seen.sha256, *seen.size, seen.orientation, seen.error)
            for (path, size, mtime), seen in fresh
        ]
        if not rows:
            return
        try:
            with closing(self._connect()) as database, database:
                database.executemany("INSERT OR REPLACE INTO file VALUES (?,?,?,?,?,?,?,?)", rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: sqlite3.Error) -> None:
        """Go on in memory; a file that is no database, or a damaged one, is removed, so that the next run has a new one."""
        log.warning("%s: %s; the images are read again where it does not know them", self.path, error)
        # an operational error says locked, full, read-only: there the file itself is well
        if self.path is not None and not isinstance(error, sqlite3.OperationalError):
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.path = None

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path or ":memory:", timeout=60)
        database.execute(
            "CREATE TABLE IF NOT EXISTS file (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, sha256 TEXT,"
            " height INTEGER, width INTEGER, orientation INTEGER, error TEXT)"
        )
        return database


def _map_in_order(pool: ThreadPoolExecutor, paths: list[Path], ahead: int = 256) -> Iterator[Inspection]:
    """Yield `inspect_file` of each path in order, never more than `ahead` in flight (memory stays flat)."""
    queue = iter(paths)
    waiting = [pool.submit(inspect_file, path) for path in islice(queue, ahead)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [pool.submit(inspect_file, path) for path in islice(queue, 1)]
