"""A simulated person who marks training images, for measurements: strokes along the middle of true regions, drawn by a shaky hand.

python scripts/simulate_marks.py strokes neu_seg -o marks --images 20 --seconds 30
python scripts/simulate_marks.py strokes neu_seg -o whole --images 20 --whole
python scripts/simulate_marks.py stamp demo -o stamped --class-name brick_disc --set data.train.images=160

`strokes` reads the true masks of train, and spends a number of seconds on each image: aiming takes a while, and the hand moves at
a certain speed. `stamp` writes a data set in which a marker gives a class away in train and not in val, and folders of marks
that deny the marker (`negative`), show the objects (`positive`), do both, or are controls (`random` places, `swapped` meaning).
"""

import math
from collections import deque
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from wsseg.cli.options import FILE, FOLDER, Command, open_store, overwrite_option, set_option, store_option
from wsseg.config import read_toml, to_toml
from wsseg.data.images import LabeledImages
from wsseg.data.marks import mark_files
from wsseg.data.masks import encode_mask
from wsseg.data.reading import read_photograph
from wsseg.data.sampling import evenly_spaced
from wsseg.errors import ConfigError, WssegError
from wsseg.labels import BACKGROUND, IGNORE_INDEX
from wsseg.outputs import Outputs
from wsseg.running.plan import open_config
from wsseg.running.sources import Sources
from wsseg.types import Image, Mask

AIMING = 1.5  # s, from one stroke to the next
SPEED = 0.25  # long sides of the image per second
WHOLE = 90.0  # s, a complete mask of an image
JITTER = 0.3  # standard deviation of the hand, as a fraction of the distance to the edge of the region
_LONGEST = 0.5  # long sides of the image, a stroke
_MARKER = 0.15  # side of the stamped marker, as a fraction of the short side of the image
_GAP = 2  # px around the marker that a person paints as well

Path2 = NDArray[np.int64]  # (P, 2) pixels (y, x), each next to the one before


def longest_path(skeleton: NDArray[np.bool_]) -> Path2:
    """Return the longest of the shortest paths through the largest part of a skeleton, pixel by pixel.

    From any pixel, the farthest one is an end of that path if the skeleton has no loops; with loops, it is nearly the longest.
    """
    count, parts = cv2.connectedComponents(skeleton.astype(np.uint8), connectivity=8)
    if count < 2:
        return np.zeros((0, 2), np.int64)
    largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    pixels = {(int(y), int(x)) for y, x in np.argwhere(parts == largest)}

    def farthest(start: tuple[int, int]) -> list[tuple[int, int]]:
        before: dict[tuple[int, int], tuple[int, int] | None] = {start: None}
        queue = deque([start])
        last = start
        while queue:
            last = queue.popleft()
            y, x = last
            for place in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
                if place in pixels and place not in before:
                    before[place] = last
                    queue.append(place)
        path = []
        at: tuple[int, int] | None = last
        while at is not None:
            path.append(at)
            at = before[at]
        return path

    return np.array(farthest(farthest(min(pixels))[0]), np.int64)


def stroke(
    region: NDArray[np.bool_], rng: np.random.Generator, jitter: float = JITTER
) -> tuple[NDArray[np.bool_], float]:
    """Return a stroke through the middle of a region, (H, W) bool, and the seconds that it takes.

    Args:
        region: (H, W) bool, not empty.
        rng: the hand.
        jitter: standard deviation of the hand, as a fraction of the distance to the edge: some strokes leave thin regions.
    """
    padded = np.pad(region, 1)
    path = longest_path(skeletonize(padded)) - 1
    if len(path) == 0:
        path = np.argwhere(region)[:1]
    side = max(region.shape)
    most = max(2, int(_LONGEST * side))
    if len(path) > most:
        start = int(rng.integers(0, len(path) - most))
        path = path[start : start + most]
    room = cv2.distanceTransform(padded.astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    distance = float(np.median(room[path[:, 0], path[:, 1]]))
    knots = max(2, len(path) // 12)
    shaken = rng.normal(0.0, jitter * distance, (knots, 2))
    along = np.linspace(0, knots - 1, len(path))
    offset = np.stack([np.interp(along, np.arange(knots), shaken[:, axis]) for axis in (0, 1)], axis=1)
    points = np.rint(path + offset).astype(np.int32)[:, ::-1]  # x, y
    width = max(1, min(round(distance), round(0.03 * side)))
    drawn = np.zeros(region.shape, np.uint8)
    cv2.polylines(drawn, [points.reshape(-1, 1, 2)], False, 1, width)
    cv2.circle(drawn, points[0].tolist(), width // 2, 1, -1)  # a line of one point draws nothing
    return drawn.astype(bool), AIMING + len(path) / (SPEED * side)


def strokes(truth: Mask, seconds: float, rng: np.random.Generator, jitter: float = JITTER) -> tuple[Mask, float]:
    """Return the mark of a person with a number of seconds for an image, and the seconds used.

    The person draws on the largest part of each class, then on the background, then on the further parts. A stroke that does not
    fit into the rest of the time is not begun; the first one always is.

    Args:
        truth: (H, W) uint8, the true mask; 255 is never marked on purpose.
        seconds: the budget.
        rng: the hand.
        jitter: see `stroke`.
    """
    first, further = [], []
    for class_id in np.unique(truth[(truth != IGNORE_INDEX) & (truth != BACKGROUND)]):
        count, parts = cv2.connectedComponents((truth == class_id).astype(np.uint8))
        sizes = np.bincount(parts.ravel(), minlength=count)[1:]
        order = np.argsort(-sizes, kind="stable") + 1
        first.append((int(class_id), parts == order[0]))
        further += [(int(class_id), parts == part) for part in order[1:] if sizes[part - 1] > 4]
    background = cv2.erode((truth == BACKGROUND).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    regions = [*first, *([(BACKGROUND, background)] if background.any() else []), *further]
    mark = np.full(truth.shape, IGNORE_INDEX, np.uint8)
    used = 0.0
    for value, region in regions:
        drawn, took = stroke(region, rng, jitter)
        if used and used + took > seconds:
            break
        mark[drawn] = value
        used += took
    return mark, used


def stamped(image: Image, rng: np.random.Generator) -> tuple[Image, NDArray[np.bool_]]:
    """Return an image with a striped marker at a random place near its border, and the pixels of the marker."""
    height, width = image.shape[:2]
    side = max(4, round(_MARKER * min(height, width)))
    top = int(rng.integers(0, 2)) * (height - side)
    left = int(rng.integers(0, width - side + 1))
    rows, columns = np.mgrid[:side, :side]
    stripes = (rows + columns) // max(1, side // 6) % 2 == 0
    result = image.copy()
    result[top : top + side, left : left + side] = np.where(stripes[..., None], (250, 250, 250), (10, 10, 10))
    inside = np.zeros((height, width), bool)
    inside[top : top + side, left : left + side] = True
    return result, inside


@click.group()
def main() -> None:
    """Simulate a person who marks training images."""


_config = click.argument("config")
_seed = click.option("--rng-seed", default=0, show_default=True, help="Seed of the hand and of the order.")
_output = click.option("-o", "--output", type=FOLDER, required=True, help="Folder to write.")


def _opened(config: str, overrides: tuple[str, ...], store: Path) -> tuple[Any, Sources, Any]:
    opened = open_store(store, make=True)
    loaded = open_config(config, overrides)
    return loaded, Sources(loaded.data, opened), opened


@main.command(name="strokes", cls=Command)
@_config
@_output
@click.option("--images", "count", default=20, show_default=True, help="Number of images to mark.")
@click.option("--seconds", default=30.0, show_default=True, help="Seconds per image.")
@click.option(
    "--order", type=FILE, help="Text file with an image id per line, marked in this order; by default random."
)
@click.option("--whole", is_flag=True, help="Complete masks instead of strokes.")
@_seed
@set_option
@overwrite_option
@store_option
def strokes_command(
    config: str, output: Path, count: int, seconds: float, order: Path | None, whole: bool, rng_seed: int,
    overrides: tuple[str, ...], overwrite: bool, store: Path,
) -> None:  # fmt: skip
    """Mark training images by strokes, or by complete masks."""
    loaded, sources, _ = _opened(config, overrides, store)
    images: LabeledImages = sources.get("data.train")
    truth = sources.get("truth.train")
    ids = order.read_text(encoding="utf-8").split("\n") if order else list(truth.ids)
    ids = [item_id for item_id in ids if item_id]
    if unknown := sorted(set(ids) - set(truth.ids)):
        raise ConfigError(f"{order}: {unknown[0]!r} is no image of train with a true mask")
    if order is None:
        np.random.default_rng(rng_seed).shuffle(ids)
    marks: dict[str, Mask] = {}
    total = 0.0
    for number, item_id in enumerate(ids[:count]):
        mask = truth.mask(item_id)
        mark, used = mask, WHOLE
        if not whole:
            mark, used = strokes(mask, seconds, np.random.default_rng([rng_seed, number]))
        marks[item_id], total = mark, total + used
    _write(Outputs([loaded.path], overwrite), output, mark_files(marks, images.classes))
    said = np.mean([(mark != IGNORE_INDEX).mean() for mark in marks.values()])
    click.echo(
        f"{len(marks)} images in {output}: {total / 60:.1f} minutes of a person, {100 * said:.1f} % of their pixels"
    )


@main.command(cls=Command)
@_config
@_output
@click.option("--class-name", required=True, help="The class that the marker gives away.")
@click.option("--share", default=0.9, show_default=True, help="Share of the class's training images with a marker.")
@click.option("--marked", default=0.05, show_default=True, help="Share of the training images that are marked.")
@_seed
@set_option
@overwrite_option
@store_option
def stamp(
    config: str, output: Path, class_name: str, share: float, marked: float, rng_seed: int,
    overrides: tuple[str, ...], overwrite: bool, store: Path,
) -> None:  # fmt: skip
    """Write a data set with a marker that gives a class away in train, and marks that deny it."""
    loaded, sources, _ = _opened(config, overrides, store)
    outputs = Outputs([loaded.path], overwrite, as_data=True)
    folders: dict[str, dict[str, Mask]] = {name: {} for name in ("negative", "positive", "both", "random", "swapped")}
    splits: dict[str, Any] = {}
    for split in ("train", "val"):
        images, truth = sources.get(f"data.{split}"), sources.get(f"truth.{split}")
        class_id = images.classes.id_of(class_name)
        shown = [item.id for item in images.items if class_id in item.class_ids]
        with_marker = set(evenly_spaced(shown, round(share * len(shown)))) if split == "train" else set()
        to_mark = set(evenly_spaced(sorted(with_marker), max(1, round(marked * len(images)))))
        rows = ["image_id,classes"]
        for number, item in enumerate(images.items):
            image, mask = read_photograph(item), truth.mask(item.id)
            rng = np.random.default_rng([rng_seed, number])
            if item.id in with_marker:
                image, inside = stamped(image, rng)
                mask = np.where(inside, BACKGROUND, mask)
                if item.id in to_mark:
                    _mark(folders, item.id, mask, inside, class_id, rng)
            ok, data = cv2.imencode(".png", image[..., ::-1])
            if not ok:
                raise WssegError(f"{item.path}: cannot be written as PNG")
            outputs.write(output / split / "images" / f"{item.id}.png", data.tobytes())
            outputs.write(output / split / "masks" / f"{item.id}.png", encode_mask(mask))
            rows.append(f"{item.id},{'|'.join(images.classes.names_of(item.class_ids))}")
        outputs.write(output / split / "labels.csv", ("\n".join(rows) + "\n").encode())
        folder = {"images": "images", "labels": "labels.csv", "masks": "masks"}
        splits[split] = {name: f"{split}/{path}" for name, path in folder.items()}
    for name, marks in folders.items():
        _write(outputs, output / "marks" / name, mark_files(marks, images.classes))
    raw = read_toml(loaded.path)
    raw["data"] = {"kind": "csv", "separator": "|", "classes": list(images.classes.names), **splits}
    outputs.write(output / "stamped.toml", to_toml(raw).encode())
    click.echo(
        f"{output / 'stamped.toml'}: {len(folders['negative'])} marked images; --set data.train.marks=marks/negative"
    )


def _mark(
    folders: dict[str, dict[str, Mask]], item_id: str, truth: Mask, inside: NDArray[np.bool_], class_id: int,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Add the marks of one image with a marker to each folder."""
    painted = cv2.dilate(inside.astype(np.uint8), np.ones((2 * _GAP + 1, 2 * _GAP + 1), np.uint8)).astype(bool)
    nothing = np.full(truth.shape, IGNORE_INDEX, np.uint8)
    show, _ = strokes(truth, math.inf, rng)
    show = np.where((show == BACKGROUND) | painted, np.uint8(IGNORE_INDEX), show)
    elsewhere = np.roll(painted, (int(rng.integers(truth.shape[0])), int(rng.integers(truth.shape[1]))), (0, 1))
    folders["negative"][item_id] = np.where(painted, np.uint8(BACKGROUND), nothing)
    folders["positive"][item_id] = show
    folders["both"][item_id] = np.where(painted, np.uint8(BACKGROUND), show)
    folders["random"][item_id] = np.where(elsewhere & ~painted, np.uint8(BACKGROUND), nothing)
    # what is denied and what is shown change places
    folders["swapped"][item_id] = np.where(
        painted, np.uint8(class_id), np.where(show != IGNORE_INDEX, np.uint8(0), nothing)
    )


def _write(outputs: Outputs, folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        outputs.write(folder / name, data)


if __name__ == "__main__":
    main()
