"""The pictures at the beginning of the page: the best, the median and the worst image of each class, layer beside layer."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsseg.config import parse_table
from wsseg.data.reading import read_photograph
from wsseg.data.sampling import evenly_spaced
from wsseg.errors import WssegError, explained
from wsseg.progress import track
from wsseg.report.run_report import Layer, RunReport, Split
from wsseg.types import LabeledImage, Mask

log = logging.getLogger("wsseg")

_MOST_PREDICTED = 30  # images; the network segments one in about a second on two cores
_PREDICTION = "prediction of the network"


@dataclass(frozen=True)
class Example:
    """One row of pictures.

    Args:
        place: ``best``, ``median`` or ``worst``; empty if nothing orders the images.
        item: the image.
        score: of the class in this image, by the measure of `Examples`.
    """

    place: str
    item: LabeledImage
    score: float | None


@dataclass(frozen=True)
class ClassExamples:
    """The rows of one class.

    Args:
        class_id: the class.
        images: the number of images that the rows were chosen from.
        rows: the best, the median and the worst, or fewer if the class has fewer images.
    """

    class_id: int
    images: int
    rows: Sequence[Example]

    @property
    def median(self) -> float:
        """The median score, or 0 if nothing orders the images."""
        return self.rows[len(self.rows) // 2].score or 0.0


@dataclass(frozen=True)
class Examples:
    """All rows of pictures.

    Args:
        split: the images' split.
        columns: title and layer of each picture of a row.
        classes: the weakest class first.
    """

    split: Split
    columns: Sequence[tuple[str, Layer]]
    classes: Sequence[ClassExamples]

    @property
    def items(self) -> list[LabeledImage]:
        """All images, each once."""
        return list({row.item.id: row.item for examples in self.classes for row in examples.rows}.values())


class PredictedMasks:
    """Masks of some images, by id."""

    def __init__(self, key: str, masks: Mapping[str, Mask]) -> None:
        self.key, self._masks = key, masks

    def mask(self, item_id: str) -> Mask:
        """Return the (H, W) uint8 mask of an image; WssegError if the image was not segmented."""
        if item_id not in self._masks:
            raise WssegError(f"{item_id}: the report did not segment this image")
        return self._masks[item_id]


def choose_examples(report: RunReport) -> Examples | None:
    """Choose the rows, and segment their images with the run's network if no step did.

    Training images are chosen if they have seeds or masks, because all layers exist for them; otherwise held-out images.
    """
    split = report.splits.get("train") or report.splits.get("val")
    if split is None:
        return None
    classes = [_of_class(split, class_id) for class_id in range(1, 1 + len(split.images.classes))]
    shown = sorted((c for c in classes if c.rows), key=lambda c: (c.median, c.class_id))
    if not shown:
        return None
    examples = Examples(split, _columns(split), shown)
    if any(title == "prediction" for title, _ in examples.columns) or not (layer := _predicted(report, examples.items)):
        return examples
    before = [column for column in examples.columns if column[1].kind != "truth"]
    return Examples(split, [*before, ("prediction", layer), *examples.columns[len(before) :]], shown)


def _of_class(split: Split, class_id: int) -> ClassExamples:
    """Return the rows of the images whose labels name a class."""
    items = {item.id: item for item in split.images.items if class_id in item.class_ids}
    scores = split.scores.classes.get(class_id, {}) if split.scores else {}
    ranked = sorted((score, item_id) for item_id, score in scores.items() if item_id in items)
    if not ranked:
        rows = [Example("", item, None) for item in evenly_spaced(list(items.values()), 3)]
        return ClassExamples(class_id, len(items), rows)
    last = len(ranked) - 1
    places = {last: "best", last // 2: "median", 0: "worst"}
    if last < 2:
        places = {last: "best", 0: "worst"} if last else {0: "only image"}
    chosen = [Example(place, items[ranked[index][1]], ranked[index][0]) for index, place in places.items()]
    return ClassExamples(class_id, len(ranked), chosen)


def _columns(split: Split) -> list[tuple[str, Layer]]:
    """Return title and layer of the photograph, the last seeds, pseudo-masks and predictions, and the truth."""
    last: dict[str, Layer] = {}
    for layer in split.layers:
        kind = layer.artifact.kind if layer.artifact else layer.kind
        last[kind] = layer
    titles = {
        "photo": "photograph", "seeds": "seed", "pseudo_masks": "pseudo-mask", "predictions": "prediction",
        "truth": "true mask",
    }  # fmt: skip
    return [(title, last[kind]) for kind, title in titles.items() if kind in last]


def _predicted(report: RunReport, items: Sequence[LabeledImage]) -> Layer | None:
    """Segment some images with the last network of the run; None if there is none or it cannot be used."""
    network = report.last("segmenter")
    if network is None:
        return None
    from wsseg.models.classifier import load_classifier
    from wsseg.models.segmenter import load_segmenter
    from wsseg.stages.predict_masks.config import Config
    from wsseg.stages.predict_masks.prediction import Predictor

    items = items[:_MOST_PREDICTED]
    try:
        values = report.record["config"].get("predictions", {})
        config = parse_table(Config, values, "predictions", Path(report.record["config_path"]))
        classifier = report.last("classifier") if config.min_class_probability > 0 else None
        predictor = Predictor(
            *load_segmenter(network.read_bytes, str(network.folder)),
            config,
            load_classifier(classifier.read_bytes, str(classifier.folder))[0] if classifier else None,
        )
        masks = {
            item.id: predictor.predict([read_photograph(item)])[0].mask
            for item in track(items, len(items), "report: predictions")
        }
    except Exception as error:
        reason = explained(error)
        if reason is None:
            raise
        report.notes.append(f"The pictures have no predictions: {reason}.")
        return None
    return Layer(_PREDICTION, "mask", masks=PredictedMasks(network.key, masks))
