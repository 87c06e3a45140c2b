"""An order of images without true masks: how far seeds and masks agree, or how confident the network is.

Both say which images deserve a look. Neither is a quality: masks that share an error agree.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsseg.data.images import LabeledImages
from wsseg.data.masks import decode_mask, sampled
from wsseg.data.sampling import evenly_spaced
from wsseg.errors import WssegError
from wsseg.labels import BACKGROUND, IGNORE_INDEX
from wsseg.progress import track
from wsseg.report.quality import Scores
from wsseg.saliency.seeds import decode_seed, enlarged
from wsseg.stages.layout import CONFIDENCE_FOLDER, SEED_FOLDER
from wsseg.types import LabeledImage, Mask

if TYPE_CHECKING:
    from wsseg.report.run_report import Layer

MOST_IMAGES = 2000  # images of a split that are compared; more would keep the reader waiting
_SIDE = 128  # px, the longer side of the masks that are compared
_SEED_LEVEL = 0.3  # background threshold of seeds whose pseudo-masks do not state one


def agreement(images: LabeledImages, layers: "Sequence[Layer]") -> Scores | None:
    """Return, by image and class, the mean IoU of each pair of: last seeds, first masks, last masks.

    Seeds become masks at the background level of the pseudo-masks. A class of the label that no mask shows has 0. Images
    without a class have no agreement.

    Args:
        images: the images of a split; `MOST_IMAGES` of them are read, evenly spaced.
        layers: of the split.

    Returns:
        None if fewer than two layers can be compared.
    """
    heats = [layer for layer in layers if layer.kind == "heat"][-1:]
    masks = [layer for layer in layers if layer.kind == "mask"]
    compared = [*heats, *masks[:1], *(masks[-1:] if len(masks) > 1 else [])]
    if len(compared) < 2:
        return None
    level = _seed_level(masks)
    classes: dict[int, dict[str, float]] = {}
    areas: dict[int, dict[str, float]] = {}
    for item in _labelled(images, "agreement"):
        try:
            shown = [_small(_labels(layer, item, level)) for layer in compared]
        except WssegError:
            continue
        for class_id in item.class_ids:
            classes.setdefault(class_id, {})[item.id] = mean(
                class_iou(a, b, class_id) for a, b in combinations(shown, 2)
            )
    names = ", ".join(layer.name for layer in compared)
    return _scores("agreement", f"the agreement of {names} (mean IoU of each pair)", classes, areas)


def confidence(images: LabeledImages, layers: "Sequence[Layer]") -> Scores | None:
    """Return, by image and class, the mean confidence of the last masks in the pixels of the class; 0 if it has none.

    Returns:
        None if no step wrote masks with confidences.
    """
    masks = [layer for layer in layers if layer.kind == "mask"]
    if not masks or masks[-1].masks is None or masks[-1].artifact is None:
        return None
    classes: dict[int, dict[str, float]] = {}
    for item in _labelled(images, "confidence"):
        try:
            percent = decode_mask(masks[-1].artifact.read_bytes(f"{CONFIDENCE_FOLDER}/{item.id}.png"))
            labels = masks[-1].masks.mask(item.id)
        except WssegError:
            return None
        for class_id in item.class_ids:
            found = percent[sampled(labels) == class_id]
            classes.setdefault(class_id, {})[item.id] = float(found.mean()) / 100 if found.size else 0.0
    return _scores("confidence", f"the confidence of {masks[-1].name} in the pixels of each class", classes)


def _scores(
    measure: str, meaning: str, classes: dict[int, dict[str, float]], areas: dict[int, dict[str, float]] | None = None
) -> Scores | None:
    by_image: dict[str, list[float]] = {}
    for values in classes.values():
        for item_id, value in values.items():
            by_image.setdefault(item_id, []).append(value)
    if not by_image:
        return None
    return Scores(
        measure, meaning, {item_id: mean(values) for item_id, values in by_image.items()}, classes, areas or {}
    )


def _labelled(images: LabeledImages, what: str) -> Iterator[LabeledImage]:
    items = evenly_spaced([item for item in images.items if item.class_ids], MOST_IMAGES)
    yield from track(items, len(items), f"report: {what} on {images.split}")


def _seed_level(masks: "Sequence[Layer]") -> float:
    """Return the background level at which the first masks were made from seeds."""
    provenance: dict[str, Any] = masks[0].artifact.manifest["provenance"] if masks and masks[0].artifact else {}
    for table in ("walked_masks", "pseudo_masks"):
        values = provenance.get(table, {})
        if values.get("levels") and values.get("background") == "threshold":
            return float(mean(values["levels"]))
    return _SEED_LEVEL


def _labels(layer: "Layer", item: LabeledImage, level: float) -> Mask:
    """Return the class ids that a layer shows, (H, W)."""
    if layer.masks is not None:
        return layer.masks.mask(item.id)
    if layer.artifact is None:
        raise WssegError(f"{layer.name}: no seeds")
    seed = decode_seed(layer.artifact.read_bytes(f"{SEED_FOLDER}/{item.id}.png"))
    if not seed.class_ids:
        return np.zeros(item.size, np.uint8)
    maps = enlarged(seed).maps
    ids = np.array(seed.class_ids, np.uint8)[maps.argmax(axis=0)]
    return np.where(maps.max(axis=0) >= level, ids, np.uint8(BACKGROUND))


def _small(mask: Mask) -> Mask:
    """Return evenly spaced pixels of a mask."""
    every = max(1, max(mask.shape) // _SIDE)
    return mask[::every, ::every]


def class_iou(mask_a: NDArray[np.uint8], mask_b: NDArray[np.uint8], class_id: int) -> float:
    """Return the IoU of a class in two masks, without the pixels that either leaves undecided; 0 if neither shows it."""
    decided = (mask_a != IGNORE_INDEX) & (mask_b != IGNORE_INDEX)
    in_a, in_b = mask_a == class_id, mask_b == class_id
    union = int(((in_a | in_b) & decided).sum())
    return int((in_a & in_b).sum()) / union if union else 0.0
