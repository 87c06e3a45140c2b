"""Broken, odd and hostile image files through the one reader: each is read right, or refused with a reason."""

import functools
import io
import multiprocessing
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from wsseg.data.reading import BYTES_PER_PIXEL, inspect_file, read_image
from wsseg.errors import DatasetError

SECONDS = 5.0  # longest that one file may take
MEBIBYTES = 1024  # of a process that reads them


def sound_images(rng: np.random.Generator) -> dict[str, bytes]:
    """Return files of every format, mode and size that the reader takes, by name."""
    rgb = rng.integers(0, 256, (37, 53, 3), dtype=np.uint8)
    picture = PILImage.fromarray(rgb)
    turned = PILImage.Exif()
    turned[0x0112] = 6
    wide = PILImage.fromarray(rng.integers(0, 65536, (20, 30), dtype=np.uint16))
    frames = [PILImage.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(3)]
    files: dict[str, tuple[PILImage.Image, dict[str, Any]]] = {
        "plain.jpg": (picture, {"format": "JPEG"}),
        "progressive.jpg": (picture, {"format": "JPEG", "progressive": True}),
        "progressive_whole.jpg": (picture, {"format": "JPEG", "progressive": True, "subsampling": 0}),
        "turned.jpg": (picture, {"format": "JPEG", "exif": turned}),
        "cmyk.jpg": (picture.convert("CMYK"), {"format": "JPEG"}),
        "grey.jpg": (picture.convert("L"), {"format": "JPEG"}),
        "plain.png": (picture, {"format": "PNG"}),
        "palette.png": (picture.quantize(17), {"format": "PNG"}),
        "see_through.png": (picture.convert("RGBA"), {"format": "PNG"}),
        "wide.png": (wide, {"format": "PNG"}),
        "bits.png": (picture.convert("1"), {"format": "PNG"}),
        "moving.png": (frames[0], {"format": "PNG", "save_all": True, "append_images": frames[1:]}),
        "one.png": (picture.crop((0, 0, 1, 1)), {"format": "PNG"}),
        "plain.bmp": (picture, {"format": "BMP"}),
        "plain.tif": (picture, {"format": "TIFF"}),
        "packed.tif": (picture, {"format": "TIFF", "compression": "tiff_lzw"}),
        "cmyk.tif": (picture.convert("CMYK"), {"format": "TIFF"}),
        "plain.webp": (picture, {"format": "WEBP"}),
        "lossless.webp": (picture.convert("RGBA"), {"format": "WEBP", "lossless": True}),
        "turned.webp": (picture, {"format": "WEBP", "exif": turned}),
        "turned.tif": (picture, {"format": "TIFF", "exif": turned}),
        "turned.png": (picture, {"format": "PNG", "exif": turned}),
        "moving.webp": (frames[0], {"format": "WEBP", "save_all": True, "append_images": frames[1:]}),
        "plain.ppm": (picture, {"format": "PPM"}),
    }
    encoded = {}
    for name, (image, options) in files.items():
        buffer = io.BytesIO()
        image.save(buffer, **options)
        encoded[name] = buffer.getvalue()
    return encoded


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG file, its checksum right."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_zeros(width: int, height: int, whole: bool) -> bytes:
    """Return a PNG that declares a size; its pixels are zeros, or missing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(3 * width + 1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush() if whole else zlib.compress(b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


@functools.cache
def hostile_files() -> dict[str, bytes]:
    """Return files that lie about what they are, by name."""
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    jpeg = bytearray(sound_images(np.random.default_rng(0))["plain.jpg"])
    frame = jpeg.index(b"\xff\xc0")  # start of frame: marker, length, depth, height, width
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    bmp = bytearray(sound_images(np.random.default_rng(0))["plain.bmp"])
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    return {
        "svg.png": svg,
        "html.jpg": b"<!doctype html><script>alert(1)</script>",
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "pickle.png": b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        "program.jpg": b"\x7fELF\x02\x01\x01" + bytes(100),
        "nothing.png": b"",
        "a_few_zeros.jpg": bytes(1000),
        "declares_much.png": png_of_zeros(2**31 - 1, 2**31 - 1, whole=False),
        "declares_170_megapixels.png": png_of_zeros(17_000, 10_000, whole=False),
        "bomb_of_400_megapixels.png": png_of_zeros(20_000, 20_000, whole=True),
        "bomb_of_170_megapixels.png": png_of_zeros(17_000, 10_000, whole=True),
        "large_but_whole_90_megapixels.png": png_of_zeros(10_000, 9_000, whole=True),
        "declares_much.bmp": bytes(bmp),
        "declares_much.jpg": bytes(jpeg),
        "zero_wide.png": png_of_zeros(0, 5, whole=False),
    }


def with_odd_exif(rng: np.random.Generator) -> tuple[str, bytes]:
    """Return the suffix and the bytes of a sound image whose EXIF data are broken."""
    exif = PILImage.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = int(rng.integers(0, 10)), "maker", 72.0
    exif.get_ifd(0x8769).update({0x9003: "2026:01:01 00:00:00", 0x927C: rng.bytes(20)})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 0.0)})
    block = bytearray(exif.tobytes())
    for _ in range(int(rng.integers(1, 6))):
        block[int(rng.integers(6, len(block)))] = int(rng.integers(256))
    suffix = str(rng.choice([".jpg", ".png", ".webp"]))
    buffer = io.BytesIO()
    PILImage.new("RGB", (7, 5)).save(
        buffer, {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}[suffix], exif=bytes(block)
    )
    return suffix, buffer.getvalue()


def mutated(name: str, data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return a broken version of a file, and a suffix that may be wrong."""
    changed = bytearray(data)
    how = int(rng.integers(9))
    if how == 8:
        return with_odd_exif(rng)
    if how == 0:
        changed = changed[: int(rng.integers(len(changed)))]
    elif how == 1:
        for _ in range(int(rng.integers(1, 9))):
            changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    elif how == 2:  # the header alone: sizes, depths, counts
        for _ in range(int(rng.integers(1, 5))):
            changed[int(rng.integers(min(64, len(changed))))] = int(rng.integers(256))
    elif how == 3:
        changed[:4] = rng.bytes(4)
    elif how == 4:
        start = int(rng.integers(len(changed)))
        changed[start : start + int(rng.integers(1, 200))] = b""
    elif how == 5:
        start = int(rng.integers(len(changed)))
        changed[start:start] = rng.bytes(int(rng.integers(1, 200)))
    elif how == 6:
        start = int(rng.integers(len(changed)))
        length = int(rng.integers(1, 100))
        changed[start : start + length] = bytes(min(length, len(changed) - start))
    elif how == 7 and data.startswith(b"\x89PNG"):  # another declared size under a right checksum
        size = struct.pack(">II", *(int(rng.choice([0, 1, 53, 9999, 65_536, 2**31])) for _ in range(2)))
        header = size + data[24:29]
        changed[8 : 8 + 25] = png_chunk(b"IHDR", header)
    suffix = str(rng.choice([Path(name).suffix, ".png", ".jpg", ".tif"]))
    return suffix, bytes(changed)


def judge(path: Path) -> tuple[str, str]:
    """Read one file; return ("read" | "refused" | "failed", why it failed)."""
    begin = time.monotonic()
    try:
        seen = inspect_file(path)
        if seen.error:
            verdict = ("refused", "") if seen.error.strip() else ("failed", "refused without a reason")
        else:
            image = read_image(path)
            right = image.dtype == np.uint8 and image.shape == (*seen.size, 3)
            verdict = (
                ("read", "") if right else ("failed", f"read as {image.dtype} {image.shape}, reported {seen.size}")
            )
    except DatasetError as error:
        verdict = ("failed", f"inspected in peace, then: {error}")
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        verdict = ("failed", f"{type(error).__name__}: {error}")
    if (took := time.monotonic() - begin) > SECONDS * (4 if path.name.startswith("large") else 1):
        verdict = ("failed", f"took {took:.1f} s")
    return verdict


def read_many(job: tuple[Path, int, int]) -> tuple[Counter[str], list[str], int]:
    """Make and read `count` mutants of `rng_seed`; return verdicts, failures and the peak of memory in MiB."""
    folder, rng_seed, count = job
    rng = np.random.default_rng(rng_seed)
    sound = sound_images(rng)
    verdicts: Counter[str] = Counter()
    failures = []
    for index in range(count):
        name = str(rng.choice(sorted(sound)))
        suffix, data = mutated(name, sound[name], rng)
        path = folder / f"{rng_seed}{suffix}"
        path.write_bytes(data)
        verdict, why = judge(path)
        verdicts[verdict] += 1
        if why:
            failures.append(f"{name}, mutant {index} of seed {rng_seed}: {why}")
    return verdicts, failures, peak_bytes() >> 20


def read_hostile(job: tuple[Path, str]) -> tuple[str, tuple[str, str], int]:
    """Make and read one hostile file; return its name, the verdict and the peak of memory in MiB."""
    folder, name = job
    (folder / name).write_bytes(hostile_files()[name])
    verdict = judge(folder / name)
    (folder / name).unlink()
    return name, verdict, peak_bytes() >> 20


def peak_bytes() -> int:
    """Return the most memory that this process ever held."""
    status = Path("/proc/self/status")
    if status.is_file():  # `ru_maxrss` also counts the process that started this one
        return 1024 * int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


MEASURED: dict[str, tuple[str, str, dict[str, Any]]] = {  # name: mode of the image, format, how it is written
    "JPEG": ("RGB", "JPEG", {}),
    "JPEG, progressive": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "JPEG, progressive CMYK": ("CMYK", "JPEG", {"progressive": True, "subsampling": 0}),
    "PNG": ("RGB", "PNG", {"compress_level": 1}),
    "PNG, transparent": ("RGBA", "PNG", {"compress_level": 1}),
    "BMP": ("RGB", "BMP", {}),
    "TIFF": ("RGB", "TIFF", {}),
    "TIFF, one strip, turned": ("RGBA", "TIFF", {"compression": "tiff_adobe_deflate", "strip_size": 2**30, "turned": True}),
    "WebP": ("RGB", "WEBP", {"method": 0}),
    "WebP, lossless": ("RGBA", "WEBP", {"method": 0, "lossless": True, "quality": 0}),
    "PPM": ("RGB", "PPM", {}),
}  # fmt: skip


def measured_bytes(folder: Path, name: str, side: int) -> float:
    """Write and read an image of `side` x `side` px; return the bytes per pixel that reading it takes, without its file."""
    mode, form, options = MEASURED[name]
    exif = PILImage.Exif()
    exif[0x0112] = 6 if options.get("turned") else 1
    path = folder / "measured"
    code = (
        "import sys; from pathlib import Path; from tests.stress.inputs import peak_bytes; from wsseg.data.reading import inspect_file;"
        "first, path = map(Path, sys.argv[1:]); inspect_file(first); before = peak_bytes(); seen = inspect_file(path);"
        "print(seen.error or peak_bytes() - before)"
    )
    pixels = np.random.default_rng(0).integers(0, 256, (8, side, 4), dtype=np.uint8)
    image = PILImage.fromarray(np.tile(pixels, (side // 8, 1, 1))).convert(mode)
    for target, own in ((folder / "first", image.crop((0, 0, 64, 64))), (path, image)):
        own.save(target, form, exif=exif, **{k: v for k, v in options.items() if k != "turned"})
    command = [sys.executable, "-c", code, str(folder / "first"), str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]).stdout
    return (int(output) - path.stat().st_size) / side**2


def measure_memory(folder: Path, side: int) -> tuple[dict[str, float], list[str]]:
    """Return the bytes per pixel of every format, and those that take more than the reader reserves."""
    bytes_per_pixel = {name: round(measured_bytes(folder, name, side), 1) for name in MEASURED}
    failures = [
        f"{name}: {measured} bytes per pixel, {BYTES_PER_PIXEL[MEASURED[name][1]]} reserved"
        for name, measured in bytes_per_pixel.items()
        if measured > BYTES_PER_PIXEL[MEASURED[name][1]]
    ]
    return bytes_per_pixel, failures


def stress(count: int, folder: Path) -> dict[str, Any]:
    """Read sound, hostile and `count` mutated files; return figures and failures."""
    folder.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    for name, data in sound_images(np.random.default_rng(1)).items():
        (folder / name).write_bytes(data)
        if (verdict := judge(folder / name)) != ("read", ""):
            failures.append(f"sound {name}: {verdict}")
    refused = 0
    verdicts: Counter[str] = Counter()
    peaks = []
    share = max(1, count // 20)
    # new processes, which hold the reader and no network: it is the reader's memory that is evaluated
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for name, (verdict, why), peak in pool.map(read_hostile, [(folder, name) for name in hostile_files()]):
            refused += verdict == "refused"
            if why or (verdict == "read") != name.startswith("large_but_whole"):
                failures.append(f"hostile {name}: {verdict} {why}")
            peaks.append(peak)
        for counts, why, peak in pool.map(read_many, [(folder, 100 + i, share) for i in range(20)]):
            verdicts += counts
            failures += why
            peaks.append(peak)
    per_pixel, too_much = measure_memory(folder, 4096)
    failures += too_much
    if max(peaks) > MEBIBYTES:
        failures.append(f"memory: {max(peaks)} MiB at its highest")
    return {
        "mutants": sum(verdicts.values()),
        "read": verdicts["read"],
        "refused": verdicts["refused"],
        "hostile_refused": refused,
        "peak_mib": max(peaks),
        "bytes_a_pixel": per_pixel,
        "failures": failures,
    }
