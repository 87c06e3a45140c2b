"""Draw images of a finished run from best to worst, with the result of every stage and the true mask.

python scripts/draw_stages.py best voc_vehicles -o docs/pictures/voc_vehicles.png
python scripts/draw_stages.py cam_crf demo --overview -o docs/pictures/overview.png

Rows are training images, ordered by the IoU of their last pseudo-mask (mean over background and present classes, 255
counts as wrong), then validation images, ordered by the IoU of their prediction. With --overview, rows are the median
training images of each class: photograph, seed, pseudo-mask, prediction of the network, true mask.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from PIL import Image as PILImage

from wsseg.cli.options import Command, overwrite_option, store_option
from wsseg.data.config import input_paths
from wsseg.data.reading import read_photograph
from wsseg.errors import StageError
from wsseg.inspect.pictures import overlay, panel, sheet
from wsseg.labels import IGNORE_INDEX, voc_palette
from wsseg.metrics.confusion import confusion, iou_per_class, mean_iou
from wsseg.models.segmenter import load_segmenter
from wsseg.outputs import Outputs
from wsseg.progress import track
from wsseg.running.plan import Plan, make_plan
from wsseg.saliency.seeds import decode_seed, enlarged
from wsseg.stages.layout import SEED_FOLDER, ArtifactMasks
from wsseg.stages.predict_masks.prediction import Predictor
from wsseg.store.objects import ArtifactStore
from wsseg.types import Image, LabeledImage, Mask

_WIDTH, _HEIGHT = 150, 120  # px, size of a cell
_PLACES = {"best": 0.98, "good": 0.75, "median": 0.5, "poor": 0.25, "worst": 0.02}


def fitted(picture: Image) -> Image:
    """Return a picture scaled to fit into a white cell."""
    height, width = picture.shape[:2]
    factor = min(_WIDTH / width, _HEIGHT / height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    cell = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    cell[: small.shape[0], : small.shape[1]] = small
    return cell


def painted(image: Image, mask: Mask) -> Image:
    """Return a grey photograph with a mask in the VOC palette on top; 255 is white."""
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    colours = voc_palette()[mask].astype(np.float64)
    colours[mask == IGNORE_INDEX] = 255
    share = np.where(mask[..., None] == 0, 0.0, 0.6)
    return np.rint(grey * (1 - share) + colours * share).astype(np.uint8)


def image_iou(truth: Mask, mask: Mask, classes: int) -> float:
    """Return the mean IoU of one image over the classes in the true mask or the mask."""
    return mean_iou(iou_per_class(confusion(truth, mask, classes + 1)))


def picked(scores: dict[str, float]) -> list[tuple[str, str]]:
    """Return (place, id) of the images at the places from best to worst."""
    order = sorted(scores, key=scores.__getitem__)
    return [(place, order[round(share * (len(order) - 1))]) for place, share in _PLACES.items()]


def rows_of(plan: Plan, split: str, steps: Sequence[Any]) -> list[tuple[str, list[Image]]]:
    """Return (what the row is, its cells) of one split; `steps` are planned steps whose artifacts hold seeds or masks."""
    images, truth = plan.sources.get(f"data.{split}"), plan.sources.get(f"truth.{split}")
    last = ArtifactMasks(steps[-1].artifact)
    classes = len(images.classes)
    scores = {
        item_id: image_iou(truth.mask(item_id), last.mask(item_id), classes)
        for item_id in track(truth.ids, len(truth.ids), f"judging {split}")
    }
    items: dict[str, LabeledImage] = {item.id: item for item in images.items}
    rows = []
    for place, item_id in picked(scores):
        image = read_photograph(items[item_id])
        cells = [image]
        for planned in steps:
            if planned.artifact.kind == "seeds":
                seed = enlarged(decode_seed(planned.artifact.read_bytes(f"{SEED_FOLDER}/{item_id}.png")))
                highest = seed.maps.max(axis=0) if seed.class_ids else np.zeros(seed.size, np.float32)
                cells.append(overlay(image, highest))
            else:
                cells.append(painted(image, ArtifactMasks(planned.artifact).mask(item_id)))
        cells.append(painted(image, truth.mask(item_id)))
        rows.append((f"{split}, {place}: {100 * scores[item_id]:.0f}", cells))
    return rows


def overview_of(plan: Plan) -> list[list[Image]]:
    """Return a row per class: photograph, seed, last pseudo-mask, prediction and truth of its median training image."""
    images, truth = plan.sources.get("data.train"), plan.sources.get("truth.train")
    artifacts = {planned.artifact.kind: planned.artifact for planned in plan.active if planned.artifact}
    masks = ArtifactMasks(artifacts["pseudo_masks"])
    config = next(planned.config for planned in plan.active if planned.step.stage.name == "predict_masks")
    model, spec = load_segmenter(artifacts["segmenter"].read_bytes, str(artifacts["segmenter"].folder))
    predictor = Predictor(model, spec, replace(config, min_class_probability=0.0))
    rows = []
    for class_id in range(1, 1 + len(images.classes)):
        shown = {item.id: item for item in images.items if item.class_ids == (class_id,)}
        scores = {i: image_iou(truth.mask(i), masks.mask(i), len(images.classes)) for i in shown}
        item_id = sorted(scores, key=lambda i, scores=scores: (scores[i], i))[len(scores) // 2]
        image = read_photograph(shown[item_id])
        seed = enlarged(decode_seed(artifacts["seeds"].read_bytes(f"{SEED_FOLDER}/{item_id}.png")))
        prediction = predictor.predict([image])[0].mask
        pictures = [painted(image, mask) for mask in (masks.mask(item_id), prediction, truth.mask(item_id))]
        rows.append([image, overlay(image, seed.maps.max(axis=0)), *pictures])
    return rows


@click.command(cls=Command, help=__doc__)
@click.argument("recipe")
@click.argument("config")
@click.option("--overview", is_flag=True, help="Draw the median training image of each class.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@overwrite_option
@store_option
def main(recipe: str, config: str, overview: bool, output: Path, overwrite: bool, store: Path) -> None:
    """Draw RECIPE on CONFIG."""
    plan = make_plan(recipe, config, ArtifactStore(store))
    outputs = Outputs([plan.config.path, *input_paths(plan.sources.data)], overwrite)
    outputs.check([output])
    shown = [p for p in plan.active if p.artifact and p.artifact.kind in ("seeds", "pseudo_masks", "predictions")]
    shown = [p for p in shown if p.step.table != "affinity_labels"]
    train = [p for p in shown if p.artifact is not None and p.artifact.kind != "predictions"]
    val = [p for p in shown if p.artifact is not None and p.artifact.kind == "predictions"]
    if not train or not val:
        raise StageError(f"{store}: this run is not finished; run: wsseg run {recipe} -c {config} --store {store}")
    if overview:
        titles = ["photograph", "seed", "pseudo-mask", "prediction", "truth"]
        panels = [
            panel(fitted(cell), title, bar=False)
            for row in overview_of(plan)
            for cell, title in zip(row, titles, strict=True)
        ]
        write(panels, len(titles), outputs, output)
        return
    parts = [
        (["photograph", *(p.step.name for p in steps), "truth"], rows_of(plan, split, steps))
        for split, steps in (("train", train), ("val", val))
    ]
    columns = max(len(titles) for titles, _ in parts)
    panels = []
    for titles, rows in parts:
        for name, cells in rows:
            row = [
                panel(fitted(cell), title, bar=False) for cell, title in zip(cells, [name, *titles[1:]], strict=True)
            ]
            panels += row + [np.full_like(row[0], 255)] * (columns - len(row))
    write(panels, columns, outputs, output)


def write(panels: list[Image], columns: int, outputs: Outputs, output: Path) -> None:
    """Write the panels as one PNG file."""
    drawn = PILImage.fromarray(sheet(panels, columns))
    with outputs.made_beside(output) as made:
        drawn.quantize(128).save(made, optimize=True)
    click.echo(f"{output}: {drawn.width} x {drawn.height}")


if __name__ == "__main__":
    main()
