"""The stage `doubt_labels`: writes doubts.json. Torch is imported in `run`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsseg.data.images import LabeledImages
from wsseg.stages.doubt_labels import config as values
from wsseg.stages.doubt_labels.listing import FILE, DoubtedImage, DoubtedLabel, LabelDoubts, NearDuplicate
from wsseg.stages.protocol import Role
from wsseg.store.files import atomic_write


class DoubtLabels:
    name = "doubt_labels"
    table = "label_doubts"
    version = 1
    Config = values.Config
    inputs: Mapping[str, Role] = {"images": Role(("images",)), "val_images": Role(("images",), optional=True)}
    output = "label_doubts"
    distributed = False
    measures = True

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Build the backbone without memory for its weights, and compare it with them."""
        from wsseg.stages.doubt_labels.describing import check

        check(config, inputs["images"])

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write doubts.json; metrics: numbers of `images`, `probably_wrong` ones and `near_duplicates`, and the heads' `judge_map`."""
        from wsseg.data.near_duplicates import near_duplicates
        from wsseg.stages.doubt_labels.describing import descriptors

        images: LabeledImages = inputs["images"]
        val: LabeledImages | None = inputs.get("val_images")
        doubted, not_judged, average_precision = judged(images, descriptors(config, images), config)
        similar = near_duplicates(images.items, val.items) if val is not None else []
        pairs = [NearDuplicate(own.id, other.id, similarity) for own, other, similarity in similar]
        result = LabelDoubts(doubted, pairs, not_judged)
        atomic_write(out / FILE, result.encode())
        counts = {"images": len(images), "probably_wrong": result.probably_wrong, "near_duplicates": len(pairs)}
        return counts | {"judge_map": average_precision}


def judged(
    images: LabeledImages, descriptors: Any, config: values.Config
) -> tuple[list[DoubtedImage], list[str], float | None]:
    """Judge the labels of images.

    Args:
        images: images with labels.
        descriptors: (N, P, D), in the order of the images.
        config: number of parts, and the seed.

    Returns:
        The images with a judged class, the most doubted first; the names of the classes that could not be judged; and the mean average precision
        of the heads on the labels that they did not learn from, in [0, 1], or None if no class was judged.
    """
    import numpy as np

    from wsseg.stages.doubt_labels.judging import (
        confidently_wrong,
        doubts,
        held_out_probabilities,
        mean_average_precision,
        parts,
    )

    names = images.classes.names
    labels = np.array([[k in item.class_ids for k in range(1, len(names) + 1)] for item in images.items])
    part = parts([item.sha256 for item in images.items], config.folds, config.rng_seed)
    probabilities = held_out_probabilities(descriptors, labels, part, config.rng_seed)
    doubt, wrong = doubts(probabilities, labels), confidently_wrong(probabilities, labels)
    listed = []
    for item, row, own, is_wrong in zip(images.items, doubt, labels, wrong, strict=True):
        order = sorted(np.flatnonzero(~np.isnan(row)), key=lambda k: (-row[k], k))
        if not order:
            continue
        shown = [k for k in order if own[k] or row[k] > 0.5 or is_wrong[k]] or order[:1]
        entries = (DoubtedLabel(names[k], bool(own[k]), round(float(row[k]), 6), bool(is_wrong[k])) for k in shown)
        listed.append(DoubtedImage(item.id, round(-float(np.log1p(-row[order]).sum()), 4), tuple(entries)))
    listed.sort(key=lambda image: (-image.surprise, image.id))
    not_judged = [name for k, name in enumerate(names) if np.isnan(probabilities[:, k]).any()]
    return listed, not_judged, mean_average_precision(probabilities, labels)
