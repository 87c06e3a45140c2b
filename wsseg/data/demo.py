"""The demo data sets: generated, deterministic, with exact masks, and hard enough to be a useful test.

This module writes both scenes and draws the objects; `wsseg.data.demo_surfaces` draws the surfaces.

Objects of four classes differ in shape and texture; textures and backgrounds are crops of photographs that come with
scikit-image. An image shows up to three objects of several sizes, which may overlap, and clutter of no class: other shapes
with other textures. Every eighth image shows only clutter.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw

from wsseg.data.config import CsvData, CsvSplit, DemoData, DemoSplit
from wsseg.data.demo_surfaces import CLASSES as DEFECTS
from wsseg.data.demo_surfaces import draw_surface
from wsseg.data.masks import encode_mask
from wsseg.data.reading import read_image
from wsseg.types import Image, Mask

DEMO_VERSION = 1  # bump when the same settings give other images

Polygon = NDArray[np.float64]  # (P, 2) x, y around the origin, radius about 1


def _disc() -> Polygon:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _star() -> Polygon:
    angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    radius = np.where(np.arange(10) % 2 == 0, 1.15, 0.5)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]


def _bar() -> Polygon:
    return np.array([[-1.4, -0.3], [1.4, -0.3], [1.4, 0.3], [-1.4, 0.3]])


def _cross() -> Polygon:
    a, b = 0.35, 1.05
    return np.array([
        [-a, -b], [a, -b], [a, -a], [b, -a], [b, a], [a, a], [a, b], [-a, b], [-a, a], [-b, a], [-b, -a], [-a, -a],
    ])  # fmt: skip


def _triangle() -> Polygon:
    return np.array([[0, -1.0], [0.9, 0.8], [-0.9, 0.8]])


# outline, and photograph of the texture, by class name
CLASSES: dict[str, tuple[Callable[[], Polygon], str]] = {
    "brick_disc": (_disc, "brick"),
    "grass_star": (_star, "grass"),
    "fur_bar": (_bar, "chelsea"),
    "gravel_cross": (_cross, "gravel"),
}
_BACKGROUNDS = ("astronaut", "coffee", "rocket", "camera", "motorcycle")
_CLUTTER = ("text", "coins", "moon", "immunohistochemistry")


def demo_data(data: DemoData, folder: Path) -> CsvData:
    """Return the demo data set in the CSV layout; it is generated below `folder` if it does not exist yet.

    Args:
        data: number of images, size and seed.
        folder: parent of generated data sets; each set of values has its own sub-folder.
    """
    counts = {split: part.images for split in ("train", "val") if (part := getattr(data, split))}
    surfaces = data.scene == "surfaces"
    names = DEFECTS if surfaces else tuple(CLASSES)
    identity = f"{DEMO_VERSION} {data.size} {data.seed} {sorted(counts.items())}" + (" surfaces" if surfaces else "")
    root = folder / f"demo-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    if not root.is_dir():
        partial = folder / f"{root.name}.partial-{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        photographs = {} if surfaces else _photographs()

        def drawn(rng: np.random.Generator, index: int) -> tuple[Image, Mask]:
            if surfaces:
                return draw_surface(rng, (data.size, 2 * data.size), empty=index % 2 == 1)
            return draw(rng, data.size, index % 8 == 7, photographs)

        for number, (split, count) in enumerate(sorted(counts.items())):
            _write_split(partial / split, count, (data.seed, number), names, drawn)
        try:
            partial.rename(root)
        except OSError:  # another process has created it, with the same files
            shutil.rmtree(partial)
            if not root.is_dir():
                raise
    return CsvData(
        kind="csv",
        classes=data.classes or names,
        other_classes=data.other_classes,
        on_bad_image=data.on_bad_image,
        train=_csv_split(root, "train", data.train),
        val=_csv_split(root, "val", data.val) if data.val else None,
        mask_classes=names,
    )


def _csv_split(root: Path, split: str, part: DemoSplit) -> CsvSplit:
    folder = root / split
    images, labels, masks = folder / "images", folder / "labels.csv", folder / "masks"
    return CsvSplit(images, labels, masks, limit=part.limit, label_overlay=part.label_overlay, marks=part.marks)


def _photographs() -> dict[str, Image]:
    import skimage.data  # slow to import, and needed only to generate the data set

    names = {*_BACKGROUNDS, *_CLUTTER, *(texture for _, texture in CLASSES.values())} - {"motorcycle"}
    photographs = {name: np.asarray(getattr(skimage.data, name)()) for name in sorted(names)}
    folder = Path(
        skimage.data.__file__
    ).parent  # the package has the left view as a file, but a function only for the stereo pair
    photographs["motorcycle"] = read_image(folder / "motorcycle_left.png")
    return {n: np.stack([p] * 3, axis=2) if p.ndim == 2 else p[..., :3] for n, p in photographs.items()}


def _write_split(
    folder: Path,
    count: int,
    seed: tuple[int, int],
    classes: tuple[str, ...],
    drawn: Callable[[np.random.Generator, int], tuple[Image, Mask]],
) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = ["image_id,classes"]
    for index in range(count):
        image, mask = drawn(np.random.default_rng([*seed, index]), index)
        PILImage.fromarray(image).save(folder / "images" / f"{index:05d}.png")
        (folder / "masks" / f"{index:05d}.png").write_bytes(encode_mask(mask))
        names = [classes[i - 1] for i in np.unique(mask) if i > 0]
        rows.append(f"{index:05d},{' '.join(names)}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def draw(rng: np.random.Generator, size: int, empty: bool, photographs: dict[str, Image]) -> tuple[Image, Mask]:
    """Draw one image (size, size, 3) and its exact mask (size, size), both uint8."""
    image = _cut(rng, photographs[str(rng.choice(_BACKGROUNDS))], size, rng.uniform(0.4, 1.0))
    mask = np.zeros((size, size), dtype=np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        outline = [_triangle, _disc, _bar][int(rng.integers(3))]()
        texture = _cut(rng, photographs[str(rng.choice(_CLUTTER))], size, rng.uniform(0.5, 1.0))
        _paste(rng, image, mask, outline, texture, 0)
    for _ in range(0 if empty else int(rng.integers(1, 4))):
        class_id = int(rng.integers(1, len(CLASSES) + 1))
        draw_outline, name = list(CLASSES.values())[class_id - 1]
        texture = _cut(rng, photographs[name], size, rng.uniform(0.6, 1.2))
        _paste(rng, image, mask, draw_outline(), texture, class_id)
    noise = rng.normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), mask


def _cut(rng: np.random.Generator, photograph: Image, size: int, zoom: float) -> Image:
    """Return a random square crop, `size` / zoom px wide, resized to (size, size, 3), with random brightness."""
    side = min(int(size / zoom), *photograph.shape[:2])
    y, x = (int(rng.integers(0, extent - side + 1)) for extent in photograph.shape[:2])
    piece = PILImage.fromarray(photograph[y : y + side, x : x + side]).resize(
        (size, size), PILImage.Resampling.BILINEAR
    )
    return np.clip(np.asarray(piece) * rng.uniform(0.75, 1.2), 0, 255).astype(np.uint8)


def _paste(rng: np.random.Generator, image: Image, mask: Mask, outline: Polygon, texture: Image, class_id: int) -> None:
    """Draw a rotated, scaled outline filled with `texture` into `image` and `mask`, in place."""
    size = mask.shape[0]
    radius = size * rng.uniform(0.09, 0.24)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = rng.uniform(0.15 * size, 0.85 * size, 2)
    points = outline @ turn * radius + centre
    canvas = PILImage.new("1", (size, size))
    ImageDraw.Draw(canvas).polygon([tuple(p) for p in points], fill=1)
    inside = np.asarray(canvas)
    image[inside] = texture[inside]
    mask[inside] = class_id
